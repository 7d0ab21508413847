package embedded

import (
	"errors"
	"net"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestStartKafka_CarriesRecordsOfSeededAndUnknownTopics(t *testing.T) {
	t.Parallel()
	kafka, err := StartKafka(KafkaOptions{Topics: []string{"seeded"}, Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Stop()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(kafka.Brokers()...),
		kgo.AllowAutoTopicCreation(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumeTopics("seeded", "unknown"),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, topic := range []string{"seeded", "unknown"} {
		record := &kgo.Record{Topic: topic, Partition: 1, Value: []byte(topic)}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatalf("produce to %s: %v", topic, err)
		}
	}
	got := map[string]string{}
	for len(got) < 2 {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got[r.Topic] = string(r.Value) })
	}
	if got["seeded"] != "seeded" || got["unknown"] != "unknown" {
		t.Errorf("got %v", got)
	}
}

func TestStartKafka_ListensOnLoopbackPortAskedFor(t *testing.T) {
	t.Parallel()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	kafka, err := StartKafka(KafkaOptions{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Stop()
	want := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if got := kafka.Brokers(); len(got) != 1 || got[0] != want {
		t.Errorf("brokers are %v, want %s", got, want)
	}
	if _, err := StartKafka(KafkaOptions{Port: port}); !errors.Is(err, ErrPortInUse) {
		t.Errorf("a second one on the same port: got %v, want %v", err, ErrPortInUse)
	}
}
