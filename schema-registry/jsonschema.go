package schemaregistry

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

type jsonFormat struct{}

// jsonRoot is the URL of a schema that has no $id; references are relative to it.
const jsonRoot = "registry:///schema.json"

func (jsonFormat) parse(src *source, _ bool) (parsedSchema, error) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(src.Text))
	if err != nil {
		return nil, src.invalid("%v", err)
	}
	used := jsonReferences{}
	bareUsed := map[string]any{}
	for _, u := range src.uses {
		if used[u.name], err = jsonschema.UnmarshalJSON(strings.NewReader(u.text)); err != nil {
			return nil, src.invalid("reference %s: %v", u.name, err)
		}
		bareUsed[u.name] = withoutAnnotations(used[u.name])
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	compiler.UseLoader(used)
	if err := compiler.AddResource(jsonRoot, doc); err != nil {
		return nil, src.invalid("%v", err)
	}
	if _, err := compiler.Compile(jsonRoot); err != nil {
		return nil, src.invalid("%v", err)
	}
	text, err := canonicalJSON(src.Text)
	if err != nil {
		return nil, src.invalid("%v", err)
	}
	sorted, err := encode(doc) // which sorts attributes
	if err != nil {
		return nil, src.invalid("%v", err)
	}
	bare, err := encode([]any{withoutAnnotations(doc), bareUsed})
	if err != nil {
		return nil, src.invalid("%v", err)
	}
	return &jsonParsed{text, string(sorted), string(bare), doc, used}, nil
}

// canonicalJSON writes a text without white space and with nothing escaped that need not be.
// Attributes and numbers stay as they are.
func canonicalJSON(text string) (string, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(text)); err != nil {
		return "", err
	}
	rest := compact.Bytes()
	var b strings.Builder
	for {
		start := bytes.IndexByte(rest, '"')
		if start < 0 || bytes.IndexByte(rest, '\\') < 0 {
			b.Write(rest)
			return b.String(), nil
		}
		b.Write(rest[:start])
		end := start + 1
		for rest[end] != '"' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}
		literal := rest[start : end+1]
		rest = rest[end+1:]
		var value string
		if err := json.Unmarshal(literal, &value); err != nil {
			return "", err
		}
		if !strings.ContainsRune(value, utf8.RuneError) { // which half a character would become
			var err error
			if literal, err = encode(value); err != nil {
				return "", err
			}
		}
		b.Write(literal)
	}
}

// jsonReferences finds a schema by the name of a reference: it is the URL, or its end where
// the schema that refers has a URL of its own. Nothing is loaded from elsewhere.
type jsonReferences map[string]any

func (r jsonReferences) Load(target string) (any, error) {
	if doc, ok := r[target]; ok {
		return doc, nil
	}
	u, err := url.Parse(target)
	for name, doc := range r {
		if err == nil && strings.HasSuffix(u.Path, "/"+name) {
			return doc, nil
		}
	}
	return nil, fmt.Errorf("there is no reference of the name %q", target)
}

// withoutAnnotations drops what says nothing of the data.
func withoutAnnotations(doc any) any {
	switch doc := doc.(type) {
	case map[string]any:
		bare := make(map[string]any, len(doc))
		for name, value := range doc {
			switch name {
			case "properties", "patternProperties", "definitions", "$defs", "dependencies", "dependentSchemas":
				bare[name] = byName(value)
			case "title", "description", "$comment", "examples", "default", "readOnly", "writeOnly", "deprecated":
			case "const", "enum":
				bare[name] = value
			default:
				bare[name] = withoutAnnotations(value)
			}
		}
		return bare
	case []any:
		bare := make([]any, len(doc))
		for i, value := range doc {
			bare[i] = withoutAnnotations(value)
		}
		return bare
	}
	return doc
}

// byName is an object whose attributes are names that the schema's author has chosen.
func byName(value any) any {
	members, ok := value.(map[string]any)
	if !ok {
		return value
	}
	bare := make(map[string]any, len(members))
	for name, member := range members {
		bare[name] = withoutAnnotations(member)
	}
	return bare
}

type jsonParsed struct {
	text   string
	sorted string
	bare   string // sorted, without annotations, and with what it refers to
	doc    any
	used   jsonReferences
}

func (p *jsonParsed) canonical() string       { return p.text }
func (p *jsonParsed) normalized() string      { return p.sorted }
func (p *jsonParsed) formatted(string) string { return p.text }
func (p *jsonParsed) likeness() likeness      { return sha256.Sum256([]byte(p.sorted)) }

func (p *jsonParsed) same(other parsedSchema) bool {
	o, ok := other.(*jsonParsed)
	return ok && p.sorted == o.sorted
}

func (p *jsonParsed) hasField(name string) bool {
	attributes, _ := p.doc.(map[string]any)
	properties, _ := attributes["properties"].(map[string]any)
	_, ok := properties[name]
	return ok
}

// unreadable refuses to decide what the rules do not cover: a wrong answer would break
// consumers.
func (p *jsonParsed) unreadable(writer parsedSchema, lenient bool) ([]string, error) {
	other := writer.(*jsonParsed)
	if p.bare == other.bare {
		return nil, nil
	}
	problems, err := p.changesFrom(other)
	if err != nil {
		return nil, notPermitted("Whether these JSON Schemas are compatible is not decided by this registry (%v). "+
			"Compare them yourself, and set the subject's compatibility to NONE to register", err)
	}
	var texts []string
	for _, problem := range problems {
		if !lenient || !jsonLenient[problem.change] {
			texts = append(texts, problem.String())
		}
	}
	return texts, nil
}

// changesFrom returns the changes from another schema to this one that do harm.
func (p *jsonParsed) changesFrom(other *jsonParsed) ([]jsonProblem, error) {
	old, err := loadJSONSchema(other.doc, other.used)
	if err != nil {
		return nil, err
	}
	updated, err := loadJSONSchema(p.doc, p.used)
	if err != nil {
		return nil, err
	}
	return compareJSONSchemas(old, updated)
}
