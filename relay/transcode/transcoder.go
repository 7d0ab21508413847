package transcode

import (
	"github.com/postrider/postrider/schema-registry/avroschema"
)

// MaxDepth is how deep objects and arrays of a document may nest.
const MaxDepth = 512

// maxScratch is how much of a large document's scratch memory is kept for the next one.
const maxScratch = 1 << 20

// Transcoder encodes JSON documents by one schema. It holds scratch memory and learns the
// order in which documents give their fields, so it is for one goroutine at a time.
type Transcoder struct {
	root *node
	enc  encoder
}

// Compile prepares a transcoder for schema, which must have come from avroschema.Parse. It
// fails where a field's default does not fit its type, or where the schema has what cannot
// be encoded; the error names the type and field.
func Compile(schema *avroschema.Schema) (*Transcoder, error) {
	root, err := compile(schema)
	if err != nil {
		return nil, err
	}
	return &Transcoder{root: root}, nil
}

// Append appends the Avro encoding of the JSON document doc to dst and returns the
// extended slice. When doc does not fit the schema, dst is returned at its old length with
// an *Error. Append keeps neither slice; they must not overlap.
func (t *Transcoder) Append(dst, doc []byte) ([]byte, error) {
	out, err := t.enc.document(dst, doc, t.root)
	if err != nil {
		err.Path = "$" + err.Path
		return dst, err
	}
	return out, nil
}

// encoder is the state of one document's way from JSON to Avro. Its methods read from
// doc[pos:] and append to the dst that they are given.
type encoder struct {
	doc   []byte
	pos   int
	depth int
	tries int // of branches, for a default

	text  []byte // the last string that had escapes, decoded
	spans []span // a stack: where fields and map keys of the open objects lie in dst
	moved []byte // a record's fields in the order given, while they are put in schema order
}

// span is a part of dst.
type span struct {
	from, to int
	given    bool
}

func (e *encoder) document(dst, doc []byte, root *node) ([]byte, *Error) {
	e.doc, e.pos, e.depth, e.spans = doc, 0, 0, e.spans[:0]
	dst, err := e.value(dst, root)
	if err == nil {
		if e.peek(); e.pos < len(doc) {
			err = e.fail(Malformed, "more text after the end of the document")
		}
	}
	e.release()
	return dst, err
}

// release lets go of the document and of scratch memory that only an unusually large one needed.
func (e *encoder) release() {
	e.doc = nil
	if cap(e.text) > maxScratch {
		e.text = nil
	}
	if cap(e.moved) > maxScratch {
		e.moved = nil
	}
	if cap(e.spans) > maxScratch/32 {
		e.spans = nil
	}
}

// value encodes the value that comes next in the document as n.
func (e *encoder) value(dst []byte, n *node) ([]byte, *Error) {
	switch n.kind {
	case kindString:
		return e.string(dst, n)
	case kindInteger:
		return e.integer(dst, n)
	case kindUnion:
		return e.union(dst, n.union)
	case kindRecord:
		return e.record(dst, n)
	case kindDefaultUnion:
		return e.defaultUnion(dst, n.union)
	case kindArray:
		return e.array(dst, n)
	case kindMap:
		return e.mapping(dst, n)
	case kindNull:
		return dst, e.literal("null", n)
	case kindBoolean:
		return e.boolean(dst, n)
	case kindFloat:
		return e.float(dst, n)
	case kindDouble:
		return e.double(dst, n)
	case kindDecimal:
		return e.decimal(dst, n)
	case kindEnum:
		return e.enum(dst, n)
	case kindBytes:
		return e.bytes(dst, n)
	case kindFixed:
		return e.fixed(dst, n)
	case kindCodePoints:
		return e.codePoints(dst, n)
	case kindUUID:
		return e.uuid(dst, n)
	case kindDate, kindTime, kindTimestamp:
		return e.time(dst, n)
	}
	panic("transcode: node without a kind")
}

// enter opens an object or array, whose first byte is open.
func (e *encoder) enter(open byte, n *node) *Error {
	if e.peek() != open {
		return e.wrongType(n)
	}
	if e.depth++; e.depth > MaxDepth {
		return e.tooDeep()
	}
	e.pos++
	return nil
}

// more reads what stands behind an element: a comma, or the end of the object or array.
func (e *encoder) more(end byte) (bool, *Error) {
	switch e.peek() {
	case ',':
		e.pos++
		return true, nil
	case end:
		e.pos++
		e.depth--
		return false, nil
	}
	return false, e.unexpected()
}

// empty reports whether the object or array that was just entered ends at once.
func (e *encoder) empty(end byte) bool {
	if e.peek() != end {
		return false
	}
	e.pos++
	e.depth--
	return true
}

func (e *encoder) boolean(dst []byte, n *node) ([]byte, *Error) {
	if e.peek() == 't' {
		return append(dst, 1), e.literal("true", n)
	}
	return append(dst, 0), e.literal("false", n)
}

// array encodes an array as one block. Its count is known at the end only: the one byte
// that is kept free for it is enough for 63 items.
func (e *encoder) array(dst []byte, n *node) ([]byte, *Error) {
	if err := e.enter('[', n); err != nil {
		return dst, err
	}
	at := len(dst)
	dst = append(dst, 0)
	if e.empty(']') {
		return dst, nil
	}
	for i := 0; ; i++ {
		var err *Error
		if dst, err = e.value(dst, n.item); err != nil {
			return dst, err.at(i)
		}
		more, err := e.more(']')
		if err != nil {
			return dst, err
		}
		if !more {
			return append(putCount(dst, at, i+1), 0), nil
		}
	}
}

// putCount writes n as a long to the one byte that was kept free for it at dst[at],
// moving what follows where n needs more bytes.
func putCount(dst []byte, at, n int) []byte {
	size := 1
	for rest := uint64(n) >> 6; rest > 0; rest >>= 7 {
		size++
	}
	if size > 1 {
		var room [9]byte
		end := len(dst)
		dst = append(dst, room[:size-1]...)
		copy(dst[at+size:], dst[at+1:end])
	}
	u := uint64(n) << 1
	for ; u >= 0x80; u >>= 7 {
		dst[at] = byte(u) | 0x80
		at++
	}
	dst[at] = byte(u)
	return dst
}
