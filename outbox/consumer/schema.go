package consumer

import (
	"context"
	"fmt"
	"sync"

	"github.com/hamba/avro/v2"

	"github.com/postrider/postrider/outbox"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// schemas are the schemas by which values are decoded, each made once.
type schemas struct {
	registry *schemaregistry.Client
	readers  map[string]avro.Schema // by full name

	mu   sync.Mutex
	byID map[int]*schema
}

func newSchemas(registry *schemaregistry.Client, readers []*outbox.Schema) (*schemas, error) {
	s := &schemas{registry: registry, readers: map[string]avro.Schema{}, byID: map[int]*schema{}}
	for _, reader := range readers {
		parsed, err := parse(reader.Text())
		if err != nil {
			return nil, fmt.Errorf("schema %s: %w", reader.Name(), err)
		}
		if s.readers[reader.Name()] != nil {
			return nil, fmt.Errorf("there are two schemas with the name %s", reader.Name())
		}
		s.readers[reader.Name()] = parsed
	}
	return s, nil
}

// parse keeps the names of one schema out of others, which hamba's own cache would not.
func parse(text string) (avro.Schema, error) {
	return avro.ParseBytesWithCache([]byte(text), "", &avro.SchemaCache{})
}

// get returns the schema that an ID stands for. Only the first time it asks the registry.
func (s *schemas) get(ctx context.Context, id int) (*schema, error) {
	s.mu.Lock()
	known := s.byID[id]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	text, err := s.registry.SchemaByID(ctx, id)
	switch {
	case schemaregistry.IsNotFound(err):
		return nil, coded(CodeSchemaNotFound, "%w", err)
	case err != nil:
		// Also wrong credentials and the like: nothing that the event can be blamed for.
		return nil, &troubleError{err}
	}
	made, err := s.resolve(text)
	if err != nil {
		return nil, coded(CodeUndecodable, "schema %d: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[id] = made
	return made, nil
}

func (s *schemas) resolve(text string) (*schema, error) {
	writer, err := parse(text)
	if err != nil {
		return nil, err
	}
	made := &schema{writer: writer, reader: writer}
	named, ok := writer.(avro.NamedSchema)
	if !ok || s.readers[named.FullName()] == nil {
		return made, nil
	}
	// A checker of its own, since a used one gives wrong answers.
	made.reader, err = avro.NewSchemaCompatibility().Resolve(s.readers[named.FullName()], writer)
	return made, err
}

// schema decodes the values of one writer schema.
type schema struct {
	writer avro.Schema
	reader avro.Schema // what decodes: the writer's, or the handler's as the writer wrote it
}

// decoder takes strings of any length: check has found that they are there.
var decoder = avro.Config{MaxByteSliceSize: -1}.Freeze()

// decode decodes what check has found to be a value.
func (s *schema) decode(b []byte, v any) error {
	if err := decoder.Unmarshal(s.reader, b, v); err != nil {
		return coded(CodeUndecodable, "decode the value: %w", err)
	}
	return nil
}
