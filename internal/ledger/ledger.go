package ledger

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// patience is how long a ledger waits for what must happen. It is only reached by failures.
const patience = 90 * time.Second

// Ledger compares public.outbox with one topic.
type Ledger struct {
	t       testing.TB
	topic   string
	client  *kgo.Client
	rows    map[string]row // by event id
	records []*kgo.Record
	seen    map[string]bool // committed events that were read
	read    map[int32]int64 // the next offset by partition
}

type row struct {
	key string
	seq int
}

// Open reads the table, to which nobody writes any more.
func Open(t testing.TB, url string, brokers []string, topic string) *Ledger {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	l := &Ledger{t: t, topic: topic, client: client, rows: map[string]row{}, seen: map[string]bool{}, read: map[int32]int64{}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	rows, err := conn.Query(ctx, `SELECT id::text, aggregate_id, (payload->>'seq')::int FROM outbox`)
	if err != nil {
		t.Fatal(err)
	}
	var id string
	var r row
	_, err = pgx.ForEachRow(rows, []any{&id, &r.key, &r.seq}, func() error {
		l.rows[id] = r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Await returns when every committed event is in the topic. It ends the test when that
// does not come about.
func (l *Ledger) Await() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(l.seen) < len(l.rows) {
		l.poll(ctx)
		if ctx.Err() != nil {
			l.t.Fatalf("after %v topic %s has %d of %d committed events", patience, l.topic, len(l.seen), len(l.rows))
		}
	}
}

func (l *Ledger) poll(ctx context.Context) {
	l.client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
		l.records = append(l.records, r)
		l.read[r.Partition] = r.Offset + 1
		if _, committed := l.rows[Header(r, "ce_id")]; committed {
			l.seen[Header(r, "ce_id")] = true
		}
	})
}

// Balance is what a topic holds against what was committed. Only the first two may be
// other than zero after a run without faults.
type Balance struct {
	Committed  int
	Records    int
	Lost       int // committed and not in the topic
	Phantoms   int // in the topic and not committed
	OutOfOrder int // first occurrences behind a later event of their key
	Duplicates int // further occurrences
	Changed    int // duplicates with another key, partition or value than the first
}

func (b Balance) String() string {
	return fmt.Sprintf("committed %d, records %d, lost %d, phantoms %d, out of order %d, duplicates %d, changed %d",
		b.Committed, b.Records, b.Lost, b.Phantoms, b.OutOfOrder, b.Duplicates, b.Changed)
}

// Balance reads to the end of the topic, to which nobody writes any more.
func (l *Ledger) Balance() Balance {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := kadm.NewClient(l.client).ListEndOffsets(ctx, l.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	behind := func() (behind bool) {
		ends.Each(func(end kadm.ListedOffset) { behind = behind || l.read[end.Partition] < end.Offset })
		return behind
	}
	for behind() {
		l.poll(ctx)
		if ctx.Err() != nil {
			l.t.Fatalf("topic %s was not read to its end within %v", l.topic, patience)
		}
	}
	b := Balance{Committed: len(l.rows), Records: len(l.records), Lost: len(l.rows) - len(l.seen)}
	first := make(map[string]*kgo.Record)
	last := make(map[string]int)
	for _, r := range l.records {
		id := Header(r, "ce_id")
		event, committed := l.rows[id]
		if !committed {
			b.Phantoms++
			continue
		}
		if f := first[id]; f != nil {
			b.Duplicates++
			if !bytes.Equal(f.Key, r.Key) || !bytes.Equal(f.Value, r.Value) || f.Partition != r.Partition {
				b.Changed++
			}
			continue
		}
		first[id] = r
		if before, ok := last[event.key]; ok && event.seq < before {
			b.OutOfOrder++
		}
		last[event.key] = event.seq
	}
	return b
}

// Header returns a header of r, or "".
func Header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
