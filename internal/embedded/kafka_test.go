package embedded

import (
	"errors"
	"net"
	"strconv"
	"syscall"
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

func TestKafka_CutLooksDownToClientsAndKeepsRecords(t *testing.T) {
	t.Parallel()
	kafka, err := StartKafka(KafkaOptions{Topics: []string{"orders"}})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Stop()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Brokers()...), kgo.ConsumeTopics("orders"), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), kgo.StringRecord("before")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	open, err := net.Dial("tcp", kafka.Brokers()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	kafka.Cut()
	if _, err := open.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived the cut")
	}
	if late, err := net.Dial("tcp", kafka.Brokers()[0]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a connection during the cut: %v, %v, want it refused", late, err)
	}
	if err := kafka.Restore(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), kgo.StringRecord("after")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for len(got) < 2 {
		client.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) { got[string(r.Value)] = true })
	}
	if !got["before"] || !got["after"] {
		t.Errorf("got %v", got)
	}
}

func TestKafka_StopsWhileCut(t *testing.T) {
	t.Parallel()
	kafka, err := StartKafka(KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kafka.Cut()
	kafka.Stop() // goleak notices whoever still waits
}

func TestStartKafka_KeepsRecordsOfGivenDirectoryOverRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for run := range 2 {
		kafka, err := StartKafka(KafkaOptions{Topics: []string{"orders"}, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Brokers()...), kgo.DefaultProduceTopic("orders"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		record := &kgo.Record{Partition: 1}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if record.Offset != int64(run) {
			t.Errorf("run %d produced at offset %d", run, record.Offset)
		}
		client.Close()
		kafka.Stop()
	}
}
