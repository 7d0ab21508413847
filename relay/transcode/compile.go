package transcode

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

// kind is how a node is encoded.
type kind uint8

const (
	kindNull kind = iota + 1
	kindBoolean
	kindInteger // int, long
	kindFloat
	kindDouble
	kindString
	kindBytes      // base64
	kindFixed      // base64
	kindCodePoints // bytes and fixed in defaults
	kindDecimal
	kindUUID
	kindDate
	kindTime
	kindTimestamp
	kindEnum
	kindArray
	kindMap
	kindRecord
	kindUnion
	kindDefaultUnion
)

// node is a type of the schema, ready for encoding. Recursive types make cycles.
type node struct {
	kind kind
	name string // as errors call it
	tag  string // as Avro's JSON encoding names it in a union

	low, high        int64          // kindInteger, kindDate, kindTime, kindTimestamp
	perSecond        int64          // kindTime, kindTimestamp
	local            bool           // kindTimestamp without a time zone
	isFixed          bool           // fixed, not bytes or string: kindCodePoints, kindDecimal, kindUUID
	size             int            // fixed
	precision, scale int            // kindDecimal
	symbols          map[string]int // kindEnum
	item             *node          // kindArray, kindMap
	record           *record        // kindRecord
	union            *union         // kindUnion, kindDefaultUnion
}

// compiler makes nodes of schemas.
type compiler struct {
	values   map[*avroschema.Schema]*node
	defaults map[*avroschema.Schema]*node
	pending  []pendingDefault
}

// pendingDefault is a default that has to be encoded once all nodes are there.
type pendingDefault struct {
	owner string
	field *field
	node  *node
}

func compile(s *avroschema.Schema) (*node, error) {
	c := compiler{values: map[*avroschema.Schema]*node{}, defaults: map[*avroschema.Schema]*node{}}
	n, err := c.node(s, false)
	if err != nil {
		return nil, fmt.Errorf("compile schema: %w", err)
	}
	if err := c.encodeDefaults(); err != nil {
		return nil, fmt.Errorf("compile schema: %w", err)
	}
	return n, nil
}

// node returns the node for s. Defaults are written in another way than values (as the
// plain type under a logical type, bytes as code points), so they have nodes of their own.
func (c *compiler) node(s *avroschema.Schema, isDefault bool) (*node, error) {
	if s == nil {
		return nil, errors.New("a type is missing")
	}
	known := c.values
	if isDefault {
		known = c.defaults
	}
	if n, ok := known[s]; ok {
		return n, nil
	}
	n := &node{}
	known[s] = n
	if isDefault || s.Logical == nil {
		return n, c.plain(n, s, isDefault)
	}
	return n, c.logical(n, s)
}

var primitives = map[avroschema.Type]node{
	avroschema.Null:    {kind: kindNull, name: "null"},
	avroschema.Boolean: {kind: kindBoolean, name: "boolean"},
	avroschema.Int:     {kind: kindInteger, name: "int", low: math.MinInt32, high: math.MaxInt32},
	avroschema.Long:    {kind: kindInteger, name: "long", low: math.MinInt64, high: math.MaxInt64},
	avroschema.Float:   {kind: kindFloat, name: "float"},
	avroschema.Double:  {kind: kindDouble, name: "double"},
	avroschema.String:  {kind: kindString, name: "string"},
	avroschema.Bytes:   {kind: kindBytes, name: "bytes"},
}

// plain fills in n for a type without its logical type.
func (c *compiler) plain(n *node, s *avroschema.Schema, isDefault bool) error {
	switch s.Type {
	case avroschema.Record:
		return c.record(n, s, isDefault)
	case avroschema.Union:
		return c.union(n, s, isDefault)
	case avroschema.Array:
		return c.items(n, kindArray, "array", s.Items, isDefault)
	case avroschema.Map:
		return c.items(n, kindMap, "map", s.Values, isDefault)
	case avroschema.Enum:
		*n = node{kind: kindEnum, name: "enum " + s.Name, tag: s.Name, symbols: map[string]int{}}
		for i, symbol := range s.Symbols {
			n.symbols[symbol] = i
		}
		return nil
	case avroschema.Fixed:
		*n = node{kind: kindFixed, name: "fixed " + s.Name, tag: s.Name, size: s.Size, isFixed: true}
	default:
		primitive, ok := primitives[s.Type]
		if !ok {
			return fmt.Errorf("type %d is not known", s.Type)
		}
		*n = primitive
		n.tag = n.name
	}
	if isDefault && (n.kind == kindFixed || n.kind == kindBytes) {
		n.kind = kindCodePoints
	}
	return nil
}

func (c *compiler) items(n *node, k kind, name string, item *avroschema.Schema, isDefault bool) error {
	*n = node{kind: k, name: name, tag: name}
	var err error
	n.item, err = c.node(item, isDefault)
	return err
}

// logical fills in n for a type with a logical type.
func (c *compiler) logical(n *node, s *avroschema.Schema) error {
	if err := c.plain(n, s, false); err != nil {
		return err
	}
	if s.Logical.Name == "duration" {
		return nil // 12 bytes like those of any fixed
	}
	n.name = s.Logical.Name
	switch n.name {
	case "decimal":
		n.kind, n.precision, n.scale = kindDecimal, s.Logical.Precision, s.Logical.Scale
		n.name = fmt.Sprintf("decimal(%d,%d)", n.precision, n.scale)
		if n.precision > maxPrecision {
			return fmt.Errorf("%s has more digits than the %d supported", n.name, maxPrecision)
		}
	case "uuid":
		n.kind = kindUUID
	case "date":
		n.kind = kindDate
	case "time-millis":
		n.kind, n.perSecond, n.low, n.high = kindTime, 1e3, 0, 86400e3-1
	case "time-micros":
		n.kind, n.perSecond, n.low, n.high = kindTime, 1e6, 0, 86400e6-1
	case "timestamp-millis", "local-timestamp-millis":
		n.kind, n.perSecond = kindTimestamp, 1e3
	case "timestamp-micros", "local-timestamp-micros":
		n.kind, n.perSecond = kindTimestamp, 1e6
	case "timestamp-nanos", "local-timestamp-nanos":
		n.kind, n.perSecond = kindTimestamp, 1e9
	default:
		return fmt.Errorf("logical type %q is not supported", n.name)
	}
	n.local = strings.HasPrefix(n.name, "local-")
	return nil
}

func (c *compiler) record(n *node, s *avroschema.Schema, isDefault bool) error {
	r := &record{
		name:   s.Name,
		fields: make([]field, len(s.Fields)),
		index:  make(map[string]int, len(s.Fields)),
		follow: make([]int, len(s.Fields)+1),
	}
	*n = node{kind: kindRecord, name: "record " + s.Name, tag: s.Name, record: r}
	for i, sf := range s.Fields {
		if !isKey(sf.Name) {
			return fmt.Errorf("record %s: field name %q cannot be a JSON key as it is", s.Name, sf.Name)
		}
		if _, twice := r.index[sf.Name]; twice {
			return fmt.Errorf("record %s: field %s is there twice", s.Name, sf.Name)
		}
		// At first documents are taken to be in the schema's order.
		r.index[sf.Name], r.follow[i] = i, i
		f := &r.fields[i]
		*f = field{name: sf.Name, quoted: `"` + sf.Name + `"`, hasDefault: sf.Default != nil, defaultJSON: sf.Default}
		var err error
		if f.node, err = c.node(sf.Type, isDefault); err != nil {
			return fmt.Errorf("record %s: field %s: %w", s.Name, sf.Name, err)
		}
		if !f.hasDefault {
			r.required++
			continue
		}
		dn, err := c.node(sf.Type, true)
		if err != nil {
			return fmt.Errorf("record %s: field %s: %w", s.Name, sf.Name, err)
		}
		c.pending = append(c.pending, pendingDefault{owner: s.Name, field: f, node: dn})
	}
	return nil
}

// isKey reports whether name between quotes is the only common way to write it as a JSON key.
func isKey(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return r < ' ' || r == '"' || r == '\\'
	})
}

func (c *compiler) union(n *node, s *avroschema.Schema, isDefault bool) error {
	u := &union{tags: map[string]branch{}}
	*n = node{kind: kindUnion, union: u}
	if isDefault {
		n.kind = kindDefaultUnion
	}
	names := make([]string, len(s.Branches))
	for i, bs := range s.Branches {
		bn, err := c.node(bs, isDefault)
		if err != nil {
			return fmt.Errorf("branch %d of a union: %w", i, err)
		}
		if bn.union != nil {
			return fmt.Errorf("branch %d of a union is a union", i)
		}
		b := branch{int64(i), bn}
		u.all = append(u.all, b)
		for _, f := range bn.forms() {
			u.byForm[f] = append(u.byForm[f], b)
		}
		if bn.kind != kindNull {
			u.tags[bn.tag] = b
		}
		names[i] = bn.name
	}
	u.name = strings.Join(names, " or ")
	n.name = u.name
	if slices.ContainsFunc(u.byForm[formObject], func(b branch) bool { return b.node.kind == kindMap }) {
		u.tags = nil
	}
	for _, f := range []form{formNumber, formString} {
		slices.SortStableFunc(u.byForm[f], func(a, b branch) int { return a.node.rank(f) - b.node.rank(f) })
	}
	return nil
}

// forms returns the forms of JSON values that n takes.
func (n *node) forms() []form {
	switch n.kind {
	case kindNull:
		return []form{formNull}
	case kindBoolean:
		return []form{formBoolean}
	case kindInteger:
		return []form{formNumber}
	case kindFloat, kindDouble, kindDecimal, kindDate, kindTime, kindTimestamp:
		return []form{formNumber, formString}
	case kindArray:
		return []form{formArray}
	case kindMap, kindRecord:
		return []form{formObject}
	}
	return []form{formString}
}

// rank orders the branches of a union that take numbers, or strings: those that keep every
// digit before double before float; an enum's symbols before any text before special forms.
func (n *node) rank(f form) int {
	switch {
	case f == formNumber && n.kind == kindFloat:
		return 2
	case f == formNumber && n.kind == kindDouble:
		return 1
	case f == formNumber || n.kind == kindEnum:
		return 0
	case n.kind == kindString:
		return 1
	}
	return 2
}

// encodeDefaults encodes the default of each field. A default may be a record that relies on
// defaults of its own fields, so those that cannot be encoded yet are tried again.
func (c *compiler) encodeDefaults() error {
	for len(c.pending) > 0 {
		var later []pendingDefault
		for _, p := range c.pending {
			var e encoder
			value, err := e.document(nil, p.field.defaultJSON, p.node)
			if err != nil && err.Kind == notReady {
				later = append(later, p)
				continue
			}
			if err != nil {
				err.Path = "$" + err.Path
				return fmt.Errorf("record %s: default of field %s: %w", p.owner, p.field.name, err)
			}
			p.field.value, p.field.ready = value, true
		}
		if len(later) == len(c.pending) {
			return fmt.Errorf("record %s: default of field %s contains itself", later[0].owner, later[0].field.name)
		}
		c.pending = later
	}
	return nil
}
