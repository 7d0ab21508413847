package relay_test

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/hamba/avro/v2"

	"github.com/postrider/postrider/relay"
)

var orderCreatedSchema = sync.OnceValue(func() avro.Schema {
	schema, err := avro.ParseBytesWithCache([]byte(orderCreated), "", &avro.SchemaCache{})
	if err != nil {
		panic(err)
	}
	return schema
})

// decodeSeq reads a record's value: the framing and order.created.
func decodeSeq(t *testing.T, value []byte) (schemaID int, seq int64) {
	t.Helper()
	if len(value) < 5 || value[0] != 0 {
		t.Fatalf("value % x is not in Confluent's wire format", value)
	}
	var event struct {
		Seq int64 `avro:"seq"`
	}
	if err := avro.Unmarshal(orderCreatedSchema(), value[5:], &event); err != nil {
		t.Fatal(err)
	}
	return int(binary.BigEndian.Uint32(value[1:])), event.Seq
}

func TestRelay_PublishesCommittedRowsAsAvroInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	const keys, perKey = 5, 40
	for i := range perKey {
		for k := range keys {
			f.emit(fmt.Sprintf("order-%d", k), i, 1)
		}
	}
	next := make(map[string]int64)
	for _, rec := range f.consume(f.topic, keys*perKey) {
		id, seq := decodeSeq(t, rec.Value)
		if id != 1 {
			t.Fatalf("schema id %d, want 1", id)
		}
		if seq != next[string(rec.Key)] {
			t.Fatalf("key %s: got event %d, want %d", rec.Key, seq, next[string(rec.Key)])
		}
		next[string(rec.Key)]++
		for _, name := range []string{"ce_id", "ce_time", "postrider-position"} {
			if header(rec, name) == "" {
				t.Errorf("header %s is missing", name)
			}
		}
		if got := header(rec, "ce_source"); got != "/"+f.cfg.Name {
			t.Errorf("ce_source %q", got)
		}
	}
}

func TestRelay_PublishesRowsFromBeforeTheSlotFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.emit("a", 0, 500)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 500, 500)
	for i, rec := range f.consume(f.topic, 1000) {
		if _, seq := decodeSeq(t, rec.Value); seq != int64(i) {
			t.Fatalf("record %d is event %d", i, seq)
		}
	}
	r.until("all acknowledged", func(s relay.StatusReport) bool { return s.Published == 1000 && s.InFlight == 0 })
}

func TestRelay_RestartPublishesNothingTwice(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 0, 300)
	f.consume(f.topic, 300)
	r.halt()
	f.emit("a", 300, 300)
	r = f.start()
	r.untilStreaming()
	f.emit("a", 600, 1)
	for i, rec := range f.consume(f.topic, 601) {
		if _, seq := decodeSeq(t, rec.Value); seq != int64(i) {
			t.Fatalf("record %d is event %d", i, seq)
		}
	}
}

// The brokers read every batch before they append it, so they judge what they are sent.
func TestRelay_PublishesInEveryCompression(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			r := f.start(func(c *relay.Config) { c.Kafka.Compression = codec })
			r.untilStreaming()
			const few, many = 12, 3000 // large ones, of which a batch holds some, and more than a batch holds
			for i := range few {
				hashes := 3000 // 96 kB in which nothing repeats
				if i == few/2 {
					hashes = 25_000
				}
				f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
					SELECT 'order', 'a', 'order.created', json_build_object('seq', $1::int, 'note', string_agg(md5($1::text || n), ''))
					FROM generate_series(1, $2::int) n`, i, hashes)
			}
			f.emit("a", few, many)
			for i, rec := range f.consume(f.topic, few+many) {
				if _, seq := decodeSeq(t, rec.Value); seq != int64(i) {
					t.Fatalf("record %d is event %d", i, seq)
				}
			}
		})
	}
}
