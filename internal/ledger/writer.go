package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// keys is over how many keys a Writer spreads its events.
	keys = 8
	// pace is the time from one transaction to the next.
	pace = 2 * time.Millisecond
	// rollbackEvery is how many transactions end in one that is rolled back.
	rollbackEvery = 17
)

// Writer commits events of type order.created to public.outbox, one to five in a
// transaction. Their seq rises along each key in the order of the commits.
type Writer struct {
	t         testing.TB
	url       string
	stop      context.CancelFunc
	done      chan struct{}
	committed atomic.Int64
}

// Write starts a Writer. It survives whatever happens to the server. It ends with the test,
// if Stop does not end it before.
func Write(t testing.TB, url string) *Writer {
	ctx, stop := context.WithCancel(context.Background())
	w := &Writer{t: t, url: url, stop: stop, done: make(chan struct{})}
	go w.run(ctx)
	t.Cleanup(func() { w.Stop() })
	return w
}

// Stop ends the writer after its transaction, and returns how many events it knows to be
// committed. There may be more, where a server took the answer with it.
func (w *Writer) Stop() int {
	w.stop()
	<-w.done
	return int(w.committed.Load())
}

// AwaitMore returns when n more events are committed.
func (w *Writer) AwaitMore(n int) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for want := w.committed.Load() + int64(n); w.committed.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("the writer committed fewer than %d events in %v", n, patience)
		}
	}
}

func (w *Writer) run(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var conn *pgx.Conn
	defer func() { closeConn(conn) }()
	var seq [keys]int
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, w.url); err != nil {
				continue // the server is down, as the test wants it
			}
		}
		events := n%5 + 1
		batch := &pgx.Batch{}
		for i := range events {
			key := (n + i*i) % keys
			batch.Queue(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
				VALUES ('order', $1, 'order.created', json_build_object('seq', $2::int))`, fmt.Sprintf("key-%d", key), seq[key])
			seq[key]++
		}
		// A commit that is not waited for could become visible after the rows were read, though
		// its events are published already.
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		tx := func(tx pgx.Tx) error {
			if err := tx.SendBatch(work, batch).Close(); err != nil {
				return err
			}
			if n%rollbackEvery == 0 {
				return errRollback
			}
			return nil
		}
		err := pgx.BeginFunc(work, conn, tx)
		cancel()
		if err == nil {
			w.committed.Add(int64(events))
		} else if !errors.Is(err, errRollback) {
			closeConn(conn)
			conn = nil
		}
	}
}

var errRollback = errors.New("rolled back on purpose")

func closeConn(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
