package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	headerPosition      = "postrider-position"
	headerSchemaVersion = "postrider-schema-version" // a row pins a version of its subject by it

	// haltRetry is how often a relay that stands at an event tries it again.
	haltRetry = 5 * time.Second
)

// errStopped ends the encoder in the middle of a chunk: what it did not reach is read again
// at the next start.
var errStopped = errors.New("stopped")

// Encoder turns chunks of the stream into blocks of records: it decodes, routes and encodes
// each change, in order. An event that cannot become a record now is tried again here, with
// everything after it waiting: nothing overtakes it and nothing is read twice.
//
// All state belongs to the goroutine that calls Run.
type Encoder struct {
	cfg        *Config
	log        *slog.Logger
	status     *Status
	metrics    *metrics
	checkpoint *Checkpoint
	schemas    *schemas
	cluster    *cluster
	publisher  *Publisher

	decoder *Decoder
	router  *Router
	change  Change
	event   Event

	topicTemplate   template
	subjectTemplate template
	name            []byte // scratch for topics and subjects
	shared          sharedHeaders

	// skipBefore is where the session before got to: transactions that commit below it are in
	// Kafka, though the slot may not have heard of it.
	skipBefore LSN
	// verdicts are records that the brokers refused in an earlier session, by event id.
	verdicts map[string]*HaltError
	owed     *deadLetters

	parked    *parkedKeys // nil unless on_poison is halt-key
	system    string      // identifier of the Postgres cluster
	replaying *Position   // where the event that is released now stood first; nil for a live one

	repair    *repairing // nil for a relay that streams
	rest      []byte     // of the chunk that is encoded
	looked    bool       // through the rest, for new subjects
	block     *block
	standing  bool // at an event, as far as the status knows; a session before this one may have said so
	open      bool // inside a transaction
	streaming bool // the stream has been read without an error
	ticket    Ticket
	position  Position // of the next event
	commit    time.Time
	xid       uint32
	now       time.Time // the server's clock at the end of the chunk
	clock     time.Time // ours when the chunk, or an event that was waited for, was begun
}

// repairing is what an encoder does differently during a repair: it passes over what Kafka
// has, marks the rest, and waits for nothing.
type repairing struct {
	reason string // the value of postrider-repair
	skip   func(id []byte) bool
}

func newEncoder(cfg *Config, log *slog.Logger, status *Status, m *metrics) (*Encoder, error) {
	e := &Encoder{cfg: cfg, log: log, status: status, metrics: m, decoder: NewDecoder(), standing: true}
	var err error
	if e.topicTemplate, err = parseTemplate(cfg.Outbox.Topic); err != nil {
		return nil, fmt.Errorf("outbox.topic: %w", err)
	}
	if e.subjectTemplate, err = parseTemplate(cfg.Outbox.Subject); err != nil {
		return nil, fmt.Errorf("outbox.subject: %w", err)
	}
	e.shared = newSharedHeaders(cfg)
	seen := make(map[string]bool)
	e.router = NewRouter(cfg, func(rel *Relation, kind ChangeKind) {
		name := "several"
		if rel != nil {
			name = rel.String()
		}
		m.ignored.WithLabelValues(name, kind.String()).Inc()
		if key := name + kind.String(); !seen[key] {
			seen[key] = true
			log.Warn("published changes that are no events are passed over", "relation", name, "kind", kind.String())
		}
	})
	return e, nil
}

// Run encodes chunks until the source has closed its side (nil). It gives up waiting for
// what an event needs when stop is done, and everything when ctx ends. It always closes the
// publisher's side.
func (e *Encoder) Run(ctx, stop context.Context, ch *chunks) error {
	defer close(e.publisher.in)
	e.block = e.publisher.blocks.take()
	for c := range ch.filled {
		e.now, e.clock, e.looked = postgresTime(c.serverTime), time.Now(), false
		e.metrics.received.Add(float64(len(c.buf)))
		if e.parked != nil && !e.parked.known {
			if err := e.recallParked(ctx, stop); err != nil {
				if errors.Is(err, errStopped) {
					return nil
				}
				return err
			}
		}
		for rest := c.buf; len(rest) > 0; {
			var tag byte
			var msg []byte
			tag, msg, rest = nextMessage(rest)
			e.rest = rest
			if tag == tagProgress {
				e.checkpoint.Progress(progressLSN(msg))
				e.works()
				continue
			}
			if err := e.message(ctx, stop, msg); err != nil {
				flushed := e.flush(ctx)
				if errors.Is(err, errStopped) {
					return flushed
				}
				return errors.Join(err, flushed)
			}
		}
		if err := e.flush(ctx); err != nil {
			return err
		}
		ch.giveBack(c)
	}
	return nil
}

// flush hands the records so far to the publisher.
func (e *Encoder) flush(ctx context.Context) error {
	if len(e.block.records) > 0 {
		e.block.late = e.now.Sub(e.commit)
		if err := e.publisher.submit(ctx, e.block); err != nil {
			return err
		}
		e.block = e.publisher.blocks.take()
	}
	return nil
}

// message handles one message of the stream.
func (e *Encoder) message(ctx, stop context.Context, msg []byte) error {
	c := &e.change
	if msg[0] == byte(ChangeRelation) && relationLost() {
		return nil
	}
	if err := e.decoder.Decode(msg, c); err != nil {
		if errors.Is(err, errStrayStream) {
			return nil
		}
		return err
	}
	failpoint(pointDecoded)
	switch c.Kind {
	case ChangeBegin:
		if err := e.checkpoint.awaitRoom(ctx, stop); err != nil {
			return cmp.Or(context.Cause(ctx), errStopped)
		}
		e.open, e.commit, e.xid = true, c.Time, c.XID
		e.position = Position{LSN: c.LSN}
		e.ticket = e.checkpoint.Begin(c.Time)
	case ChangeCommit:
		e.open = false
		end := c.EndLSN
		if bug(bugConfirmCommitLSN) {
			end = c.LSN
		}
		e.checkpoint.Commit(e.ticket, end)
		e.works()
	case ChangeRelation:
		if err := e.router.Relate(c.Relation); err != nil {
			return err
		}
		e.looked = false
		e.works()
	case ChangeTruncate:
		for _, rel := range c.Truncated {
			e.router.onSkip(rel, c.Kind)
		}
	case ChangeMessage:
		if e.asksForReplay(c) {
			return e.replay(ctx, stop, c)
		}
		e.router.onSkip(nil, c.Kind)
	case ChangeInsert, ChangeUpdate, ChangeDelete:
		if !e.open {
			return fmt.Errorf("pgoutput: %s outside a transaction", c.Kind)
		}
		return e.publish(ctx, stop, c)
	}
	return nil
}

// works ends the trouble with Postgres that an earlier session had: the stream has shown that
// it can be read, which its beginning alone does not.
func (e *Encoder) works() {
	if !e.streaming {
		e.streaming = true
		e.status.clear(componentPostgres)
	}
}

// publish makes a record of a change, and waits where it cannot be made yet.
func (e *Encoder) publish(ctx, stop context.Context, c *Change) error {
	isEvent, routed := e.router.Route(c, &e.event)
	if !isEvent {
		return nil
	}
	if routed != nil && errors.Is(routed, errNeedsText) {
		return routed
	}
	position := e.position
	if position.LSN < e.skipBefore || e.repair != nil && e.repair.skip(e.event.ID) {
		e.metrics.skip()
		e.position.Index++
		return nil
	}
	for {
		err := e.attempt(ctx, &e.event, position, routed)
		if err == nil {
			break
		}
		if e.repair != nil {
			return fmt.Errorf("event %s of %s %s: %w", e.event.ID, e.event.AggregateType, e.event.AggregateID, err)
		}
		if err := e.stand(ctx, stop, position, err); err != nil {
			return err
		}
	}
	e.goesOn()
	e.position.Index++
	return nil
}

// goesOn ends the trouble of an event that it stood at.
func (e *Encoder) goesOn() {
	if e.standing {
		e.standing = false
		e.status.clear(componentEvent)
	}
}

// attempt makes a record of ev, for its topic or for where on_poison sends it.
func (e *Encoder) attempt(ctx context.Context, ev *Event, position Position, routed error) error {
	if e.parked.any() {
		if k := e.behind(ev, position); k != nil {
			return e.parkBehind(ev, position, k)
		}
	}
	err := routed
	if err == nil {
		err = e.record(ctx, ev, position)
	}
	if err == nil || e.cfg.OnPoison == onPoisonHalt {
		return err
	}
	h := asHalt(err)
	if h == nil || !h.onEvent() {
		return err
	}
	if e.parked != nil {
		topic, unknown := e.topicName(ev)
		if unknown != nil {
			topic = nil
		}
		return e.park(ev, position, string(topic), string(h.Code), h.Err)
	}
	if err := e.deadLetter(ev, position, letter{code: string(h.Code), cause: h.Err}); err != nil {
		return err
	}
	e.log.Warn("event goes to the dead-letter topic", "id", string(ev.ID), "lsn", position.String(), "code", h.Code, "error", h.Err)
	return nil
}

// stand waits before an event is tried again, and says why.
func (e *Encoder) stand(ctx, stop context.Context, position Position, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// What is ready must not wait with the event.
	if err := e.flush(ctx); err != nil {
		return err
	}
	wait := time.Second
	if asHalt(err) != nil {
		wait = haltRetry
	}
	e.metrics.failed("event")
	ev := &e.event
	at := fmt.Sprintf("event %s of %s %s at %s", ev.ID, ev.AggregateType, ev.AggregateID, position)
	var c *componentError
	if asHalt(err) == nil && errors.As(err, &c) {
		at += " waits for " + c.component
	}
	e.standing = true
	if h := asHalt(err); h != nil {
		named := *h
		named.Err = fmt.Errorf("%s: %w", at, h.Err)
		err = &named
	} else {
		err = fmt.Errorf("%s: %w", at, err)
	}
	e.status.trouble(componentEvent, err)
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case e.clock = <-t.C:
		return nil
	case <-stop.Done():
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// record encodes e into the block. On error the block is as it was.
func (e *Encoder) record(ctx context.Context, ev *Event, position Position) error {
	if h := e.verdicts[string(ev.ID)]; h != nil && (e.replaying == nil || h.at.LSN == position.LSN) {
		return h
	}
	expired := !ev.ExpiresAt.IsZero() && e.now.After(ev.ExpiresAt)
	t, err := e.topicOf(ev)
	if err != nil && (!expired || asHalt(err) == nil) {
		return err
	}
	var part *partition
	if err == nil {
		part = e.cluster.partitionFor(t, ev.AggregateID)
		if t.tail.has(ev.ID, position) || !part.known.Less(position) && !e.owed.has(ev.ID) && e.replaying == nil {
			e.metrics.skip() // it was delivered in time, even if it is read again too late
			return nil
		}
	}
	if expired {
		return e.deadLetter(ev, position, letter{
			code: reasonExpired, cause: fmt.Errorf("expired at %s", ev.ExpiresAt.UTC().Format(time.RFC3339Nano)),
		})
	}
	b := e.block
	before, id := b.mark(), null
	if e.cfg.Outbox.Headers != headersCloudEvents {
		id = b.copy(ev.ID) // it does not travel
	}
	m := b.mark()
	key := b.put(ev.AggregateID)
	value, err := e.value(ctx, ev)
	if err != nil {
		b.truncate(before)
		return err
	}
	b.beginHeaders()
	if e.cfg.Outbox.Headers == headersCloudEvents {
		id = e.cloudEvent(b, ev)
		if value != null {
			b.encoded(e.shared.contentAvro, 1)
		}
	}
	if err := e.rowHeaders(b, ev); err != nil {
		b.truncate(before)
		return err
	}
	e.positionHeader(b, position)
	if e.replaying != nil {
		b.text(headerReplayed, e.replaying.String())
	}
	if e.repair != nil {
		b.text(headerRepair, e.repair.reason)
	}
	e.checkpoint.Add(e.ticket)
	b.add(m, blockRecord{key: key, value: value, id: id, partition: part, ticket: e.ticket, position: position})
	failpoint(pointEncoded)
	return nil
}

// topicOf returns the topic of ev.
func (e *Encoder) topicOf(ev *Event) (*topic, error) {
	name, err := e.topicName(ev)
	if err != nil {
		return nil, err
	}
	t, err := e.cluster.topic(name)
	return t, from(componentKafka, err)
}

// topicName returns the name of ev's topic. It holds until the next call.
func (e *Encoder) topicName(ev *Event) ([]byte, error) {
	name := ev.Topic
	if len(name) == 0 {
		var err error
		if e.name, err = e.topicTemplate.appendTo(e.name[:0], ev); err != nil {
			return nil, poison("event %s: topic: %w", ev.ID, err)
		}
		name = e.name
	}
	if e.cluster.topics[string(name)] == nil && !validTopic(name) {
		return nil, poison("event %s: %q is not a topic name", ev.ID, name)
	}
	return name, nil
}

// value appends the record's value to the block: the framing and the Avro bytes, or null for
// a tombstone.
func (e *Encoder) value(ctx context.Context, ev *Event) (span, error) {
	if ev.tombstone() {
		return e.block.putNull(), nil
	}
	var err error
	if e.name, err = e.subjectTemplate.appendTo(e.name[:0], ev); err != nil {
		return null, poison("event %s: subject: %w", ev.ID, err)
	}
	subject, b := e.name, e.block
	if ev.PayloadAvro != nil {
		f, err := e.schemas.writerSchema(ctx, subject, ev.Fingerprint)
		if err != nil {
			return null, err
		}
		size := len(f) + len(ev.PayloadAvro)
		start := b.open(size)
		b.bytes = append(append(b.bytes, f[:]...), ev.PayloadAvro...)
		return b.close(start, size), nil
	}
	if version, ok := ev.header(headerSchemaVersion); ok {
		s, err := e.schemas.versionOf(ctx, subject, version)
		if err != nil {
			return null, err
		}
		return e.transcode(ev, subject, s)
	}
	s, err := e.schemas.latestOf(ctx, subject, e.clock)
	if err != nil {
		return null, err
	}
	value, refused := e.transcode(ev, subject, s)
	if refused == nil {
		return value, nil
	}
	// The event may be of a version that was registered a moment ago.
	s, newer, err := e.schemas.refetch(ctx, subject, s)
	if err != nil {
		return null, err // perhaps it is; only the registry can tell
	}
	if !newer {
		return null, refused
	}
	return e.transcode(ev, subject, s)
}

func (e *Encoder) transcode(ev *Event, subject []byte, s *subjectSchema) (span, error) {
	b := e.block
	m, about := b.mark(), len(ev.Payload)
	start := b.open(about)
	b.bytes = append(b.bytes, s.framing[:]...)
	out, err := s.transcoder.Append(b.bytes, ev.Payload)
	if err != nil {
		b.truncate(m)
		return null, poison("event %s does not fit subject %q version %d: %w", ev.ID, subject, s.version, err)
	}
	b.bytes = out
	return b.close(start, about), nil
}
