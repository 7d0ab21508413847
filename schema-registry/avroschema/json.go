package avroschema

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits against hostile input. The depth and the length of a number are those of the JSON
// reader under Avro's Java library.
const (
	// MaxDepth is how deep a schema may nest, in JSON objects and arrays.
	MaxDepth = 1000
	// MaxBytes is how long the text of a schema may be.
	MaxBytes = 8 << 20

	maxNumberLength = 1000
)

type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindString
	kindArray
	kindObject
)

// node is a JSON value with its place in the text. encoding/json will not do: the order of
// attributes is part of a schema's canonical text, comments are allowed, and errors need places.
type node struct {
	kind   kind
	offset int
	text   string // string: its value; number, true, false: canonical text
	elems  []*node
	keys   []string       // object: the key of each element, each once
	at     map[string]int // object: index by key, once there are many
}

// get returns the value of an attribute; nil where n is no object or has no such attribute.
func (n *node) get(key string) *node {
	if n.at != nil {
		if i, ok := n.at[key]; ok {
			return n.elems[i]
		}
		return nil
	}
	for i, k := range n.keys {
		if k == key {
			return n.elems[i]
		}
	}
	return nil
}

// set adds an attribute. One that is given twice keeps its first place and its last value.
func (n *node) set(key string, value *node) {
	const many = 16
	if n.at == nil && len(n.keys) == many {
		n.at = make(map[string]int, 2*many)
		for i, k := range n.keys {
			n.at[k] = i
		}
	}
	if old := n.get(key); old != nil {
		*old = *value
		return
	}
	if n.at != nil {
		n.at[key] = len(n.keys)
	}
	n.keys = append(n.keys, key)
	n.elems = append(n.elems, value)
}

// sort orders the attributes of n and of all objects inside it by name. Nothing else may hold n.
func (n *node) sort() {
	for _, elem := range n.elems {
		elem.sort()
	}
	if n.kind != kindObject {
		return
	}
	sorted := make([]*node, len(n.elems))
	keys := slices.Sorted(slices.Values(n.keys))
	for i, key := range keys {
		sorted[i] = n.get(key)
	}
	n.keys, n.elems, n.at = keys, sorted, nil
}

// string returns the value of a textual attribute; false where it is absent or no string.
func (n *node) string(key string) (string, bool) {
	v := n.get(key)
	if v == nil || v.kind != kindString {
		return "", false
	}
	return v.text, true
}

// reader turns text into nodes: JSON with comments, nothing else relaxed.
type reader struct {
	text  string
	pos   int
	depth int
}

func readJSON(text string) (*node, *ParseError) {
	r := &reader{text: text}
	if len(text) > MaxBytes {
		return nil, errorAt(text, 0, nil, "schema of %d bytes is longer than the limit of %d", len(text), MaxBytes)
	}
	if err := r.space(); err != nil {
		return nil, err
	}
	if r.pos == len(text) {
		return nil, r.fail("schema is empty")
	}
	root, err := r.value()
	if err != nil {
		return nil, err
	}
	for ; r.pos < len(text); r.pos++ {
		if text[r.pos] > ' ' {
			return nil, r.fail("unexpected text after the end of the schema")
		}
	}
	return root, nil
}

func (r *reader) fail(format string, args ...any) *ParseError {
	return errorAt(r.text, r.pos, nil, format, args...)
}

// space skips white space and comments.
func (r *reader) space() *ParseError {
	for r.pos < len(r.text) {
		rest := r.text[r.pos:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			r.pos++
		case strings.HasPrefix(rest, "//"):
			end := strings.IndexAny(rest, "\r\n")
			if end < 0 {
				end = len(rest)
			}
			r.pos += end
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return r.fail("comment is not closed")
			}
			r.pos += end + 4
		default:
			return nil
		}
	}
	return nil
}

func (r *reader) value() (*node, *ParseError) {
	if r.pos == len(r.text) {
		return nil, r.fail("text ends where a value is expected")
	}
	n := &node{offset: r.pos}
	switch c := r.text[r.pos]; {
	case c == '{':
		n.kind = kindObject
		return n, r.members('}', func() *ParseError { return r.member(n) })
	case c == '[':
		n.kind = kindArray
		return n, r.members(']', func() *ParseError {
			elem, err := r.value()
			n.elems = append(n.elems, elem)
			return err
		})
	case c == '"':
		n.kind = kindString
		var err *ParseError
		n.text, err = r.string()
		return n, err
	case c == '-' || c >= '0' && c <= '9':
		return n, r.number(n)
	}
	for _, word := range []string{"null", "true", "false"} {
		if strings.HasPrefix(r.text[r.pos:], word) {
			r.pos += len(word)
			n.text = word
			if word != "null" {
				n.kind = kindBool
			}
			return n, nil
		}
	}
	return nil, r.fail("expected a JSON value; a type name needs double quotes")
}

// members reads a list in brackets; read is called at the start of each member.
func (r *reader) members(closing byte, read func() *ParseError) *ParseError {
	if r.depth++; r.depth > MaxDepth {
		return r.fail("nested deeper than the limit of %d", MaxDepth)
	}
	r.pos++
	for first := true; ; first = false {
		if err := r.space(); err != nil {
			return err
		}
		switch {
		case r.pos == len(r.text):
			return r.fail("text ends where %q is expected", closing)
		case first && r.text[r.pos] == closing:
			r.pos++
			r.depth--
			return nil
		}
		if err := read(); err != nil {
			return err
		}
		if err := r.space(); err != nil {
			return err
		}
		switch {
		case r.pos == len(r.text):
			return r.fail("text ends where %q is expected", closing)
		case r.text[r.pos] == closing:
			r.pos++
			r.depth--
			return nil
		case r.text[r.pos] != ',':
			return r.fail("expected ',' or %q", closing)
		}
		r.pos++
	}
}

func (r *reader) member(object *node) *ParseError {
	if r.text[r.pos] != '"' {
		return r.fail("expected an attribute name in double quotes")
	}
	key, err := r.string()
	if err != nil {
		return err
	}
	if err := r.space(); err != nil {
		return err
	}
	if r.pos == len(r.text) || r.text[r.pos] != ':' {
		return r.fail("expected ':' after the attribute name")
	}
	r.pos++
	if err := r.space(); err != nil {
		return err
	}
	value, err := r.value()
	if err != nil {
		return err
	}
	object.set(key, value)
	return nil
}

func (r *reader) string() (string, *ParseError) {
	r.pos++
	start := r.pos
	for r.pos < len(r.text) && r.text[r.pos] != '\\' && r.text[r.pos] != '"' && r.text[r.pos] >= ' ' {
		r.pos++
	}
	out := []byte(r.text[start:r.pos])
	for {
		if r.pos == len(r.text) {
			return "", r.fail("string is not closed")
		}
		switch c := r.text[r.pos]; {
		case c == '"':
			if !utf8.Valid(out) {
				return "", r.fail("string is not valid UTF-8")
			}
			r.pos++
			return string(out), nil
		case c < ' ':
			return "", r.fail("control character %U in a string must be escaped", c)
		case c == '\\':
			char, err := r.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, char)
		default:
			out = append(out, c)
			r.pos++
		}
	}
}

func (r *reader) escape() (rune, *ParseError) {
	if r.pos+1 == len(r.text) {
		return 0, r.fail("string is not closed")
	}
	const letters, meaning = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	c := r.text[r.pos+1]
	if i := strings.IndexByte(letters, c); i >= 0 {
		r.pos += 2
		return rune(meaning[i]), nil
	}
	if c != 'u' {
		return 0, r.fail("unknown escape in a string")
	}
	high, ok := r.hex(r.pos)
	if !ok {
		return 0, r.fail(`\u in a string needs four hexadecimal digits`)
	}
	r.pos += 6
	if low, ok := r.hex(r.pos); ok && utf16.IsSurrogate(high) {
		if char := utf16.DecodeRune(high, low); char != utf8.RuneError {
			r.pos += 6
			return char, nil
		}
	}
	return high, nil // half a surrogate pair becomes U+FFFD when it is appended
}

// hex reads the \uXXXX at pos.
func (r *reader) hex(pos int) (rune, bool) {
	if len(r.text) < pos+6 || r.text[pos:pos+2] != `\u` {
		return 0, false
	}
	v, err := strconv.ParseUint(r.text[pos+2:pos+6], 16, 16)
	return rune(v), err == nil
}

func (r *reader) number(n *node) *ParseError {
	start := r.pos
	digits := func() int {
		from := r.pos
		for r.pos < len(r.text) && r.text[r.pos] >= '0' && r.text[r.pos] <= '9' {
			r.pos++
		}
		return r.pos - from
	}
	next := func(set string) bool {
		if r.pos < len(r.text) && strings.IndexByte(set, r.text[r.pos]) >= 0 {
			r.pos++
			return true
		}
		return false
	}
	next("-")
	first := r.pos
	if count := digits(); count == 0 || count > 1 && r.text[first] == '0' {
		return r.fail("malformed number")
	}
	n.kind = kindInt
	if next(".") {
		n.kind = kindFloat
		if digits() == 0 {
			return r.fail("malformed number: no digit after the point")
		}
	}
	if next("eE") {
		n.kind = kindFloat
		next("+-")
		if digits() == 0 {
			return r.fail("malformed number: no digit in the exponent")
		}
	}
	if r.pos-start > maxNumberLength {
		return r.fail("number is longer than the limit of %d characters", maxNumberLength)
	}
	n.text = r.text[start:r.pos]
	switch {
	case n.kind == kindFloat:
		f, _ := strconv.ParseFloat(n.text, 64) // out of range becomes an infinity, as in Java
		n.text = formatDouble(f)
	case n.text == "-0":
		n.text = "0"
	}
	return nil
}
