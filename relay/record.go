package relay

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	ceSpecVersion = "ce_specversion"
	ceID          = "ce_id"
	ceType        = "ce_type"
	ceSource      = "ce_source"
	ceSubject     = "ce_subject"
	ceTime        = "ce_time"
	contentType   = "content-type"
)

// sharedHeaders are what the headers of many records have in common, as it travels.
type sharedHeaders struct {
	context                           []byte // two headers: spec version and source
	contentAvro, contentJSON          []byte // headers
	kind, subject, id, time, position []byte // names
}

func newSharedHeaders(cfg *Config) sharedHeaders {
	texts := func(texts ...string) (b []byte) {
		for _, text := range texts {
			b = appendText(b, text)
		}
		return b
	}
	return sharedHeaders{
		context:     texts(ceSpecVersion, "1.0", ceSource, cfg.Outbox.Source),
		contentAvro: texts(contentType, "application/avro"),
		contentJSON: texts(contentType, "application/json"),
		kind:        texts(ceType),
		subject:     texts(ceSubject),
		id:          texts(ceID),
		time:        texts(ceTime),
		position:    texts(headerPosition),
	}
}

// reserved are the header names that a row may not bring itself.
var reserved = map[string]bool{
	ceSpecVersion: true, ceID: true, ceType: true, ceSource: true, ceSubject: true, ceTime: true,
	contentType: true, headerPosition: true,
	headerParked: true, headerReleased: true, headerReplayed: true, headerSystem: true, headerErrorCode: true, headerError: true,
}

// cloudEvent adds the headers of CloudEvents' Kafka binding in binary mode, but for the
// content type (CloudEvents Kafka Protocol Binding 1.0.2, section 3.2), and returns where the
// event's id stands. What many records have in common stands together: to the compression it
// is one repetition, not several.
func (e *Encoder) cloudEvent(b *block, ev *Event) (id span) {
	b.encoded(e.shared.context, 2)
	b.named(e.shared.kind, ev.Type)
	b.named(e.shared.subject, ev.AggregateID)
	id = b.named(e.shared.id, ev.ID)
	const about = len(time.RFC3339Nano)
	start := b.openNamed(e.shared.time, about)
	b.bytes = appendTime(b.bytes, ev.CreatedAt, e.commit)
	b.close(start, about)
	return id
}

// rowHeaders adds the headers of the row.
func (e *Encoder) rowHeaders(b *block, ev *Event) error {
	for _, h := range ev.Headers {
		if string(h.Name) == headerSchemaVersion {
			continue // meant for us
		}
		if reserved[string(h.Name)] && (e.cfg.Outbox.Headers == headersCloudEvents || strings.HasPrefix(string(h.Name), "postrider-")) {
			return poison("event %s: header %q is the relay's own", ev.ID, h.Name)
		}
		b.header(h.Name, h.Value)
	}
	return nil
}

func (e *Encoder) positionHeader(b *block, position Position) {
	const about = len("16/B374D848/0")
	start := b.openNamed(e.shared.position, about)
	b.bytes = position.append(b.bytes)
	b.close(start, about)
}

// appendTime appends created as RFC 3339, or commit where the table has no such column. The
// result depends on the row alone, so that an event read again has the same bytes.
func appendTime(dst, created []byte, commit time.Time) []byte {
	// 2026-11-21 05:00:00.123456+00, as Postgres prints it in UTC
	if n := len(created); n >= 22 && created[10] == ' ' && string(created[n-3:]) == "+00" {
		dst = append(dst, created[:10]...)
		dst = append(dst, 'T')
		dst = append(dst, created[11:n-3]...)
		return append(dst, 'Z')
	}
	return commit.AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
}

const reasonExpired = "EXPIRED"

// letter says why an event goes to the dead-letter topic.
type letter struct {
	code  string
	cause error
	parks bool   // its key, for this topic
	topic string // empty where it cannot be told
}

// deadLetter adds a record for the dead-letter topic: the row's payload as it stands in the
// table, with why it is there and where it should have gone. It is never skipped as known:
// what becomes a dead letter can differ from one session to the next, by the time of expiry
// and by the brokers' verdicts, so positions in that topic do not tell what is in it.
func (e *Encoder) deadLetter(ev *Event, position Position, why letter) error {
	t, err := e.cluster.topic([]byte(e.cfg.Kafka.DeadLetterTopic))
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	// What is parked is known exactly, and an event that expires while it waits has a dead
	// letter of the same id there already.
	if !why.parks && e.replaying == nil && t.tail.has(ev.ID, position) {
		e.owed.settle(ev.ID)
		e.metrics.skip()
		return nil
	}
	b := e.block
	m := b.mark()
	key := b.put(ev.AggregateID)
	var value span
	switch {
	case ev.PayloadAvro != nil:
		value = b.put(ev.PayloadAvro)
	case ev.Payload != nil:
		value = b.put(ev.Payload)
	default:
		value = b.putNull()
	}
	b.beginHeaders()
	id := e.cloudEvent(b, ev)
	if ev.PayloadAvro != nil {
		b.encoded(e.shared.contentAvro, 1)
		b.text("postrider-schema-fingerprint", hex.EncodeToString(ev.Fingerprint))
	} else if ev.Payload != nil {
		b.encoded(e.shared.contentJSON, 1)
	}
	for _, h := range ev.Headers {
		if !reserved[string(h.Name)] {
			b.header(h.Name, h.Value)
		}
	}
	b.text(headerErrorCode, why.code)
	b.text(headerError, why.cause.Error())
	b.text("postrider-aggregate-type", string(ev.AggregateType))
	b.text("postrider-topic", string(e.intendedTopic(ev)))
	b.text("postrider-xid", strconv.FormatUint(uint64(e.xid), 10))
	b.text("postrider-lsn", position.LSN.String())
	if why.parks {
		b.text(headerParked, why.topic)
		b.text(headerSystem, e.system)
	}
	e.positionHeader(b, position)
	e.owed.add(ev.ID)
	e.checkpoint.Add(e.ticket)
	b.add(m, blockRecord{
		key: key, value: value, id: id, partition: e.cluster.partitionFor(t, ev.AggregateID),
		ticket: e.ticket, position: position, dead: why.code,
	})
	return nil
}

// intendedTopic returns where the event would have gone, as far as that can be told.
func (e *Encoder) intendedTopic(ev *Event) []byte {
	if len(ev.Topic) > 0 {
		return append([]byte(nil), ev.Topic...)
	}
	name, err := e.topicTemplate.appendTo(nil, ev)
	if err != nil {
		return nil
	}
	return name
}

// deadLetters are the dead letters on their way, by event id, over all sessions: an event
// whose dead letter was not acknowledged is in Kafka nowhere, though records behind it are.
type deadLetters struct {
	mu    sync.Mutex
	ids   map[string]struct{}
	count atomic.Int64 // of ids
}

// any reports whether there are any, at no cost.
func (d *deadLetters) any() bool { return d.count.Load() > 0 }

func (d *deadLetters) add(id []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids == nil {
		d.ids = make(map[string]struct{})
	}
	d.ids[string(id)] = struct{}{}
	d.count.Store(int64(len(d.ids)))
}

func (d *deadLetters) settle(id []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ids, string(id))
	d.count.Store(int64(len(d.ids)))
}

func (d *deadLetters) has(id []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.ids[string(id)]
	return ok
}
