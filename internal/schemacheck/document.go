package schemacheck

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// value is a JSON value with its place in the text of a schema. avroschema keeps places for
// its own errors only; what it says of a parsed schema are paths, which lead through this tree.
type value struct {
	kind       byte   // its first byte: { [ " or that of a number, true, false, null
	start, end int    // in bytes
	text       string // string: its value
	parent     *value
	step       string // from parent: the key or index
	keys       []key  // object
	elems      []*value
}

// key is the name of an attribute and where it stands.
type key struct {
	name  string
	start int
}

// parseDocument reads a JSON text with comments, the language of avroschema.Parse. It is
// nil where the text is none; avroschema.Parse says why then.
func parseDocument(text string) *value {
	r := &documentReader{text: text}
	r.space()
	root := r.value(nil, "", 0)
	r.space()
	if r.failed || r.pos < len(text) {
		return nil
	}
	return root
}

// get returns the value of an attribute; nil where v is nil or has none of that name. One
// that is given twice counts with its last value.
func (v *value) get(name string) *value {
	if v == nil || v.kind != '{' {
		return nil
	}
	for i := len(v.keys) - 1; i >= 0; i-- {
		if v.keys[i].name == name {
			return v.elems[i]
		}
	}
	return nil
}

// at returns an element of an array; nil where v has none of that index.
func (v *value) at(i int) *value {
	if v == nil || v.kind != '[' || i < 0 || i >= len(v.elems) {
		return nil
	}
	return v.elems[i]
}

// is tells whether v is a string of that value.
func (v *value) is(text string) bool { return v != nil && v.kind == '"' && v.text == text }

// pointer returns the JSON pointer (RFC 6901) of v in its document; "" is the whole.
func (v *value) pointer() string {
	if v.parent == nil {
		return ""
	}
	return v.parent.pointer() + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(v.step)
}

// documentReader reads leniently: avroschema.Parse has looked at the text before.
type documentReader struct {
	text     string
	pos      int
	failed   bool
	comments int
}

const maxDocumentDepth = 1100 // a little more than avroschema.MaxDepth

func (r *documentReader) peek() byte {
	if r.pos < len(r.text) {
		return r.text[r.pos]
	}
	return 0
}

// next takes c if it is what comes next.
func (r *documentReader) next(c byte) bool {
	if r.pos < len(r.text) && r.text[r.pos] == c {
		r.pos++
		return true
	}
	return false
}

// space skips white space and comments.
func (r *documentReader) space() {
	for r.pos < len(r.text) {
		rest := r.text[r.pos:]
		switch {
		case rest[0] <= ' ':
			r.pos++
		case strings.HasPrefix(rest, "//"):
			r.comments++
			end := strings.IndexAny(rest, "\r\n")
			if end < 0 {
				end = len(rest)
			}
			r.pos += end
		case strings.HasPrefix(rest, "/*"):
			r.comments++
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				r.failed = true
				return
			}
			r.pos += end + 4
		default:
			return
		}
	}
}

func (r *documentReader) value(parent *value, step string, depth int) *value {
	v := &value{kind: r.peek(), start: r.pos, parent: parent, step: step}
	switch v.kind {
	case '{':
		r.list(depth, '}', func() {
			k := key{start: r.pos}
			k.name = r.string()
			r.space()
			r.failed = r.failed || !r.next(':')
			r.space()
			if !r.failed {
				v.keys = append(v.keys, k)
				v.elems = append(v.elems, r.value(v, k.name, depth+1))
			}
		})
	case '[':
		r.list(depth, ']', func() {
			v.elems = append(v.elems, r.value(v, strconv.Itoa(len(v.elems)), depth+1))
		})
	case '"':
		v.text = r.string()
	default:
		end := strings.IndexAny(r.text[r.pos:], ",]}/ \t\r\n")
		if end < 0 {
			end = len(r.text) - r.pos
		}
		r.failed = r.failed || !json.Valid([]byte(r.text[r.pos:r.pos+end]))
		r.pos += end
	}
	v.end = r.pos
	return v
}

// list reads what stands between brackets; member is called at the start of each element.
func (r *documentReader) list(depth int, closing byte, member func()) {
	r.pos++
	if depth > maxDocumentDepth {
		r.failed = true
	}
	for first := true; !r.failed; first = false {
		r.space()
		if first && r.next(closing) {
			return
		}
		if !r.failed {
			member()
		}
		r.space()
		if r.next(closing) {
			return
		}
		r.failed = r.failed || !r.next(',')
	}
}

func (r *documentReader) string() string {
	start := r.pos
	if !r.next('"') {
		r.failed = true
		return ""
	}
	for !r.next('"') {
		if r.next('\\') && r.pos == len(r.text) || r.pos == len(r.text) {
			r.failed = true
			return ""
		}
		r.pos++
	}
	var s string
	if json.Unmarshal([]byte(r.text[start:r.pos]), &s) != nil {
		r.failed = true
	}
	return s
}

// lineColumn turns an offset into a line and a column, both from 1, the column in characters.
func lineColumn(text string, offset int) (line, column int) {
	before := text[:min(offset, len(text))]
	line = strings.Count(before, "\n") + 1
	column = utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return line, column
}
