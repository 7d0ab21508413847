package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgtype"
)

// wire builds messages as Postgres writes them: numbers are big-endian, strings end with a
// zero byte (PostgreSQL manual, "Logical Replication Message Formats").
type wire []byte

func wireMessage(kind ChangeKind) wire { return wire{byte(kind)} }

func (w wire) u8(v byte) wire        { return append(w, v) }
func (w wire) u16(v uint16) wire     { return binary.BigEndian.AppendUint16(w, v) }
func (w wire) u32(v uint32) wire     { return binary.BigEndian.AppendUint32(w, v) }
func (w wire) u64(v uint64) wire     { return binary.BigEndian.AppendUint64(w, v) }
func (w wire) text(s string) wire    { return append(append(w, s...), 0) }
func (w wire) bytes(p []byte) wire   { return append(w.u32(uint32(len(p))), p...) }
func (w wire) time(t time.Time) wire { return w.u64(uint64(t.UnixMicro() - 946684800*1e6)) }

func (w wire) tuple(tag byte, values []Value) wire {
	w = w.u8(tag).u16(uint16(len(values)))
	for _, v := range values {
		w = w.u8(byte(v.Kind))
		if v.Kind == ValueText || v.Kind == ValueBinary {
			w = w.bytes(v.Data)
		}
	}
	return w
}

func wireBegin(commit LSN, at time.Time, xid uint32) wire {
	return wireMessage(ChangeBegin).u64(uint64(commit)).time(at).u32(xid)
}

func wireCommit(commit, end LSN, at time.Time) wire {
	return wireMessage(ChangeCommit).u8(0).u64(uint64(commit)).u64(uint64(end)).time(at)
}

func wireRelation(rel *Relation) wire {
	w := wireMessage(ChangeRelation).u32(rel.OID).text(rel.Namespace).text(rel.Name).
		u8(rel.ReplicaIdentity).u16(uint16(len(rel.Columns)))
	for _, c := range rel.Columns {
		flags := byte(0)
		if c.Key {
			flags = 1
		}
		w = w.u8(flags).text(c.Name).u32(c.TypeOID).u32(uint32(c.TypeMod))
	}
	return w
}

func wireInsert(oid uint32, values ...Value) wire {
	return wireMessage(ChangeInsert).u32(oid).tuple('N', values)
}

func wireTruncate(options byte, oids ...uint32) wire {
	w := wireMessage(ChangeTruncate).u32(uint32(len(oids))).u8(options)
	for _, oid := range oids {
		w = w.u32(oid)
	}
	return w
}

func textValue(s string) Value { return Value{Kind: ValueText, Data: []byte(s)} }

var (
	nullValue      = Value{Kind: ValueNull}
	unchangedValue = Value{Kind: ValueUnchanged}

	ordersRelation = &Relation{OID: 16385, Namespace: "public", Name: "orders", ReplicaIdentity: 'd', Columns: []Column{
		{Name: "id", TypeOID: pgtype.Int8OID, TypeMod: -1, Key: true},
		{Name: "note", TypeOID: pgtype.VarcharOID, TypeMod: 44},
		{Name: "picture", TypeOID: pgtype.ByteaOID, TypeMod: -1},
	}}
	auditRelation = &Relation{OID: 16390, Namespace: "Über", Name: "audit.log", ReplicaIdentity: 'f', Columns: []Column{
		{Name: "at", TypeOID: pgtype.TimestamptzOID, TypeMod: -1, Key: true},
	}}
	emptyRelation = &Relation{OID: math.MaxUint32, Namespace: "public", Name: "no_columns", ReplicaIdentity: 'n', Columns: []Column{}}

	commitTime = time.Date(2026, 11, 21, 5, 0, 0, 123456000, time.UTC)
)

type goldenMessage struct {
	name string
	msg  []byte
	want Change
}

// goldenMessages is a stream of every message of protocol version 1: those further down
// need the relations described above them.
func goldenMessages() []goldenMessage {
	orders, audit := ordersRelation, auditRelation
	row := []Value{textValue("7"), textValue("grüße"), {Kind: ValueBinary, Data: []byte{0, 0xFF, 'N', 0}}}
	before := []Value{textValue("6"), nullValue, nullValue}
	key := []Value{textValue("6"), nullValue, nullValue}
	sparse := []Value{textValue(""), nullValue, unchangedValue}
	type m = goldenMessage
	return []m{
		{"begin", wireBegin(0x16_B374D848, commitTime, 4711),
			Change{Kind: ChangeBegin, LSN: 0x16_B374D848, Time: commitTime, XID: 4711}},
		{"begin before the epoch", wireBegin(1, time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC), math.MaxUint32),
			Change{Kind: ChangeBegin, LSN: 1, Time: time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC), XID: math.MaxUint32}},
		{"origin", wireMessage(ChangeOrigin).u64(0x2_00000001).text("elsewhere"), Change{Kind: ChangeOrigin, LSN: 0x2_00000001}},
		{"type", wireMessage(ChangeType).u32(16500).text("public").text("mood"), Change{Kind: ChangeType}},
		{"relation", wireRelation(orders), Change{Kind: ChangeRelation, Relation: orders}},
		{"relation outside ASCII", wireRelation(audit), Change{Kind: ChangeRelation, Relation: audit}},
		{"relation without columns", wireRelation(emptyRelation), Change{Kind: ChangeRelation, Relation: emptyRelation}},
		{"relation in pg_catalog, which the protocol abbreviates", wireRelation(&Relation{OID: 2619, Name: "pg_statistic", ReplicaIdentity: 'n', Columns: []Column{}}),
			Change{Kind: ChangeRelation, Relation: &Relation{OID: 2619, Namespace: "pg_catalog", Name: "pg_statistic", ReplicaIdentity: 'n', Columns: []Column{}}}},
		{"insert", wireInsert(orders.OID, row...), Change{Kind: ChangeInsert, Relation: orders, New: row}},
		{"insert of null, empty and unchanged", wireInsert(orders.OID, sparse...), Change{Kind: ChangeInsert, Relation: orders, New: sparse}},
		{"insert of no columns", wireInsert(emptyRelation.OID), Change{Kind: ChangeInsert, Relation: emptyRelation, New: []Value{}}},
		{"update without the old row", wireMessage(ChangeUpdate).u32(orders.OID).tuple('N', sparse),
			Change{Kind: ChangeUpdate, Relation: orders, New: sparse}},
		{"update with the old key", wireMessage(ChangeUpdate).u32(orders.OID).tuple('K', key).tuple('N', row),
			Change{Kind: ChangeUpdate, Relation: orders, New: row, Key: key}},
		{"update with the old row", wireMessage(ChangeUpdate).u32(orders.OID).tuple('O', before).tuple('N', row),
			Change{Kind: ChangeUpdate, Relation: orders, New: row, Old: before}},
		{"delete by key", wireMessage(ChangeDelete).u32(orders.OID).tuple('K', key),
			Change{Kind: ChangeDelete, Relation: orders, Key: key}},
		{"delete with the old row", wireMessage(ChangeDelete).u32(audit.OID).tuple('O', []Value{textValue("now")}),
			Change{Kind: ChangeDelete, Relation: audit, Old: []Value{textValue("now")}}},
		{"truncate", wireTruncate(0, orders.OID), Change{Kind: ChangeTruncate, Truncated: []*Relation{orders}}},
		{"truncate of several, cascade and restart identity", wireTruncate(3, orders.OID, audit.OID, orders.OID),
			Change{Kind: ChangeTruncate, Truncated: []*Relation{orders, audit, orders}, Cascade: true, RestartIdentity: true}},
		{"truncate, restart identity", wireTruncate(2, audit.OID),
			Change{Kind: ChangeTruncate, Truncated: []*Relation{audit}, RestartIdentity: true}},
		{"transactional message", wireMessage(ChangeMessage).u8(1).u64(0x10).text("outbox").bytes([]byte("{\"a\":1}")),
			Change{Kind: ChangeMessage, LSN: 0x10, Transactional: true, Prefix: []byte("outbox"), Content: []byte("{\"a\":1}")}},
		{"message outside a transaction, empty", wireMessage(ChangeMessage).u8(0).u64(0x10).text("").bytes(nil),
			Change{Kind: ChangeMessage, LSN: 0x10, Prefix: []byte{}, Content: []byte{}}},
		{"commit", wireCommit(0x16_B374D848, 0x16_B374D878, commitTime),
			Change{Kind: ChangeCommit, LSN: 0x16_B374D848, EndLSN: 0x16_B374D878, Time: commitTime}},
	}
}

// goldenDecoder returns a decoder that knows the relations of the golden messages.
func goldenDecoder(t testing.TB) *Decoder {
	t.Helper()
	d := NewDecoder()
	var c Change
	for _, rel := range []*Relation{ordersRelation, auditRelation, emptyRelation} {
		if err := d.Decode(wireRelation(rel), &c); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestDecoder_ReadsEveryMessageOfTheProtocol(t *testing.T) {
	t.Parallel()
	d := NewDecoder()
	var c Change // one for all, as the relay uses it: nothing of the message before may stay
	for _, g := range goldenMessages() {
		if err := d.Decode(g.msg, &c); err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		if diff := cmp.Diff(g.want, c); diff != "" {
			t.Errorf("%s (-want +got):\n%s", g.name, diff)
		}
	}
}

// Our idea of the bytes is checked against somebody else's.
func TestDecoder_AgreesWithPglogrepl(t *testing.T) {
	t.Parallel()
	d := NewDecoder()
	for _, g := range goldenMessages() {
		var c Change
		if err := d.Decode(g.msg, &c); err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		if g.want.Kind == ChangeInsert && len(g.want.New) == 0 {
			continue // pglogrepl refuses a row of no columns, which Postgres can send
		}
		theirs, err := pglogrepl.Parse(g.msg)
		if err != nil {
			t.Fatalf("%s: pglogrepl: %v", g.name, err)
		}
		if diff := cmp.Diff(changeOf(t, theirs, d), withoutNamespaceDefault(c)); diff != "" {
			t.Errorf("%s (-pglogrepl +ours):\n%s", g.name, diff)
		}
	}
}

// changeOf says in our terms what pglogrepl read.
func changeOf(t *testing.T, m pglogrepl.Message, d *Decoder) Change {
	t.Helper()
	values := func(tuple *pglogrepl.TupleData) []Value {
		if tuple == nil {
			return nil
		}
		vs := []Value{}
		for _, c := range tuple.Columns {
			vs = append(vs, Value{Kind: ValueKind(c.DataType), Data: c.Data})
		}
		return vs
	}
	c := Change{Kind: ChangeKind(m.Type())}
	old := func(tag byte, tuple *pglogrepl.TupleData) {
		switch tag {
		case 'K':
			c.Key = values(tuple)
		case 'O':
			c.Old = values(tuple)
		}
	}
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		c.LSN, c.Time, c.XID = m.FinalLSN, m.CommitTime.UTC(), m.Xid
	case *pglogrepl.CommitMessage:
		c.LSN, c.EndLSN, c.Time = m.CommitLSN, m.TransactionEndLSN, m.CommitTime.UTC()
	case *pglogrepl.OriginMessage:
		c.LSN = m.CommitLSN
	case *pglogrepl.TypeMessage:
	case *pglogrepl.RelationMessage:
		c.Relation = &Relation{OID: m.RelationID, Namespace: m.Namespace, Name: m.RelationName, ReplicaIdentity: m.ReplicaIdentity, Columns: []Column{}}
		for _, col := range m.Columns {
			c.Relation.Columns = append(c.Relation.Columns, Column{Name: col.Name, TypeOID: col.DataType, TypeMod: col.TypeModifier, Key: col.Flags&1 != 0})
		}
	case *pglogrepl.InsertMessage:
		c.Relation, c.New = d.relations[m.RelationID], values(m.Tuple)
	case *pglogrepl.UpdateMessage:
		c.Relation, c.New = d.relations[m.RelationID], values(m.NewTuple)
		old(m.OldTupleType, m.OldTuple)
	case *pglogrepl.DeleteMessage:
		c.Relation = d.relations[m.RelationID]
		old(m.OldTupleType, m.OldTuple)
	case *pglogrepl.TruncateMessage:
		c.Cascade, c.RestartIdentity = m.Option&1 != 0, m.Option&2 != 0
		for _, oid := range m.RelationIDs {
			c.Truncated = append(c.Truncated, d.relations[oid])
		}
	case *pglogrepl.LogicalDecodingMessage:
		c.LSN, c.Transactional, c.Prefix, c.Content = m.LSN, m.Transactional, []byte(m.Prefix), m.Content
	default:
		t.Fatalf("unexpected %T", m)
	}
	return c
}

// withoutNamespaceDefault undoes the one thing that pglogrepl leaves to its caller.
func withoutNamespaceDefault(c Change) Change {
	if c.Kind == ChangeRelation && c.Relation.Namespace == "pg_catalog" {
		rel := *c.Relation
		rel.Namespace = ""
		c.Relation = &rel
	}
	return c
}

func TestDecoder_RefusesEveryTruncationOfEveryMessage(t *testing.T) {
	t.Parallel()
	for _, g := range goldenMessages() {
		for n := range len(g.msg) {
			var c Change
			if err := goldenDecoder(t).Decode(slices.Clip(slices.Clone(g.msg[:n])), &c); err == nil {
				t.Errorf("%s: the first %d of %d bytes were taken for a message", g.name, n, len(g.msg))
			}
		}
	}
}

func TestDecoder_RefusesTrailingBytes(t *testing.T) {
	t.Parallel()
	for _, g := range goldenMessages() {
		var c Change
		if err := goldenDecoder(t).Decode(append(slices.Clone(g.msg), 0), &c); err == nil {
			t.Errorf("%s: a byte too many was not noticed", g.name)
		}
	}
}

func TestDecoder_RefusesMalformedMessages(t *testing.T) {
	t.Parallel()
	orders := ordersRelation.OID
	one := []Value{textValue("1")}
	three := []Value{textValue("1"), nullValue, nullValue}
	for _, tc := range []struct {
		name string
		msg  []byte
		want string // part of the error
	}{
		{"nothing", nil, "cut short"},
		{"unknown type", wire{'Z'}, `unknown message type 'Z'`},
		{"insert into an unknown relation", wireInsert(99, three...), "relation 99 was never described"},
		{"update of an unknown relation", wireMessage(ChangeUpdate).u32(99).tuple('N', three), "relation 99 was never described"},
		{"delete from an unknown relation", wireMessage(ChangeDelete).u32(99).tuple('K', three), "relation 99 was never described"},
		{"truncate of an unknown relation among known ones", wireTruncate(0, orders, 99), "relation 99 was never described"},
		{"insert of too few values", wireInsert(orders, one...), "tuple of public.orders has 1 values for 3 columns"},
		{"insert of too many values", wireInsert(orders, append(one, three...)...), "tuple of public.orders has 4 values for 3 columns"},
		{"update whose old key is too short", wireMessage(ChangeUpdate).u32(orders).tuple('K', one).tuple('N', three), "1 values for 3 columns"},
		{"update whose new row is too short", wireMessage(ChangeUpdate).u32(orders).tuple('O', three).tuple('N', one), "1 values for 3 columns"},
		{"delete of too few values", wireMessage(ChangeDelete).u32(orders).tuple('O', one), "1 values for 3 columns"},
		{"insert with the tag of an old row", wireMessage(ChangeInsert).u32(orders).tuple('O', three), "tag 'O' instead of 'N'"},
		{"update with two old rows", wireMessage(ChangeUpdate).u32(orders).tuple('O', three).tuple('K', three), "tag 'K' instead of 'N'"},
		{"delete with the tag of a new row", wireMessage(ChangeDelete).u32(orders).tuple('N', three), "tag 'N' instead of 'K' or 'O'"},
		{"value of an unknown kind", wireInsert(orders, Value{Kind: 'x'}, nullValue, nullValue), "value of kind 'x'"},
		{"value longer than the message", wireMessage(ChangeInsert).u32(orders).u8('N').u16(3).u8('t').u32(1 << 30).u8('n').u8('n'), "cut short"},
		{"value of negative length", wireMessage(ChangeInsert).u32(orders).u8('N').u16(3).u8('t').u32(math.MaxUint32).u8('n').u8('n'), "cut short"},
		{"message of negative length", wireMessage(ChangeMessage).u8(1).u64(1).text("p").u32(1 << 31), "cut short"},
		{"relation with fewer columns than it says", wireMessage(ChangeRelation).u32(5).text("s").text("t").u8('d').u16(65535), "cut short"},
		{"relation whose name does not end", append(wireMessage(ChangeRelation).u32(5), "public"...), "cut short"},
	} {
		var c Change
		err := goldenDecoder(t).Decode(tc.msg, &c)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, err, tc.want)
		}
	}
}

func TestDecoder_ForgetsNothingAfterAMalformedMessage(t *testing.T) {
	t.Parallel()
	d := goldenDecoder(t)
	var c Change
	broken := wireRelation(&Relation{OID: ordersRelation.OID, Namespace: "public", Name: "orders", ReplicaIdentity: 'd'})
	if err := d.Decode(append(broken, 0), &c); err == nil {
		t.Fatal("a relation with a byte too many was taken")
	}
	row := []Value{textValue("1"), nullValue, nullValue}
	if err := d.Decode(wireInsert(ordersRelation.OID, row...), &c); err != nil {
		t.Fatalf("insert after a malformed relation: %v", err)
	}
	if diff := cmp.Diff(ordersRelation, c.Relation); diff != "" {
		t.Errorf("relation after a malformed description (-want +got):\n%s", diff)
	}
}

// Postgres 18 can send these under protocol version 1; the encoder passes them over.
func TestDecoder_NamesStrayMessagesOfStreamedTransactions(t *testing.T) {
	t.Parallel()
	for _, kind := range []byte("SEcA") {
		var c Change
		if err := goldenDecoder(t).Decode(wire{kind}.u32(1).u32(2), &c); !errors.Is(err, errStrayStream) {
			t.Errorf("message %q: error %v, want errStrayStream", kind, err)
		}
	}
}

func TestDecoder_UsesTheLatestDescriptionOfARelation(t *testing.T) {
	t.Parallel()
	d := goldenDecoder(t)
	var c Change
	insert := func(oid uint32, values ...Value) *Relation {
		t.Helper()
		if err := d.Decode(wireInsert(oid, values...), &c); err != nil {
			t.Fatal(err)
		}
		return c.Relation
	}
	before := insert(ordersRelation.OID, textValue("1"), nullValue, nullValue)

	altered := *ordersRelation
	altered.Name = "orders_2026"
	altered.Columns = append(slices.Clone(ordersRelation.Columns), Column{Name: "added", TypeOID: pgtype.TextOID, TypeMod: -1})
	if err := d.Decode(wireRelation(&altered), &c); err != nil {
		t.Fatal(err)
	}
	at := insert(ordersRelation.OID, textValue("2"), nullValue, nullValue, textValue("new"))
	insert(auditRelation.OID, nullValue) // another table in between
	later := insert(ordersRelation.OID, textValue("2"), nullValue, nullValue, textValue("new"))
	for _, after := range []*Relation{at, later} {
		if diff := cmp.Diff(&altered, after); diff != "" {
			t.Errorf("relation after ALTER TABLE (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff(ordersRelation, before); diff != "" {
		t.Errorf("the relation of an earlier change was altered with it (-want +got):\n%s", diff)
	}
	if err := d.Decode(wireInsert(ordersRelation.OID, textValue("3"), nullValue, nullValue), &c); err == nil {
		t.Error("a tuple of the old width was taken")
	}
}

func TestDecoder_AbsurdCountsCostNoMemory(t *testing.T) {
	d := goldenDecoder(t)
	var before, after runtime.MemStats
	for _, msg := range []wire{
		wireMessage(ChangeTruncate).u32(1 << 31).u8(0).u8(1).u16(2), // 9 bytes that name 2^31 relations
		wireMessage(ChangeTruncate).u32(math.MaxUint32).u8(0).u32(ordersRelation.OID),
		wireMessage(ChangeInsert).u32(ordersRelation.OID).u8('N').u16(3).u8('t').u32(math.MaxInt32),
		wireMessage(ChangeMessage).u8(1).u64(1).text("").u32(math.MaxInt32),
		wireMessage(ChangeRelation).u32(5).text("s").text("t").u8('d').u16(math.MaxUint16),
	} {
		var c Change
		runtime.ReadMemStats(&before)
		err := d.Decode(msg, &c)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%x was taken for a message", []byte(msg))
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
			t.Errorf("%x made the decoder allocate %d bytes", []byte(msg), grown)
		}
	}
}

func TestDecoder_InsertsCostNoAllocation(t *testing.T) {
	d := goldenDecoder(t)
	msg := wireInsert(ordersRelation.OID, textValue("7"), textValue("a note"), nullValue)
	var c Change
	allocs := testing.AllocsPerRun(1000, func() {
		if err := d.Decode(msg, &c); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("an insert costs %v allocations", allocs)
	}
}

// FuzzDecoder decodes two messages in a row, the first of which may describe a relation of
// the second. What was accepted must say the same as the bytes.
func FuzzDecoder(f *testing.F) {
	for _, g := range goldenMessages() {
		f.Add(g.msg, []byte(wireInsert(ordersRelation.OID, textValue("1"), nullValue, unchangedValue)))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d := goldenDecoder(t)
		for _, msg := range [][]byte{first, second} {
			var c Change
			if err := d.Decode(msg, &c); err != nil {
				continue
			}
			if again := encodeChange(&c); again != nil && !bytes.Equal(again, msg) {
				t.Errorf("decoded to %+v, which encodes to\n%x instead of\n%x", c, again, msg)
			}
		}
	})
}

// encodeChange encodes c again where nothing is lost by decoding, and returns nil elsewhere.
func encodeChange(c *Change) []byte {
	switch c.Kind {
	case ChangeInsert:
		return wireInsert(c.Relation.OID, c.New...)
	case ChangeUpdate, ChangeDelete:
		w := wireMessage(c.Kind).u32(c.Relation.OID)
		if c.Key != nil {
			w = w.tuple('K', c.Key)
		}
		if c.Old != nil {
			w = w.tuple('O', c.Old)
		}
		if c.Kind == ChangeUpdate {
			w = w.tuple('N', c.New)
		}
		return w
	}
	return nil
}

func BenchmarkDecodeInsert(b *testing.B) {
	rel := &Relation{OID: 1, Namespace: "public", Name: "outbox", ReplicaIdentity: 'd'}
	var row []Value
	for _, column := range []string{"id", "aggregate_type", "aggregate_id", "event_type", "payload", "headers", "topic", "created_at"} {
		rel.Columns = append(rel.Columns, Column{Name: column, TypeOID: pgtype.TextOID, TypeMod: -1})
		row = append(row, textValue(strings.Repeat("x", 40)))
	}
	d := NewDecoder()
	var c Change
	if err := d.Decode(wireRelation(rel), &c); err != nil {
		b.Fatal(err)
	}
	msg := wireInsert(rel.OID, row...)
	b.ReportAllocs()
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if err := d.Decode(msg, &c); err != nil {
			b.Fatal(err)
		}
	}
}
