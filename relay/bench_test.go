package relay

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/relay/transcode"
	"github.com/postrider/postrider/schema-registry/avroschema"
)

const (
	// lineEvents is how many events fill about a chunk.
	lineEvents = 200

	lineSchema = `{"type":"record","namespace":"order","name":"created","fields":[
		{"name":"seq","type":"long"},{"name":"customer","type":"string"},{"name":"currency","type":"string"},
		{"name":"total","type":"double"},{"name":"status","type":"string"},
		{"name":"lines","type":{"type":"array","items":{"type":"record","name":"line","fields":[
			{"name":"sku","type":"string"},{"name":"qty","type":"int"}]}}},
		{"name":"note","type":"string"}]}`
	linePayload = `{"seq" : 123456, "customer" : "customer-3456", "currency" : "EUR", "total" : 34.5600000000000000, "status" : "CREATED", ` +
		`"lines" : [{"sku" : "SKU-350", "qty" : 5}], ` +
		`"note" : "c4ca4238a0b923820dcc509a6f75849bc81e728d9d4c2f636f067f89cc14862ceccbc87e4b5ce2fe28308fd9f2a7baf3a87ff679a2f3e71d9181a67b7542122cabcdef"}`
)

// line is the encoder's side of a session, from bytes of the stream to records in a block,
// without servers: the topic and the schema are known already.
type line struct {
	*Encoder
	tb       testing.TB
	topic    *topic
	relation *Relation
	begin    wire
	inserts  []wire
	commit   wire
	tickets  []Ticket
}

func newLine(tb testing.TB) *line {
	tb.Helper()
	cfg := minimalConfig()
	cfg.Registry.LatestTTL = time.Hour
	cfg = cfg.withDefaults()
	log, m := slog.New(slog.DiscardHandler), newMetrics(prometheus.NewRegistry(), cfg.Name)
	e, err := newEncoder(&cfg, log, newStatus(log, m), m)
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := avroschema.Parse(lineSchema)
	if err != nil {
		tb.Fatal(err)
	}
	compiled, err := transcode.Compile(parsed)
	if err != nil {
		tb.Fatal(err)
	}
	e.schemas = newSchemas(nil, &cfg, log)
	e.schemas.latest["order.created"] = &subjectSchema{framing: newFraming(1), id: 1, version: 1, transcoder: compiled, fetched: time.Now()}
	l := &line{Encoder: e, tb: tb, relation: outboxRelation(), topic: &topic{name: "order", murmur2: sarama.NewMurmur2Partitioner("order")}}
	for id := range int32(8) {
		l.topic.partitions = append(l.topic.partitions, &partition{topic: "order", id: id})
	}
	e.cluster = &cluster{topics: map[string]*topic{"order": l.topic}}
	e.cluster.message.Key = &e.cluster.key
	e.checkpoint = NewCheckpoint(0, func(_, _ time.Time) {})
	e.owed, e.block = new(deadLetters), new(block)

	at := time.Date(2026, 11, 21, 5, 0, 0, 0, time.UTC)
	l.begin, l.commit = wireBegin(100, at, 7), wireCommit(100, 200, at)
	l.rows(map[string]string{"payload": linePayload}, binaryRow)
	l.message(wireRelation(l.relation))
	return l
}

func lineID(i int) string { return fmt.Sprintf("0199aa00-0000-7000-8000-%012d", i) }

// rows makes the line's events such ones, in the form in which they are to travel.
func (l *line) rows(values map[string]string, form func(testing.TB, *Change) *Change) {
	l.inserts = nil
	for i := range lineEvents {
		values["id"], values["aggregate_id"] = lineID(i), fmt.Sprintf("order-%d", i)
		l.inserts = append(l.inserts, wireInsert(l.relation.OID, form(l.tb, outboxRow(l.relation, values)).New...))
	}
}

func (l *line) message(msg wire) {
	if err := l.Encoder.message(context.Background(), context.Background(), msg); err != nil {
		l.tb.Fatal(err)
	}
}

// transaction takes one transaction with every event through the line, and has it
// acknowledged.
func (l *line) transaction() {
	l.block.reset()
	l.message(l.begin)
	for _, msg := range l.inserts {
		l.message(msg)
	}
	l.message(l.commit)
	l.tickets = l.tickets[:0]
	for i := range l.block.records {
		l.tickets = append(l.tickets, l.block.records[i].ticket)
	}
	l.checkpoint.Ack(l.tickets)
}

// Not parallel: AllocsPerRun counts the allocations of the whole process.
func TestLine_CostsNoAllocationFromTheStreamToTheBlock(t *testing.T) {
	l := newLine(t)
	subject := l.schemas.latest["order.created"]
	l.schemas.pinned[pinnedVersion{"order.created", 3}] = subject
	l.schemas.registered[registeredSchema{"order.created", [32]byte{}}] = subject.framing
	for name, values := range map[string]map[string]string{
		"JSON":                     {"payload": linePayload},
		"JSON of a pinned version": {"payload": linePayload, "headers": `{"postrider-schema-version": "3"}`},
		"Avro":                     lineAvro(2),
	} {
		for formName, form := range lineForms {
			l.rows(values, form)
			allocs := testing.AllocsPerRun(100, l.transaction)
			if n := len(l.block.records); n != lineEvents {
				t.Fatalf("%s in %s: the block has %d records, want %d", name, formName, n, lineEvents)
			}
			if allocs != 0 {
				t.Errorf("%s in %s: a transaction of %d events costs %v allocations", name, formName, lineEvents, allocs)
			}
		}
	}
}

// lineForms are the forms in which rows travel.
var lineForms = map[string]func(testing.TB, *Change) *Change{
	"binary": binaryRow,
	"text":   func(_ testing.TB, c *Change) *Change { return c },
}

// lineAvro is an event whose payload is so many bytes of Avro.
func lineAvro(size int) map[string]string {
	return map[string]string{
		"payload": "NULL", "payload_avro": `\x` + strings.Repeat("0a", size), "schema_fingerprint": `\x` + strings.Repeat("00", 32),
	}
}

func BenchmarkRoute(b *testing.B) {
	for name, values := range map[string]map[string]string{"JSON": {"payload": linePayload}, "Avro": lineAvro(200)} {
		for formName, form := range lineForms {
			b.Run(name+"-in-"+formName, func(b *testing.B) {
				l := newLine(b)
				change := form(b, outboxRow(l.relation, values))
				var e Event
				b.ReportAllocs()
				for b.Loop() {
					if _, err := l.router.Route(change, &e); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRecord is an event on its way into the block: topic, partition, Avro, headers.
func BenchmarkRecord(b *testing.B) {
	l := newLine(b)
	l.message(l.begin)
	change := outboxRow(l.relation, map[string]string{"payload": linePayload})
	var e Event
	if _, err := l.router.Route(change, &e); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(l.block.records) == lineEvents {
			l.block.reset()
		}
		if err := l.record(b.Context(), &e, l.position); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChunk is the source's share: a message copied into its chunk.
func BenchmarkChunk(b *testing.B) {
	l := newLine(b)
	var c chunk
	b.SetBytes(int64(len(l.inserts[0])))
	b.ReportAllocs()
	for b.Loop() {
		if c.full() {
			c.reset()
		}
		c.appendWAL(l.inserts[0])
	}
}

// BenchmarkBatch is the publisher's share: records queued at their partitions and gathered in
// batches as they are sent.
func BenchmarkBatch(b *testing.B) {
	l := newLine(b)
	l.transaction()
	batches, err := newBatchEncoder("lz4")
	if err != nil {
		b.Fatal(err)
	}
	p := &Publisher{batches: batches}
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		for i := range l.block.records {
			part := l.block.records[i].partition
			part.queue.push(queuedRecord{block: l.block, index: int32(i)})
		}
		for _, part := range l.topic.partitions {
			for part.queue.len() > 0 {
				p.fill(part, maxBatchBytes)
				p.settled(part)
			}
		}
		events += len(l.block.records)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}

// BenchmarkLine is everything between the source and the publisher, for an event in a
// transaction of many and for one in a transaction of its own.
func BenchmarkLine(b *testing.B) {
	for _, events := range []int{1, lineEvents} {
		b.Run(fmt.Sprintf("%d-a-transaction", events), func(b *testing.B) {
			l := newLine(b)
			l.inserts = l.inserts[:events]
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				l.transaction()
				n += events
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
		})
	}
}
