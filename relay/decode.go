package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ChangeKind says what a pgoutput message reports.
type ChangeKind byte

// The messages of pgoutput protocol version 1, by their type byte
// (PostgreSQL manual, "Logical Replication Message Formats").
const (
	ChangeBegin    ChangeKind = 'B'
	ChangeCommit   ChangeKind = 'C'
	ChangeRelation ChangeKind = 'R'
	ChangeInsert   ChangeKind = 'I'
	ChangeUpdate   ChangeKind = 'U'
	ChangeDelete   ChangeKind = 'D'
	ChangeTruncate ChangeKind = 'T'
	ChangeMessage  ChangeKind = 'M'
	ChangeOrigin   ChangeKind = 'O'
	ChangeType     ChangeKind = 'Y'
)

// String returns the message's name, such as "insert".
func (k ChangeKind) String() string {
	if name, ok := changeNames[k]; ok {
		return name
	}
	return string(rune(k))
}

var changeNames = map[ChangeKind]string{
	ChangeBegin: "begin", ChangeCommit: "commit", ChangeRelation: "relation", ChangeInsert: "insert",
	ChangeUpdate: "update", ChangeDelete: "delete", ChangeTruncate: "truncate", ChangeMessage: "message",
	ChangeOrigin: "origin", ChangeType: "type",
}

// Column is a column of a relation as the stream describes it.
type Column struct {
	Name    string
	TypeOID uint32
	TypeMod int32
	Key     bool // part of the replica identity
}

// Relation is a table as the stream describes it. A table that is altered in mid-stream is
// described anew, under the same OID, before its next change.
type Relation struct {
	OID             uint32
	Namespace       string
	Name            string
	ReplicaIdentity byte // d, n, f or i
	Columns         []Column
}

// String returns the qualified name.
func (r *Relation) String() string { return r.Namespace + "." + r.Name }

// ValueKind says how a column's value travels.
type ValueKind byte

// The kinds of a tuple's values.
const (
	ValueNull      ValueKind = 'n'
	ValueUnchanged ValueKind = 'u' // TOASTed and not touched by this UPDATE: the stream does not carry it
	ValueText      ValueKind = 't'
	ValueBinary    ValueKind = 'b'
)

// Value is one column of a tuple. Data aliases the message it was decoded from.
type Value struct {
	Kind ValueKind
	Data []byte
}

// Change is one decoded message. A Decoder fills the same Change again and again; which
// fields are set depends on Kind:
//
//	begin     LSN (of the commit to come), Time, XID
//	commit    LSN, EndLSN, Time
//	relation  Relation
//	insert    Relation, New
//	update    Relation, New, and Old (whole) or Key (replica identity) where they were sent
//	delete    Relation, Old or Key
//	truncate  Truncated, Cascade, RestartIdentity
//	message   LSN, Transactional, Prefix, Content
type Change struct {
	Kind   ChangeKind
	LSN    LSN
	EndLSN LSN
	Time   time.Time
	XID    uint32

	Relation *Relation
	New      []Value
	Old      []Value
	Key      []Value

	Truncated       []*Relation
	Cascade         bool
	RestartIdentity bool

	Transactional bool
	Prefix        []byte
	Content       []byte
}

// Decoder reads pgoutput messages, protocol version 1. It keeps the relations that the
// stream has described: one Decoder serves one replication connection and is used by one
// goroutine.
type Decoder struct {
	relations map[uint32]*Relation

	last *Relation // the relation of the change before: most streams have one table
	new  []Value
	old  []Value
}

// NewDecoder returns a decoder that knows no relation yet.
func NewDecoder() *Decoder {
	return &Decoder{relations: make(map[uint32]*Relation)}
}

// errStrayStream marks the messages of protocol version 2. Postgres 18 can send a stream
// abort under version 1; it concerns a transaction that was never sent.
var errStrayStream = errors.New("message of a streamed transaction under protocol version 1")

// Decode reads one message into c. The byte slices of c alias msg, and the slices of values
// belong to the decoder: both hold until the next call. Malformed bytes are an error,
// never a panic.
func (d *Decoder) Decode(msg []byte, c *Change) error {
	r := reader{buf: msg}
	kind := ChangeKind(r.byte())
	*c = Change{Kind: kind}
	switch kind {
	case ChangeInsert:
		c.Relation = d.relation(&r)
		if tag := r.byte(); tag != 'N' && r.err == nil {
			r.fail("insert carries tuple tag %q instead of 'N'", tag)
		}
		d.new = r.tuple(d.new[:0], c.Relation)
		c.New = d.new
	case ChangeBegin:
		c.LSN = LSN(r.uint64())
		c.Time = r.time()
		c.XID = r.uint32()
	case ChangeCommit:
		r.byte() // flags, none defined
		c.LSN = LSN(r.uint64())
		c.EndLSN = LSN(r.uint64())
		c.Time = r.time()
	case ChangeRelation:
		rel := r.relation()
		if r.err == nil && r.done() {
			d.relations[rel.OID] = rel
			d.last = rel
			c.Relation = rel
		}
	case ChangeUpdate:
		c.Relation = d.relation(&r)
		tag := r.byte()
		if tag == 'K' || tag == 'O' {
			d.old = r.tuple(d.old[:0], c.Relation)
			if tag == 'K' {
				c.Key = d.old
			} else {
				c.Old = d.old
			}
			tag = r.byte()
		}
		if tag != 'N' && r.err == nil {
			r.fail("update carries tuple tag %q instead of 'N'", tag)
		}
		d.new = r.tuple(d.new[:0], c.Relation)
		c.New = d.new
	case ChangeDelete:
		c.Relation = d.relation(&r)
		tag := r.byte()
		d.old = r.tuple(d.old[:0], c.Relation)
		switch tag {
		case 'K':
			c.Key = d.old
		case 'O':
			c.Old = d.old
		default:
			r.fail("delete carries tuple tag %q instead of 'K' or 'O'", tag)
		}
	case ChangeTruncate:
		d.truncate(&r, c)
	case ChangeMessage:
		c.Transactional = r.byte()&1 != 0
		c.LSN = LSN(r.uint64())
		c.Prefix = r.cstring()
		c.Content = r.bytes(int(r.length()))
	case ChangeOrigin:
		c.LSN = LSN(r.uint64())
		r.cstring()
	case ChangeType:
		r.uint32()
		r.cstring()
		r.cstring()
	case 'S', 'E', 'c', 'A':
		return errStrayStream
	default:
		if r.err == nil {
			return fmt.Errorf("pgoutput: unknown message type %q", byte(kind))
		}
	}
	if r.err == nil && !r.done() {
		r.fail("%d bytes too many", len(r.buf)-r.pos)
	}
	if r.err != nil {
		return fmt.Errorf("pgoutput: message %q: %w", byte(kind), r.err)
	}
	return nil
}

func (d *Decoder) truncate(r *reader, c *Change) {
	n := r.uint32()
	options := r.byte()
	c.Cascade = options&1 != 0
	c.RestartIdentity = options&2 != 0
	if uint64(n)*4 > uint64(len(r.buf)-r.pos) {
		r.fail("truncate names %d relations in %d bytes", n, len(r.buf)-r.pos)
		return
	}
	c.Truncated = make([]*Relation, 0, n)
	for range n {
		c.Truncated = append(c.Truncated, d.relation(r))
	}
}

// relation reads an OID and returns the relation that the stream described under it.
func (d *Decoder) relation(r *reader) *Relation {
	oid := r.uint32()
	if d.last != nil && d.last.OID == oid {
		return d.last
	}
	rel := d.relations[oid]
	if rel == nil {
		r.fail("relation %d was never described", oid)
		return nil
	}
	d.last = rel
	return rel
}

// reader reads big-endian fields and remembers the first error; after it every read
// returns zero.
type reader struct {
	buf []byte
	pos int
	err error
}

var errShort = errors.New("message is cut short")

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) done() bool { return r.pos == len(r.buf) }

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.buf)-r.pos {
		if r.err == nil {
			r.err = errShort
		}
		return nil
	}
	b := r.buf[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

// sized reads a length and as many bytes.
func (r *reader) sized() []byte {
	if rest := r.buf[r.pos:]; r.err == nil && len(rest) >= 4 {
		n := int(int32(binary.BigEndian.Uint32(rest)))
		if n >= 0 && n <= len(rest)-4 {
			r.pos += 4 + n
			return rest[4 : 4+n : 4+n]
		}
	}
	if r.err == nil {
		r.err = errShort
	}
	return nil
}

func (r *reader) byte() byte {
	if r.err == nil && r.pos < len(r.buf) {
		b := r.buf[r.pos]
		r.pos++
		return b
	}
	if r.err == nil {
		r.err = errShort
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// length reads a length field; one beyond the message fails in bytes.
func (r *reader) length() int32 { return int32(r.uint32()) }

// time reads microseconds since 2000-01-01.
func (r *reader) time() time.Time { return postgresTime(int64(r.uint64())) }

// cstring reads up to the terminating NUL and returns the bytes before it.
func (r *reader) cstring() []byte {
	for i := r.pos; i < len(r.buf) && r.err == nil; i++ {
		if r.buf[i] == 0 {
			b := r.buf[r.pos:i]
			r.pos = i + 1
			return b
		}
	}
	if r.err == nil {
		r.err = errShort
	}
	return nil
}

func (r *reader) relation() *Relation {
	rel := &Relation{
		OID:       r.uint32(),
		Namespace: string(r.cstring()),
		Name:      string(r.cstring()),
	}
	if rel.Namespace == "" {
		rel.Namespace = "pg_catalog" // the protocol's abbreviation
	}
	rel.ReplicaIdentity = r.byte()
	n := int(r.uint16())
	rel.Columns = make([]Column, 0, min(n, 64))
	for i := 0; i < n && r.err == nil; i++ {
		rel.Columns = append(rel.Columns, Column{
			Key:     r.byte()&1 != 0,
			Name:    string(r.cstring()),
			TypeOID: r.uint32(),
			TypeMod: int32(r.uint32()),
		})
	}
	return rel
}

// tuple reads a tuple and appends its values to dst. A tuple of another width than its
// relation is refused: the stream and our idea of the table differ.
func (r *reader) tuple(dst []Value, rel *Relation) []Value {
	n := int(r.uint16())
	if r.err == nil && n != len(rel.Columns) {
		r.fail("tuple of %s has %d values for %d columns", rel, n, len(rel.Columns))
	}
	for range n {
		v := Value{Kind: ValueKind(r.byte())}
		switch v.Kind {
		case ValueText, ValueBinary:
			v.Data = r.sized()
		case ValueNull, ValueUnchanged:
		default:
			r.fail("value of kind %q", byte(v.Kind))
		}
		if r.err != nil {
			break
		}
		dst = append(dst, v)
	}
	return dst
}

const postgresEpoch = 946684800 // 2000-01-01T00:00:00Z in Unix seconds

// postgresTime converts microseconds since 2000-01-01.
func postgresTime(us int64) time.Time {
	return time.Unix(postgresEpoch+us/1e6, us%1e6*1000).UTC()
}
