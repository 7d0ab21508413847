package transcode

import "slices"

// record is a record type, ready for encoding.
type record struct {
	name   string
	fields []field
	index  map[string]int // field by name

	// required is how many fields have no default.
	required int

	// follow[i+1] is the field that stood behind field i in the last document, follow[0]
	// the one that stood first. Writers keep to their order, jsonb to its own, so this is
	// nearly always the right guess.
	follow []int
}

// field is a field of a record.
type field struct {
	name   string
	quoted string // the name as a JSON key
	node   *node

	hasDefault  bool
	ready       bool   // value is set; always, after Compile
	defaultJSON []byte // as in the schema
	value       []byte // the default in Avro
}

// record encodes an object as a record. Fields are encoded as they come; where that was
// not the schema's order, the encoded fields are moved at the end.
func (e *encoder) record(dst []byte, n *node) ([]byte, *Error) {
	if err := e.enter('{', n); err != nil {
		return dst, err
	}
	r := n.record
	start, base := len(dst), len(e.spans)
	e.spans = pushSpans(e.spans, len(r.fields))
	inOrder, next := true, 0 // while in order, dst[start:] holds exactly fields[:next]
	last := -1
	for more := !e.empty('}'); more; {
		i, err := e.fieldKey(r, last)
		if err != nil {
			return dst, err
		}
		f := &r.fields[i]
		if e.spans[base+i].given {
			return dst, e.fail(GivenTwice, "a field of "+n.name).in(f.name)
		}
		if err := e.colon(); err != nil {
			return dst, err.in(f.name)
		}
		inOrder = inOrder && i == next
		next++
		from := len(dst)
		if dst, err = e.value(dst, f.node); err != nil {
			return dst, err.in(f.name)
		}
		e.spans[base+i] = span{from, len(dst), true}
		last = i
		if more, err = e.more('}'); err != nil {
			return dst, err
		}
	}
	var err *Error
	if inOrder {
		dst, err = e.defaults(dst, n, next)
	} else {
		dst, err = e.inSchemaOrder(dst, n, start, e.spans[base:])
	}
	e.spans = e.spans[:base]
	return dst, err
}

// pushSpans puts n empty spans on the stack.
func pushSpans(spans []span, n int) []span {
	end := len(spans) + n
	spans = slices.Grow(spans, n)[:end]
	clear(spans[end-n:])
	return spans
}

// fieldKey reads a key, guessing by the field that stood before it.
func (e *encoder) fieldKey(r *record, last int) (int, *Error) {
	if e.peek() != '"' {
		return 0, e.unexpected()
	}
	if len(r.fields) > 0 {
		guess := r.follow[last+1]
		q := r.fields[guess].quoted
		if rest := e.doc[e.pos:]; len(rest) >= len(q) && string(rest[:len(q)]) == q {
			e.pos += len(q)
			return guess, nil
		}
	}
	from := e.pos
	key, err := e.str()
	if err != nil {
		return 0, err
	}
	i, ok := r.index[string(key)]
	if !ok {
		return 0, e.failAt(from, UnknownField, r.name+" has no such field").in(string(key))
	}
	r.follow[last+1] = i
	return i, nil
}

// defaults appends the defaults of the fields from next on, none of which was given.
func (e *encoder) defaults(dst []byte, n *node, next int) ([]byte, *Error) {
	for ; next < len(n.record.fields); next++ {
		f := &n.record.fields[next]
		if !f.ready {
			return dst, e.missing(n, f)
		}
		dst = append(dst, f.value...)
	}
	return dst, nil
}

// inSchemaOrder writes dst[start:] again with the fields in the schema's order.
func (e *encoder) inSchemaOrder(dst []byte, n *node, start int, spans []span) ([]byte, *Error) {
	e.moved = append(e.moved[:0], dst[start:]...)
	dst = dst[:start]
	for i := range n.record.fields {
		f := &n.record.fields[i]
		switch s := spans[i]; {
		case s.given:
			dst = append(dst, e.moved[s.from-start:s.to-start]...)
		case f.ready:
			dst = append(dst, f.value...)
		default:
			return dst, e.missing(n, f)
		}
	}
	return dst, nil
}

func (e *encoder) missing(n *node, f *field) *Error {
	if f.hasDefault {
		return &Error{Kind: notReady}
	}
	return e.fail(MissingField, n.name+" requires it: the schema gives no default").in(f.name)
}
