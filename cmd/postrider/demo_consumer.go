package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consume reads both topics from the beginning, with another client than the relay's, and
// decodes each record by the schema that its ID names.
func (d *demo) consume(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(d.kafka.Brokers()...),
		kgo.ConsumeTopics(demoTopic, demoDeadLetter), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return fmt.Errorf("demo: consumer: %w", err)
	}
	defer client.Close()
	schemas := make(map[int]avro.Schema)
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var failed error
		fetches.EachRecord(func(r *kgo.Record) {
			if failed == nil {
				failed = d.receive(ctx, r, schemas)
			}
		})
		if failed != nil {
			return fmt.Errorf("demo: consumer: %w", failed)
		}
	}
}

func (d *demo) receive(ctx context.Context, r *kgo.Record, schemas map[int]avro.Schema) error {
	headers := make(map[string]string, len(r.Headers))
	for _, h := range r.Headers {
		headers[h.Key] = string(h.Value)
	}
	d.committing.Lock()
	defer d.committing.Unlock()
	latency := d.ledger.receive(r, headers)
	if r.Topic == demoDeadLetter {
		d.screen.deadLettered(string(r.Key), headers["ce_type"], headers["postrider-error-code"], headers["postrider-error"])
		return nil
	}
	id, text, err := d.decode(ctx, r.Value, schemas)
	if err != nil {
		return fmt.Errorf("topic %s partition %d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	d.screen.delivered(string(r.Key), headers["ce_type"], fmt.Sprintf("%s[%d]@%d  schema %d%s",
		r.Topic, r.Partition, r.Offset, id, latency), text)
	return nil
}

// decode returns the schema ID of a value in Confluent's wire format, and the value as JSON.
func (d *demo) decode(ctx context.Context, value []byte, schemas map[int]avro.Schema) (int, string, error) {
	if value == nil {
		return 0, "null (tombstone)", nil
	}
	if len(value) < 5 || value[0] != 0 {
		return 0, "", fmt.Errorf("value is not in Confluent's wire format")
	}
	id := int(binary.BigEndian.Uint32(value[1:]))
	schema := schemas[id]
	if schema == nil {
		text, err := d.registry.SchemaByID(ctx, id)
		if err != nil {
			return id, "", err
		}
		if schema, err = avro.ParseBytesWithCache([]byte(text), "", &avro.SchemaCache{}); err != nil {
			return id, "", fmt.Errorf("schema %d: %w", id, err)
		}
		schemas[id] = schema
	}
	var event any
	if err := avro.Unmarshal(schema, value[5:], &event); err != nil {
		return id, "", fmt.Errorf("decode by schema %d: %w", id, err)
	}
	text, err := json.Marshal(event)
	return id, string(text), err
}
