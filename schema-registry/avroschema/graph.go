package avroschema

import (
	"bytes"
	"iter"
	"slices"
)

// parts yields the schemas directly inside s.
func (s *Schema) parts() iter.Seq[*Schema] {
	return func(yield func(*Schema) bool) {
		if s.Items != nil && !yield(s.Items) || s.Values != nil && !yield(s.Values) {
			return
		}
		for _, branch := range s.Branches {
			if !yield(branch) {
				return
			}
		}
		for _, f := range s.Fields {
			if !yield(f.Type) {
				return
			}
		}
	}
}

// Named returns the named types that s is or contains, each once, s first.
func (s *Schema) Named() []*Schema {
	var named []*Schema
	for part := range s.all() {
		if part.Name != "" {
			named = append(named, part)
		}
	}
	return named
}

// Equal tells whether two definitions of a named type are one and the same by the rules by
// which Parse takes a definition twice: doc, aliases and the default of an enum do not count.
func Equal(a, b *Schema) bool {
	return equalSchemas(a, b, make(map[[2]*Schema]bool))
}

// Same tells whether two schemas differ in nothing but the order of their custom properties
// and aliases and the way names and JSON values are written.
func Same(a, b *Schema) bool { return Equal(a, b) && sameTexts(a, b, make(map[[2]*Schema]bool)) }

// sameTexts compares what Equal leaves out, of schemas that are equal.
func sameTexts(a, b *Schema, seen map[[2]*Schema]bool) bool {
	pair := [2]*Schema{a, b}
	if a == b || seen[pair] {
		return true
	}
	seen[pair] = true
	if a.HasDoc != b.HasDoc || a.Doc != b.Doc || a.EnumDefault != b.EnumDefault || !sameSet(a.Aliases, b.Aliases) {
		return false
	}
	for i, f := range a.Fields {
		if g := b.Fields[i]; f.HasDoc != g.HasDoc || f.Doc != g.Doc || !sameSet(f.Aliases, g.Aliases) {
			return false
		}
	}
	parts, others := slices.Collect(a.parts()), slices.Collect(b.parts())
	for i := range parts {
		if !sameTexts(parts[i], others[i], seen) {
			return false
		}
	}
	return true
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// all yields s and every schema inside it once.
func (s *Schema) all() iter.Seq[*Schema] {
	return func(yield func(*Schema) bool) {
		seen := map[*Schema]bool{s: true}
		for queue := []*Schema{s}; len(queue) > 0; queue = queue[1:] {
			if !yield(queue[0]) {
				return
			}
			for part := range queue[0].parts() {
				if !seen[part] {
					seen[part] = true
					queue = append(queue, part)
				}
			}
		}
	}
}

func equalSchemas(a, b *Schema, seen map[[2]*Schema]bool) bool {
	pair := [2]*Schema{a, b}
	if a == b || seen[pair] {
		return true
	}
	seen[pair] = true
	if a.Type != b.Type || a.Name != b.Name || a.Size != b.Size || !slices.Equal(a.Symbols, b.Symbols) ||
		len(a.Fields) != len(b.Fields) || !equalProps(a.Props, b.Props) {
		return false
	}
	if a.Type == Record && a.Name == "" {
		return false // stand-ins for types not known yet equal only themselves
	}
	for i, f := range a.Fields {
		g := b.Fields[i]
		if f.Name != g.Name || f.Order != g.Order || !equalProps(f.Props, g.Props) ||
			(f.Default == nil) != (g.Default == nil) || f.Default != nil && !equalJSON(f.Default, g.Default) {
			return false
		}
	}
	parts, others := slices.Collect(a.parts()), slices.Collect(b.parts())
	if len(parts) != len(others) {
		return false
	}
	for i := range parts {
		if !equalSchemas(parts[i], others[i], seen) {
			return false
		}
	}
	return true
}

func equalProps(a, b []Prop) bool {
	if len(a) != len(b) {
		return false
	}
	for _, p := range a {
		i := slices.IndexFunc(b, func(q Prop) bool { return q.Name == p.Name })
		if i < 0 || !equalJSON(p.Value, b[i].Value) {
			return false
		}
	}
	return true
}

// equalJSON compares canonical JSON texts; the order of attributes does not count.
func equalJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := readJSON(string(a))
	y, errY := readJSON(string(b))
	return errX == nil && errY == nil && equalNodes(x, y)
}

func equalNodes(x, y *node) bool {
	if x.kind != y.kind || x.text != y.text || len(x.elems) != len(y.elems) {
		return false
	}
	for i, elem := range x.elems {
		other := y.elems[i]
		if x.kind == kindObject {
			if other = y.get(x.keys[i]); other == nil {
				return false
			}
		}
		if !equalNodes(elem, other) {
			return false
		}
	}
	return true
}
