package schemacheck

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

// ErrComments is Pretty's refusal of a file with comments, which it would lose.
var ErrComments = errors.New("has comments, which formatting would lose: put them into doc attributes")

// prettyWidth is how long a line may be before what stands on it is broken up.
const prettyWidth = 100

// Order of attributes, that of the text that a registry keeps. Custom properties stay in their
// order, between default and aliases in a type, at the end in a field.
var (
	schemaOrder = []string{"type", "name", "namespace", "doc", "fields", "symbols", "items", "values", "size", "default", "", "aliases"}
	fieldOrder  = []string{"name", "type", "doc", "default", "order", "aliases", ""}
)

// Pretty returns the text of a schema in the one form that all files have: attributes in the
// registry's order, two blanks of indentation, each field on a line. Values stay as they are
// written, so that the schema stays the same. Pretty of its own result changes nothing.
//
// The error is ErrComments or, where the text is no schema, an *avroschema.ParseError. A type
// that the text does not define is none.
func Pretty(text string) (string, error) {
	text = strings.TrimPrefix(text, "\ufeff")
	_, err := avroschema.Parse(text)
	var parseErr *avroschema.ParseError
	if errors.As(err, &parseErr) && parseErr.UnknownType == "" {
		return "", err
	}
	r := &documentReader{text: text}
	r.space()
	root := r.value(nil, "", 0)
	r.space()
	switch {
	case r.comments > 0:
		return "", ErrComments
	case r.failed || r.pos < len(text):
		return "", fmt.Errorf("is no JSON that can be formatted")
	}
	w := &prettyWriter{text: text}
	w.schema(root, 0)
	return w.String() + "\n", nil
}

// prettyWriter writes values. It knows which of them are schemas, since only their attributes
// have an order.
type prettyWriter struct {
	strings.Builder
	text string
}

// kinds of objects.
const (
	kindOther = iota
	kindSchema
	kindField
)

// members returns the attributes of an object in order. Of one that is given twice, the last
// value counts, in the place of the first.
func members(v *value, kind int) []string {
	var names []string
	for _, k := range v.keys {
		if !slices.Contains(names, k.name) {
			names = append(names, k.name)
		}
	}
	order := map[int][]string{kindSchema: schemaOrder, kindField: fieldOrder}[kind]
	if order == nil {
		return names
	}
	rank := func(name string) int {
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return slices.Index(order, "")
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

// kindOf is the kind of what an attribute holds.
func kindOf(kind int, name string) int {
	if kind == kindField && name == "type" || kind == kindSchema && (name == "items" || name == "values") {
		return kindSchema
	}
	return kindOther
}

func (w *prettyWriter) schema(v *value, indent int) { w.value(v, kindSchema, indent, 0) }

// value writes v on the present line, which has used columns, if it fits; else broken up.
func (w *prettyWriter) value(v *value, kind, indent, used int) {
	if v.kind != '{' && v.kind != '[' {
		w.WriteString(w.text[v.start:v.end])
		return
	}
	if line := w.inline(v, kind); utf8.RuneCountInString(line)+used+1 <= prettyWidth && !w.mustBreak(v, kind) {
		w.WriteString(line)
		return
	}
	margin := "\n" + strings.Repeat(" ", indent+2)
	if v.kind == '[' {
		w.WriteString("[")
		for i, elem := range v.elems {
			if i > 0 {
				w.WriteString(",")
			}
			w.WriteString(margin)
			w.value(elem, kind, indent+2, indent+2)
		}
		w.WriteString(margin[:len(margin)-2] + "]")
		return
	}
	w.WriteString("{")
	for i, name := range members(v, kind) {
		if i > 0 {
			w.WriteString(",")
		}
		key := w.key(v, name) + ": "
		w.WriteString(margin + key)
		inner := kindOf(kind, name)
		if kind == kindSchema && name == "fields" {
			inner = kindField
		}
		w.value(v.get(name), inner, indent+2, indent+2+utf8.RuneCountInString(key))
	}
	w.WriteString(margin[:len(margin)-2] + "}")
}

// mustBreak tells whether v is written on several lines even if it would fit on one: the
// whole schema, and whatever has a list of fields.
func (w *prettyWriter) mustBreak(v *value, kind int) bool {
	if v.parent == nil && v.kind == '{' && (v.get("fields") != nil || v.get("symbols") != nil) {
		return true
	}
	if kind == kindField && v.kind == '[' {
		return len(v.elems) > 0
	}
	if v.kind == '{' && kind == kindSchema {
		if fields := v.get("fields"); fields != nil && len(fields.elems) > 0 {
			return true
		}
	}
	for i, elem := range v.elems {
		inner := kind
		if v.kind == '{' {
			inner = kindOf(kind, v.keys[i].name)
		}
		if inner != kindOther && w.mustBreak(elem, inner) {
			return true
		}
	}
	return false
}

func (w *prettyWriter) inline(v *value, kind int) string {
	var parts []string
	switch v.kind {
	case '[':
		for _, elem := range v.elems {
			parts = append(parts, w.inline(elem, kind))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case '{':
		for _, name := range members(v, kind) {
			parts = append(parts, w.key(v, name)+": "+w.inline(v.get(name), kindOf(kind, name)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return w.text[v.start:v.end]
}

// key is an attribute's name as it is written.
func (w *prettyWriter) key(v *value, name string) string {
	for _, k := range v.keys {
		if k.name == name {
			end := k.start + 1
			for w.text[end] != '"' {
				if w.text[end] == '\\' {
					end++
				}
				end++
			}
			return w.text[k.start : end+1]
		}
	}
	return ""
}
