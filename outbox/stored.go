package outbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hamba/avro/v2"

	"github.com/postrider/postrider/internal/avroread"
)

// StoredEvent is an event that the outbox keeps.
type StoredEvent struct {
	ID            string // as in the record's header ce_id
	AggregateType string
	AggregateID   string
	Type          string
	Headers       map[string]string // the row's own, such as HeaderCorrelationID and HeaderCausationID
	Topic         string            // the override, usually empty
	ExpiresAt     time.Time         // zero for none
	CreatedAt     time.Time         // when its transaction began, by the database's clock

	json    string // empty for Avro and for a tombstone
	avro    []byte // nil for JSON and for a tombstone
	schema  string // of avro; empty if it is not in the table
	schemas *storedSchemas
}

// Tombstone tells that the event has no payload.
func (e *StoredEvent) Tombstone() bool { return e.json == "" && e.avro == nil }

// Decode decodes the payload into v: one in Avro, by the schema that it was written with, into
// a pointer to a struct that avrogen made or to an any; one in JSON into whatever encoding/json
// takes, with json.Number for the numbers in an any. A tombstone is an error.
func (e *StoredEvent) Decode(v any) error { return e.decode(nil, v) }

// DecodeAs is Decode for old events and new code: a payload in Avro is decoded as reader sees
// it, the schema that v was generated from, with its defaults for what the writer did not know
// (Avro 1.12, "Schema Resolution").
func (e *StoredEvent) DecodeAs(reader *Schema, v any) error { return e.decode(reader, v) }

func (e *StoredEvent) decode(reader *Schema, v any) error {
	var err error
	switch {
	case e.Tombstone():
		err = errors.New("a tombstone has no payload: ask Tombstone first")
	case e.avro == nil:
		d := json.NewDecoder(bytes.NewReader([]byte(e.json)))
		d.UseNumber() // a long does not fit a float64
		err = d.Decode(v)
	case e.schema == "":
		err = errors.New("its schema is not in the database: it has been deleted there")
	default:
		err = e.decodeAvro(reader, v)
	}
	if err != nil {
		return fmt.Errorf("outbox: decode event %s (%s): %w", e.ID, e.Type, err)
	}
	return nil
}

func (e *StoredEvent) decodeAvro(reader *Schema, v any) error {
	schema, err := e.schemas.get(e.schema, reader)
	if err != nil {
		return fmt.Errorf("its schema: %w", err)
	}
	if err := schema.Check(e.avro); err != nil {
		return fmt.Errorf("the payload is none of its schema: %w", err)
	}
	return schema.Decode(e.avro, v)
}

func scanStored(rows storedRows) (e StoredEvent, err error) {
	var payload, schema, headers, topic *string
	var expiresAt *time.Time
	err = rows.Scan(&e.ID, &e.AggregateType, &e.AggregateID, &e.Type, &payload, &e.avro, &schema, &headers, &topic, &expiresAt, &e.CreatedAt)
	if err != nil {
		return e, err
	}
	if headers != nil {
		if err := json.Unmarshal([]byte(*headers), &e.Headers); err != nil {
			return e, fmt.Errorf("headers of event %s: %w", e.ID, err)
		}
	}
	for _, text := range [...]struct {
		from *string
		to   *string
	}{{payload, &e.json}, {schema, &e.schema}, {topic, &e.Topic}} {
		if text.from != nil {
			*text.to = *text.from
		}
	}
	if expiresAt != nil {
		e.ExpiresAt = *expiresAt
	}
	return e, nil
}

// storedSchemas are the schemas of the events of one query, each parsed once.
type storedSchemas struct {
	mu   sync.Mutex
	made map[storedSchema]*avroread.Schema
}

type storedSchema struct {
	writer string
	reader *Schema
}

func (s *storedSchemas) get(text string, reader *Schema) (*avroread.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := storedSchema{text, reader}
	if known := s.made[key]; known != nil {
		return known, nil
	}
	writer, err := avroread.Parse(text)
	if err != nil {
		return nil, err
	}
	var as avro.Schema
	if reader != nil {
		as = reader.encoders.schema
	}
	made, err := avroread.New(writer, as)
	if err != nil {
		return nil, err
	}
	if s.made == nil {
		s.made = map[storedSchema]*avroread.Schema{}
	}
	s.made[key] = made
	return made, nil
}
