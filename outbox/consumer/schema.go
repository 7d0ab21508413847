package consumer

import (
	"context"
	"fmt"
	"sync"

	"github.com/hamba/avro/v2"

	"github.com/postrider/postrider/internal/avroread"
	"github.com/postrider/postrider/outbox"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// schemas are the schemas by which values are decoded, each made once.
type schemas struct {
	registry *schemaregistry.Client
	readers  map[string]avro.Schema // by full name

	mu   sync.Mutex
	byID map[int]*avroread.Schema
}

func newSchemas(registry *schemaregistry.Client, readers []*outbox.Schema) (*schemas, error) {
	s := &schemas{registry: registry, readers: map[string]avro.Schema{}, byID: map[int]*avroread.Schema{}}
	for _, reader := range readers {
		parsed, err := avroread.Parse(reader.Text())
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

// get returns the schema that an ID stands for. Only the first time it asks the registry.
func (s *schemas) get(ctx context.Context, id int) (*avroread.Schema, error) {
	s.mu.Lock()
	known := s.byID[id]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	text, err := s.registry.SchemaByID(ctx, id)
	switch {
	case schemaregistry.IsNotFound(err):
		return nil, coded(CodeSchemaNotFound, "%w: is %s the registry that the writer uses?", err, s.registry.Servers())
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

func (s *schemas) resolve(text string) (*avroread.Schema, error) {
	writer, err := avroread.Parse(text)
	if err != nil {
		return nil, err
	}
	var reader avro.Schema // nil: as it was written
	if named, ok := writer.(avro.NamedSchema); ok {
		reader = s.readers[named.FullName()]
	}
	return avroread.New(writer, reader)
}
