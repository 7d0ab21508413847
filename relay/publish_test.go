package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"
)

// published is a record as it was handed to the publisher, or as a consumer reads it.
type published struct {
	Key, Value string
	Null       bool // a tombstone
	Headers    []string
}

// publishing is a publisher at work on an in-process broker, with a test in the place of the
// encoder.
type publishing struct {
	*Publisher
	t     *testing.T
	kafka *kfake.Cluster
	topic *topic
	ended chan error // what Run returned

	lateBy time.Duration // of the blocks
	want   [][]published // by partition
	random *rand.Rand
	lsn    LSN
	taken  map[*block]bool
}

const testTopic = "orders"

// cuttingListener hands out connections that can be cut in place of the next response.
type cuttingListener struct {
	net.Listener
	cut *atomic.Int32
}

func (l cuttingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return cuttingConn{c, l.cut}, err
}

type cuttingConn struct {
	net.Conn
	cut *atomic.Int32
}

func (c cuttingConn) Write(p []byte) (int, error) {
	for n := c.cut.Load(); n > 0; n = c.cut.Load() {
		if c.cut.CompareAndSwap(n, n-1) {
			_ = c.Close()
			return 0, net.ErrClosed
		}
	}
	return c.Conn.Write(p)
}

func startKafka(t *testing.T, partitions int32, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	kafka, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3), kfake.SeedTopics(partitions, testTopic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	return kafka
}

// startPublishing runs a publisher until the test ends.
func startPublishing(t *testing.T, kafka *kfake.Cluster) *publishing {
	t.Helper()
	cfg := minimalConfig()
	cfg.Kafka.Brokers = kafka.ListenAddrs()
	cfg.Kafka.Compression = "none" // sizes are what they look like
	cfg.Kafka.MaxInFlightBytes = 1 << 20
	cfg = cfg.withDefaults()
	log := slog.New(slog.DiscardHandler)
	cluster, err := openCluster(cfg.Kafka, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.close)
	m := newMetrics(nil, cfg.Name)
	publisher, err := newPublisher(cluster, &cfg, NewCheckpoint(0, nil), newStatus(log, m), m)
	if err != nil {
		t.Fatal(err)
	}
	p := &publishing{
		Publisher: publisher, t: t, kafka: kafka, ended: make(chan error, 1),
		random: rand.New(rand.NewPCG(1, 2)), taken: make(map[*block]bool),
	}
	if p.topic, err = cluster.topic([]byte(testTopic)); err != nil {
		t.Fatal(err)
	}
	p.want = make([][]published, len(p.topic.partitions))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.ended <- publisher.Run(ctx, context.Background())
	}()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

// publish hands over a block, a transaction of its own, and returns the LSN it ends at.
func (p *publishing) publish(records ...published) LSN {
	p.t.Helper()
	b := p.blocks.take()
	p.taken[b] = true
	p.lsn += 0x10
	ticket := p.checkpoint.Begin(time.Now())
	for i, r := range records {
		m := b.mark()
		key := b.put([]byte(r.Key))
		var value span
		if r.Null {
			value = b.putNull()
		} else {
			value = b.put([]byte(r.Value))
		}
		b.beginHeaders()
		for j := 0; j < len(r.Headers); j += 2 {
			b.text(r.Headers[j], r.Headers[j+1])
		}
		part := p.cluster.partitionFor(p.topic, []byte(r.Key))
		p.checkpoint.Add(ticket)
		b.add(m, blockRecord{key: key, value: value, id: null, partition: part, ticket: ticket, position: Position{LSN: p.lsn, Index: uint32(i)}})
		p.want[part.id] = append(p.want[part.id], r)
	}
	p.checkpoint.Commit(ticket, p.lsn)
	b.late = p.lateBy
	if err := p.submit(p.t.Context(), b); err != nil {
		p.t.Fatal(err)
	}
	return p.lsn
}

// some returns n records of random keys and values.
func (p *publishing) some(n int) []published {
	records := make([]published, n)
	for i := range records {
		r := &records[i]
		r.Key = fmt.Sprintf("key-%d", p.random.IntN(50))
		r.Headers = []string{"ce_id", fmt.Sprint(p.lsn, i), "empty", ""}
		if r.Null = p.random.IntN(10) == 0; !r.Null {
			r.Value = fmt.Sprintf("%d/%d %x", p.lsn, i, p.random.Uint64())
		}
	}
	return records
}

// acknowledged waits until everything up to lsn has been acknowledged.
func (p *publishing) acknowledged(lsn LSN) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	if err := p.checkpoint.wait(ctx, lsn); err != nil {
		p.t.Fatalf("%s was not acknowledged, only %s: %v", lsn, p.checkpoint.Flushed(), err)
	}
}

// finish closes the encoder's side and checks that the topic holds just what was published.
func (p *publishing) finish() {
	p.t.Helper()
	close(p.in)
	if err := p.end(); err != nil {
		p.t.Fatalf("publisher: %v", err)
	}
	if p.checkpoint.Flushed() != p.lsn {
		p.t.Errorf("everything up to %s is acknowledged, want %s", p.checkpoint.Flushed(), p.lsn)
	}
	p.verify()
	p.recycled()
}

// end returns what Run returned.
func (p *publishing) end() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- err
		return err
	case <-time.After(30 * time.Second):
		p.t.Fatal("the publisher does not end")
		return nil
	}
}

// verify reads the topic and compares each partition with what was published to it.
func (p *publishing) verify() {
	p.t.Helper()
	total := 0
	got := make([][]published, len(p.want))
	for _, part := range p.kafka.PartitionInfos(testTopic) {
		total += int(part.HighWatermark)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.kafka.ListenAddrs()...), kgo.ConsumeTopics(testTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	for n := 0; n < total; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			p.t.Fatalf("read %d of %d records: %v", n, total, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			record := published{Key: string(r.Key), Value: string(r.Value), Null: r.Value == nil}
			for _, h := range r.Headers {
				record.Headers = append(record.Headers, h.Key, string(h.Value))
			}
			got[r.Partition] = append(got[r.Partition], record)
		})
	}
	for i := range p.want {
		if len(got[i]) != len(p.want[i]) {
			p.t.Errorf("partition %d holds %d records, %d were published to it", i, len(got[i]), len(p.want[i]))
		}
		for j := range min(len(got[i]), len(p.want[i])) {
			if diff := cmp.Diff(p.want[i][j], got[i][j]); diff != "" {
				p.t.Errorf("partition %d, offset %d (-published +read):\n%s", i, j, diff)
				break
			}
		}
	}
}

// recycled checks that the memory of everything that was published has come back.
func (p *publishing) recycled() {
	p.t.Helper()
	if !p.budget.TryAcquire(p.limit) {
		p.t.Error("a part of the budget was not given back")
	}
	if p.unsent != 0 {
		p.t.Errorf("%d bytes count as not sent, want none", p.unsent)
	}
	spare := p.blocks.spare
	if len(spare) < len(p.taken) && p.blocks.bytes < p.blocks.limit/2 { // more than fit are left to the collector
		p.t.Errorf("%d of %d blocks were given back", len(spare), len(p.taken))
	}
	for _, b := range spare {
		if !p.taken[b] {
			p.t.Error("a block was given back twice")
		}
		delete(p.taken, b)
		if len(b.records) != 0 || len(b.bytes) != 0 {
			p.t.Error("a block was given back full")
		}
	}
	held := 0
	for _, part := range p.topic.partitions {
		for _, r := range slices.Concat(part.batched[:cap(part.batched)], part.queue.records[:cap(part.queue.records)]) {
			if r.block != nil {
				held++
			}
		}
	}
	if held > 0 {
		p.t.Errorf("%d pointers to blocks are held by partitions that have nothing to send", held)
	}
}

func TestPublisher_KeepsTheOrderOfEachPartition(t *testing.T) {
	t.Parallel()
	p := startPublishing(t, startKafka(t, 8))
	for i := range 50 {
		p.publish(p.some(1 + i)...)
	}
	p.publish(published{Key: "k", Value: ""}, published{Key: "k", Null: true}, published{Key: "", Value: "x"})
	p.finish()
}

func TestPublisher_NeitherLosesNorRepeatsNorReorders(t *testing.T) {
	t.Parallel()
	produce := []kmsg.Key{kmsg.Produce}
	for _, tc := range []struct {
		name string
		// fault makes the next produce requests fail.
		fault func(p *publishing, cut *atomic.Int32)
	}{
		{"the leader is another", func(p *publishing, _ *atomic.Int32) {
			p.kafka.Fault(kfake.Fault{Keys: produce, Err: kerr.NotLeaderForPartition, Count: 2})
		}},
		{"leaders move", func(p *publishing, _ *atomic.Int32) { p.kafka.ShufflePartitionLeaders() }},
		{"one partition's leader is another", func(p *publishing, _ *atomic.Int32) {
			p.kafka.Fault(kfake.Fault{Keys: produce, Topic: testTopic, Partitions: []int32{1}, Err: kerr.NotLeaderForPartition})
		}},
		{"too few replicas", func(p *publishing, _ *atomic.Int32) {
			p.kafka.Fault(kfake.Fault{Keys: produce, Err: kerr.NotEnoughReplicas, Count: 2})
		}},
		{"timed out after the append", func(p *publishing, _ *atomic.Int32) {
			p.kafka.Fault(kfake.Fault{Keys: produce, Err: kerr.RequestTimedOut, Count: 2})
		}},
		{"too few replicas after the append", func(p *publishing, _ *atomic.Int32) {
			p.kafka.Fault(kfake.Fault{Keys: produce, Err: kerr.NotEnoughReplicasAfterAppend, Count: 2})
		}},
		{"connection cut before the append", func(p *publishing, _ *atomic.Int32) {
			p.kafka.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				return nil, errors.New("cut"), true
			})
		}},
		{"connection cut after the append", func(p *publishing, cut *atomic.Int32) {
			p.kafka.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				p.kafka.DropControl()
				cut.Add(1)
				return nil, nil, false
			})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var cut atomic.Int32
			p := startPublishing(t, startKafka(t, 4, kfake.ListenFn(func(network, address string) (net.Listener, error) {
				l, err := net.Listen(network, address)
				return cuttingListener{l, &cut}, err
			})))
			p.acknowledged(p.publish(p.some(20)...))
			for i := range 12 {
				p.lateBy = time.Duration(i%2) * time.Second // in turns with events that are not
				if i%3 == 0 {
					tc.fault(p, &cut)
				}
				lsn := p.publish(p.some(20)...)
				if i%2 == 0 {
					p.acknowledged(lsn)
				}
			}
			p.finish()
			if cut.Load() != 0 {
				t.Errorf("%d connections were not cut", cut.Load())
			}
		})
	}
}

// Blocks keep coming for a partition that waits to look its leader up again.
func TestPublisher_QueuesBehindALeaderElection(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1)
	p := startPublishing(t, kafka)
	p.acknowledged(p.publish(p.some(5)...))
	election := kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: testTopic, Err: kerr.LeaderNotAvailable, Count: -1})
	if err := p.cluster.client.RefreshMetadata(testTopic); err == nil {
		t.Fatal("the client still knows a leader")
	}
	for range 5 {
		lookups := election.Hits()
		p.publish(p.some(5)...)
		if err := election.Wait(t.Context(), lookups+1); err != nil {
			t.Fatal(err)
		}
	}
	election.Remove()
	for range 20 {
		p.publish(p.some(20)...)
	}
	p.finish()
}

func TestPublisher_NamesTheCheckpointNothingThatIsNotAppended(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1)
	p := startPublishing(t, kafka)
	fault := kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	p.publish(p.some(10)...)
	if err := fault.Wait(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if p.checkpoint.Flushed() != 0 {
		t.Errorf("%s is flushed, and the topic is empty", p.checkpoint.Flushed())
	}
	fault.Remove()
	p.finish()
}

func TestPublisher_HalvesABatchThatIsTooLarge(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 2, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "10000"}))
	p := startPublishing(t, kafka)
	var records []published
	for i := range 300 {
		records = append(records, published{Key: fmt.Sprint(i % 7), Value: fmt.Sprintf("%01000d", i)})
	}
	p.publish(records[:100]...)
	p.publish(records[100:]...)
	p.finish()
}

// What a broker refused once bounds the batches of a partition for a while. The bound rises with
// every batch, so it must come to an end itself.
func TestPublisher_GoesOnForLongAfterABatchThatWasTooLarge(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "10000"}))
	p := startPublishing(t, kafka)
	large := make([]published, 30)
	for i := range large {
		large[i] = published{Key: "k", Value: fmt.Sprintf("%01000d", i)}
	}
	p.acknowledged(p.publish(large...))
	for range 500 {
		p.acknowledged(p.publish(published{Key: "k", Value: "small"}))
	}
	p.finish()
}

func TestPublisher_NamesTheSingleRecordThatIsTooLarge(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "10000"}))
	p := startPublishing(t, kafka)
	small := published{Key: "k", Value: fmt.Sprintf("%01000d", 1)}
	before := p.publish(small, small)
	p.publish(small, published{Key: "k", Value: fmt.Sprintf("%020000d", 1)}, small)
	var refused *refusal
	if err := p.end(); !errors.As(err, &refused) {
		t.Fatalf("the publisher ended with %v, want a refusal", err)
	}
	at := Position{LSN: p.lsn, Index: 1}
	if refused.err.Code != RecordTooLarge || !strings.Contains(refused.err.Error(), "at "+at.String()) {
		t.Errorf("%v, want RECORD_TOO_LARGE at %s", refused.err, at)
	}
	if p.checkpoint.Flushed() != before {
		t.Errorf("%s is flushed, want what came before the refused record: %s", p.checkpoint.Flushed(), before)
	}
	p.want[0] = p.want[0][:3] // nothing overtakes the one that was refused
	p.verify()
}

// A request that no broker takes is refused before it is sent. Its other batches are no reason,
// and must not be taken for one: what is blamed goes to the dead-letter topic, or halts the relay.
//
//nolint:paralleltest // sarama's limit is the process's
func TestPublisher_BlamesTheLargestBatchForARequestThatIsTooLarge(t *testing.T) {
	limit := sarama.MaxRequestSize
	t.Cleanup(func() { sarama.MaxRequestSize = limit })
	sarama.MaxRequestSize = 20000
	p := startPublishing(t, startKafka(t, 4, kfake.NumBrokers(1)))
	keys := make(map[int32]string, 4) // by partition
	for i := 0; len(keys) < 4; i++ {
		key := fmt.Sprint("k", i)
		keys[p.cluster.partitionFor(p.topic, []byte(key)).id] = key
	}
	p.publish(
		published{Key: keys[0], Value: "small"}, published{Key: keys[1], Value: "small"}, published{Key: keys[1], Value: "small"},
		published{Key: keys[2], Value: fmt.Sprintf("%030000d", 1)}, published{Key: keys[3], Value: "small"},
	)
	var refused *refusal
	if err := p.end(); !errors.As(err, &refused) {
		t.Fatalf("the publisher ended with %v, want a refusal", err)
	}
	if at := (Position{LSN: p.lsn, Index: 3}); refused.err.Code != RecordTooLarge || refused.err.at != at {
		t.Errorf("%v, want RECORD_TOO_LARGE at %s", refused.err, at)
	}
}

// Brokers and sarama take requests up to a size, however many partitions have large records.
func TestPublisher_BoundsARequest(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 20, kfake.NumBrokers(1))
	var largest atomic.Int64
	kafka.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		kafka.KeepControl()
		size := 0
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			for _, part := range topic.Partitions {
				size += len(part.Records)
			}
		}
		largest.Store(max(largest.Load(), int64(size)))
		return nil, nil, false
	})
	p := startPublishing(t, kafka)
	records := make([]published, 40)
	for i := range records {
		records[i] = published{Key: fmt.Sprint("k", i), Value: fmt.Sprintf("%0900000d", i)}
	}
	p.publish(records...)
	p.finish()
	const headers = 64 << 10 // of the batches
	if n := largest.Load(); n > requestBytes+headers || n < requestBytes/2 {
		t.Errorf("the largest request has %d bytes, want about %d at most", n, requestBytes)
	}
}

func TestPublisher_GathersOnlyWhatIsLate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const limit = 8 << 20
	full := semaphore.NewWeighted(limit)
	if !full.TryAcquire(limit) {
		t.Fatal("a budget that nobody uses is full")
	}
	waiting, cancel := context.WithCancel(t.Context())
	defer cancel()
	queued := make(chan struct{})
	go func() { close(queued); _ = full.Acquire(waiting, 1) }()
	<-queued
	for full.TryAcquire(0) { // until the other goroutine stands in the queue
		runtime.Gosched()
	}
	plain, many := []*partition{{}}, make([]*partition, 500)
	for i := range many {
		many[i] = new(partition)
	}
	for name, tc := range map[string]struct {
		late   time.Duration
		ready  []*partition
		unsent int
		since  time.Duration // the last request; -1 for none so far
		budget *semaphore.Weighted
		want   time.Duration
	}{
		"live":                               {late: 5 * time.Millisecond, ready: many, unsent: 300_000, since: time.Millisecond},
		"before its commit, by other clocks": {late: -time.Hour, ready: many, unsent: 300_000},
		"the same, and the first request":    {late: -50 * time.Millisecond, ready: many, unsent: 300_000, since: -1},
		"a backlog's first request":          {late: time.Hour, ready: many, unsent: 300_000, since: -1},
		"a little late":                      {late: 200 * time.Millisecond, ready: many, unsent: 300_000, since: 4 * time.Millisecond, want: 6 * time.Millisecond},
		"late":                               {late: time.Second, ready: many, unsent: 300_000, since: 20 * time.Millisecond, want: 30 * time.Millisecond},
		"a backlog":                          {late: time.Hour, ready: many, unsent: 300_000, want: 100 * time.Millisecond},
		"for long enough":                    {late: time.Hour, ready: many, unsent: 300_000, since: 100 * time.Millisecond},
		"enough for the partition":           {late: time.Hour, ready: plain, unsent: gatherBytes},
		"not enough for the partition":       {late: time.Hour, ready: plain, unsent: gatherBytes - 1, want: 100 * time.Millisecond},
		"half of what may be in flight":      {late: time.Hour, ready: many, unsent: limit / 2},
		"nearly half of it":                  {late: time.Hour, ready: many, unsent: limit/2 - 1, want: 100 * time.Millisecond},
		"the encoder waits for room":         {late: time.Hour, ready: many, unsent: 300_000, budget: full},
		"a batch is to be sent again":        {late: time.Hour, ready: append([]*partition{{batch: new(batchSpace)}}, many...), unsent: 300_000},
		"a batch was too large":              {late: time.Hour, ready: append([]*partition{{limit: 5}}, many...), unsent: 300_000},
		"all partitions have one on its way": {late: time.Hour, unsent: 300_000},
	} {
		p := &Publisher{limit: limit, late: tc.late, ready: tc.ready, unsent: tc.unsent, budget: tc.budget}
		if p.budget == nil {
			p.budget = semaphore.NewWeighted(limit)
		}
		if tc.since >= 0 {
			p.sent = now.Add(-tc.since)
		}
		if got := p.gathering(now); got != tc.want {
			t.Errorf("%s: waits for %v, want %v", name, got, tc.want)
		}
	}
}

func TestPublisher_WakesWhenThereIsSomethingToDo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		wait     time.Duration // for more records
		ready    int
		inFlight int
		retryIn  time.Duration // 0 for none that waits
		want     time.Duration
	}{
		"nothing to do":               {want: time.Hour},
		"more is waited for":          {wait: 50 * time.Millisecond, ready: 1, want: 50 * time.Millisecond},
		"more, and an answer":         {wait: 50 * time.Millisecond, ready: 1, inFlight: 1, want: 50 * time.Millisecond},
		"a retry is sooner than that": {wait: 50 * time.Millisecond, ready: 1, retryIn: 20 * time.Millisecond, want: 20 * time.Millisecond},
		"no answer will come":         {ready: 1, want: 0},
		"an answer will come":         {ready: 1, inFlight: 1, want: time.Hour},
		"only a retry is waited for":  {inFlight: 1, retryIn: 20 * time.Millisecond, want: 20 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			started := time.Now()
			p := &Publisher{ready: make([]*partition, tc.ready), inFlight: tc.inFlight}
			if tc.retryIn > 0 {
				p.waiting = []*partition{{retryAt: started.Add(tc.retryIn)}}
			}
			retry := time.NewTimer(2 * time.Hour)
			p.arm(retry, tc.wait)
			<-retry.C
			if got := time.Since(started); got != tc.want {
				t.Errorf("%s: it wakes after %v, want %v", name, got, tc.want)
			}
		})
	}
}

// A backlog on many partitions travels in few requests, and all of it arrives, also what is left
// when nothing more comes.
func TestPublisher_GathersABacklog(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 40, kfake.NumBrokers(1))
	var requests atomic.Int64
	kafka.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		kafka.KeepControl()
		requests.Add(1)
		return nil, nil, false
	})
	p := startPublishing(t, kafka)
	p.lateBy = time.Hour
	started := time.Now()
	for range 200 {
		p.publish(p.some(10)...) // less altogether than half of what may be in flight
	}
	p.acknowledged(p.lsn)
	if most := 2 + int64(time.Since(started)/gatherLimit); requests.Load() > most {
		t.Errorf("%d requests, want at most %d, one in %v", requests.Load(), most, gatherLimit)
	}
	p.finish()
}

func TestPublisher_EndsWhenTheBrokersLostTheProducer(t *testing.T) {
	t.Parallel()
	for _, fatal := range []*kerr.Error{kerr.OutOfOrderSequenceNumber, kerr.InvalidProducerEpoch, kerr.UnknownProducerID} {
		kafka := startKafka(t, 1)
		p := startPublishing(t, kafka)
		before := p.publish(p.some(5)...)
		p.acknowledged(before)
		kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: fatal})
		p.publish(p.some(5)...)
		if err := p.end(); !errors.Is(err, errProducerLost) {
			t.Errorf("%s: the publisher ended with %v", fatal.Message, err)
		}
		if p.checkpoint.Flushed() != before {
			t.Errorf("%s: %s is flushed, want %s", fatal.Message, p.checkpoint.Flushed(), before)
		}
	}
}

func TestPublisher_BoundsTheMemoryOfWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1)
	p := startPublishing(t, kafka) // 1 MiB
	fault := kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	large := published{Key: "k", Value: string(make([]byte, 400<<10))}
	p.publish(large)
	p.publish(large)
	third := p.blocks.take()
	m := third.mark()
	third.put([]byte(large.Value))
	third.beginHeaders()
	third.add(m, blockRecord{id: null, partition: p.topic.partitions[0]})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.submit(ctx, third); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a third block of 400 kB was taken into a budget of 1 MiB: %v", err)
	}
	fault.Remove()
	p.publish(large) // waits for the others
	// More than the whole budget passes alone, so that no record is too large for it.
	p.publish(published{Key: "k", Value: string(make([]byte, 600<<10))}, published{Key: "k", Value: string(make([]byte, 600<<10))})
	p.finish()
}

func TestPartitionFor_IsWhereJavaClientsPutTheKey(t *testing.T) {
	t.Parallel()
	const partitions = 7
	p := startPublishing(t, startKafka(t, partitions))
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic(testTopic)
	random := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		key := make([]byte, random.IntN(40))
		for i := range key {
			key[i] = byte(random.Uint32())
		}
		want := theirs.Partition(&kgo.Record{Key: key}, partitions)
		if got := p.cluster.partitionFor(p.topic, key); int(got.id) != want {
			t.Fatalf("key %x goes to partition %d, want %d", key, got.id, want)
		}
	}
}

// A broker that has just started, or a cluster that has had no producer yet, says so for a moment.
// A repair would else give up between the old slot and the new one.
func TestCluster_WaitsForAProducerIDThatIsOnItsWay(t *testing.T) {
	t.Parallel()
	kafka := startKafka(t, 1)
	kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress, Count: 2})
	if _, _, err := openTestCluster(t, kafka, 5).producer(); err != nil {
		t.Errorf("gave up on a coordinator that was loading: %v", err)
	}
	kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed, Count: 1})
	if _, _, err := openTestCluster(t, kafka, 5).producer(); asHalt(err) == nil {
		t.Errorf("want a halt where the right is missing, got %v", err)
	}
}
