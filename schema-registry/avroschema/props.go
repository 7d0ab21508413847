package avroschema

import (
	"math"
	"slices"
	"strconv"
)

// attributes are those that the specification defines for schemas. They are no properties
// of any type, not even of one that does not use them.
var attributes = []string{"doc", "fields", "items", "name", "namespace", "size", "symbols", "values", "type", "aliases"}

// withProps ends an unnamed type.
func (p *parser) withProps(s *Schema, n *node, at *path) (*Schema, *ParseError) {
	s.Props = props(n, attributes...)
	if s.Type == Array || s.Type == Map {
		if err := p.checkProps(s, n, at); err != nil {
			return nil, err
		}
	}
	s.Logical = logicalType(s)
	return s, nil
}

func props(n *node, reserved ...string) []Prop {
	var list []Prop
	for i, key := range n.keys {
		if !slices.Contains(reserved, key) {
			list = append(list, Prop{Name: key, Value: appendJSON(nil, n.elems[i])})
		}
	}
	return list
}

// checkProps refuses integers beyond 64 bits in the properties of records, arrays and maps:
// Java cannot carry them there, so no Java client could read the schema.
func (p *parser) checkProps(s *Schema, n *node, at *path) *ParseError {
	for _, prop := range s.Props {
		if v := n.get(prop.Name); v.hasBigInteger() {
			return p.fail(v, at.key(prop.Name), "property has an integer beyond 64 bits")
		}
	}
	return nil
}

func (n *node) hasBigInteger() bool {
	if n.kind == kindInt {
		_, ok := n.integer(math.MaxInt64)
		return !ok
	}
	return slices.ContainsFunc(n.elems, (*node).hasBigInteger)
}

// integer returns the value of an integer from -limit-1 to limit.
func (n *node) integer(limit int64) (int64, bool) {
	if n.kind != kindInt {
		return 0, false
	}
	v, err := strconv.ParseInt(n.text, 10, 64)
	return v, err == nil && v <= limit && v >= -limit-1
}
