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

// The names of the headers that the relay itself writes.
var (
	ceID      = []byte("ce_id")
	ceType    = []byte("ce_type")
	ceSubject = []byte("ce_subject")
	ceTime    = []byte("ce_time")

	positionName = []byte(headerPosition)
	replayedName = []byte(headerReplayed)

	contentJSON = &recordHeader{Key: []byte("content-type"), Value: []byte("application/json")}
)

// reserved are the header names that a row may not bring itself.
var reserved = map[string]bool{
	"ce_specversion": true, "ce_id": true, "ce_type": true, "ce_source": true, "ce_subject": true, "ce_time": true,
	"content-type": true, headerPosition: true,
	headerParked: true, headerReleased: true, headerReplayed: true, headerSystem: true, headerErrorCode: true, headerError: true,
}

// cloudEvent adds the headers of CloudEvents' Kafka binding in binary mode, but for the
// content type (CloudEvents Kafka Protocol Binding 1.0.2, section 3.2).
func (e *Encoder) cloudEvent(b *block, ev *Event, key, id []byte) {
	b.sharedHeader(&e.static.specVersion)
	b.header(ceID, id)
	b.header(ceType, b.copy(ev.Type))
	b.sharedHeader(&e.static.source)
	b.header(ceSubject, key)
	start := len(b.bytes)
	b.bytes = appendTime(b.bytes, ev.CreatedAt, e.commit)
	b.header(ceTime, b.since(start))
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
		b.header(b.copy(h.Name), b.copy(h.Value))
	}
	return nil
}

func (e *Encoder) positionHeader(b *block, position Position) {
	start := len(b.bytes)
	b.bytes = position.append(b.bytes)
	b.header(positionName, b.since(start))
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
	key := b.copy(ev.AggregateID)
	var value []byte
	if !ev.tombstone() {
		value = b.copy(ev.Payload)
		if ev.PayloadAvro != nil {
			value = b.copy(ev.PayloadAvro)
		}
	}
	id := b.copy(ev.ID)
	e.cloudEvent(b, ev, key, id)
	if ev.PayloadAvro != nil {
		b.sharedHeader(&e.static.contentAvro)
		b.header([]byte("postrider-schema-fingerprint"), []byte(hex.EncodeToString(ev.Fingerprint)))
	} else if ev.Payload != nil {
		b.sharedHeader(contentJSON)
	}
	for _, h := range ev.Headers {
		if !reserved[string(h.Name)] {
			b.header(b.copy(h.Name), b.copy(h.Value))
		}
	}
	b.header([]byte(headerErrorCode), []byte(why.code))
	b.header([]byte(headerError), []byte(why.cause.Error()))
	b.header([]byte("postrider-aggregate-type"), b.copy(ev.AggregateType))
	b.header([]byte("postrider-topic"), e.intendedTopic(ev))
	b.header([]byte("postrider-xid"), strconv.AppendUint(nil, uint64(e.xid), 10))
	b.header([]byte("postrider-lsn"), []byte(position.LSN.String()))
	if why.parks {
		b.header([]byte(headerParked), []byte(why.topic))
		b.header([]byte(headerSystem), []byte(e.system))
	}
	e.positionHeader(b, position)
	e.owed.add(id)
	e.checkpoint.Add(e.ticket)
	b.add(m, key, value, recordMeta{partition: e.cluster.partitionFor(t, key), ticket: e.ticket, position: position, id: id, dead: why.code})
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
