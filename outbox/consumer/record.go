package consumer

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/IBM/sarama"

	"github.com/postrider/postrider/internal/avroread"
	"github.com/postrider/postrider/outbox/inbox"
)

// headerType is the header of a record that is the event's type.
const headerType = "ce_type"

// Record is an event as it came from Kafka. It is the handler's until that returns.
type Record struct {
	// Message is the record itself, with its topic, partition, offset, key and value.
	Message *sarama.ConsumerMessage

	// ID is the event's id and dedupe key, the header ce_id.
	ID string

	// Type is the header ce_type, usually the full name of the event's Avro record.
	Type string

	// Headers are all headers; of several with one name, the last.
	Headers map[string]string

	schema *avroread.Schema // nil without a registry, and for a tombstone
}

// Key is the record's key: the aggregate's id.
func (r *Record) Key() string { return string(r.Message.Key) }

// Tombstone tells that the event has no payload: its key is deleted.
func (r *Record) Tombstone() bool { return r.Message.Value == nil }

// Decode decodes the Avro value into v, a pointer to a struct that avrogen made or to an any.
// An error means that v does not fit the schema, for the bytes do: what does not is a dead
// letter before any handler sees it. Another attempt cannot mend that, so a handler returns
// it, wrapped or not, and the event becomes a dead letter at once.
func (r *Record) Decode(v any) error {
	switch {
	case r.Tombstone():
		return coded(CodeUndecodable, "a tombstone has no value to decode: ask Tombstone first")
	case r.schema == nil:
		return errors.New("there is no registry to decode the value with: set Config.Registry")
	}
	if err := r.schema.Decode(r.Message.Value[wireHeader:], v); err != nil {
		return coded(CodeUndecodable, "decode the value: %w", err)
	}
	return nil
}

// wireHeader is the length of what stands in front of the Avro bytes in Confluent's wire
// format: a zero and the schema's ID, big-endian.
const wireHeader = 5

func schemaID(value []byte) (int, error) {
	if len(value) < wireHeader || value[0] != 0 {
		return 0, coded(CodeUndecodable, "the value is not in Confluent's wire format: it begins with %#x", value[:min(len(value), wireHeader)])
	}
	return int(binary.BigEndian.Uint32(value[1:])), nil
}

// maxID is the longest dedupe key that the inbox takes.
const maxID = 256

// read makes a Record of a message, with its schema.
func (s *session) read(msg *sarama.ConsumerMessage) (*Record, error) {
	headers := make(map[string]string, len(msg.Headers))
	for _, h := range msg.Headers {
		headers[string(h.Key)] = string(h.Value)
	}
	r := &Record{Message: msg, ID: headers[inbox.HeaderID], Type: headers[headerType], Headers: headers}
	switch {
	case r.ID == "":
		return nil, coded(CodeNoID, "the record has no header %s, by which it could be known again", inbox.HeaderID)
	case len(r.ID) > maxID || !utf8.ValidString(r.ID) || strings.IndexByte(r.ID, 0) >= 0:
		return nil, coded(CodeNoID, "the record's header %s is no id: %.64q", inbox.HeaderID, r.ID)
	}
	if s.cfg.Registry == nil || r.Tombstone() {
		return r, nil
	}
	id, err := schemaID(msg.Value)
	if err != nil {
		return nil, err
	}
	if r.schema, err = s.schemas.get(s.work, id); err != nil {
		return nil, err
	}
	if err := r.schema.Check(msg.Value[wireHeader:]); err != nil {
		return nil, coded(CodeUndecodable, "the value is none of schema %d: %w", id, err)
	}
	return r, nil
}
