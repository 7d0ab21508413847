package schemaregistry

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

type avroFormat struct{}

func (avroFormat) parse(src *source, strict bool) (parsedSchema, error) {
	var used []*avroschema.Schema
	for _, u := range src.uses {
		schema, err := avroschema.ParseAnyDefault(u.text, used...)
		if err != nil {
			return nil, src.invalid("reference %s: %v", u.name, err)
		}
		used = append(used, schema)
	}
	parse := avroschema.ParseAnyDefault
	if strict {
		parse = avroschema.Parse
	}
	schema, err := parse(src.Text, used...)
	if err != nil {
		return nil, src.invalid("%v", err)
	}
	return &avroParsed{schema, used, schema.Canonical(used...), sha256.Sum256([]byte(schema.Normalized()))}, nil
}

type avroParsed struct {
	schema *avroschema.Schema
	used   []*avroschema.Schema
	text   string
	like   likeness
}

func (p *avroParsed) likeness() likeness { return p.like }

func (p *avroParsed) canonical() string  { return p.text }
func (p *avroParsed) normalized() string { return p.schema.Normalized(p.used...) }

func (p *avroParsed) formatted(form string) string {
	if strings.EqualFold(form, "resolved") {
		return p.schema.Canonical()
	}
	return p.text
}

func (p *avroParsed) same(other parsedSchema) bool {
	o, ok := other.(*avroParsed)
	return ok && avroschema.Same(p.schema, o.schema)
}

func (p *avroParsed) hasField(name string) bool {
	return slices.ContainsFunc(p.schema.Fields, func(f *avroschema.Field) bool { return f.Name == name })
}

// avroDescriptions are the words of Confluent's registry; %[3]s is the path and %[4]s the
// detail.
var avroDescriptions = map[avroschema.IncompatibilityType]string{
	avroschema.FixedSizeMismatch:              "The size of FIXED type field at path '%[3]s' in the %[1]s schema does not match with the %[2]s schema",
	avroschema.TypeMismatch:                   "The type (path '%[3]s') of a field in the %[1]s schema does not match with the %[2]s schema",
	avroschema.NameMismatch:                   "The name of the schema has changed (path '%[3]s')",
	avroschema.MissingEnumSymbols:             "The %[1]s schema is missing enum symbols '%[4]s' at path '%[3]s' in the %[2]s schema",
	avroschema.MissingUnionBranch:             "The %[1]s schema is missing a type inside a union field at path '%[3]s' in the %[2]s schema",
	avroschema.ReaderFieldMissingDefaultValue: "The field '%[4]s' at path '%[3]s' in the %[1]s schema has no default value and is missing in the %[2]s schema",
}

func (p *avroParsed) unreadable(writer parsedSchema, _ bool) ([]string, error) {
	problems := avroschema.RepeatedIncompatibilities(p.schema, writer.(*avroParsed).schema)
	texts := make([]string, len(problems))
	for i, problem := range problems {
		if problem.Type == avroschema.AmbiguousField {
			texts[i] = escapePercent("Unexpected exception during compatibility check: " + problem.Detail)
			continue
		}
		description := avroDescriptions[problem.Type]
		if description == "" {
			description = escapePercent(problem.Message)
		}
		// The names of the two sides come in later.
		description = strings.NewReplacer("%[3]s", escapePercent(problem.Location), "%[4]s", escapePercent(problem.Detail)).Replace(description)
		texts[i] = fmt.Sprintf("{errorType:'%s', description:'%s', additionalInfo:'%s'}", problem.Type, description, escapePercent(problem.Detail))
	}
	return texts, nil
}

func escapePercent(text string) string { return strings.ReplaceAll(text, "%", "%%") }
