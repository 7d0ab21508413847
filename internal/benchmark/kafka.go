package benchmark

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/postrider/postrider/relay"
)

// kafkaTimeout is how long the brokers may take to answer.
const kafkaTimeout = 30 * time.Second

// kafka reaches the brokers by another client than the relay's: what it counts and consumes
// is a witness of its own.
type kafka struct {
	cfg    relay.KafkaConfig
	client *kgo.Client
	admin  *kadm.Client
}

func openKafka(ctx context.Context, cfg relay.KafkaConfig) (*kafka, error) {
	k := &kafka{cfg: cfg}
	options, err := k.options()
	if err != nil {
		return nil, err
	}
	if k.client, err = kgo.NewClient(options...); err != nil {
		return nil, fmt.Errorf("Kafka: %w", err) //nolint:staticcheck // a name
	}
	k.admin = kadm.NewClient(k.client)
	ping, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	if err := k.client.Ping(ping); err != nil {
		k.close()
		err = fmt.Errorf("%s: %w", strings.Join(cfg.Brokers, ","), err)
		if errors.Is(err, kerr.SaslAuthenticationFailed) || errors.Is(err, kerr.UnsupportedSaslMechanism) {
			return nil, &RefusedError{Missing: []string{fmt.Sprintf("Kafka at %v; check kafka.sasl", err)}}
		}
		return nil, &UnreachableError{Server: "Kafka", Err: err}
	}
	return k, nil
}

func (k *kafka) close() { k.client.Close() }

// options are those of every client.
func (k *kafka) options() ([]kgo.Opt, error) {
	options := []kgo.Opt{kgo.SeedBrokers(k.cfg.Brokers...), kgo.ClientID("postrider_bench")}
	tls, err := k.cfg.TLS.Load()
	if err != nil {
		return nil, fmt.Errorf("kafka.tls: %w", err)
	}
	if tls != nil {
		options = append(options, kgo.DialTLSConfig(tls))
	}
	user, password := k.cfg.SASL.Username, string(k.cfg.SASL.Password)
	switch k.cfg.SASL.Mechanism {
	case "PLAIN":
		options = append(options, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	case "SCRAM-SHA-256":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	}
	return options, nil
}

// makeTopic makes a topic with the brokers' default replication, and returns when all of its
// partitions have a leader.
func (k *kafka) makeTopic(ctx context.Context, c *cleanup, name string, partitions int) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	c.add("topic "+name, func(ctx context.Context) error { return k.deleteTopic(ctx, name) })
	_, err := k.admin.CreateTopic(ctx, int32(partitions), -1, nil, name)
	if errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return &RefusedError{Missing: []string{fmt.Sprintf(
			"Kafka: the user may not make topics: %v; grant it CREATE, DELETE, WRITE, READ and DESCRIBE on topics and READ on groups that begin with %s", err, namePrefix)}}
	}
	if err != nil {
		return fmt.Errorf("make topic %s: %w", name, err)
	}
	for {
		topics, err := k.admin.ListTopics(ctx, name)
		if err == nil && topics[name].Err == nil && len(topics[name].Partitions) == partitions && led(topics[name].Partitions) {
			return nil
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("topic %s has no leaders: %w", name, err)
		}
	}
}

func led(partitions kadm.PartitionDetails) bool {
	for _, p := range partitions {
		if p.Err != nil || p.Leader < 0 {
			return false
		}
	}
	return true
}

func (k *kafka) deleteTopic(ctx context.Context, name string) error {
	_, err := k.admin.DeleteTopic(ctx, name)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	return err
}

// deleteGroup deletes the group in which a relay kept its place. One that may not be deleted
// is forgotten by the brokers a week later.
func (k *kafka) deleteGroup(ctx context.Context, group string) error {
	_, err := k.admin.DeleteGroup(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) || errors.Is(err, kerr.GroupAuthorizationFailed) {
		return nil
	}
	return err
}

// records returns how many records topic has. The relay's producer is idempotent without
// transactions, so every offset is a record.
func (k *kafka) records(ctx context.Context, topic string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	offsets, err := k.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("read the end of topic %s: %w", topic, err)
	}
	var n int64
	offsets.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n, nil
}

// roundTrip returns the shortest of some times that a broker took to answer.
func (k *kafka) roundTrip(ctx context.Context) (time.Duration, error) {
	return shortest(func() error { return k.client.Ping(ctx) })
}
