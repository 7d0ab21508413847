package schemaregistry

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// jsonDocument is a text in which references are looked up.
type jsonDocument struct {
	root any
	base *url.URL
}

// jsonLoader makes nodes of the documents of one schema. What it does not know for sure, it
// says.
type jsonLoader struct {
	used    jsonReferences
	targets map[jsonTarget]*jsonNode
	draft   int
}

type jsonTarget struct {
	document *jsonDocument
	pointer  string
}

// loadJSONSchema makes nodes of a schema. It must be valid.
func loadJSONSchema(root any, used jsonReferences) (*jsonNode, error) {
	l := &jsonLoader{used: used, targets: map[jsonTarget]*jsonNode{}, draft: 7}
	document, err := newJSONDocument(root, jsonRoot)
	if err != nil {
		return nil, err
	}
	if attributes, ok := root.(map[string]any); ok {
		if name, ok := attributes["$schema"].(string); ok {
			if l.draft, ok = jsonDraft(name); !ok {
				return nil, fmt.Errorf("$schema is %q", name)
			}
		}
	}
	return l.load(root, document)
}

// jsonDraft knows the drafts in which an attribute means the same whatever stands beside it.
func jsonDraft(name string) (int, bool) {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "http://"), "https://")
	for prefix, draft := range map[string]int{
		"json-schema.org/draft-04/schema": 4, "json-schema.org/schema": 4,
		"json-schema.org/draft-06/schema": 6, "json-schema.org/draft-07/schema": 7,
	} {
		if strings.HasPrefix(name, prefix) {
			return draft, true
		}
	}
	return 0, false
}

func newJSONDocument(root any, location string) (*jsonDocument, error) {
	base, err := url.Parse(location)
	if err != nil {
		return nil, err
	}
	attributes, _ := root.(map[string]any)
	for _, name := range []string{"$id", "id"} {
		if id, ok := attributes[name].(string); ok {
			if base, err = base.Parse(id); err != nil {
				return nil, err
			}
			break
		}
	}
	return &jsonDocument{root, base}, nil
}

func (l *jsonLoader) load(value any, in *jsonDocument) (*jsonNode, error) {
	switch value := value.(type) {
	case bool:
		if value {
			return &jsonNode{kind: jsonTrue}, nil
		}
		return &jsonNode{kind: jsonFalse}, nil
	case map[string]any:
		if ref, ok := value["$ref"].(string); ok {
			target, err := l.lookUp(ref, in)
			return &jsonNode{attributes: value, from: "$ref", target: target}, err
		}
		return l.loadObject(value, in)
	}
	return nil, fmt.Errorf("a schema is %T", value)
}

// lookUp finds what a reference leads to. Two references to the same place lead to one node.
func (l *jsonLoader) lookUp(ref string, in *jsonDocument) (*jsonNode, error) {
	location, fragment, _ := strings.Cut(ref, "#")
	document := in
	if location != "" {
		target, err := in.base.Parse(location)
		if err != nil {
			return nil, err
		}
		if target.String() != in.base.String() {
			if document, err = l.document(target.String(), location); err != nil {
				return nil, err
			}
		}
	}
	at := jsonTarget{document, fragment}
	if known := l.targets[at]; known != nil {
		return known, nil
	}
	value, err := followPointer(document.root, fragment)
	if err != nil {
		return nil, fmt.Errorf("$ref %q: %w", ref, err)
	}
	node := &jsonNode{}
	l.targets[at] = node // it may lead back to itself
	loaded, err := l.load(value, document)
	if err != nil {
		return nil, err
	}
	*node = *loaded
	return node, nil
}

// document finds a text by its absolute location or as it was written.
func (l *jsonLoader) document(absolute, written string) (*jsonDocument, error) {
	for at := range l.targets {
		if at.document.base.String() == absolute {
			return at.document, nil
		}
	}
	for _, name := range []string{absolute, written} {
		if root, err := l.used.Load(name); err == nil {
			return newJSONDocument(root, absolute)
		}
	}
	return nil, fmt.Errorf("$ref %q leads to a part that has a location of its own", written)
}

// followPointer follows a JSON pointer (RFC 6901) that is the fragment of a URL.
func followPointer(value any, fragment string) (any, error) {
	pointer, err := url.PathUnescape(fragment)
	if err != nil {
		return nil, err
	}
	if pointer == "" || pointer == "/" {
		return value, nil
	}
	if pointer[0] != '/' {
		return nil, fmt.Errorf("%q is a name, not a pointer", pointer)
	}
	for step := range strings.SplitSeq(pointer[1:], "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch container := value.(type) {
		case map[string]any:
			value = container[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(container) {
				return nil, fmt.Errorf("nothing is at %q", pointer)
			}
			value = container[i]
		default:
			return nil, fmt.Errorf("nothing is at %q", pointer)
		}
	}
	return value, nil
}
