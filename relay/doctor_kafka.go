package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/IBM/sarama"
)

// rightsUnknown is what brokers send that were not asked for rights, or do not know them.
const rightsUnknown = -1 << 31

func (d *doctor) checkKafka(ctx context.Context) {
	d.area = "kafka"
	const hint = "is it running, and are kafka.brokers right?"
	if d.kafkaErr != nil {
		d.failed("reachable", hint, d.kafkaErr)
		return
	}
	c := d.kafka
	if err := c.client.RefreshMetadata(d.cfg.Kafka.DeadLetterTopic); err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		d.failed("reachable", hint, kafkaError(err))
		return
	}
	d.checkBrokers(c)
	if _, _, err := c.producer(); err != nil {
		d.failed("producer", hint, err)
	} else {
		d.ok("producer", "the relay's user gets a producer id")
	}
	if _, err := d.recall(); err != nil {
		d.failed("group", hint, err)
	} else {
		d.ok("group", "%q, which holds the relay's place, can be read", d.cfg.Kafka.GroupID)
	}
	for _, name := range slices.Sorted(maps.Keys(d.topics)) {
		if name != d.cfg.Kafka.DeadLetterTopic {
			d.checkTopic(ctx, c, "topic", name)
		}
	}
	d.checkTopic(ctx, c, "dead-letter topic", d.cfg.Kafka.DeadLetterTopic)
}

// checkBrokers connects to each broker under the name that the brokers themselves give: that
// is how the relay will reach it.
func (d *doctor) checkBrokers(c *cluster) {
	var names, absent []string
	for _, b := range c.client.Brokers() {
		names = append(names, b.Addr())
		_ = b.Open(c.client.Config()) // open already, or the next line says why not
		if connected, err := b.Connected(); err != nil || !connected {
			absent = append(absent, b.Addr())
		}
	}
	if len(absent) > 0 {
		d.diagnosis.Unreachable = true
		d.fail("brokers", "check their advertised.listeners, and the network between", "no connection to %s", list(absent))
		return
	}
	d.ok("brokers", "%s", list(names))
}

func (d *doctor) checkTopic(ctx context.Context, c *cluster, kind, name string) {
	label := fmt.Sprintf("%s %s", kind, name)
	needed := kind == "topic" || d.cfg.OnPoison != onPoisonHalt
	var metadata *sarama.TopicMetadata
	err := patiently(ctx, func() (err error) {
		metadata, err = describeTopic(c, name)
		return err
	})
	switch {
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		const hint = "create it, or let the relay do so: kafka.create_topics: {partitions: 8}"
		switch {
		case d.cfg.Kafka.CreateTopics.Partitions > 0:
			d.ok(label, "is made when it is needed, with %d partitions", d.cfg.Kafka.CreateTopics.Partitions)
		case needed:
			d.fail(label, hint, "%s: it does not exist", TopicMissing)
		default:
			d.warn(label, hint, "it does not exist: events past their expires_at would hold the line")
		}
		return
	case err != nil:
		d.failed(label, "is Kafka healthy?", kafkaError(err))
		return
	}
	var findings []finding
	if lacks := lackingRights(metadata.TopicAuthorizedOperations); len(lacks) > 0 {
		if slices.Contains(lacks, "WRITE") {
			d.fail(label, "grant the relay's user WRITE, READ and DESCRIBE on it", "%s: no right to write", AuthKafka)
			return
		}
		findings = append(findings, finding{"the relay's user lacks " + strings.Join(lacks, ", ") + ": after a crash, events on their way are published twice",
			"grant its user READ and DESCRIBE"})
	}
	replicas, inSync, leaderless := len(metadata.Partitions[0].Replicas), len(metadata.Partitions[0].Isr), 0
	for _, p := range metadata.Partitions {
		replicas, inSync = min(replicas, len(p.Replicas)), min(inSync, len(p.Isr))
		if p.Leader < 0 {
			leaderless++
		}
	}
	if leaderless > 0 {
		findings = append(findings, finding{fmt.Sprintf("%d partitions have no leader", leaderless), "look at the brokers"})
	}
	settings := topicSettings(c, name)
	findings = append(findings, judgeReplicas(replicas, inSync, settings["min.insync.replicas"])...)
	if kind != "topic" && settings["retention.ms"] != "-1" && settings["retention.ms"] != "" {
		hint := "set retention.ms=-1, if dead letters shall wait for somebody to look at them"
		if d.cfg.OnPoison == onPoisonHaltKey {
			hint = "set retention.ms=-1 and cleanup.policy=delete: the topic holds what is parked"
		}
		findings = append(findings, finding{"its records vanish after retention.ms=" + settings["retention.ms"], hint})
	}
	limit := settings["max.message.bytes"]
	if limit == "" {
		limit = "unknown: its user may not describe the configuration"
	}
	d.found(label, findings, fmt.Sprintf("%d partitions, %d replicas, max.message.bytes %s", len(metadata.Partitions), replicas, limit))
}

// judgeReplicas compares what acknowledges a record with what there is. An empty setting
// is not known.
func judgeReplicas(replicas, inSync int, setting string) []finding {
	least, err := strconv.Atoi(setting)
	switch {
	case replicas == 1:
		return []finding{{"it has one replica: what its broker loses is lost", "give it three, and min.insync.replicas=2"}}
	case err != nil:
		return nil
	case least > replicas:
		return []finding{{fmt.Sprintf("min.insync.replicas is %d, and there are only %d replicas: nothing can be written", least, replicas), "lower it, or add replicas"}}
	case inSync < least:
		return []finding{{fmt.Sprintf("only %d replicas are in sync, and min.insync.replicas is %d: the relay waits", inSync, least), "bring the brokers back"}}
	case least == 1:
		return []finding{{"min.insync.replicas is 1: an acknowledged record can be lost with one broker", "set it to 2"}}
	case least == replicas:
		return []finding{{fmt.Sprintf("min.insync.replicas is %d of %d replicas: with one broker down nothing can be written", least, replicas), "add a replica, or lower it"}}
	}
	return nil
}

// lackingRights returns the rights that the relay should have and has not.
func lackingRights(operations int32) (lacks []string) {
	if operations == rightsUnknown {
		return nil
	}
	for _, right := range []struct {
		name string
		bit  sarama.AclOperation
	}{{"WRITE", sarama.AclOperationWrite}, {"READ", sarama.AclOperationRead}, {"DESCRIBE", sarama.AclOperationDescribe}} {
		if operations&(1<<right.bit) == 0 {
			lacks = append(lacks, right.name)
		}
	}
	return lacks
}

// describeTopic asks any broker for a topic, and for the rights that this user has on it.
func describeTopic(c *cluster, name string) (*sarama.TopicMetadata, error) {
	broker, err := c.client.Controller()
	if err != nil {
		return nil, err
	}
	response, err := broker.GetMetadata(&sarama.MetadataRequest{Version: 8, Topics: []string{name}, IncludeTopicAuthorizedOperations: true})
	if err != nil {
		return nil, err
	}
	if len(response.Topics) != 1 {
		return nil, sarama.ErrUnknownTopicOrPartition
	}
	t := response.Topics[0]
	if t.Err != sarama.ErrNoError {
		return nil, t.Err
	}
	if len(t.Partitions) == 0 {
		return nil, sarama.ErrLeaderNotAvailable
	}
	return t, nil
}

// topicSettings returns what the relay's user may know of the topic's configuration.
func topicSettings(c *cluster, name string) map[string]string {
	settings := make(map[string]string)
	admin, err := sarama.NewClusterAdminFromClient(c.client)
	if err != nil {
		return settings
	}
	results, err := admin.DescribeConfigs([]*sarama.ConfigResource{{Type: sarama.TopicResource, Name: name}}, sarama.DescribeConfigsOptions{})
	if err != nil {
		return settings
	}
	for _, r := range results {
		for _, entry := range r.Configs {
			settings[entry.Name] = entry.Value
		}
	}
	return settings
}
