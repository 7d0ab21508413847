package transfer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
)

// Content is what a registry knows.
type Content struct {
	Schemas []Schema // each behind those that it refers to
	Configs []Config
	Modes   []Mode
}

// Schema is one version of a subject.
type Schema struct {
	Subject    string                     `json:"subject"` // qualified where it is not of the default context
	Version    int                        `json:"version"`
	ID         int                        `json:"id"`
	Type       string                     `json:"schemaType,omitempty"` // "" is AVRO
	Schema     string                     `json:"schema"`
	References []schemaregistry.Reference `json:"references,omitempty"`
	Metadata   json.RawMessage            `json:"metadata,omitempty"`
	RuleSet    json.RawMessage            `json:"ruleSet,omitempty"`
	Deleted    bool                       `json:"deleted,omitempty"` // softly
}

// Config is the settings of a subject, of a context as ":.context:", or with "" of all.
type Config struct {
	Subject  string                     `json:"subject"`
	Settings map[string]json.RawMessage `json:"settings"` // as GET /config says them
}

// Mode is the mode of a subject, of a context, or of all.
type Mode struct {
	Subject string `json:"subject"`
	Mode    string `json:"mode"`
}

// place is where a version stands.
type place struct {
	subject string
	version int
}

func (s *Schema) place() place { return place{s.Subject, s.Version} }

// contextOf returns the context of a subject, with its dot.
func contextOf(subject string) string {
	if rest, ok := strings.CutPrefix(subject, ":."); ok {
		context, _, _ := strings.Cut(rest, ":")
		return "." + context
	}
	return "."
}

// scopeOf is the subject that stands for a whole context.
func scopeOf(context string) string {
	if context == "." {
		return ""
	}
	return ":" + context + ":"
}

// subjects returns the names of all subjects, sorted.
func (c *Content) subjects() []string {
	names := make(map[string]bool)
	for i := range c.Schemas {
		names[c.Schemas[i].Subject] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (c *Content) places() map[place]*Schema {
	places := make(map[place]*Schema, len(c.Schemas))
	for i := range c.Schemas {
		places[c.Schemas[i].place()] = &c.Schemas[i]
	}
	return places
}

func (c *Content) configs() map[string]map[string]json.RawMessage {
	configs := make(map[string]map[string]json.RawMessage)
	for _, config := range c.Configs {
		configs[config.Subject] = config.Settings
	}
	return configs
}

func (c *Content) modes() map[string]string {
	modes := make(map[string]string)
	for _, mode := range c.Modes {
		modes[mode.Subject] = mode.Mode
	}
	return modes
}

// sort puts everything in the order in which it can be taken in: by ID, which is the order
// in which it came to be, but each schema behind those that it refers to.
func (c *Content) sort() {
	slices.SortFunc(c.Schemas, func(a, b Schema) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Version, b.Version))
	})
	slices.SortFunc(c.Configs, func(a, b Config) int { return cmp.Compare(a.Subject, b.Subject) })
	slices.SortFunc(c.Modes, func(a, b Mode) int { return cmp.Compare(a.Subject, b.Subject) })

	places := c.places()
	ordered := make([]Schema, 0, len(c.Schemas))
	seen := make(map[place]bool, len(c.Schemas))
	var visit func(s *Schema)
	visit = func(s *Schema) {
		if seen[s.place()] {
			return
		}
		seen[s.place()] = true
		for _, reference := range s.References {
			// Without a context it is one of the same context.
			for _, subject := range []string{reference.Subject, scopeOf(contextOf(s.Subject)) + reference.Subject} {
				if other := places[place{subject, reference.Version}]; other != nil {
					visit(other)
				}
			}
		}
		ordered = append(ordered, *s)
	}
	for i := range c.Schemas {
		visit(&c.Schemas[i])
	}
	c.Schemas = ordered
}

// sameSchema tells whether two versions have the same schema, however it is written.
func sameSchema(a, b *Schema) bool {
	avro := func(s *Schema) bool { return s.Type == "" || strings.EqualFold(s.Type, "AVRO") }
	if avro(a) != avro(b) || !avro(a) && !strings.EqualFold(a.Type, b.Type) || !slices.Equal(a.References, b.References) {
		return false
	}
	if a.Schema == b.Schema {
		return true
	}
	if avro(a) && len(a.References) == 0 {
		parsedA, errA := avroschema.Parse(a.Schema)
		parsedB, errB := avroschema.Parse(b.Schema)
		if errA == nil && errB == nil {
			return parsedA.Canonical() == parsedB.Canonical()
		}
	}
	return sameJSON(json.RawMessage(a.Schema), json.RawMessage(b.Schema))
}

// sameJSON compares values, not their texts.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var valueA, valueB any
	if json.Unmarshal(a, &valueA) != nil || json.Unmarshal(b, &valueB) != nil {
		return false
	}
	textA, errA := json.Marshal(valueA) // with sorted keys
	textB, errB := json.Marshal(valueB)
	return errA == nil && errB == nil && bytes.Equal(textA, textB)
}
