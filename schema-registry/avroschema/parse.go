package avroschema

import (
	"math"
	"slices"
	"strings"
)

// Parse reads a schema from its JSON text. It accepts and refuses what the parser of Avro's
// Java library 1.12 accepts and refuses with its default settings: forward references and
// comments are allowed, names may use any Unicode letter, and defaults are checked, where a
// default for a union may be of any branch.
//
// The text may refer to every named type that is defined in refs; Parse does not change refs.
// The error is a *ParseError.
func Parse(text string, refs ...*Schema) (*Schema, error) {
	s, err := parse(text, refs, true)
	if err != nil {
		return nil, err // never a typed nil
	}
	return s, nil
}

// ParseAnyDefault is Parse but for defaults: it takes those that do not fit their fields too,
// as Avro's Java library does where setValidateDefaults is off. It is for schemas that are
// only looked up or compared, where defaults count by being there.
func ParseAnyDefault(text string, refs ...*Schema) (*Schema, error) {
	s, err := parse(text, refs, false)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func parse(text string, refs []*Schema, checkDefaults bool) (*Schema, *ParseError) {
	root, err := readJSON(text)
	if err != nil {
		return nil, err
	}
	p := &parser{
		text:     text,
		lenient:  !checkDefaults,
		known:    make(map[string]*Schema),
		unknown:  make(map[*Schema]*reference),
		defaults: make(map[*Field]*place),
		settled:  make(map[*Schema]bool),
	}
	for _, ref := range refs {
		if err := p.addReference(ref); err != nil {
			return nil, err
		}
	}
	s, err := p.schema(root, "", nil)
	if err != nil {
		return nil, err
	}
	if s, err = p.resolve(s); err != nil {
		return nil, err
	}
	// A definition moves to where its type is mentioned first, so forward references can
	// nest the canonical text deeper than this one. It must stay readable.
	if !nestsWithin(s, make(map[string]bool), MaxDepth) {
		return nil, errorAt(text, 0, nil, "types nest deeper than the limit of %d through references", MaxDepth)
	}
	return s, nil
}

// parser holds what one Parse has seen.
type parser struct {
	text     string
	lenient  bool               // defaults need not fit
	known    map[string]*Schema // named types that are complete, by full name
	defined  []*Schema          // those among them that this text defines, in order of completion
	unknown  map[*Schema]*reference
	defaults map[*Field]*place // where each default stands, to check it once all types are known
	settled  map[*Schema]bool  // records whose defaults have been checked
}

// place is a node and how it was reached.
type place struct {
	node *node
	path *path
}

// reference is a mention of a type that was not yet complete: a forward reference, or one
// from inside the type itself. Until all is read, an empty record stands in for the type.
type reference struct {
	place
	name   string
	target *Schema
}

func (p *parser) fail(n *node, at *path, format string, args ...any) *ParseError {
	return errorAt(p.text, n.offset, at, format, args...)
}

// addReference makes the named types of an already parsed schema known.
func (p *parser) addReference(ref *Schema) *ParseError {
	for _, s := range ref.Named() {
		if other := p.known[s.Name]; other != nil && !Equal(other, s) {
			return errorAt(p.text, 0, nil, "two of the referenced schemas define %s differently", s.Name)
		} else if other == nil {
			p.known[s.Name] = s
			p.settled[s] = true
		}
	}
	return nil
}

// schema reads a schema in the enclosing namespace space; "" is the null namespace.
func (p *parser) schema(n *node, space string, at *path) (*Schema, *ParseError) {
	switch n.kind {
	case kindString:
		return p.find(n.text, space, place{n, at}), nil
	case kindArray:
		return p.union(n, space, at)
	case kindObject:
	default:
		return nil, p.fail(n, at, "a schema is a type name, an object or a union, not %s", appendJSON(nil, n))
	}
	name, ok := n.string("type")
	if !ok {
		return nil, p.fail(n, at, `schema has no "type", or its "type" is not a string`)
	}
	if typ, ok := primitives[name]; ok {
		return p.withProps(&Schema{Type: typ}, n, at)
	}
	switch name {
	case "record", "error":
		return p.record(n, space, at)
	case "enum":
		return p.enum(n, space, at)
	case "fixed":
		return p.fixed(n, space, at)
	case "array", "map":
		return p.container(n, name, space, at)
	}
	return p.find(name, space, place{n.get("type"), at.key("type")}), nil
}

// find returns the type that a name means in a namespace.
func (p *parser) find(name, space string, from place) *Schema {
	if typ, ok := primitives[name]; ok {
		// Never shared: compatibility tells nodes apart by identity.
		return &Schema{Type: typ}
	}
	full := name
	if space != "" && !strings.Contains(name, ".") {
		full = space + "." + name
	}
	for _, candidate := range []string{full, name} {
		if s := p.known[candidate]; s != nil {
			return s
		}
	}
	s := &Schema{Type: Record}
	p.unknown[s] = &reference{place: from, name: full}
	return s
}

func (p *parser) union(n *node, space string, at *path) (*Schema, *ParseError) {
	s := &Schema{Type: Union, Branches: make([]*Schema, 0, len(n.elems))}
	for i, elem := range n.elems {
		branch, err := p.schema(elem, space, at.index(i))
		if err != nil {
			return nil, err
		}
		if branch.Type == Union {
			return nil, p.fail(elem, at.index(i), "a union may not directly contain another union")
		}
		s.Branches = append(s.Branches, branch)
	}
	if i := p.duplicateBranch(s); i >= 0 {
		return nil, p.fail(n.elems[i], at.index(i), "union has the type %s twice", s.Branches[i].fullName())
	}
	return s, nil
}

// duplicateBranch returns the index of the first branch whose type an earlier one has, or -1.
func (p *parser) duplicateBranch(union *Schema) int {
	seen := make(map[string]bool, len(union.Branches))
	for i, branch := range union.Branches {
		if ref := p.unknown[branch]; ref != nil {
			if ref.target == nil {
				continue // looked at again once it is known
			}
			branch = ref.target
		}
		if name := branch.fullName(); seen[name] {
			return i
		} else {
			seen[name] = true
		}
	}
	return -1
}

func (p *parser) container(n *node, typ, space string, at *path) (*Schema, *ParseError) {
	attribute := "items"
	if typ == "map" {
		attribute = "values"
	}
	inner := n.get(attribute)
	if inner == nil {
		return nil, p.fail(n, at, "%s has no %q", typ, attribute)
	}
	elem, err := p.schema(inner, space, at.key(attribute))
	if err != nil {
		return nil, err
	}
	s := &Schema{Type: Array, Items: elem}
	if typ == "map" {
		s = &Schema{Type: Map, Values: elem}
	}
	return p.withProps(s, n, at)
}

func (p *parser) record(n *node, space string, at *path) (*Schema, *ParseError) {
	s, err := p.named(Record, n, space, at)
	if err != nil {
		return nil, err
	}
	typ, _ := n.string("type")
	s.IsError = typ == "error"
	fields := n.get("fields")
	if fields == nil || fields.kind != kindArray {
		return nil, p.fail(n, at, `record %s has no array of "fields"`, s.Name)
	}
	seen := make(map[string]bool, len(fields.elems))
	for i, elem := range fields.elems {
		at := at.key("fields").index(i)
		f, err := p.field(elem, namespace(s.Name), at)
		if err != nil {
			return nil, err
		}
		if seen[f.Name] {
			return nil, p.fail(elem, at, "record %s has the field %s twice", s.Name, f.Name)
		}
		seen[f.Name] = true
		s.Fields = append(s.Fields, f)
	}
	return p.define(s, n, at)
}

func (p *parser) field(n *node, space string, at *path) (*Field, *ParseError) {
	f := &Field{Order: "ascending"}
	var ok bool
	if f.Name, ok = n.string("name"); !ok {
		return nil, p.fail(n, at, `field has no "name", or its "name" is not a string`)
	}
	if problem := checkName(f.Name); problem != "" {
		return nil, p.fail(n.get("name"), at.key("name"), "field name %q %s", f.Name, problem)
	}
	f.Doc, f.HasDoc = n.string("doc")
	typ := n.get("type")
	if typ == nil {
		return nil, p.fail(n, at, `field %s has no "type"`, f.Name)
	}
	var err *ParseError
	if f.Type, err = p.schema(typ, space, at.key("type")); err != nil {
		return nil, err
	}
	if order := n.get("order"); order != nil {
		f.Order = strings.ToLower(order.text)
		if order.kind != kindString || !slices.Contains([]string{"ascending", "descending", "ignore"}, f.Order) {
			return nil, p.fail(order, at.key("order"), "order of field %s is none of ascending, descending, ignore", f.Name)
		}
	}
	if n.get("default") != nil {
		if err := p.fieldDefault(f, place{n.get("default"), at.key("default")}); err != nil {
			return nil, err
		}
	}
	if f.Aliases, err = p.aliases(n, at); err != nil {
		return nil, err
	}
	f.Props = props(n, "default", "doc", "name", "order", "type", "aliases")
	return f, nil
}

func (p *parser) enum(n *node, space string, at *path) (*Schema, *ParseError) {
	s, err := p.named(Enum, n, space, at)
	if err != nil {
		return nil, err
	}
	symbols := n.get("symbols")
	if symbols == nil || symbols.kind != kindArray {
		return nil, p.fail(n, at, `enum %s has no array of "symbols"`, s.Name)
	}
	seen := make(map[string]bool, len(symbols.elems))
	for i, elem := range symbols.elems {
		at := at.key("symbols").index(i)
		if elem.kind != kindString {
			return nil, p.fail(elem, at, "symbol of enum %s is not a string", s.Name)
		}
		if problem := checkName(elem.text); problem != "" {
			return nil, p.fail(elem, at, "symbol %q of enum %s %s", elem.text, s.Name, problem)
		}
		if seen[elem.text] {
			return nil, p.fail(elem, at, "enum %s has the symbol %s twice", s.Name, elem.text)
		}
		seen[elem.text] = true
		s.Symbols = append(s.Symbols, elem.text)
	}
	// A default that is no string is ignored, like a doc that is none.
	if symbol, ok := n.string("default"); ok {
		if !seen[symbol] {
			return nil, p.fail(n.get("default"), at.key("default"), "default %q of enum %s is not among its symbols", symbol, s.Name)
		}
		s.EnumDefault = symbol
	}
	return p.define(s, n, at)
}

func (p *parser) fixed(n *node, space string, at *path) (*Schema, *ParseError) {
	s, err := p.named(Fixed, n, space, at)
	if err != nil {
		return nil, err
	}
	size := n.get("size")
	if size == nil {
		return nil, p.fail(n, at, `fixed %s has no "size"`, s.Name)
	}
	const longest = math.MaxInt32 - 8 // the largest array Java can make
	bytes, ok := size.integer(longest)
	if !ok || bytes < 0 {
		return nil, p.fail(size, at.key("size"), "size of fixed %s is no integer from 0 to %d", s.Name, longest)
	}
	s.Size = int(bytes)
	return p.define(s, n, at)
}

// named starts a named type: its name and doc.
func (p *parser) named(typ Type, n *node, space string, at *path) (*Schema, *ParseError) {
	name, ok := n.string("name")
	if !ok {
		return nil, p.fail(n, at, `%s has no "name", or its "name" is not a string`, typ)
	}
	if own, ok := n.string("namespace"); ok {
		space = own
	}
	s := &Schema{Type: typ, Name: qualify(name, space)}
	if problem := checkFullName(s.Name, name); problem != "" {
		return nil, p.fail(n.get("name"), at.key("name"), "%s name %q %s", typ, s.Name, problem)
	}
	s.Doc, s.HasDoc = n.string("doc")
	return s, nil
}

// define ends a named type and makes it known. The same definition given twice is one type.
func (p *parser) define(s *Schema, n *node, at *path) (*Schema, *ParseError) {
	reserved := attributes
	if s.Type == Enum {
		reserved = append(slices.Clone(attributes), "default")
	}
	s.Props = props(n, reserved...)
	if s.Type == Record {
		if err := p.checkProps(s, n, at); err != nil {
			return nil, err
		}
	}
	s.Logical = logicalType(s)
	aliases, err := p.aliases(n, at)
	if err != nil {
		return nil, err
	}
	for _, alias := range aliases {
		full := qualify(alias, namespace(s.Name))
		if problem := checkName(full[strings.LastIndexByte(full, '.')+1:]); problem != "" {
			return nil, p.fail(n.get("aliases"), at.key("aliases"), "alias %q %s", alias, problem)
		}
		if !slices.Contains(s.Aliases, full) {
			s.Aliases = append(s.Aliases, full)
		}
	}
	if other := p.known[s.Name]; other != nil {
		if !Equal(other, s) {
			return nil, p.fail(n, at, "%s is already defined differently", s.Name)
		}
		return other, nil
	}
	p.known[s.Name] = s
	p.defined = append(p.defined, s)
	return s, nil
}

func (p *parser) aliases(n *node, at *path) ([]string, *ParseError) {
	list := n.get("aliases")
	if list == nil {
		return nil, nil
	}
	if list.kind != kindArray {
		return nil, p.fail(list, at.key("aliases"), "aliases are not an array")
	}
	var aliases []string
	seen := make(map[string]bool, len(list.elems))
	for i, elem := range list.elems {
		if elem.kind != kindString {
			return nil, p.fail(elem, at.key("aliases").index(i), "alias is not a string")
		}
		if !seen[elem.text] {
			seen[elem.text] = true
			aliases = append(aliases, elem.text)
		}
	}
	return aliases, nil
}
