package transcode

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// union is a union type, ready for encoding.
type union struct {
	name string // the branches in words: "null or string"

	// byForm has the branches that can take a form of JSON value, most specific first.
	byForm [forms][]branch

	// tags has the branches by the names that Avro's JSON encoding tags values with. It is
	// empty when there is a map branch: then no key of an object can be told from a tag.
	tags map[string]branch

	all []branch // in the schema's order
}

// branch is a branch of a union.
type branch struct {
	index int64
	node  *node
}

// union encodes a value as the branch that it fits. Which one that is depends on the form
// of the value and, for objects, on its keys, so that nothing is tried that nests: trying
// whole values would take exponential time in nested unions.
func (e *encoder) union(dst []byte, u *union) ([]byte, *Error) {
	f := formOf(e.peek())
	if f == formObject {
		return e.unionObject(dst, u)
	}
	branches := u.byForm[f]
	switch len(branches) {
	case 0:
		return dst, e.wrongForm(u.name)
	case 1:
		return e.branch(dst, branches[0])
	}
	return e.firstBranch(dst, branches, u)
}

func (e *encoder) branch(dst []byte, b branch) ([]byte, *Error) {
	return e.value(binary.AppendVarint(dst, b.index), b.node)
}

// firstBranch encodes a number or string as the first of several branches that takes it.
func (e *encoder) firstBranch(dst []byte, branches []branch, u *union) ([]byte, *Error) {
	from := e.pos
	var kind Kind
	var reasons []string
	for _, b := range branches {
		out, err := e.branch(dst, b)
		if err == nil || err.Kind == Malformed {
			return out, err
		}
		e.pos = from
		kind = err.Kind
		reasons = append(reasons, err.Reason)
	}
	return dst, e.fail(kind, "fits no branch of "+u.name+": "+strings.Join(reasons, "; "))
}

// maxTries bounds the work for the defaults of one schema.
const maxTries = 100_000

// defaultUnion encodes a default as the first branch that it fits, in the schema's order,
// which is what the specification wants of defaults.
func (e *encoder) defaultUnion(dst []byte, u *union) ([]byte, *Error) {
	pos, depth, spans := e.pos, e.depth, len(e.spans)
	for _, b := range u.all {
		if e.tries++; e.tries > maxTries {
			return dst, e.fail(TooDeep, "too many combinations of branches in unions that nest")
		}
		out, err := e.branch(dst, b)
		if err == nil || err.Kind == notReady || err.Kind == TooDeep {
			return out, err
		}
		e.pos, e.depth, e.spans = pos, depth, e.spans[:spans]
	}
	return dst, e.fail(WrongType, "fits no branch of "+u.name)
}

func (e *encoder) unionObject(dst []byte, u *union) ([]byte, *Error) {
	branches := u.byForm[formObject]
	tag, isTagged := e.tag(u)
	if len(branches) == 1 && !isTagged {
		return e.branch(dst, branches[0])
	}
	b, ok, err := e.objectBranch(u)
	if err != nil {
		return dst, err
	}
	if ok {
		return e.branch(dst, b)
	}
	if isTagged {
		return e.tagged(dst, tag)
	}
	if len(branches) == 0 {
		return dst, e.wrongForm(u.name)
	}
	return dst, e.noRecordFits(u)
}

// tag returns the branch that the first key of the object that comes next names, if any.
func (e *encoder) tag(u *union) (b branch, ok bool) {
	if len(u.tags) == 0 {
		return branch{}, false
	}
	from := e.pos
	e.pos++
	if e.peek() == '"' {
		if key, err := e.str(); err == nil {
			b, ok = u.tags[string(key)]
		}
	}
	e.pos = from
	return b, ok
}

// tagged encodes the one value of an object whose key names the branch.
func (e *encoder) tagged(dst []byte, b branch) ([]byte, *Error) {
	if e.depth++; e.depth > MaxDepth {
		return dst, e.tooDeep()
	}
	e.pos++
	if _, err := e.key(); err != nil {
		return dst, err
	}
	err := e.colon()
	if err == nil {
		dst, err = e.branch(dst, b)
	}
	if err != nil {
		return dst, err.in(b.node.tag)
	}
	more, err := e.more('}')
	if more {
		err = e.fail(WrongType, "an object whose key names a branch of a union has no other keys")
	}
	return dst, err
}

// objectBranch returns the branch of an object by its keys: the only record that has all
// of them and needs no other, else the map where there is one.
func (e *encoder) objectBranch(u *union) (fit branch, found bool, err *Error) {
	for _, b := range u.byForm[formObject] {
		if b.node.kind == kindMap {
			continue
		}
		misfit, err := e.misfit(b.node.record)
		if err != nil {
			return branch{}, false, err
		}
		if misfit.kind != 0 {
			continue
		}
		if found {
			return branch{}, false, e.fail(Ambiguous, fmt.Sprintf(
				`fits %s and %s: write it as {"%s": …} or {"%s": …}`,
				fit.node.name, b.node.name, fit.node.tag, b.node.tag))
		}
		fit, found = b, true
	}
	if found {
		return fit, true, nil
	}
	for _, b := range u.byForm[formObject] {
		if b.node.kind == kindMap {
			return b, true, nil
		}
	}
	return branch{}, false, nil
}

// misfit says why an object is not a certain record; kind is 0 when it may be.
type misfit struct {
	kind Kind // UnknownField or MissingField
	key  string
}

// misfit compares the keys of the object that comes next with the fields of r.
func (e *encoder) misfit(r *record) (misfit, *Error) {
	from, base := e.pos, len(e.spans)
	defer func() { e.pos, e.spans = from, e.spans[:base] }()
	e.spans = pushSpans(e.spans, len(r.fields))
	required := 0
	e.pos++
	for more := e.peek() != '}'; more; {
		key, err := e.key()
		if err != nil {
			return misfit{}, err
		}
		i, ok := r.index[string(key)]
		if !ok {
			return misfit{UnknownField, string(key)}, nil
		}
		if !r.fields[i].hasDefault && !e.spans[base+i].given {
			required++
		}
		e.spans[base+i].given = true
		if err := e.colon(); err != nil {
			return misfit{}, err
		}
		if err := e.skip(); err != nil {
			return misfit{}, err
		}
		switch e.peek() {
		case ',':
			e.pos++
		case '}':
			more = false
		default:
			return misfit{}, e.unexpected()
		}
	}
	if required == r.required {
		return misfit{}, nil
	}
	for i, f := range r.fields {
		if !f.hasDefault && !e.spans[base+i].given {
			return misfit{MissingField, f.name}, nil
		}
	}
	return misfit{}, nil
}

func (e *encoder) noRecordFits(u *union) *Error {
	var reasons []string
	for _, b := range u.byForm[formObject] {
		switch m, _ := e.misfit(b.node.record); m.kind {
		case UnknownField:
			reasons = append(reasons, fmt.Sprintf("%s has no field %s", b.node.name, strings.Trim(pathKey(m.key), ".[]")))
		case MissingField:
			reasons = append(reasons, fmt.Sprintf("%s needs %s", b.node.name, m.key))
		}
	}
	return e.fail(WrongType, "fits no record of the union: "+strings.Join(reasons, "; "))
}
