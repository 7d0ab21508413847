package schemaregistry

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// jsonKind says what a JSON Schema is for the comparison with another: what its type or, where
// it names none, its attributes make of it.
type jsonKind int

const (
	jsonEmpty jsonKind = iota // takes anything
	jsonTrue
	jsonFalse
	jsonString
	jsonNumber
	jsonBoolean
	jsonNull
	jsonArray
	jsonObject
	jsonEnum
	jsonConst
	jsonNot
	jsonConditional
	jsonCombined
)

// jsonNode is one schema of a document.
type jsonNode struct {
	kind       jsonKind
	attributes map[string]any // as they are written
	from       string         // the attribute or the type that makes it one of its kind

	combination string      // allOf, anyOf or oneOf
	parts       []*jsonNode // of a combination, or of a tuple

	inner      *jsonNode            // what must not be, or what each item is
	additional *jsonNode            // what other properties or items are, nil where nothing says so
	properties map[string]*jsonNode // of an object
	patterns   []jsonPattern
	dependent  map[string]*jsonNode // what an object with a property must be

	target *jsonNode // what a reference leads to; nothing else counts then
}

type jsonPattern struct {
	name *regexp.Regexp
	node *jsonNode
}

// The attributes that make a schema without a type one of a kind.
var (
	jsonArrayAttributes  = []string{"items", "additionalItems", "minItems", "maxItems", "uniqueItems"}
	jsonObjectAttributes = []string{"properties", "required", "minProperties", "maxProperties", "dependencies",
		"patternProperties", "additionalProperties"}
	jsonNumberAttributes = []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
	jsonStringAttributes = []string{"minLength", "maxLength", "pattern", "format"}
)

// loadObject makes a node of the attributes of a schema. Several kinds in one schema are a
// combination of all of them.
func (l *jsonLoader) loadObject(attributes map[string]any, in *jsonDocument) (*jsonNode, error) {
	builder := &jsonBuilder{jsonLoader: l, in: in, attributes: attributes, left: maps.Clone(attributes)}
	nodes, err := builder.build()
	if err != nil {
		return nil, err
	}
	switch len(nodes) {
	case 0:
		return &jsonNode{kind: jsonEmpty, attributes: attributes}, nil
	case 1:
		return nodes[0], nil
	}
	return &jsonNode{kind: jsonCombined, attributes: attributes, combination: "allOf", parts: nodes}, nil
}

// jsonBuilder makes nodes of one schema's attributes.
type jsonBuilder struct {
	*jsonLoader
	in         *jsonDocument
	attributes map[string]any
	left       map[string]any // the attributes that no node has taken yet
}

func (b *jsonBuilder) build() (nodes []*jsonNode, err error) {
	add := func(node *jsonNode, problem error) {
		if err == nil {
			err = problem
		}
		nodes = append(nodes, node)
	}
	if _, ok := b.left["enum"]; ok {
		add(b.node(jsonEnum, "enum"), nil)
	}
	for _, combination := range []string{"allOf", "anyOf", "oneOf"} {
		if list, ok := b.left[combination].([]any); ok {
			add(b.combined(combination, list))
		}
	}
	if not, ok := b.left["not"]; ok {
		inner, problem := b.load(not, b.in)
		node := b.node(jsonNot, "not")
		node.inner = inner
		add(node, problem)
	}
	if _, ok := b.left["const"]; ok && b.draft > 4 {
		add(b.node(jsonConst, "const"), nil)
	}
	switch types := b.left["type"].(type) {
	case string:
		add(b.ofType(types))
	case []any:
		add(b.ofTypes(types))
	}
	for _, sniffed := range b.sniff() {
		add(b.ofKind(sniffed, ""))
	}
	return nodes, err
}

func (b *jsonBuilder) node(kind jsonKind, from string) *jsonNode {
	return &jsonNode{kind: kind, attributes: b.attributes, from: from}
}

func (b *jsonBuilder) combined(combination string, list []any) (*jsonNode, error) {
	node := b.node(jsonCombined, combination)
	node.combination = combination
	for _, value := range list {
		part, err := b.load(value, b.in)
		if err != nil {
			return nil, err
		}
		node.parts = append(node.parts, part)
	}
	return node, nil
}

var jsonTypes = map[string]jsonKind{
	"string": jsonString, "integer": jsonNumber, "number": jsonNumber, "boolean": jsonBoolean, "null": jsonNull,
	"array": jsonArray, "object": jsonObject,
}

func (b *jsonBuilder) ofType(name string) (*jsonNode, error) {
	kind, ok := jsonTypes[name]
	if !ok {
		return nil, fmt.Errorf("the type is %q", name)
	}
	return b.ofKind(kind, name)
}

// ofTypes is any of several types.
func (b *jsonBuilder) ofTypes(list []any) (*jsonNode, error) {
	node := b.node(jsonCombined, "type")
	node.combination = "anyOf"
	for _, value := range list {
		name, _ := value.(string)
		part, err := b.ofType(name)
		if err != nil {
			return nil, err
		}
		node.parts = append(node.parts, part)
	}
	return node, nil
}

// sniff returns the kinds that the attributes are about that nothing has taken.
func (b *jsonBuilder) sniff() (kinds []jsonKind) {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { _, ok := b.left[name]; return ok })
	}
	if has(jsonArrayAttributes...) || b.draft > 4 && has("contains") {
		kinds = append(kinds, jsonArray)
	}
	if has(jsonObjectAttributes...) || b.draft > 4 && has("propertyNames") {
		kinds = append(kinds, jsonObject)
	}
	if has(jsonNumberAttributes...) {
		kinds = append(kinds, jsonNumber)
	}
	if has(jsonStringAttributes...) {
		kinds = append(kinds, jsonString)
	}
	if b.draft >= 7 && has("if", "then", "else") {
		kinds = append(kinds, jsonConditional)
	}
	return kinds
}

// ofKind takes the attributes of a kind.
func (b *jsonBuilder) ofKind(kind jsonKind, from string) (*jsonNode, error) {
	node := b.node(kind, from)
	take := func(names []string) {
		for _, name := range names {
			delete(b.left, name)
		}
	}
	switch kind {
	case jsonString:
		take(jsonStringAttributes)
	case jsonNumber:
		take(jsonNumberAttributes)
	case jsonArray:
		take(jsonArrayAttributes)
		take([]string{"contains"})
		return node, b.fillArray(node)
	case jsonObject:
		take(jsonObjectAttributes)
		take([]string{"propertyNames"})
		return node, b.fillObject(node)
	}
	return node, nil
}

func (b *jsonBuilder) fillArray(node *jsonNode) (err error) {
	switch items := b.attributes["items"].(type) {
	case []any:
		for _, item := range items {
			part, err := b.load(item, b.in)
			if err != nil {
				return err
			}
			node.parts = append(node.parts, part)
		}
	case nil:
	default:
		if node.inner, err = b.load(items, b.in); err != nil {
			return err
		}
	}
	node.additional, err = b.other("additionalItems")
	return err
}

func (b *jsonBuilder) fillObject(node *jsonNode) (err error) {
	if node.properties, err = b.loadMembers("properties"); err != nil {
		return err
	}
	patterns, err := b.loadMembers("patternProperties")
	if err != nil {
		return err
	}
	for _, text := range slices.Sorted(maps.Keys(patterns)) {
		name, err := regexp.Compile(text)
		if err != nil {
			return err
		}
		node.patterns = append(node.patterns, jsonPattern{name, patterns[text]})
	}
	if node.dependent, err = b.loadMembers("dependencies"); err != nil {
		return err
	}
	node.additional, err = b.other("additionalProperties")
	return err
}

// other is the schema of all else; a boolean is none.
func (b *jsonBuilder) other(attribute string) (*jsonNode, error) {
	attributes, ok := b.attributes[attribute].(map[string]any)
	if !ok {
		return nil, nil
	}
	return b.load(attributes, b.in)
}

// loadMembers makes nodes of the schemas in an attribute, by their names. What is a list of
// names instead is left out.
func (b *jsonBuilder) loadMembers(attribute string) (map[string]*jsonNode, error) {
	members, _ := b.attributes[attribute].(map[string]any)
	nodes := make(map[string]*jsonNode, len(members))
	for name, value := range members {
		if _, list := value.([]any); list {
			continue
		}
		node, err := b.load(value, b.in)
		if err != nil {
			return nil, err
		}
		nodes[name] = node
	}
	return nodes, nil
}

// resolve follows references.
func (n *jsonNode) resolve() *jsonNode {
	const deepest = 100 // one that leads to itself has no end
	for range deepest {
		if n == nil || n.target == nil {
			break
		}
		n = n.target
	}
	return n
}

// number returns an attribute that is a number.
func (n *jsonNode) number(attribute string) (json.Number, bool) {
	value, ok := n.attributes[attribute].(json.Number)
	return value, ok
}

// permitsMore tells whether there may be other items or properties than those that are named.
func (n *jsonNode) permitsMore() bool {
	if n.kind == jsonArray {
		return n.attributes["additionalItems"] != false || n.inner != nil
	}
	return n.attributes["additionalProperties"] != false
}

// open tells whether all that is not named may be anything.
func (n *jsonNode) open() bool {
	return len(n.patterns) == 0 && n.additional == nil && n.permitsMore()
}

// other returns the schema of a property that is not named; nil means that there is none.
func (n *jsonNode) other(property string) *jsonNode {
	for _, p := range n.patterns {
		if p.name.MatchString(property) {
			return p.node
		}
	}
	return n.additional
}

// jsonNames returns the members of a list of names.
func jsonNames(list any) map[string]bool {
	values, _ := list.([]any)
	names := make(map[string]bool, len(values))
	for _, value := range values {
		if name, ok := value.(string); ok {
			names[name] = true
		}
	}
	return names
}
