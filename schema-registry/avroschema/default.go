package avroschema

import (
	"math"
	"strconv"
	"strings"
)

// fieldDefault reads the default of a field and checks it as far as types are known.
func (p *parser) fieldDefault(f *Field, d place) *ParseError {
	if d.node.kind == kindString && (f.Type.Type == Float || f.Type.Type == Double) {
		value, ok := javaDouble(d.node.text)
		if !ok {
			return p.invalidDefault(f, d)
		}
		d.node = &node{kind: kindFloat, offset: d.node.offset, text: formatDouble(value)}
	}
	f.Default = appendJSON(nil, d.node)
	if p.lenient {
		return nil
	}
	p.defaults[f] = &d
	if !p.fits(d.node, f.Type) {
		return p.invalidDefault(f, d)
	}
	return nil
}

func (p *parser) invalidDefault(f *Field, d place) *ParseError {
	what := f.Type.fullName()
	if ref := p.unknown[f.Type]; ref != nil {
		what = ref.name
	}
	return p.fail(d.node, d.path, "default of field %s does not fit its type %s", f.Name, what)
}

// fits tells whether a JSON value can be the default for a type, before references are
// resolved: whatever a reference may mean, it takes an object only.
func (p *parser) fits(n *node, s *Schema) bool {
	c := defaultCheck{record: func(s *Schema) *Schema { return s }}
	return c.fits(n, s)
}

// fits is the same once references are resolved.
func (r *resolver) fits(n *node, s *Schema) bool {
	c := defaultCheck{record: func(s *Schema) *Schema {
		if ref := r.unknown[s]; ref != nil {
			s = ref.target
		}
		if s.Type == Record && !r.settled[s] {
			return nil
		}
		return s
	}}
	// Java gives up at such a record, even where another branch of a union would take the default.
	return c.fits(n, s) && !c.unsettled
}

// defaultCheck is one check of a default. Schemas that lead to the same type by two branches
// of a union, again and again, must not make it exponential: answers are kept.
type defaultCheck struct {
	// record returns the type that a node stands for; nil for a record that takes nothing yet.
	record    func(*Schema) *Schema
	known     map[nodeAndSchema]bool
	unsettled bool // an object was held against a record that takes nothing yet
}

type nodeAndSchema struct {
	node   *node
	schema *Schema
}

func (c *defaultCheck) fits(n *node, s *Schema) bool {
	if n.kind != kindObject && n.kind != kindArray {
		return c.scalarFits(n, s)
	}
	key := nodeAndSchema{n, s}
	if ok, found := c.known[key]; found {
		return ok
	}
	ok := c.compoundFits(n, s)
	if c.known == nil {
		c.known = make(map[nodeAndSchema]bool)
	}
	c.known[key] = ok
	return ok
}

func (c *defaultCheck) scalarFits(n *node, s *Schema) bool {
	if s.Type == Record {
		if s = c.record(s); s == nil {
			return false
		}
	}
	switch s.Type {
	case Null:
		return n.kind == kindNull
	case Boolean:
		return n.kind == kindBool
	case Int:
		_, ok := n.integer(math.MaxInt32)
		return ok
	case Long:
		_, ok := n.integer(math.MaxInt64)
		return ok
	case Float, Double:
		return n.kind == kindInt || n.kind == kindFloat
	case String, Bytes, Fixed, Enum: // Java does not look into the string
		return n.kind == kindString
	case Union:
		for _, branch := range s.Branches {
			if c.scalarFits(n, branch) {
				return true
			}
		}
	}
	return false
}

func (c *defaultCheck) compoundFits(n *node, s *Schema) bool {
	if s.Type == Record {
		if s = c.record(s); s == nil {
			c.unsettled = c.unsettled || n.kind == kindObject
			return false
		}
	}
	switch s.Type {
	case Array, Map:
		elem := s.Items
		if s.Type == Map {
			elem = s.Values
		}
		if (n.kind == kindArray) != (s.Type == Array) {
			return false
		}
		for _, v := range n.elems {
			if !c.fits(v, elem) {
				return false
			}
		}
		return true
	case Record:
		if n.kind != kindObject {
			return false
		}
		for _, f := range s.Fields {
			v := n.get(f.Name)
			if v == nil && f.Default == nil || v != nil && !c.fits(v, f.Type) {
				return false
			}
		}
		return true
	case Union:
		for _, branch := range s.Branches {
			if c.fits(n, branch) {
				return true
			}
		}
	}
	return false
}

// javaDouble reads a number as Java's Double.parseDouble does, which is how the default of
// a float or double may be written as a string.
func javaDouble(s string) (float64, bool) {
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 {
		return 0, false
	}
	sign := strings.HasPrefix(s, "-")
	hex := strings.HasPrefix(digits, "0x") || strings.HasPrefix(digits, "0X")
	var v float64
	switch {
	case digits == "NaN":
		return math.NaN(), true
	case digits == "Infinity":
		v = math.Inf(1)
	case strings.ContainsAny(digits, "_ntyNTY"), hex && !strings.ContainsAny(digits, "pP"):
		return 0, false // what Go reads and Java does not
	default:
		if last := len(digits) - 1; last > 0 && strings.IndexByte("fFdD", digits[last]) >= 0 {
			digits = digits[:last]
		}
		var err error
		if v, err = strconv.ParseFloat(digits, 64); err != nil && !math.IsInf(v, 0) {
			return 0, false
		}
	}
	if sign {
		v = -v
	}
	return v, true
}
