package relay_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/ledger"
	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

// settle waits until every committed event is in the topic, stops the relays and checks the
// balance: nothing twice.
func (f *fixture) settle(w *ledger.Writer, relays ...*running) {
	f.t.Helper()
	if b := f.settleRoughly(w, relays...); b.Duplicates > 0 {
		f.t.Errorf("published twice: %s", b)
	}
}

// settleRoughly is settle with duplicates allowed.
func (f *fixture) settleRoughly(w *ledger.Writer, relays ...*running) ledger.Balance {
	f.t.Helper()
	w.Stop()
	l := ledger.Open(f.t, f.url, f.cfg.Kafka.Brokers, f.topic)
	l.Await()
	for _, r := range relays {
		r.halt()
	}
	b := l.Balance()
	f.t.Log(b)
	if b.Lost+b.Phantoms+b.OutOfOrder+b.Changed > 0 {
		f.t.Errorf("the ledger does not balance: %s", b)
	}
	return b
}

// on lets the fixture publish to a private Kafka.
func (f *fixture) on(kafka *testserver.KafkaCluster, replicas int) {
	f.t.Helper()
	f.cfg.Kafka.Brokers = kafka.Brokers()
	f.topic = testserver.TopicOn(f.t, kafka.Brokers(), 4, replicas)
	f.cfg.Outbox.Topic = f.topic
}

// eventually polls until ok.
func (f *fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // bounded polling of something that sends no signal
		if time.Now().After(deadline) {
			f.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// ask returns the single value of a query.
func ask[T any](f *fixture, sql string, args ...any) (v T) {
	f.t.Helper()
	if err := f.db.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// walsender returns the process that streams the fixture's slot, or 0.
func (f *fixture) walsender() int32 {
	f.t.Helper()
	return ask[int32](f, `SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = $1`, f.slot())
}

func (f *fixture) slot() string { return "postrider_" + f.cfg.Name }

func TestRestart_PostgresRestartsAndCrashesUnderLoad(t *testing.T) {
	t.Parallel()
	postgres := testserver.NewPostgresCluster(t)
	f := newFixtureOn(t, postgres.URL())
	r := f.start()
	r.untilStreaming()
	w := ledger.Write(t, f.url)
	for range 2 {
		w.AwaitMore(500)
		postgres.Restart()
		w.AwaitMore(500)
		postgres.Crash()
		r.until("the loss is noticed", func(s relay.StatusReport) bool { return !s.Ready })
		postgres.Start()
	}
	w.AwaitMore(500)
	f.settle(w, r)
}

func TestRestart_WalsenderTerminatedAgainAndAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	w := ledger.Write(t, f.url)
	var last int32
	for range 20 {
		var pid int32
		f.eventually("a new walsender", func() bool { pid = f.walsender(); return pid != 0 && pid != last })
		w.AwaitMore(20)
		f.exec(`SELECT pg_terminate_backend($1)`, pid)
		last = pid
	}
	f.settle(w, r)
	if lines := len(r.logs.String()); lines > 100_000 {
		t.Errorf("twenty reconnects logged %d bytes", lines)
	}
}

func TestRestart_KafkaKilledUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	kafka := testserver.NewKafkaCluster(t, 1)
	f.on(kafka, 1)
	r := f.start()
	r.untilStreaming()
	w := ledger.Write(t, f.url)
	r.until("events flow", func(s relay.StatusReport) bool { return s.Published > 500 })
	kafka.KillNode(1)
	r.until("the loss is told", func(s relay.StatusReport) bool { return !s.Ready && s.InFlight > 0 })
	w.AwaitMore(500)
	kafka.Start()
	w.AwaitMore(500)
	f.settle(w, r)
}

func TestRestart_KafkaLeaderKilledUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	kafka := testserver.NewKafkaCluster(t, 3)
	f.on(kafka, 3) // min.insync.replicas is 2
	r := f.start()
	r.untilStreaming()
	w := ledger.Write(t, f.url)
	w.AwaitMore(500)
	kafka.KillNode(int(f.leader(0)))
	w.AwaitMore(500)
	before := r.Status().Published
	r.until("events go to the new leader", func(s relay.StatusReport) bool { return s.Published > before+500 })
	kafka.Start()
	w.AwaitMore(200)
	f.settle(w, r)
}

// leader returns the node that leads a partition of the fixture's topic.
func (f *fixture) leader(partition int32) int32 {
	f.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cfg.Kafka.Brokers...))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(context.Background(), f.topic)
	if err != nil {
		f.t.Fatal(err)
	}
	return topics[f.topic].Partitions[partition].Leader
}

func TestRestart_GracefulStopUnderLoadPublishesNothingTwice(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := ledger.Write(t, f.url)
	var r *running
	for range 4 {
		r = f.start()
		r.untilStreaming()
		before := r.Status().Published
		r.until("events flow", func(s relay.StatusReport) bool { return s.Published > before+100 })
		started := time.Now()
		r.halt()
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("the stop took %v", took)
		}
		w.AwaitMore(100)
	}
	r = f.start()
	f.settle(w, r)
}

func TestRestart_IdleOutboxLetsTheDatabaseDropItsWAL(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	for _, beside := range []string{"the same database", "another database"} {
		url := f.url
		if beside == "another database" {
			url = testserver.Postgres(t)
		}
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		_, err = conn.Exec(t.Context(), `CREATE TABLE busy AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)`)
		if err != nil {
			t.Fatal(err)
		}
		end := ask[string](f, `SELECT pg_current_wal_lsn()::text`)
		f.eventually("the slot passes what was written to "+beside, func() bool {
			return ask[bool](f, `SELECT confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`, end, f.slot())
		})
	}
	if s := r.Status(); s.Published != 0 {
		t.Errorf("%d events published, though none was written", s.Published)
	}
}

func TestRestart_LargeTransactionArrivesWholeAndInOrder(t *testing.T) {
	t.Parallel()
	const rows = 200_000
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("large", 0, rows)
	for n := uint64(0); n < rows; { // patient as long as it goes on
		n = r.until("more of it acknowledged", func(s relay.StatusReport) bool { return s.Published > n }).Published
	}
	for i, rec := range f.consume(f.topic, rows) {
		if _, seq := decodeSeq(t, rec.Value); seq != int64(i) {
			t.Fatalf("record %d is event %d", i, seq)
		}
	}
	if s := r.Status(); s.Published != rows || s.InFlight != 0 {
		t.Errorf("published %d, in flight %d", s.Published, s.InFlight)
	}
}

func TestStandby_TakesOverWithinSeconds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	active := f.start()
	active.untilStreaming()
	standby := f.start()
	standby.until("ready as standby", func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStandby && s.Ready })
	w := ledger.Write(t, f.url)
	for range 3 {
		w.AwaitMore(100)
		active.halt()
		stopped := time.Now()
		standby.until("publishing", func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStreaming && s.Published > 0 })
		took := time.Since(stopped)
		t.Logf("takeover took %v", took)
		if took > 5*time.Second {
			t.Errorf("takeover took %v", took)
		}
		active, standby = standby, f.start()
		standby.until("standby", func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStandby && s.Ready })
	}
	f.settle(w, active, standby)
}

func TestStandby_RelayThatLostTheSlotToAnotherStandsBy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	active, standby := f.start(), (*running)(nil)
	active.untilStreaming()
	standby = f.start()
	stands := func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStandby && s.Ready }
	standby.until("standby", stands)
	w := ledger.Write(t, f.url)
	for range 3 {
		w.AwaitMore(50)
		f.eventually("the other takes over", func() bool {
			if standby.Status().Phase == relay.PhaseStreaming {
				return true
			}
			if active.Status().Phase == relay.PhaseStreaming {
				f.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, f.slot())
			}
			return false
		})
		w.AwaitMore(50)
		active.until("standby", stands)
		active, standby = standby, active
	}
	// What the one had appended and could not confirm any more, the other appends again.
	f.settleRoughly(w, active, standby)
}

func TestStandby_TwoRelaysAtOnceMakeOneSnapshot(t *testing.T) {
	t.Parallel()
	const rows = 5000
	f := newFixture(t)
	f.emit("a", 0, rows)
	relays := []*running{f.start(), f.start()}
	f.eventually("one streams, one stands by", func() bool {
		a, b := relays[0].Status(), relays[1].Status()
		return a.Phase == relay.PhaseStreaming && b.Phase == relay.PhaseStandby ||
			b.Phase == relay.PhaseStreaming && a.Phase == relay.PhaseStandby
	})
	f.emit("a", rows, 1)
	for i, rec := range f.consume(f.topic, rows+1) {
		if _, seq := decodeSeq(t, rec.Value); seq != int64(i) {
			t.Fatalf("record %d is event %d", i, seq)
		}
	}
	if a, b := relays[0].Status().Published, relays[1].Status().Published; a+b != rows+1 {
		t.Errorf("published %d and %d events, %d exist", a, b, rows+1)
	}
}

// A relay that looked for the slot before another made it must not make a snapshot of its
// own afterwards.
func TestStandby_LateRelayMakesNoSecondSnapshot(t *testing.T) {
	t.Parallel()
	const rows = 100
	f := newFixture(t)
	f.emit("a", 0, rows)
	gate := newGate(t, f.cfg.Kafka.Brokers[0])
	late := f.start(func(c *relay.Config) { c.Kafka.Brokers = []string{gate.address()} })
	<-gate.reached // it has looked for the slot, and asks Kafka now
	first := f.start()
	first.untilStreaming()
	f.consume(f.topic, rows)
	gate.open()
	late.until("standby", func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStandby })
	f.emit("a", rows, 1)
	f.consume(f.topic, rows+1)
	first.halt()
	late.untilStreaming()
	f.emit("a", rows+1, 1)
	for i, rec := range f.consume(f.topic, rows+2) {
		if _, seq := decodeSeq(t, rec.Value); seq != int64(i) {
			t.Fatalf("record %d is event %d", i, seq)
		}
	}
}

// gate is a way to a server that stays shut until open is called.
type gate struct {
	listener net.Listener
	reached  chan struct{} // closed when somebody stands before it
	opened   chan struct{}
}

func newGate(t *testing.T, server string) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: listener, reached: make(chan struct{}), opened: make(chan struct{})}
	var connections sync.WaitGroup
	end := make(chan struct{})
	connections.Go(func() {
		for first := true; ; first = false {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			if first {
				close(g.reached)
			}
			connections.Go(func() {
				defer from.Close()
				select {
				case <-g.opened:
				case <-end:
					return
				}
				to, err := net.Dial("tcp", server)
				if err != nil {
					return
				}
				defer to.Close()
				connections.Go(func() { _, _ = io.Copy(to, from); _ = to.Close() })
				_, _ = io.Copy(from, to)
			})
		}
	})
	t.Cleanup(func() {
		close(end)
		_ = listener.Close()
		connections.Wait()
	})
	return g
}

func (g *gate) address() string { return g.listener.Addr().String() }

func (g *gate) open() { close(g.opened) }

// A stop must not wait for a server that does not answer.
func TestRestart_StopsAlthoughKafkaDoesNotAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	gate := newGate(t, f.cfg.Kafka.Brokers[0])
	r := f.start(func(c *relay.Config) { c.Kafka.Brokers = []string{gate.address()} })
	<-gate.reached
	started := time.Now()
	r.halt()
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
}
