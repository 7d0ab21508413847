package consumer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/outbox/consumer"
)

var strategies = map[string]func() sarama.BalanceStrategy{
	"range":              sarama.NewBalanceStrategyRange,
	"sticky":             sarama.NewBalanceStrategySticky,
	"cooperative sticky": sarama.NewBalanceStrategyCooperativeSticky,
}

func TestRun_HandlesOnceWhileMembersComeAndGo(t *testing.T) {
	t.Parallel()
	for name, strategy := range strategies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const keys = 12
			f := newFixture(t, 6)
			member := func(name string) *running {
				cfg := f.config()
				cfg.Kafka.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy()}
				cfg.Handler = consumer.Pgx(f.pool, func(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
					if rand.N(20) == 0 {
						return fmt.Errorf("a failure at random")
					}
					return note(name)(ctx, tx, r)
				})
				cfg.Attempts = 1 << 20
				return start(t, cfg)
			}
			each := 0
			// atWork goes on producing until the member has settled some of it.
			atWork := func(name string, r *running) {
				t.Helper()
				before := r.counts.settled()
				eventually(t, name+" is at work", func() bool {
					f.load(keys, each, each+2)
					each += 2
					return r.counts.settled() > before+keys
				})
			}

			first := member("first")
			atWork("the first", first)
			second := member("second")
			atWork("the second", second)
			third := member("third")
			atWork("the third", third)
			second.stop()
			atWork("the first without the second", first)
			fourth := member("fourth")
			atWork("the fourth", fourth)
			first.stop()
			third.stop()
			atWork("the fourth alone", fourth)
			eventually(t, "all are handled", func() bool { return column[int](f, "SELECT count(*)::int FROM effect")[0] >= keys*each })
			fourth.stop()
			f.checkLoad(keys, each)
			if n := column[int](f, "SELECT count(*)::int FROM inbox")[0]; n != keys*each {
				t.Errorf("%d marks of %d events", n, keys*each)
			}
			t.Logf("%d events", keys*each)
		})
	}
}

func TestRun_LetsAHandlerFinishWhenItStops(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	cfg := f.config()
	begun, finish := make(chan struct{}), make(chan struct{})
	cfg.Handler = consumer.Pgx(f.pool, func(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
		if r.ID == "e-0" {
			close(begun)
			<-finish
		}
		return note("")(ctx, tx, r)
	})
	f.produce(f.record("k", "e-0", nil), f.record("k", "e-1", nil))
	first := start(t, cfg)
	<-begun
	first.cancel()
	close(finish)
	first.stop()
	if diff := cmp.Diff([]string{"e-0"}, f.handled()); diff != "" {
		t.Errorf("effects after the stop (-want +got):\n%s", diff)
	}

	cfg = f.config()
	second := start(t, cfg)
	eventually(t, "the rest is handled", func() bool { return second.counts.of(consumer.Handled) == 1 })
	if n := second.counts.of(consumer.Duplicate); n != 0 {
		t.Errorf("the offset of what was finished was not committed: %d duplicates", n)
	}
}

func TestRun_EndsWithinItsGrace(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	cfg := f.config()
	cfg.Grace = 200 * time.Millisecond
	begun := make(chan struct{})
	cfg.Handler = consumer.Pgx(f.pool, func(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
		if err := note("")(ctx, tx, r); err != nil {
			return err
		}
		close(begun)
		<-ctx.Done()
		return nil // as if all were well
	})
	f.produce(f.record("k", "e-0", nil))
	running := start(t, cfg)
	<-begun
	running.stop()
	if got := f.handled(); len(got) > 0 {
		t.Errorf("a handler whose time was over has committed %q", got)
	}
	if n := running.counts.settled(); n != 0 {
		t.Errorf("%d records count as settled", n)
	}
}

// The first member's handler is still at work when the group has given its partition to the
// second, which waits for it in the inbox.
func TestRun_CommitsNothingWhenThePartitionIsRevoked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	member := func(handle func(context.Context, pgx.Tx, *consumer.Record) error) *running {
		cfg := f.config()
		cfg.Grace, cfg.Kafka.Consumer.Group.Rebalance.Timeout = 100*time.Millisecond, 2*time.Second
		cfg.Handler = consumer.Pgx(f.pool, handle)
		return start(t, cfg)
	}
	f.produce(f.record("k", "e-0", nil))
	begun, finish := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	first := member(func(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
		if calls.Add(1) == 1 {
			close(begun)
			<-finish
			ctx = context.WithoutCancel(ctx) // it does not look
		}
		return note("first")(ctx, tx, r)
	})
	<-begun
	second := member(note("second"))
	eventually(t, "the second waits for the first", func() bool {
		return column[int](f, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0")[0] == 1
	})
	close(finish)
	eventually(t, "the second has handled it", func() bool { return second.counts.settled() == 1 })
	first.stop()
	second.stop()
	if diff := cmp.Diff([]string{"second"}, column[string](f, "SELECT member FROM effect")); diff != "" {
		t.Errorf("who had the effect (-want +got):\n%s", diff)
	}
	if n := first.counts.settled(); n != 0 {
		t.Errorf("the first settled %d records", n)
	}
}

// childDatabase and the variables after it make the test's binary a consumer.
const (
	childDatabase = "CONSUMER_TEST_DATABASE"
	childBrokers  = "CONSUMER_TEST_BROKERS"
	childTopic    = "CONSUMER_TEST_TOPIC"
	childDead     = "CONSUMER_TEST_DEAD"
)

func runChild() error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv(childDatabase))
	if err != nil {
		return err
	}
	return consumer.Run(ctx, consumer.Config{
		Brokers: strings.Split(os.Getenv(childBrokers), ","), Kafka: quick(), DeadLetterTopic: os.Getenv(childDead),
		Group: os.Getenv(childTopic), Topics: []string{os.Getenv(childTopic)},
		Handler: consumer.Pgx(pool, note("child")),
	})
}

func TestRun_HandlesOnceThoughTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	const keys, each, kills = 10, 200, 4
	f := newFixture(t, 3)
	f.load(keys, 0, each)
	done := func() int { return column[int](f, "SELECT count(*)::int FROM effect")[0] }
	for n := range kills + 1 {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), childDatabase+"="+f.url, childBrokers+"="+strings.Join(f.brokers, ","), childTopic+"="+f.topic, childDead+"="+f.dead)
		child.Stdout, child.Stderr = os.Stderr, os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		goal := keys * each * (n + 1) / (kills + 1)
		eventually(t, fmt.Sprintf("%d events are handled by process %d", goal, n), func() bool { return done() >= goal })
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed
	}
	f.checkLoad(keys, each)

	// What the dead had handled and not committed comes again, without effect.
	last := start(t, f.config())
	f.produce(f.record("k00", "k00-200", nil))
	eventually(t, "the last event is handled", func() bool { return last.counts.of(consumer.Handled) == 1 })
	last.stop()
	t.Logf("%d duplicates were left for the last consumer", last.counts.of(consumer.Duplicate))
	if got := done(); got != keys*each+1 {
		t.Errorf("%d effects of %d events", got, keys*each+1)
	}
}
