package testserver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Kafka returns the addresses of KAFKA_BROKERS, a real broker that does not create topics
// by itself.
func Kafka(t testing.TB) []string {
	t.Helper()
	return strings.Split(lookup(t, "KAFKA_BROKERS"), ",")
}

// SecureKafka names the listeners of the shared broker that demand a password or a
// certificate, and what opens them. All files are PEM.
type SecureKafka struct {
	SASLBrokers []string // TLS, then PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	Username    string
	Password    string

	MTLSBrokers []string // TLS with a client certificate
	Cert, Key   string

	CA string // the authority that signed the certificates of both
}

// KafkaSecurity returns the secured listeners of the shared broker.
func KafkaSecurity(t testing.TB) SecureKafka {
	t.Helper()
	return SecureKafka{
		SASLBrokers: strings.Split(lookup(t, "KAFKA_SASL_BROKERS"), ","),
		Username:    lookup(t, "KAFKA_SASL_USERNAME"),
		Password:    lookup(t, "KAFKA_SASL_PASSWORD"),
		MTLSBrokers: strings.Split(lookup(t, "KAFKA_MTLS_BROKERS"), ","),
		Cert:        lookup(t, "KAFKA_TLS_CERT"),
		Key:         lookup(t, "KAFKA_TLS_KEY"),
		CA:          lookup(t, "KAFKA_TLS_CA"),
	}
}

// Topic creates a topic on KAFKA_BROKERS under a name that no other test has, and returns
// the name. It is deleted when the test ends.
func Topic(t testing.TB, partitions int) string {
	t.Helper()
	return TopicOn(t, Kafka(t), partitions, 1)
}

// TopicOn is Topic for other brokers, with the number of replicas.
func TopicOn(t testing.TB, brokers []string, partitions, replicas int) string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatalf("connect to Kafka: %v", err)
	}
	name := UniqueName(t)
	if err := createTopic(t.Context(), client, name, partitions, replicas); err != nil {
		client.Close()
		t.Fatalf("create topic %s at %s: %v", name, strings.Join(brokers, ","), err)
	}
	t.Cleanup(func() {
		defer client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := deleteTopic(ctx, client, name); err != nil {
			t.Errorf("delete topic %s: %v", name, err)
		}
	})
	return name
}

func createTopic(ctx context.Context, client *kgo.Client, name string, partitions, replicas int) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic = name
	topic.NumPartitions = int32(partitions)
	topic.ReplicationFactor = int16(replicas)
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = int32(cleanupTimeout / time.Millisecond)
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.Topics[0].ErrorCode)
}

// deleteTopic accepts a topic that the test has deleted itself.
func deleteTopic(ctx context.Context, client *kgo.Client, name string) error {
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = kmsg.StringPtr(name)
	request := kmsg.NewPtrDeleteTopicsRequest()
	request.TimeoutMillis = int32(cleanupTimeout / time.Millisecond)
	request.Topics = append(request.Topics, topic)
	request.TopicNames = append(request.TopicNames, name)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	return err
}
