package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// Event is one event to be put into the outbox. AggregateType, AggregateID, a Type (which a
// Schema gives) and a Payload (or Tombstone) are required.
type Event struct {
	// ID is the event's id and the dedupe key of its consumers. Any UUID type over [16]byte
	// can be assigned. Defaults to a new UUIDv7.
	ID [16]byte

	// AggregateType is the kind of thing that the event belongs to, for example "order". It
	// names the topic, unless the relay is configured otherwise.
	AggregateType string

	// AggregateID is the thing itself and becomes the Kafka key: events with the same
	// AggregateID stay in order.
	AggregateID string

	// Type is the full name of the event's Avro record, for example "order.created". It
	// names the subject, unless the relay is configured otherwise. Defaults to the full
	// name of Schema.
	Type string

	// Schema is the writer schema by which Payload is encoded to Avro. It must have been
	// registered once by RegisterSchemas. nil means that Payload is JSON.
	Schema *Schema

	// Payload is the event itself: with a Schema a Go struct, or a pointer to one, whose
	// fields fit the schema's (what avrogen generates does); else a json.RawMessage, or any
	// value that encoding/json marshals.
	Payload any

	// Tombstone marks an event without a payload, which deletes the key in a compacted topic.
	Tombstone bool

	// Headers are Kafka headers. They win over those that the context carries. Names that
	// the relay sets itself are refused: content-type and all that begin with ce_ or
	// postrider-.
	Headers map[string]string

	// Topic overrides the topic. Defaults to what the relay is configured for.
	Topic string

	// ExpiresAt is a deadline: an event that could not be delivered before it goes to the
	// dead-letter topic. The zero time means none.
	ExpiresAt time.Time
}

// EventError says which field of which event was refused. Nothing was sent to the database.
type EventError struct {
	Index int    // of the event among the arguments of Insert
	Type  string // the event's type, where it is known
	Field string // the Event's field in lower case, for example "payload" or "aggregate_id"
	Err   error
}

func (e *EventError) Error() string {
	name := ""
	if e.Type != "" {
		name = fmt.Sprintf(" (%s)", e.Type)
	}
	return fmt.Sprintf("outbox: event %d%s: %s: %v", e.Index, name, e.Field, e.Err)
}

func (e *EventError) Unwrap() error { return e.Err }

// row is an Event as the table holds it. Empty strings and nil slices are NULL.
type row struct {
	id            [16]byte
	aggregateType string
	aggregateID   string
	eventType     string
	payload       string
	payloadAvro   []byte
	fingerprint   []byte
	headers       string
	topic         string
	expiresAt     time.Time
}

// newRow checks and encodes an event. The Index of its error is the caller's to set.
func newRow(e *Event, inherited map[string]string) (row, *EventError) {
	r := row{
		id:            e.ID,
		aggregateType: e.AggregateType,
		aggregateID:   e.AggregateID,
		eventType:     e.Type,
		topic:         e.Topic,
		expiresAt:     e.ExpiresAt.Truncate(time.Microsecond), // as Postgres keeps it
	}
	if r.id == ([16]byte{}) {
		r.id = NewID()
	}
	if r.eventType == "" && e.Schema != nil {
		r.eventType = e.Schema.name
	}
	refuse := func(field string, err error) (row, *EventError) {
		return row{}, &EventError{Type: r.eventType, Field: field, Err: err}
	}

	for _, field := range [...]struct{ name, value string }{
		{"aggregate_type", r.aggregateType},
		{"aggregate_id", r.aggregateID},
		{"type", r.eventType},
	} {
		if field.value == "" {
			return refuse(field.name, errors.New("is empty"))
		}
		if err := checkText(field.value); err != nil {
			return refuse(field.name, err)
		}
	}
	if err := checkTopic(r.topic); err != nil {
		return refuse("topic", err)
	}
	// Postgres keeps years up to 294276, and Kafka consumers read RFC 3339.
	if year := r.expiresAt.Year(); year < 1 || year > 9999 {
		return refuse("expires_at", fmt.Errorf("year %d is out of range", year))
	}

	headers := mergeHeaders(inherited, e.Headers)
	for key, value := range headers {
		if err := checkHeader(key, value); err != nil {
			return refuse("headers", err)
		}
	}
	if len(headers) > 0 {
		encoded, err := json.Marshal(headers)
		if err != nil {
			return refuse("headers", err)
		}
		r.headers = string(encoded)
	}

	if err := r.encodePayload(e); err != nil {
		return refuse("payload", err)
	}
	return r, nil
}

func (r *row) encodePayload(e *Event) error {
	if e.Tombstone {
		if e.Payload != nil {
			return errors.New("is set, but Tombstone too: a tombstone has none")
		}
		return nil
	}
	if isNil(e.Payload) {
		return errors.New("is nil: set Tombstone if that is meant")
	}
	var err error
	if e.Schema != nil {
		r.payloadAvro, err = e.Schema.Encode(e.Payload)
		r.fingerprint = e.Schema.fingerprint[:]
		return err
	}
	var text []byte
	switch v := e.Payload.(type) {
	case json.RawMessage:
		text = v
	case []byte:
		// encoding/json would make a string in base64 of it, which nobody means.
		return errors.New("is []byte: use json.RawMessage for JSON text, or set a Schema")
	default:
		if text, err = json.Marshal(v); err != nil {
			return err
		}
	}
	if !utf8.Valid(text) {
		return errors.New("is not valid UTF-8")
	}
	if !json.Valid(text) {
		return errors.New("is not valid JSON")
	}
	r.payload = string(text)
	return nil
}

func isNil(v any) bool {
	if v == nil {
		return true
	}
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		return rv.IsNil()
	}
	return false
}

// checkText refuses what a Postgres text cannot hold.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not valid UTF-8", s)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%q contains a NUL byte, which Postgres cannot store", s)
	}
	return nil
}

// checkTopic applies Kafka's rules for topic names; empty means no override.
func checkTopic(topic string) error {
	if topic == "." || topic == ".." || len(topic) > 249 {
		return fmt.Errorf("%q is not a legal topic name", topic)
	}
	for _, c := range topic {
		legal := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
		if !legal {
			return fmt.Errorf("%q is not a legal topic name: only ASCII letters, digits, '.', '_' and '-' are", topic)
		}
	}
	return nil
}

func checkHeader(key, value string) error {
	if key == "" {
		return errors.New("a header's name is empty")
	}
	if err := checkText(key); err != nil {
		return err
	}
	lower := strings.ToLower(key)
	if lower == "content-type" || strings.HasPrefix(lower, "ce_") || strings.HasPrefix(lower, "postrider-") {
		return fmt.Errorf("the relay sets %q itself: choose another name", key)
	}
	if err := checkText(value); err != nil {
		return fmt.Errorf("header %q: %w", key, err)
	}
	return nil
}
