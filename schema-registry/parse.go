package schemaregistry

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The types of schemas.
const (
	Avro       = "AVRO"
	JSONSchema = "JSON"
	Protobuf   = "PROTOBUF"
)

// format knows one type of schema.
type format interface {
	// parse reads a schema. strict is for schemas that are new: it may refuse what older
	// versions were allowed.
	parse(src *source, strict bool) (parsedSchema, error)
}

// formats has all types of schemas; that of Avro may be left out of a request.
var formats = map[string]format{Avro: avroFormat{}, JSONSchema: jsonFormat{}, Protobuf: protobufFormat{}}

// parsedSchema is a schema that was read. It never changes.
type parsedSchema interface {
	// canonical is the text that identifies the schema, normalized that with less in it that
	// tells schemas apart.
	canonical() string
	normalized() string
	// formatted is the text in another form; an unknown one means the canonical text.
	formatted(form string) string
	// same tells whether the two differ in nothing that matters. Those that are the same have
	// one likeness, which is cheap to compare; others may have it too.
	same(other parsedSchema) bool
	likeness() likeness
	// hasField tells whether it has a field of this name at its top.
	hasField(name string) bool
	// unreadable tells why what was written with writer, of the same type, cannot be read
	// with this schema. In the texts, %[1]s stands for this one and %[2]s for the writer's.
	// lenient lets pass what the policy LENIENT does. The error is a refusal to decide.
	unreadable(writer parsedSchema, lenient bool) ([]string, error)
}

// likeness is a hash.
type likeness [sha256.Size]byte

// source is a schema with the schemas that it refers to.
type source struct {
	content
	uses []usedSchema // those that others use first
}

type usedSchema struct {
	name string // by which it is referred to
	text string
}

func (s *source) formatName() string {
	if s.Type == "" {
		return Avro
	}
	return s.Type
}

// resolve finds the schemas that one of subject refers to, directly or not. It replaces the
// version Latest in its references by the number.
func (s *state) resolve(subject string, c content, deleted bool) (*source, error) {
	src := &source{content: c}
	src.References = slices.Clone(c.References)
	seen := map[string]bool{}
	var visit func(subject string, references []Reference) error
	visit = func(subject string, references []Reference) error {
		for i := range references {
			ref := &references[i]
			if ref.Name == "" || ref.Subject == "" || ref.Version == 0 {
				return src.invalid("Invalid reference: {name='%s', subject='%s', version=%d}", ref.Name, ref.Subject, ref.Version)
			}
			target := inContextOf(subject, ref.Subject)
			v, ok := s.find(target, ref.Version, deleted)
			if !ok {
				return src.invalid("No schema reference found for subject \"%s\" and version %d", target, ref.Version)
			}
			if ref.Version == Latest {
				ref.Version = v.number
			}
			if seen[ref.Name] {
				continue
			}
			seen[ref.Name] = true
			if err := visit(target, slices.Clone(v.schema.References)); err != nil {
				return err
			}
			src.uses = append(src.uses, usedSchema{ref.Name, v.schema.Text})
		}
		return nil
	}
	return src, visit(subject, src.References)
}

// invalid is the refusal of a schema.
func (s *source) invalid(format string, args ...any) error {
	return invalidSchema("Invalid schema of type %s, details: %s", s.formatName(), fmt.Sprintf(format, args...))
}

// parse reads a schema.
func (r *Registry) parse(src *source, strict bool) (parsedSchema, error) {
	format := formats[src.formatName()]
	if format == nil {
		return nil, invalidSchema("Invalid schema type %.100s", src.formatName())
	}
	return r.parsed.get(src, strict, func() (parsedSchema, error) { return format.parse(src, strict) })
}

// parseVersion reads a registered schema.
func (r *Registry) parseVersion(v view, subject string, schema *schema) (parsedSchema, error) {
	var src *source
	var err error
	v(func(s *state) { src, err = s.resolve(subject, schema.content, true) })
	if err != nil {
		return nil, err
	}
	return r.parse(src, false)
}

// likenessOf returns that of a registered schema. It is kept: every registration asks all
// versions of its subject for it.
func (r *Registry) likenessOf(v view, subject string, schema *schema) (likeness, error) {
	if known := schema.likeness.Load(); known != nil {
		return *known, nil
	}
	parsed, err := r.parseVersion(v, subject, schema)
	if err != nil {
		return likeness{}, err
	}
	found := parsed.likeness()
	schema.likeness.Store(&found)
	return found, nil
}

// identify gives a parsed schema the content that identifies it.
func (s *source) identify(parsed parsedSchema, normalize bool) content {
	c := s.content
	c.Text = parsed.canonical()
	if c.Type == Avro {
		c.Type = ""
	}
	if normalize {
		c.Text = parsed.normalized()
		c.References = slices.Clone(c.References)
		slices.SortStableFunc(c.References, func(a, b Reference) int {
			if a.Subject != b.Subject {
				return strings.Compare(a.Subject, b.Subject)
			}
			return a.Version - b.Version
		})
		c.References = slices.Compact(c.References)
	}
	return c
}

// parseCache keeps what was parsed lately: each registration and check needs the same
// schemas again.
type parseCache struct {
	entries *lru[[sha256.Size]byte, parsedSchema]
}

const (
	parsedSchemas = 256
	// largestParsed bounds the texts that are kept, so that a few huge ones cannot fill the
	// memory.
	largestParsed = 64 << 10
)

func newParseCache() *parseCache {
	return &parseCache{newLRU[[sha256.Size]byte, parsedSchema](parsedSchemas)}
}

func (c *parseCache) get(src *source, strict bool, parse func() (parsedSchema, error)) (parsedSchema, error) {
	size := len(src.Text)
	for _, used := range src.uses {
		size += len(used.text)
	}
	if size > largestParsed {
		return parse()
	}
	key := src.key(strict)
	if parsed, ok := c.entries.get(key); ok {
		return parsed, nil
	}
	parsed, err := parse()
	if err == nil {
		c.entries.put(key, parsed)
	}
	return parsed, err
}

// key covers all that parsing depends on.
func (s *source) key(strict bool) (key [sha256.Size]byte) {
	h := sha256.New()
	put := func(text string) {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
		_, _ = io.WriteString(h, text)
	}
	put(s.formatName())
	put(strconv.FormatBool(strict))
	put(s.Text)
	for _, used := range s.uses {
		put(used.name)
		put(used.text)
	}
	h.Sum(key[:0])
	return key
}
