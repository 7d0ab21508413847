package avroschema

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// schemaText draws the text of a valid schema: few names, so that types meet again and refer
// to each other and to themselves.
func schemaText(t *rapid.T) string {
	g := &textGen{t: t, defined: map[string]string{}}
	return g.schema(0, "", false)
}

type textGen struct {
	t       *rapid.T
	defined map[string]string // full name → kind
	open    []string          // records under construction
}

func (g *textGen) pick(label string, from ...string) string {
	return rapid.SampledFrom(from).Draw(g.t, label)
}

func (g *textGen) schema(depth int, space string, inUnion bool) string {
	kinds := []string{"null", "boolean", "int", "long", "float", "double", "bytes", "string", "object", "enum", "fixed", "ref"}
	if depth < 4 {
		kinds = append(kinds, "record", "record", "array", "map")
		if !inUnion {
			kinds = append(kinds, "union")
		}
	}
	switch kind := g.pick("kind", kinds...); kind {
	case "object":
		return g.pick("object", `{"type":"int","logicalType":"date"}`, `{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`,
			`{"x":[1.50,null],"type":"string"}`, `{"type":"long"}`)
	case "enum", "fixed", "record":
		return g.named(kind, depth, space)
	case "array":
		return fmt.Sprintf(`{"type":"array","items":%s}`, g.schema(depth+1, space, false))
	case "map":
		return fmt.Sprintf(`{"values":%s,"type":"map"}`, g.schema(depth+1, space, false))
	case "union":
		return g.union(depth, space)
	case "ref":
		names := append([]string{}, g.open...)
		for _, n := range []string{"A", "B", "C", "n.A", "n.B", "n.C"} {
			if g.defined[n] != "" {
				names = append(names, n)
			}
		}
		if len(names) == 0 {
			return `"int"`
		}
		name := g.pick("ref", names...)
		if namespace(name) == "" && space != "" {
			return `"string"` // a bare name might mean another type there
		}
		return fmt.Sprintf("%q", name)
	default:
		return fmt.Sprintf("%q", kind)
	}
}

func (g *textGen) union(depth int, space string) string {
	var branches []string
	seen := map[string]bool{}
	for range rapid.IntRange(0, 4).Draw(g.t, "branches") {
		text := g.schema(depth+1, space, true)
		key := text
		if strings.HasPrefix(text, "{") {
			s, err := Parse(text)
			if err != nil { // refers to what is not in this text
				continue
			}
			key = fmt.Sprintf("%q", s.fullName())
		}
		if !seen[key] {
			seen[key] = true
			branches = append(branches, text)
		}
	}
	return "[" + strings.Join(branches, ",") + "]"
}

func (g *textGen) named(kind string, depth int, space string) string {
	name := g.pick("name", "A", "B", "C", "n.A", "n.B", "n.C")
	full := qualify(name, space)
	if g.defined[full] != "" {
		return `"long"`
	}
	g.defined[full] = kind
	attributes := fmt.Sprintf(`"type":%q,"name":%q`, kind, name)
	if g.pick("alias", "", "", "alias") != "" {
		attributes += fmt.Sprintf(`,"aliases":[%q]`, g.pick("alias name", "A", "B", "n.C", ".A"))
	}
	attributes += g.pick("doc", "", `,"doc":"d"`, `,"custom":{"b":1,"a":"\u00e4"}`)
	switch kind {
	case "fixed":
		return fmt.Sprintf(`{%s,"size":%d}`, attributes, rapid.IntRange(1, 2).Draw(g.t, "size"))
	case "enum":
		symbols := g.pick("symbols", `["X"],"default":"X"`, `["X","Y"]`, `["Y","X"]`, `["X","Y","Z"],"default":"Y"`, `[]`)
		return fmt.Sprintf(`{%s,"symbols":%s}`, attributes, symbols)
	}
	g.open = append(g.open, full)
	var fields []string
	for _, f := range []string{"a", "b", "c"} {
		if g.pick("has", "", "yes") == "" {
			continue
		}
		typ := g.schema(depth+1, namespace(full), false)
		text := fmt.Sprintf(`"name":%q,"type":%s`, f, typ)
		if value := g.defaultFor(typ); value != "" && g.pick("default", "", "yes") != "" {
			text += `,"default":` + value
		}
		text += g.pick("field extra", "", "", `,"aliases":["b"]`, `,"aliases":["c","z"]`, `,"order":"ignore"`)
		fields = append(fields, "{"+text+"}")
	}
	g.open = g.open[:len(g.open)-1]
	return fmt.Sprintf(`{%s,"fields":[%s]}`, attributes, strings.Join(fields, ","))
}

// defaultFor returns a default that fits a type, where that is easy to say.
func (g *textGen) defaultFor(typ string) string {
	switch {
	case typ == `"int"`, typ == `"long"`:
		return "1"
	case typ == `"float"`, typ == `"double"`:
		return g.pick("double", "1", "1.50", `"NaN"`, "1e10")
	case typ == `"string"`, typ == `"bytes"`:
		return `"x"`
	case typ == `"boolean"`:
		return "true"
	case typ == `"null"`, strings.HasPrefix(typ, "[") && strings.Contains(typ, `"null"`) && !strings.Contains(typ, "{"):
		return "null"
	case strings.HasPrefix(typ, `{"type":"array"`):
		return "[]"
	case strings.HasPrefix(typ, `{"values"`):
		return "{}"
	}
	return ""
}
