package relay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// The headers of the dead-letter topic that on_poison: halt-key adds, and of records that
// are released.
const (
	headerParked   = "postrider-parked"   // the topic of an event that is parked; empty where it cannot be told
	headerReleased = "postrider-released" // the topic of the key that a release concerns
	headerThrough  = "postrider-released-through"
	headerCount    = "postrider-released-events"
	headerGivenUp  = "postrider-given-up-events"
	headerStaying  = "postrider-parked-events"
	headerRequest  = "postrider-request" // which request, and that this is answer 1 of 3: 5e0c… 1/3
	headerSystem   = "postrider-system"  // identifier of the Postgres cluster whose positions these are
	headerReplayed = "postrider-replayed"

	headerErrorCode = "postrider-error-code"
	headerError     = "postrider-error"

	reasonKeyParked = "KEY_PARKED"
	reasonReleased  = "RELEASED" // not counted: it is no event
)

// parkedRecord is a record of the dead-letter topic that parks an event or releases some.
type parkedRecord struct {
	topic, key   string
	system       string
	at           Position // of the event, or of the request that releases
	code, reason string   // why an event is there, or why others stay
	time         int64    // Unix milliseconds

	id string // of an event that is parked

	releases bool
	through  Position // the last that was released; zero for none
	released int
	givenUp  int
	staying  int
	request  string
	answer   int // 1 for the first answer to the request
	answers  int
}

// readParkedRecord reads a record of the dead-letter topic. It reports false for all that
// neither parks nor releases, and for what is malformed: the relay writes no such thing.
func readParkedRecord(key []byte, headers []*recordHeader, time int64) (parkedRecord, bool) {
	r := parkedRecord{key: string(key), time: time}
	var parks bool
	var errs error
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		errs = errors.Join(errs, err)
		return n
	}
	position := func(text string) Position {
		p, err := ParsePosition(text)
		errs = errors.Join(errs, err)
		return p
	}
	positioned := false
	for _, h := range headers {
		value := string(h.Value)
		switch string(h.Key) {
		case headerParked:
			parks, r.topic = true, value
		case headerReleased:
			r.releases, r.topic = true, value
		case headerPosition:
			positioned, r.at = true, position(value)
		case headerThrough:
			r.through = position(value)
		case headerCount:
			r.released = number(value)
		case headerGivenUp:
			r.givenUp = number(value)
		case headerStaying:
			r.staying = number(value)
		case headerSystem:
			r.system = value
		case headerErrorCode:
			r.code = value
		case headerError:
			r.reason = value
		case headerRequest:
			if _, err := fmt.Sscanf(value, "%s %d/%d", &r.request, &r.answer, &r.answers); err != nil {
				errs = errors.Join(errs, err)
			}
		case ceID:
			r.id = value
		}
	}
	return r, errs == nil && positioned && parks != r.releases && (r.releases || r.id != "")
}

// recallParked reads the dead-letter topic. The slot is this relay's by now, and what the
// one before had appended is there.
func (e *Encoder) recallParked(ctx, stop context.Context) error {
	name := e.cfg.Kafka.DeadLetterTopic
	reader, err := e.cluster.readTopic(name)
	if err != nil {
		return from(componentKafka, fmt.Errorf("read what is parked: %w", err))
	}
	passed := max(e.cluster.confirmed, e.skipBefore)
	if e.cluster.confirmed == 0 {
		passed = maxLSN // the slot is made now: no request comes again
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(stop, func() { cancel(errStopped) })()
	e.parked.forget()
	err = reader.read(ctx, func(t topicRecord) {
		if r, ok := readParkedRecord(t.key, t.headers, t.time.UnixMilli()); ok {
			e.parked.fold(&r, e.system, passed)
		}
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return from(componentKafka, fmt.Errorf("read what is parked: %w", err))
	}
	e.parked.settled()
	if e.parked.any() {
		e.log.Info("keys are parked from before", "keys", len(e.parked.keys), "events", e.parked.events, "topic", name)
	}
	if len(reader.partitions) == 0 || e.parked.warned {
		return nil
	}
	e.parked.warned = true
	if setting := e.cluster.forgetful(name); setting != "" {
		e.log.Warn("the dead-letter topic forgets: keys whose dead letters vanish are parked no longer, and their events are never released",
			"topic", name, "setting", setting, "records_gone", reader.gone,
			"hint", "kafka-configs.sh --bootstrap-server "+e.cfg.Kafka.Brokers[0]+" --alter --entity-type topics --entity-name "+name+
				" --add-config retention.ms=-1,retention.bytes=-1,cleanup.policy=delete")
	}
	return nil
}

// park sends ev to the dead-letter topic and remembers that it waits there. topic is where
// it should have gone, empty where that cannot be told.
func (e *Encoder) park(ev *Event, position Position, topic, code string, cause error) error {
	if ev.ID == nil {
		// Nobody could ever find its row again.
		return e.deadLetter(ev, position, letter{code: code, cause: cause})
	}
	r := parkedRecord{
		topic: topic, key: string(ev.AggregateID), system: e.system, at: position, id: string(ev.ID),
		code: code, reason: cause.Error(), time: e.now.UnixMilli(),
	}
	if e.parked.has(r.topic, r.key, r.system, position) {
		if !e.owed.has(ev.ID) {
			e.metrics.skip() // it stands in the topic
			return nil
		}
	} else if e.parked.full() {
		h := halt(PoisonEvent, "release keys: postrider replay -c FILE --list", "no more than %d MiB of events can be parked: %w", MaxParkedBytes>>20, cause)
		h.final = true
		return h
	}
	if err := e.deadLetter(ev, position, letter{code: code, cause: cause, parks: true, topic: topic}); err != nil {
		return err
	}
	if e.parked.park(&r) {
		e.log.Warn("key is parked: its events wait in the dead-letter topic until they are released",
			"topic", topic, "key", r.key, "id", r.id, "lsn", position.String(), "code", code, "error", cause,
			"hint", "mend the cause, then release it: postrider replay -c FILE --key KEY")
	}
	return nil
}

// behind returns the parked key behind which ev has to wait, or nil.
func (e *Encoder) behind(ev *Event, position Position) *parkedKey {
	topic, err := e.topicName(ev)
	if err != nil {
		topic = nil
	}
	return e.parked.behind(string(topic), string(ev.AggregateID), e.system, position)
}

// parkBehind parks an event whose key is.
func (e *Encoder) parkBehind(ev *Event, position Position, k *parkedKey) error {
	code, reason := e.parked.why(k, e.system, position)
	return e.park(ev, position, k.topic, code, errors.New(reason))
}

// answer says in the dead-letter topic what became of a request: the record that releases.
func (e *Encoder) answer(r *parkedRecord) error {
	t, err := e.cluster.topic([]byte(e.cfg.Kafka.DeadLetterTopic))
	if err != nil {
		return from(componentKafka, fmt.Errorf("release: %w", err))
	}
	b := e.block
	m := b.mark()
	key, value := b.put([]byte(r.key)), b.putNull()
	b.beginHeaders()
	add := b.text
	add(headerReleased, r.topic)
	add(headerThrough, r.through.String())
	add(headerCount, strconv.Itoa(r.released))
	if r.givenUp > 0 {
		add(headerGivenUp, strconv.Itoa(r.givenUp))
	}
	add(headerStaying, strconv.Itoa(r.staying))
	add(headerSystem, r.system)
	if r.code != "" {
		add(headerErrorCode, r.code)
		add(headerError, r.reason)
	}
	if r.request != "" {
		add(headerRequest, fmt.Sprintf("%s %d/%d", r.request, r.answer, r.answers))
	}
	e.positionHeader(b, r.at)
	e.checkpoint.Add(e.ticket)
	b.add(m, blockRecord{
		key: key, value: value, id: null, partition: e.cluster.partitionFor(t, []byte(r.key)),
		ticket: e.ticket, position: r.at, dead: reasonReleased,
	})
	return nil
}
