package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// partitions of each topic of events. Dead letters have one.
const partitions = 4

// topics are all topics of a demo.
type topics struct {
	events  []string
	letters []string // of the services
	relay   string   // the relay's dead letters
	groups  []string // that commit offsets
}

func (t topics) all() []string {
	return slices.Concat(t.events, t.letters, []string{t.relay})
}

// brokers is the Kafka of a demo, its own or the user's, reached by another client than the
// relay's and the services'.
type brokers struct {
	client *kgo.Client
	admin  *kadm.Client
	topics topics
	// replace says that what another demo has left is to be removed.
	replace bool
}

func openBrokers(ctx context.Context, addresses []string, t topics) (*brokers, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addresses...), kgo.ClientID(ownName))
	if err != nil {
		return nil, fmt.Errorf("--kafka: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, &UnreachableError{fmt.Errorf("--kafka %s: %w; check host and port, that the brokers run, and that they listen there without TLS and passwords",
			strings.Join(addresses, ","), err)}
	}
	return &brokers{client: client, admin: kadm.NewClient(client), topics: t}, nil
}

// check looks for what another run has left. What the directory of --keep belongs to is used
// again.
func (b *brokers) check(ctx context.Context, replace bool, p *place) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	there, err := b.ids(ctx)
	if err != nil {
		return err
	}
	if p.memory.Made {
		for name, id := range p.memory.Topics {
			if there[name] != id {
				return &RefusedError{Missing: []string{fmt.Sprintf(
					"Kafka: topic %s is not the one that belongs to this --keep directory, so the ledger could not balance: name a new directory", name)}}
			}
		}
		return nil
	}
	groups, err := b.leftGroups(ctx)
	if err != nil || len(there)+len(groups) == 0 {
		return err
	}
	if !replace {
		return &RefusedError{Missing: []string{fmt.Sprintf(
			"Kafka: another demo, which was killed or ran with --keep, has left %d topics and %d groups that begin with %s: name its directory by --keep, or remove them by --replace",
			len(there), len(groups), ownName)}}
	}
	b.replace = true
	return nil
}

// leftGroups are the groups that exist. One that has members is in use.
func (b *brokers) leftGroups(ctx context.Context) ([]string, error) {
	// A cluster that never had a group cannot describe one.
	listed, err := b.admin.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for groups: %w", err)
	}
	left := slices.DeleteFunc(listed.Groups(), func(group string) bool { return !slices.Contains(b.topics.groups, group) })
	if len(left) == 0 {
		return nil, nil
	}
	groups, err := b.admin.DescribeGroups(ctx, left...)
	if err != nil {
		return nil, fmt.Errorf("look for groups: %w", err)
	}
	for _, group := range groups.Sorted() {
		if len(group.Members) > 0 {
			return nil, &RefusedError{Missing: []string{fmt.Sprintf(
				"Kafka: group %s has members: end the other demo; one that was killed is forgotten within ten seconds", group.Group)}}
		}
	}
	return left, nil
}

// ids are the ids of those topics that exist.
func (b *brokers) ids(ctx context.Context) (map[string]string, error) {
	details, err := b.admin.ListTopics(ctx, b.topics.all()...)
	if err != nil {
		return nil, fmt.Errorf("look for topics: %w", err)
	}
	ids := make(map[string]string)
	for name, topic := range details {
		switch {
		case topic.Err == nil:
			ids[name] = topic.ID.String()
		case errors.Is(topic.Err, kerr.TopicAuthorizationFailed):
			return nil, b.refused(topic.Err)
		}
	}
	return ids, nil
}

func (b *brokers) refused(err error) error {
	return &RefusedError{Missing: []string{fmt.Sprintf(
		"Kafka: %v; grant CREATE, DELETE, WRITE, READ and DESCRIBE on topics and READ and DELETE on groups that begin with %s", err, ownName)}}
}

// make makes the topics that are missing, and returns the ids of all when they have leaders.
func (b *brokers) make(ctx context.Context, c *cleanup, keep bool) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	if b.replace {
		if err := b.remove(ctx); err != nil {
			return nil, fmt.Errorf("--replace: %w", err)
		}
	}
	if !keep {
		c.add("topics and groups that begin with "+ownName, b.remove)
	}
	counts := map[int32][]string{partitions: b.topics.events, 1: append(slices.Clone(b.topics.letters), b.topics.relay)}
	for count, names := range counts {
		made, err := b.admin.CreateTopics(ctx, count, -1, nil, names...)
		if err != nil {
			return nil, fmt.Errorf("make topics: %w", err)
		}
		for _, topic := range made.Sorted() {
			switch {
			case topic.Err == nil, errors.Is(topic.Err, kerr.TopicAlreadyExists):
			case errors.Is(topic.Err, kerr.TopicAuthorizationFailed), errors.Is(topic.Err, kerr.ClusterAuthorizationFailed):
				return nil, b.refused(topic.Err)
			default:
				return nil, fmt.Errorf("make topic %s: %w", topic.Topic, topic.Err)
			}
		}
	}
	for {
		ids, err := b.ids(ctx)
		if err == nil && len(ids) == len(b.topics.all()) {
			if _, err = b.ends(ctx); err == nil {
				return ids, nil
			}
		}
		if !sleep(ctx, pollInterval) {
			return nil, fmt.Errorf("the topics have no leaders: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

// ends are the offsets behind the last record of each partition.
func (b *brokers) ends(ctx context.Context) (kadm.ListedOffsets, error) {
	ends, err := b.admin.ListEndOffsets(ctx, b.topics.all()...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("read the ends of the topics: %w", err)
	}
	return ends, nil
}

// remove deletes topics and groups. A group that may not be deleted is forgotten by the brokers
// a week later.
func (b *brokers) remove(ctx context.Context) error {
	var left []error
	deleted, err := b.admin.DeleteTopics(ctx, b.topics.all()...)
	if err != nil {
		left = append(left, err)
	}
	for _, topic := range deleted.Sorted() {
		if topic.Err != nil && !errors.Is(topic.Err, kerr.UnknownTopicOrPartition) {
			left = append(left, fmt.Errorf("topic %s: %w", topic.Topic, topic.Err))
		}
	}
	groups, err := b.admin.DeleteGroups(ctx, b.topics.groups...)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		left = append(left, err)
	}
	for _, group := range groups {
		if group.Err != nil && !errors.Is(group.Err, kerr.GroupIDNotFound) && !errors.Is(group.Err, kerr.GroupAuthorizationFailed) {
			left = append(left, fmt.Errorf("group %s: %w", group.Group, group.Err))
		}
	}
	for len(left) == 0 { // gone when nobody sees them any more
		ids, err := b.ids(ctx)
		if err != nil || len(ids) == 0 || !sleep(ctx, pollInterval) {
			return err
		}
	}
	return errors.Join(left...)
}
