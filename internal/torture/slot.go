package torture

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// slotInterval is the time from one look at the slot to the next.
const slotInterval = 20 * time.Millisecond

// partition names one in a map.
type partition struct {
	topic string
	id    int32
}

// sample is a proof about the slot: every transaction that ended at confirmed or before must
// lie below the high watermarks, which were read afterwards.
type sample struct {
	at        time.Time
	confirmed pglogrepl.LSN
	ends      map[partition]int64
}

// slotWatcher samples the slot's confirmed LSN, each time it has changed.
type slotWatcher struct {
	arena *Arena

	mu      sync.Mutex
	samples []sample
	looks   int
	// The slot as it was seen last.
	exists    bool
	confirmed pglogrepl.LSN
}

// run samples until ctx ends.
func (w *slotWatcher) run(ctx context.Context) {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.arena.brokers...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		w.arena.violate("I4", "no client for Kafka: %v", err)
		return
	}
	defer client.Close()
	var conn *pgx.Conn
	defer func() { closeConn(conn) }()
	for pause(ctx, slotInterval) {
		if conn == nil || conn.IsClosed() {
			if conn, err = w.arena.connect(ctx, "postrider torture slot"); err != nil {
				conn = nil
				continue // the server is down
			}
		}
		exists, confirmed, err := readSlot(ctx, conn, w.arena.slot())
		if err != nil {
			closeConn(conn)
			conn = nil
			continue
		}
		w.mu.Lock()
		moved := exists && confirmed != w.confirmed
		w.exists, w.confirmed = exists, confirmed
		w.looks++
		w.mu.Unlock()
		if !moved {
			continue
		}
		// While Kafka is down this waits. What it then says still holds: the slot was there
		// before.
		ends, err := readEnds(ctx, kadm.NewClient(client), w.arena.allTopics())
		if err != nil {
			continue
		}
		w.mu.Lock()
		w.samples = append(w.samples, sample{time.Now(), confirmed, ends})
		w.mu.Unlock()
	}
}

// readSlot returns where the slot stands.
func readSlot(ctx context.Context, conn *pgx.Conn, slot string) (exists bool, confirmed pglogrepl.LSN, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(confirmed_flush_lsn, '0/0')::text FROM pg_replication_slots WHERE slot_name = $1`, slot).Scan(&confirmed)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, 0, nil
	}
	return err == nil, confirmed, err
}

// readEnds returns the high watermarks of topics. It tries until ctx ends.
func readEnds(ctx context.Context, admin *kadm.Client, topics []string) (map[partition]int64, error) {
	for {
		listed, err := admin.ListEndOffsets(ctx, topics...)
		if err == nil {
			err = listed.Error()
		}
		if err == nil {
			ends := make(map[partition]int64)
			listed.Each(func(o kadm.ListedOffset) { ends[partition{o.Topic, o.Partition}] = o.Offset })
			return ends, nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return nil, err
		}
	}
}

// last returns the slot as it was seen last.
func (w *slotWatcher) last() (exists bool, confirmed pglogrepl.LSN) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.exists, w.confirmed
}

// taken returns all samples.
func (w *slotWatcher) taken() []sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.samples
}
