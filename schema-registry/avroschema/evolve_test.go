package avroschema

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// evolvedPair makes a schema with types that share names, refer to each other and to
// themselves, and what a few changes of the kind that people make have made of it. Both are
// written in several ways.
func evolvedPair(rng *rand.Rand) pair {
	e := &evolution{rng: rng}
	one := e.shape(0)
	other := (&copier{}).shape(one)
	for range rng.IntN(5) {
		e.change(other)
	}
	texts := []string{e.write(one), e.write(other)}
	rng.Shuffle(2, func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	return pair{texts[0], texts[1]}
}

// shape is a schema before it is written.
type shape struct {
	kind       string // a primitive type, array, map, union or named
	attributes string // of a primitive type, such as its logical type
	inner      []*shape
	named      *namedShape
}

type namedShape struct {
	kind       string // record, error, enum or fixed
	name       string // full name
	aliases    []string
	attributes string
	fields     []*fieldShape
	symbols    []string
	rest       string // the enum's default; "" is none
	size       int
}

type fieldShape struct {
	name      string
	aliases   []string
	typ       *shape
	defaulted bool
}

type evolution struct {
	rng   *rand.Rand
	types []*namedShape
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func (e *evolution) often(percent int) bool { return e.rng.IntN(100) < percent }

func (e *evolution) fullName() string {
	return pick(e.rng, "", "", "n.", "n.", "m.", "n.m.") + pick(e.rng, "A", "B", "C", "D")
}

func (e *evolution) alias() string {
	return pick(e.rng, "", "", "", ".", "n.", "m.", "n.m.") + pick(e.rng, "A", "B", "C", "D")
}

func (e *evolution) primitive() *shape {
	kinds := []string{"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
	s := &shape{kind: pick(e.rng, kinds...)}
	if e.often(15) {
		s.attributes = pick(e.rng, `,"logicalType":"date"`, `,"logicalType":"timestamp-millis"`, `,"logicalType":"uuid"`,
			`,"logicalType":"decimal","precision":4,"scale":2`, `,"logicalType":"decimal","precision":6`, `,"p":1`)
	}
	return s
}

func (e *evolution) shape(depth int) *shape {
	kind := pick(e.rng, "primitive", "primitive", "again", "again", "named", "named", "named", "array", "map", "union", "union")
	switch {
	case depth > 5:
		return e.primitive()
	case kind == "again" && len(e.types) > 0:
		return &shape{kind: "named", named: pick(e.rng, e.types...)}
	case kind == "named" || depth == 0 && e.often(60):
		return &shape{kind: "named", named: e.namedShape(depth)}
	case kind == "array", kind == "map":
		return &shape{kind: kind, inner: []*shape{e.shape(depth + 1)}}
	case kind == "union":
		return e.union(depth)
	}
	return e.primitive()
}

func (e *evolution) union(depth int) *shape {
	s := &shape{kind: "union"}
	for range e.rng.IntN(4) {
		s.inner = append(s.inner, e.shape(depth+1))
	}
	return s
}

func (e *evolution) namedShape(depth int) *namedShape {
	n := &namedShape{kind: pick(e.rng, "record", "record", "record", "error", "enum", "fixed"), name: e.fullName(), size: 1 + e.rng.IntN(2)}
	if depth == 0 && e.often(85) {
		n.kind = "record"
	}
	for e.often(25) {
		n.aliases = append(n.aliases, e.alias())
	}
	if n.kind == "fixed" && e.often(30) {
		n.attributes = pick(e.rng, `,"logicalType":"decimal","precision":2`, `,"logicalType":"duration"`)
	}
	for range e.rng.IntN(4) {
		n.symbols = append(n.symbols, pick(e.rng, "X", "Y", "Z", "W"))
	}
	if len(n.symbols) > 0 && e.often(40) {
		n.rest = pick(e.rng, n.symbols...)
	}
	e.types = append(e.types, n) // from here on its own fields may be of it
	if strings.HasPrefix(n.kind, "r") || n.kind == "error" {
		for range e.rng.IntN(5) {
			n.fields = append(n.fields, e.field(depth))
		}
	}
	return n
}

func (e *evolution) field(depth int) *fieldShape {
	f := &fieldShape{name: pick(e.rng, "a", "b", "c", "d", "A"), typ: e.shape(depth + 1), defaulted: e.often(40)}
	for e.often(10) {
		f.aliases = append(f.aliases, pick(e.rng, "a", "b", "c", "d", "z"))
	}
	return f
}

// change makes one change somewhere in a schema.
func (e *evolution) change(root *shape) {
	all := &copier{}
	all.shape(root) // only to see what there is
	place := pick(e.rng, all.seen...)
	if n := place.named; n != nil && e.often(75) {
		e.changeNamed(n)
		return
	}
	switch e.rng.IntN(7) {
	case 0: // promoted, or the other way round
		wider := []string{"int", "long", "float", "double", "int", "string", "bytes", "string"}
		if i := slices.Index(wider, place.kind); i >= 0 {
			place.kind = wider[i+1]
		}
	case 1: // into a union
		was := *place
		*place = shape{kind: "union", inner: []*shape{{kind: "null"}, &was}}
		if e.often(50) {
			slices.Reverse(place.inner)
		}
	case 2: // out of a union or container
		if len(place.inner) > 0 {
			*place = *pick(e.rng, place.inner...)
		}
	case 3: // other branches
		if place.kind == "union" {
			place.inner = append(place.inner, e.shape(3))
			e.rng.Shuffle(len(place.inner), func(i, j int) { place.inner[i], place.inner[j] = place.inner[j], place.inner[i] })
		}
	case 4:
		if len(place.inner) > 1 {
			i := e.rng.IntN(len(place.inner))
			place.inner = slices.Delete(place.inner, i, i+1)
		}
	case 5:
		place.attributes = pick(e.rng, "", `,"logicalType":"date"`, `,"logicalType":"decimal","precision":9`)
	case 6:
		*place = *e.shape(4)
	}
}

func (e *evolution) changeNamed(n *namedShape) {
	switch n.kind {
	case "enum":
		if e.often(60) {
			n.symbols = append(n.symbols, "V")
			if i := e.rng.IntN(len(n.symbols)); e.often(50) && n.symbols[i] != n.rest {
				n.symbols = slices.Delete(n.symbols, i, i+1)
			}
			return
		}
		if n.rest = ""; len(n.symbols) > 0 && e.often(50) {
			n.rest = n.symbols[0]
		}
		return
	case "fixed":
		if e.often(40) {
			n.size = 3 - n.size
			return
		}
	}
	switch e.rng.IntN(8) {
	case 0: // renamed, mostly with an alias
		if was := n.name; e.often(75) {
			n.aliases = append(n.aliases, pick(e.rng, was, was, unqualified(was), "."+unqualified(was)))
		}
		n.name = e.fullName()
	case 1: // another namespace
		n.name = pick(e.rng, "", "n.", "m.") + unqualified(n.name)
	case 2:
		n.kind = map[string]string{"record": "error", "error": "record", "enum": "enum", "fixed": "fixed"}[n.kind]
	case 3, 4:
		n.fields = append(n.fields, e.field(3))
	case 5:
		if i := e.rng.IntN(len(n.fields) + 1); i < len(n.fields) {
			n.fields = slices.Delete(n.fields, i, i+1)
		}
	case 6: // a field renamed, mostly with an alias
		if len(n.fields) > 0 {
			f := pick(e.rng, n.fields...)
			if e.often(75) {
				f.aliases = append(f.aliases, f.name)
			}
			f.name = pick(e.rng, "a", "e", "f", "g", "h")
		}
	case 7:
		if len(n.fields) > 0 {
			f := pick(e.rng, n.fields...)
			f.defaulted = !f.defaulted
		}
	}
}

// copier copies a schema, which may contain itself.
type copier struct {
	copies map[*namedShape]*namedShape
	seen   []*shape // of what was copied
}

func (c *copier) shape(s *shape) *shape {
	c.seen = append(c.seen, s)
	twin := *s
	twin.inner = nil
	for _, inner := range s.inner {
		twin.inner = append(twin.inner, c.shape(inner))
	}
	if s.named != nil {
		twin.named = c.namedShape(s.named)
	}
	return &twin
}

func (c *copier) namedShape(n *namedShape) *namedShape {
	if twin := c.copies[n]; twin != nil {
		return twin
	}
	twin := *n
	if c.copies == nil {
		c.copies = make(map[*namedShape]*namedShape)
	}
	c.copies[n] = &twin
	twin.aliases, twin.symbols, twin.fields = slices.Clone(n.aliases), slices.Clone(n.symbols), nil
	for _, f := range n.fields {
		field := *f
		field.aliases, field.typ = slices.Clone(f.aliases), c.shape(f.typ)
		twin.fields = append(twin.fields, &field)
	}
	return &twin
}

// write makes the text of a schema. Types of one name are one type, the first of them; what
// a union may not hold is left out.
func (e *evolution) write(s *shape) string {
	w := &shapeWriter{evolution: e, defined: make(map[string]*namedShape)}
	return w.schema(s, "")
}

type shapeWriter struct {
	*evolution
	defined map[string]*namedShape
}

func (w *shapeWriter) schema(s *shape, space string) string {
	switch s.kind {
	case "named":
		return w.named(s.named, space)
	case "array":
		return fmt.Sprintf(`{"type":"array","items":%s}`, w.schema(s.inner[0], space))
	case "map":
		return fmt.Sprintf(`{"type":"map","values":%s}`, w.schema(s.inner[0], space))
	case "union":
		var texts []string
		for _, branch := range s.branches(nil) {
			texts = append(texts, w.schema(branch, space))
		}
		return "[" + strings.Join(texts, ",") + "]"
	}
	if s.attributes != "" {
		return fmt.Sprintf(`{"type":%q%s}`, s.kind, s.attributes)
	}
	return fmt.Sprintf("%q", s.kind)
}

// branches returns those of a union and of the unions in it, each type once.
func (s *shape) branches(before []*shape) []*shape {
	for _, branch := range s.inner {
		switch {
		case branch.kind == "union":
			before = branch.branches(before)
		case !slices.ContainsFunc(before, func(b *shape) bool { return b.typeName() == branch.typeName() }):
			before = append(before, branch)
		}
	}
	return before
}

func (s *shape) typeName() string {
	if s.named != nil {
		return s.named.name
	}
	return s.kind
}

func (w *shapeWriter) named(n *namedShape, space string) string {
	own := namespace(n.name)
	if w.defined[n.name] != nil {
		if own == space && w.often(50) {
			return fmt.Sprintf("%q", unqualified(n.name))
		}
		return fmt.Sprintf("%q", n.name) // of the null namespace, where it may come to mean another type
	}
	w.defined[n.name] = n
	text := fmt.Sprintf(`"type":%q,"name":%q,"namespace":%q`, n.kind, unqualified(n.name), own)
	switch {
	case own == space && w.often(70):
		text = fmt.Sprintf(`"name":%q,"type":%q`, unqualified(n.name), n.kind)
	case own != "" && w.often(50):
		text = fmt.Sprintf(`"type":%q,"name":%q`, n.kind, n.name)
	}
	text += n.attributes + aliasText(n.aliases)
	switch n.kind {
	case "fixed":
		return fmt.Sprintf(`{%s,"size":%d}`, text, n.size)
	case "enum":
		symbols, _ := json.Marshal(distinct(n.symbols))
		if n.rest != "" {
			text += fmt.Sprintf(`,"default":%q`, n.rest)
		}
		return fmt.Sprintf(`{%s,"symbols":%s}`, text, symbols)
	}
	var fields []string
	seen := map[string]bool{}
	for _, f := range n.fields {
		if seen[f.name] {
			continue
		}
		seen[f.name] = true
		field := fmt.Sprintf(`{"name":%q,"type":%s%s`, f.name, w.schema(f.typ, own), aliasText(f.aliases))
		if value := w.valueOf(f.typ); f.defaulted && value != "" {
			field += `,"default":` + value
		}
		fields = append(fields, field+"}")
	}
	return fmt.Sprintf(`{%s,"fields":[%s]}`, text, strings.Join(fields, ","))
}

func aliasText(aliases []string) string {
	if len(aliases) == 0 {
		return ""
	}
	text, _ := json.Marshal(distinct(aliases))
	return `,"aliases":` + string(text)
}

func distinct(names []string) []string {
	list := []string{}
	for _, name := range names {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// valueOf returns a default for a type; "" where there is none that is easy to say.
func (w *shapeWriter) valueOf(s *shape) string {
	switch s.kind {
	case "null":
		return "null"
	case "boolean":
		return "true"
	case "bytes", "string":
		return `"x"`
	case "array":
		return "[]"
	case "map":
		return "{}"
	case "union":
		if branches := s.branches(nil); len(branches) > 0 {
			return w.valueOf(pick(w.rng, branches...))
		}
		return ""
	case "named":
		switch n := w.defined[s.named.name]; {
		case n == nil: // its first mention is in a type that stands for another of its name
			return ""
		case n.kind == "enum" && len(n.symbols) > 0:
			return fmt.Sprintf("%q", n.symbols[0])
		case n.kind == "fixed":
			return `"\u0001"`
		case len(n.fields) == 0 && n.kind != "enum":
			return "{}"
		}
		return ""
	}
	return "1"
}
