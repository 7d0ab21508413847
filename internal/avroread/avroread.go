// Package avroread decodes Avro values that others have written. hamba believes the lengths
// and counts that it reads, and goes as deep as the bytes tell it to: a few wrong bytes could
// take all memory, or the stack, and the process with it. So bytes are checked first.
package avroread

import "github.com/hamba/avro/v2"

// Parse parses a schema that is complete in itself. It keeps the names of one schema out of
// others, which hamba's own cache would not.
func Parse(text string) (avro.Schema, error) {
	return avro.ParseBytesWithCache([]byte(text), "", &avro.SchemaCache{})
}

// Schema decodes the values of one writer schema. It is safe for concurrent use.
type Schema struct {
	writer avro.Schema
	reader avro.Schema // what decodes: the writer's, or the reader's as the writer wrote it
}

// New returns a Schema for what writer has written, as reader sees it, with its defaults for
// what the writer did not know (Avro 1.12, "Schema Resolution"). Without a reader that is as
// it was written.
func New(writer, reader avro.Schema) (*Schema, error) {
	s := &Schema{writer: writer, reader: writer}
	if reader == nil {
		return s, nil
	}
	// A checker of its own, since a used one gives wrong answers.
	resolved, err := avro.NewSchemaCompatibility().Resolve(reader, writer)
	if err != nil {
		return nil, err
	}
	s.reader = resolved
	return s, nil
}

// Check tells whether b is one value, and nothing behind it.
func (s *Schema) Check(b []byte) error { return check(s.writer, b) }

// decoder takes strings of any length: Check has found that they are there.
var decoder = avro.Config{MaxByteSliceSize: -1}.Freeze()

// Decode decodes what Check has found to be a value into v, a pointer to a struct that
// avrogen made or to an any.
func (s *Schema) Decode(b []byte, v any) error { return decoder.Unmarshal(s.reader, b, v) }
