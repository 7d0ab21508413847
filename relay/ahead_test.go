package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"
)

// aheadRig is a line with two events of each of so many types, the registry that has a schema
// for each, and a chunk with the events.
type aheadRig struct {
	*line
	registry *renewalRig
	chunk    chunk
}

const aheadTypes = 20

func newAheadRig(t *testing.T, values map[string]string) *aheadRig {
	t.Helper()
	r := &aheadRig{line: newLine(t), registry: newRenewalRig(t)}
	r.schemas = r.registry.schemas
	r.schemas.lookAhead = r.lookAhead
	r.clock = time.Now()
	for i := range 2 * aheadTypes {
		subject := aheadSubject(i)
		if i < aheadTypes {
			r.registry.register(subject, i+1) // the only one with so many fields
		}
		row := map[string]string{"id": lineID(i), "aggregate_id": aheadKey(i), "event_type": subject, "payload": "{}"}
		maps.Copy(row, values)
		r.chunk.appendWAL(wireInsert(r.relation.OID, outboxRow(r.relation, row).New...))
	}
	return r
}

func aheadSubject(i int) string { return fmt.Sprintf("order.t%d", i%aheadTypes) }
func aheadKey(i int) string     { return fmt.Sprintf("key-%d", i) }

// run encodes the chunk. The error is that of the first event that became no record.
func (r *aheadRig) run() error {
	r.block.reset()
	r.message(r.begin)
	r.looked = false
	for r.rest = r.chunk.buf; len(r.rest) > 0; {
		var msg []byte
		_, msg, r.rest = nextMessage(r.rest)
		if err := r.decoder.Decode(msg, &r.change); err != nil {
			return err
		}
		if isEvent, err := r.router.Route(&r.change, &r.event); err != nil || !isEvent {
			return fmt.Errorf("not an event: %w", err)
		}
		if err := r.record(r.tb.Context(), &r.event, r.position); err != nil {
			return err
		}
	}
	return nil
}

func (r *aheadRig) wantEach() {
	r.tb.Helper()
	if n := len(r.block.records); n != 2*aheadTypes {
		r.tb.Fatalf("%d records, want %d", n, 2*aheadTypes)
	}
	for i, record := range r.block.records {
		value, framing := string(r.block.at(record.value)), r.schemas.latest[aheadSubject(i)].framing
		if !strings.HasPrefix(value, string(framing[:])) || len(value) != len(framing)+i%aheadTypes+1 {
			r.tb.Errorf("record %d is % x", i, value)
		}
		if key, id := string(r.block.at(record.key)), string(r.block.at(record.id)); key != aheadKey(i) || id != lineID(i) {
			r.tb.Errorf("record %d has the key %s and the id %s", i, key, id)
		}
		if body := r.block.at(record.body); !bytes.Contains(body, []byte(aheadSubject(i))) {
			r.tb.Errorf("record %d is not of type %s: %q", i, aheadSubject(i), body)
		}
	}
}

// start runs the chunk as far as the questions that are put ahead, and returns what lets the
// registry answer them.
func (r *aheadRig) start() (answer func(), done chan error) {
	first := r.registry.holdBack()
	done = make(chan error, 1)
	go func() { done <- r.run() }()
	r.untilAsked(1)
	answer = r.registry.holdBack()
	first()
	r.untilAsked(1 + maxAhead)
	return answer, done
}

func (r *aheadRig) untilAsked(times int64) {
	for r.registry.asked.Load() < times {
		runtime.Gosched()
	}
}

// askAhead puts one question.
func (r *aheadRig) askAhead(subject string) (answer chan firstAnswer) {
	answer = make(chan firstAnswer, 1)
	r.schemas.asked[subject] = answer
	r.schemas.ask(r.tb.Context(), []question{{subject, answer}})
	r.schemas.asking.Wait()
	return answer
}

// wantAhead has the encoder look ahead in rest, and forgets the questions.
func (r *aheadRig) wantAhead(rest []byte, subjects int) {
	r.tb.Helper()
	r.rest = rest
	r.lookAhead(r.tb.Context())
	if n := len(r.schemas.asked); n != subjects {
		r.tb.Errorf("the registry is asked for %d subjects, want %d", n, subjects)
	}
	clear(r.schemas.asked)
}

func TestLookAhead_AsksForSeveralSubjectsAtATimeAndForEachOnce(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t, nil)
	answer, done := r.start()
	answer()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.wantEach()
	if n := r.registry.asked.Load(); n != aheadTypes {
		t.Errorf("the registry was asked %d times for %d subjects", n, aheadTypes)
	}
	if n := len(r.schemas.asked); n != 0 {
		t.Errorf("%d answers are left", n)
	}
}

func TestLookAhead_WhatWasNotAnsweredTheEventAsksItself(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t, nil)
	answer, done := r.start()
	r.registry.away.Store(true)
	answer()
	if err := <-done; err == nil || asHalt(err) != nil {
		t.Fatalf("got %v, want the registry's refusal", err)
	}
	r.schemas.asking.Wait()
	r.registry.away.Store(false)
	if err := r.run(); err != nil {
		t.Fatal(err)
	}
	r.wantEach()
}

func TestLookAhead_ASchemaThatWasMissingThenIsFoundByItsEvent(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t, nil)
	r.askAhead("late")
	if _, err := r.schemas.latestOf(t.Context(), []byte("late"), time.Now()); asHalt(err) == nil || asHalt(err).Code != SchemaMissing {
		t.Fatalf("got %v, want %s", err, SchemaMissing)
	}
	r.askAhead("late")
	r.registry.register("late", 1)
	if _, err := r.schemas.latestOf(t.Context(), []byte("late"), time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestLookAhead_AnOldAnswerIsNotUsed(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t, nil)
	answer := r.askAhead("order.t0")
	old := <-answer
	old.schema.fetched = time.Now().Add(-2 * r.registry.ttl)
	answer <- old
	r.registry.register("order.t0", 2)
	r.schemas.away = true // known schemas are used on and on
	s, err := r.schemas.latestOf(t.Context(), []byte("order.t0"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if s.version != 2 || len(r.schemas.latest) != 1 {
		t.Errorf("version %d is used, want 2", s.version)
	}
}

func TestLookAhead_AnEventThatWaitsForAnAnswerEndsWithTheSession(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t, nil)
	r.schemas.asked["never"] = make(chan firstAnswer, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.schemas.latestOf(ctx, []byte("never"), time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestLookAhead_LeavesOutWhatNeedsNoLatestVersion(t *testing.T) {
	t.Parallel()
	for name, values := range map[string]map[string]string{
		"Avro":                   {"payload": "NULL", "payload_avro": `\x00`, "schema_fingerprint": `\x` + strings.Repeat("00", 32)},
		"tombstones":             {"payload": "NULL"},
		"pinned versions":        {"headers": `{"postrider-schema-version": "1"}`},
		"rows that are no event": {"aggregate_id": "NULL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newAheadRig(t, values)
			r.wantAhead(r.chunk.buf, 0)
		})
	}
}

func TestLookAhead_EndsWhereTheTableChanges(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t, nil)
	var changed chunk
	changed.appendWAL(wireRelation(r.relation))
	changed.buf = append(changed.buf, r.chunk.buf...)
	r.wantAhead(changed.buf, 0)
}

func TestLookAhead_LooksThroughAChunkOnce(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t, nil)
	r.wantAhead(r.chunk.buf, aheadTypes)
	r.wantAhead(r.chunk.buf, 0)
	r.message(wireRelation(r.relation)) // the rest could not be read before
	r.wantAhead(r.chunk.buf, aheadTypes)
}
