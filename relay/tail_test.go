package relay

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// openTestCluster connects the relay's client to an in-process broker.
func openTestCluster(t *testing.T, kafka *kfake.Cluster, confirmed LSN) *cluster {
	t.Helper()
	cfg := minimalConfig()
	cfg.Kafka.Brokers = kafka.ListenAddrs()
	c, err := openCluster(cfg.withDefaults().Kafka, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	c.confirmed = confirmed
	return c
}

// fill appends records with ids e<lsn> at the given LSNs to a partition; 0 stands for a
// record of another producer.
func fill(t *testing.T, kafka *kfake.Cluster, partition int32, lsns ...LSN) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	records := make([]*kgo.Record, 0, len(lsns))
	for _, lsn := range lsns {
		r := &kgo.Record{Topic: testTopic, Partition: partition, Value: []byte("x")}
		if lsn > 0 {
			r.Headers = []kgo.RecordHeader{
				{Key: "ce_id", Value: fmt.Appendf(nil, "e%d", lsn)},
				{Key: headerPosition, Value: Position{LSN: lsn}.append(nil)},
			}
		}
		records = append(records, r)
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func upTo(from, to LSN) (lsns []LSN) {
	for lsn := from; lsn <= to; lsn++ {
		lsns = append(lsns, lsn)
	}
	return lsns
}

func TestTail_HoldsWhatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 4)
	fill(t, kafka, 0, upTo(1, 100)...)         // confirmed up to 90
	fill(t, kafka, 1, upTo(200, 5200)...)      // none of it confirmed: more than one step
	fill(t, kafka, 2, 1, 2, 0, 0, 95, 0, 0, 0) // other producers' records at the end
	topic, err := openTestCluster(t, kafka, 90).topic([]byte(testTopic))
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for lsn := range LSN(6000) {
		has := topic.tail.has(fmt.Appendf(nil, "e%d", lsn), Position{LSN: lsn})
		want := lsn >= 90 && lsn <= 100 || lsn >= 200 && lsn <= 5200
		if has != want {
			t.Fatalf("e%d in the tail: %v, want %v", lsn, has, want)
		}
		if has {
			got++
		}
	}
	if got != 5012 {
		t.Errorf("%d events in the tail", got)
	}
	if topic.tail.ids != nil {
		t.Error("the tail is not forgotten behind its end")
	}
}

// A relay that died in its snapshot left no slot, but records: the next one has a snapshot of
// its own, at a position of its own.
func TestTail_HoldsWhatAnEarlierSnapshotPublished(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1)
	fill(t, kafka, 0, upTo(1, 500)...)
	topic, err := openTestCluster(t, kafka, 0).topic([]byte(testTopic))
	if err != nil {
		t.Fatal(err)
	}
	snapshot := Position{LSN: 1000}
	for i := range 500 {
		snapshot.Index = uint32(i)
		if !topic.tail.has(fmt.Appendf(nil, "e%d", i+1), snapshot) {
			t.Fatalf("e%d is not known", i+1)
		}
	}
	if topic.tail.has([]byte("e1"), Position{LSN: 1002}) || topic.tail.ids != nil {
		t.Error("the tail is not forgotten behind the snapshot")
	}
}

// A session that ends before the stream has passed the tail leaves it to the next.
func TestTail_IsReadAgainUntilTheStreamHasPassedIt(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 2)
	fill(t, kafka, 0, upTo(91, 100)...)
	first := openTestCluster(t, kafka, 90)
	topic, err := first.topic([]byte(testTopic))
	if err != nil {
		t.Fatal(err)
	}
	if !topic.tail.has([]byte("e91"), Position{LSN: 91}) {
		t.Fatal("e91 is not known")
	}
	second := openTestCluster(t, kafka, 90)
	second.known = first.positions()
	if topic, err = second.topic([]byte(testTopic)); err != nil {
		t.Fatal(err)
	}
	if !topic.tail.has([]byte("e92"), Position{LSN: 92}) {
		t.Error("e92 would be published twice")
	}
	if topic.tail.has([]byte("e101"), Position{LSN: 101}) {
		t.Error("e101 is nowhere yet")
	}
	if known, ok := second.positions()[testTopic]; !ok {
		t.Errorf("the tail has been passed, and nothing is known of the topic: %v", known)
	}
}

func TestTail_MissingRightToReadIsNoFailure(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1)
	fill(t, kafka, 0, upTo(1, 10)...)
	kafka.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		kafka.KeepControl()
		res := req.ResponseKind().(*kmsg.FetchResponse)
		for _, asked := range req.(*kmsg.FetchRequest).Topics {
			topic := kmsg.NewFetchResponseTopic()
			topic.Topic, topic.TopicID = asked.Topic, asked.TopicID
			for _, p := range asked.Partitions {
				partition := kmsg.NewFetchResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				topic.Partitions = append(topic.Partitions, partition)
			}
			res.Topics = append(res.Topics, topic)
		}
		return res, nil, true
	})
	if _, err := openTestCluster(t, kafka, 5).topic([]byte(testTopic)); err != nil {
		t.Error(err)
	}
}

func TestParsePosition_ReadsWhatStringWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := Position{LSN(rapid.Uint64().Draw(t, "lsn")), rapid.Uint32().Draw(t, "index")}
		got, err := ParsePosition(p.String())
		if err != nil || got != p {
			t.Fatalf("%s is read as %s, %v", p, got, err)
		}
	})
	for _, text := range []string{"", "/", "1/2", "x/1/0", "1/x/0", "1/2/x", "1/2/-1", "100000000/0/0"} {
		if p, err := ParsePosition(text); err == nil {
			t.Errorf("%q is read as %s", text, p)
		}
	}
}
