package torture

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/relay"
)

// auditSilence is how long an audit may receive nothing before it gives up.
const auditSilence = 30 * time.Second

// finding is one record of a topic.
type finding struct {
	id        string
	partition partition
	offset    int64
	at        time.Time // of the append, by the broker
	key       string
	value     [sha256.Size]byte
	position  relay.Position
	dead      string // why it is in the dead-letter topic; empty elsewhere
	parked    bool   // it waits there and is to be published later
	claim     claim
	fault     string // what is wrong with the record itself; empty for nothing
}

// claim is what the value of a record says about itself.
type claim struct {
	key         string
	version, tx int64
}

// audit reads all topics from offset 0 to their present ends, to which nobody writes any
// more, each partition in its order.
func (a *Arena) audit(ctx context.Context) ([]finding, error) {
	topics := a.allTopics()
	ends, err := readEnds(ctx, a.admin, topics)
	if err != nil {
		return nil, fmt.Errorf("read the ends of the topics: %w", err)
	}
	client, err := newReader(a.brokers, topics)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var findings []finding
	for p, end := range ends {
		if end == 0 {
			delete(ends, p)
		}
	}
	for len(ends) > 0 {
		poll, cancel := context.WithTimeout(ctx, auditSilence)
		fetches := client.PollFetches(poll)
		cancel()
		if poll.Err() != nil && fetches.NumRecords() == 0 {
			return nil, fmt.Errorf("read the topics to their ends: %d partitions are left: %w", len(ends), poll.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := partition{r.Topic, r.Partition}
			if header(r, "postrider-released") == "" { // that is no event: it releases parked ones
				findings = append(findings, a.examine(r))
			}
			if r.Offset+1 >= ends[p] {
				delete(ends, p)
			}
		})
	}
	return findings, nil
}

// examine reads one record.
func (a *Arena) examine(r *kgo.Record) finding {
	f := finding{
		id: header(r, "ce_id"), partition: partition{r.Topic, r.Partition}, offset: r.Offset, at: r.Timestamp,
		key: string(r.Key), value: sha256.Sum256(r.Value),
	}
	var err error
	if f.position, err = relay.ParsePosition(header(r, "postrider-position")); err != nil {
		f.fault = err.Error()
		return f
	}
	required := []string{"ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type", txHeader}
	if r.Topic == a.deadLetters {
		f.dead = header(r, "postrider-error-code")
		f.parked = header(r, "postrider-parked") != ""
		required = append(required, "postrider-error-code", "postrider-error", "postrider-topic", "postrider-lsn", "postrider-xid")
	}
	var lacks []string
	for _, name := range required {
		if header(r, name) == "" {
			lacks = append(lacks, name)
		}
	}
	switch {
	case len(lacks) > 0:
		f.fault = "headers are missing: " + strings.Join(lacks, ", ")
	case header(r, "ce_specversion") != "1.0":
		f.fault = "ce_specversion is not 1.0"
	case header(r, "ce_subject") != f.key:
		f.fault = "ce_subject is not the key"
	case f.dead == "":
		if f.claim, err = a.registry.decode(r.Value); err != nil {
			f.fault = err.Error()
		}
	}
	return f
}

// decode decodes a record by the schema that it names, in Confluent's wire format.
func (r *registry) decode(value []byte) (c claim, err error) {
	if len(value) < 5 || value[0] != 0 {
		return c, fmt.Errorf("the value does not begin with 0 and a schema id: %x", value[:min(len(value), 8)])
	}
	schema, err := r.schema(int32(binary.BigEndian.Uint32(value[1:])))
	if err != nil {
		return c, err
	}
	var record map[string]any
	rest, err := schema.Decode(bytes.Clone(value[5:]), &record)
	if err == nil && len(rest) > 0 {
		err = errors.New("bytes are left over")
	}
	if err != nil {
		return c, err
	}
	// What is missing stays zero, and is found out by the comparison with the ledger.
	c.key, _ = record["key"].(string)
	c.version, _ = record["version"].(int64)
	c.tx, _ = record["tx"].(int64)
	return c, nil
}
