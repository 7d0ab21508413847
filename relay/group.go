package relay

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	// maxPlaces is on how many topics the memory is kept, so that it outlives some of them.
	maxPlaces = 3
	// coordinatorPatience is how long a coordinator may be on the move, or in the making on a
	// cluster that has had no group yet, before that is an error.
	coordinatorPatience = 10 * time.Second
)

// errNoPlace means that there is no topic yet under which an offset could be committed.
var errNoPlace = errors.New("no topic yet")

// group is the consumer group whose offsets hold the memory. It consumes nothing.
type group struct {
	id   string
	conn *sarama.Broker // to the coordinator, apart from the producing ones; nil for none

	mu     sync.Mutex
	places []string // topics; the memory stands at partition 0 of each
}

// addPlace lets the memory be kept on a topic that exists.
func (g *group) addPlace(topic string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.places) < maxPlaces && !slices.Contains(g.places, topic) {
		g.places = append(g.places, topic)
	}
}

func (g *group) dropPlace(topic string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places = slices.DeleteFunc(g.places, func(t string) bool { return t == topic })
}

func (g *group) listPlaces() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.places)
}

// recall reads the memory, nil for none. Where it stands on several topics the furthest
// counts: a write may have reached only some.
func (c *cluster) recall() (*memory, error) {
	var response *sarama.OffsetFetchResponse
	deadline := time.Now().Add(coordinatorPatience)
	for wait := retryFirst; ; wait = min(2*wait, time.Second) {
		err := c.atCoordinator(func(b *sarama.Broker) (err error) {
			response, err = b.FetchOffset(&sarama.OffsetFetchRequest{Version: 5, ConsumerGroup: c.group.id}) // of all topics
			if err == nil && response.Err != sarama.ErrNoError {
				err = response.Err
			}
			return err
		})
		if err == nil {
			break
		}
		if !coordinatorMoves(err) || time.Now().After(deadline) {
			return nil, fmt.Errorf("read the offsets of group %q: %w", c.group.id, c.groupError(err))
		}
		if err := sleep(c.ctx, wait); err != nil {
			return nil, err
		}
	}
	var furthest *memory
	for topic, partitions := range response.Blocks {
		for _, block := range partitions {
			m, err := parseMemory(block.Metadata)
			if err != nil {
				return nil, fmt.Errorf("the memory in group %q: %w", c.group.id, err)
			}
			if m == nil || block.Err != sarama.ErrNoError {
				continue
			}
			c.group.addPlace(topic)
			if furthest == nil || m.after(furthest) {
				furthest = m
			}
		}
	}
	if len(c.group.listPlaces()) == 0 && c.client.RefreshMetadata(c.cfg.DeadLetterTopic) == nil {
		c.group.addPlace(c.cfg.DeadLetterTopic)
	}
	return furthest, nil
}

// keep writes the memory. It returns errNoPlace while there is no topic to keep it on.
func (c *cluster) keep(text string) error {
	places := c.group.listPlaces()
	if len(places) == 0 {
		return errNoPlace
	}
	request := &sarama.OffsetCommitRequest{
		Version: 7, ConsumerGroup: c.group.id, ConsumerGroupGeneration: sarama.GroupGenerationUndefined,
	}
	for _, topic := range places {
		request.AddBlock(topic, 0, 0, 0, text)
	}
	var response *sarama.OffsetCommitResponse
	err := c.atCoordinator(func(b *sarama.Broker) (err error) {
		response, err = b.CommitOffset(request)
		return err
	})
	if err != nil {
		return c.groupError(err)
	}
	kept := 0
	var failed error
	for topic, partitions := range response.Errors {
		for _, err := range partitions {
			switch {
			case err == sarama.ErrNoError:
				kept++
			case err == sarama.ErrUnknownTopicOrPartition && len(places) > 1:
				c.group.dropPlace(topic) // deleted; the others have it
			default:
				failed = err
			}
		}
	}
	if failed != nil {
		c.leaveCoordinator()
		return c.groupError(failed)
	}
	if kept == 0 {
		return c.groupError(sarama.ErrUnknownTopicOrPartition)
	}
	return nil
}

// atCoordinator asks the group's coordinator, and finds it anew after an error.
func (c *cluster) atCoordinator(ask func(*sarama.Broker) error) error {
	if c.group.conn == nil {
		b, err := c.client.Coordinator(c.group.id)
		if err != nil {
			return err
		}
		// A connection of its own: the brokers answer in order, and a produce request may wait.
		conn := sarama.NewBroker(b.Addr())
		if err := conn.Open(c.client.Config()); err != nil {
			return err
		}
		c.group.conn = conn
	}
	err := ask(c.group.conn)
	if err != nil {
		c.leaveCoordinator()
	}
	return err
}

func (c *cluster) leaveCoordinator() {
	if c.group.conn != nil {
		_ = c.group.conn.Close()
		c.group.conn = nil
	}
	_ = c.client.RefreshCoordinator(c.group.id)
}

// coordinatorMoves reports whether the error passes when the coordinator is found or ready.
func coordinatorMoves(err error) bool {
	return errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) ||
		errors.Is(err, sarama.ErrNotCoordinatorForConsumer) || errors.Is(err, sarama.ErrOffsetsLoadInProgress)
}

// groupError is kafkaError for what is done with the group.
func (c *cluster) groupError(err error) error {
	if errors.Is(err, sarama.ErrGroupAuthorizationFailed) {
		return halt(AuthKafka, fmt.Sprintf("grant the relay's user READ on the group %q, or name another in kafka.group_id", c.group.id), "%w", err)
	}
	return kafkaError(err)
}
