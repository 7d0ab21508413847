package avroschema

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Canonical returns the text that identifies a schema: the one that Schema.toString of Avro's
// Java library makes. White space, the order of attributes, and the several ways to write a
// name do not show in it; doc, defaults, aliases and custom properties do. It is not the
// Parsing Canonical Form of the specification, which drops those.
//
// Types that known defines at its top are written by name only, as for a schema that was
// parsed with references. Parse of the text gives an equal schema.
func (s *Schema) Canonical(known ...*Schema) string {
	return s.write(&writer{}, known)
}

// Normalized is Canonical with less that tells schemas apart: custom properties and the
// attributes of JSON objects are sorted, logicalType, precision and scale before the others,
// aliases are sorted too, an empty doc of a type is left out, an error is a record, and a
// whole number that is the default of a float or double is written as one.
func (s *Schema) Normalized(known ...*Schema) string {
	return s.write(&writer{normalize: true}, known)
}

func (s *Schema) write(w *writer, known []*Schema) string {
	w.written = make(map[string]bool)
	for _, k := range known {
		if k.Name != "" {
			w.written[k.Name] = true
		}
	}
	w.schema(s, "")
	return string(w.out)
}

type writer struct {
	out       []byte
	written   map[string]bool // full names of types that need no definition any more
	normalize bool
}

func (w *writer) raw(s string)    { w.out = append(w.out, s...) }
func (w *writer) string(s string) { w.out = appendString(w.out, s) }

// attribute writes ,"name": and leaves the value to the caller.
func (w *writer) attribute(name string) {
	w.raw(",")
	w.string(name)
	w.raw(":")
}

func (w *writer) schema(s *Schema, space string) {
	switch {
	case s.Type == Union:
		w.list(len(s.Branches), func(i int) { w.schema(s.Branches[i], space) })
	case s.Name != "" && w.written[s.Name]:
		w.string(shortName(s.Name, space))
	case s.Name != "":
		w.written[s.Name] = true
		w.named(s, space)
	case s.Type != Array && s.Type != Map && len(s.Props) == 0:
		w.string(s.Type.String())
	default:
		w.raw(`{"type":`)
		w.string(s.Type.String())
		if s.Type == Array {
			w.attribute("items")
			w.schema(s.Items, space)
		} else if s.Type == Map {
			w.attribute("values")
			w.schema(s.Values, space)
		}
		w.props(s.Props, s.Logical)
		w.raw("}")
	}
}

func (w *writer) named(s *Schema, space string) {
	w.raw(`{"type":`)
	if s.IsError && !w.normalize {
		w.string("error")
	} else {
		w.string(s.Type.String())
	}
	w.attribute("name")
	w.string(unqualified(s.Name))
	own := namespace(s.Name)
	if own != space {
		w.attribute("namespace")
		w.string(own)
	}
	if s.HasDoc && (s.Doc != "" || !w.normalize) {
		w.attribute("doc")
		w.string(s.Doc)
	}
	switch s.Type {
	case Record:
		w.attribute("fields")
		w.list(len(s.Fields), func(i int) { w.field(s.Fields[i], own) })
	case Enum:
		w.attribute("symbols")
		w.strings(s.Symbols)
		if s.EnumDefault != "" {
			w.attribute("default")
			w.string(s.EnumDefault)
		}
	case Fixed:
		w.attribute("size")
		w.out = strconv.AppendInt(w.out, int64(s.Size), 10)
	}
	w.props(s.Props, s.Logical)
	if len(s.Aliases) > 0 {
		aliases := w.set(s.Aliases)
		w.attribute("aliases")
		w.list(len(aliases), func(i int) { w.string(shortName(aliases[i], own)) })
	}
	w.raw("}")
}

func (w *writer) field(f *Field, space string) {
	w.raw(`{"name":`)
	w.string(f.Name)
	w.attribute("type")
	w.schema(f.Type, space)
	if f.HasDoc {
		w.attribute("doc")
		w.string(f.Doc)
	}
	if f.Default != nil {
		w.attribute("default")
		w.fieldDefault(f)
	}
	if f.Order != "" && f.Order != "ascending" {
		w.attribute("order")
		w.string(f.Order)
	}
	if len(f.Aliases) > 0 {
		w.attribute("aliases")
		w.strings(w.set(f.Aliases))
	}
	w.props(f.Props, nil)
	w.raw("}")
}

func (w *writer) props(props []Prop, logical *Logical) {
	if w.normalize {
		props = slices.SortedFunc(slices.Values(props), func(a, b Prop) int {
			return cmp.Or(logicalRank(a, logical)-logicalRank(b, logical), strings.Compare(a.Name, b.Name))
		})
	}
	for _, p := range props {
		w.attribute(p.Name)
		w.value(p.Value)
	}
}

// logicalRank puts the attributes of a logical type before others.
func logicalRank(p Prop, logical *Logical) int {
	first := []string{"logicalType"}
	switch {
	case logical != nil && logical.Name == "decimal" && logical.Scale != 0:
		first = append(first, "precision", "scale")
	case logical != nil && logical.Name == "decimal":
		first = append(first, "precision")
	}
	rank := slices.Index(first, p.Name)
	if logical == nil || rank < 0 {
		return len(first)
	}
	return rank
}

func (w *writer) fieldDefault(f *Field) {
	typ := f.Type
	if typ.Type == Union && len(typ.Branches) > 0 {
		typ = typ.Branches[0]
	}
	if w.normalize && (typ.Type == Float || typ.Type == Double) {
		if n, err := readJSON(string(f.Default)); err == nil && n.kind == kindInt {
			v, _ := strconv.ParseFloat(n.text, 64)
			w.raw(formatDouble(v))
			return
		}
	}
	w.value(f.Default)
}

// value writes a canonical JSON text.
func (w *writer) value(text []byte) {
	if w.normalize && bytes.IndexByte(text, '{') >= 0 {
		if n, err := readJSON(string(text)); err == nil {
			n.sort()
			w.out = appendJSON(w.out, n)
			return
		}
	}
	w.out = append(w.out, text...)
}

// set is a list whose order does not count.
func (w *writer) set(names []string) []string {
	if !w.normalize {
		return names
	}
	return slices.Sorted(slices.Values(names))
}

func (w *writer) strings(list []string) {
	w.list(len(list), func(i int) { w.string(list[i]) })
}

func (w *writer) list(n int, write func(int)) {
	w.raw("[")
	for i := range n {
		if i > 0 {
			w.raw(",")
		}
		write(i)
	}
	w.raw("]")
}

// shortName leaves out the namespace where it is the enclosing one, except for a name that
// would then read as a built-in type.
func shortName(full, space string) string {
	name := unqualified(full)
	if own := namespace(full); own == "" || own != space {
		return full
	}
	for _, builtin := range typeNames {
		if name == builtin && name != "" {
			return full
		}
	}
	return name
}

// nestsWithin tells whether the canonical text of s nests no deeper than left levels.
func nestsWithin(s *Schema, written map[string]bool, left int) bool {
	if s.Name != "" {
		if written[s.Name] {
			return true
		}
		written[s.Name] = true
	}
	switch s.Type {
	case Record:
		left -= 4 // the record, its fields, a field, the field's aliases
	case Enum, Fixed:
		left -= 2 // the type, its symbols or aliases
	case Array, Map, Union:
		left--
	default:
		if len(s.Props) > 0 {
			left--
		}
	}
	if left < 0 {
		return false
	}
	for part := range s.parts() {
		if !nestsWithin(part, written, left) {
			return false
		}
	}
	for _, f := range s.Fields {
		if jsonNesting(f.Default) > left || slices.ContainsFunc(f.Props, func(p Prop) bool { return jsonNesting(p.Value) > left }) {
			return false
		}
	}
	return !slices.ContainsFunc(s.Props, func(p Prop) bool { return jsonNesting(p.Value) > left })
}

// jsonNesting returns how deep a JSON text nests.
func jsonNesting(text []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '[' || c == '{'):
			depth++
			deepest = max(deepest, depth)
		case !quoted && (c == ']' || c == '}'):
			depth--
		}
	}
	return deepest
}
