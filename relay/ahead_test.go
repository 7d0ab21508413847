package relay

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// aheadRig is a line whose events are of so many types, the registry that has a schema for
// each, and a chunk with them.
type aheadRig struct {
	*line
	registry *renewalRig
	chunk    chunk
}

const aheadTypes = 20

func newAheadRig(t *testing.T, values ...map[string]string) *aheadRig {
	t.Helper()
	r := &aheadRig{line: newLine(t), registry: newRenewalRig(t)}
	r.schemas = r.registry.schemas
	r.schemas.lookAhead = r.lookAhead
	r.clock = time.Now()
	for i := range aheadTypes {
		r.registry.register(fmt.Sprintf("order.t%d", i), i+1)
		row := map[string]string{"event_type": fmt.Sprintf("order.t%d", i), "payload": "{}"}
		for _, more := range values {
			for name, value := range more {
				row[name] = value
			}
		}
		r.add(wireInsert(r.relation.OID, outboxRow(r.relation, row).New...))
	}
	return r
}

func (r *aheadRig) add(msg wire) { r.chunk.appendWAL(msg) }

// run encodes the chunk. The error is that of the first event that became no record.
func (r *aheadRig) run() error {
	r.block.reset()
	r.message(r.begin)
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
	if n := len(r.block.records); n != aheadTypes {
		r.tb.Fatalf("%d records, want %d", n, aheadTypes)
	}
	for i, record := range r.block.records {
		// Each has a version of its own, which is the only one with so many fields.
		value := r.block.at(record.value)
		s := r.schemas.latest["order.t"+strconv.Itoa(i)]
		if !strings.HasPrefix(string(value), string(s.framing[:])) || len(value) != len(s.framing)+i+1 {
			r.tb.Errorf("record %d: % x", i, value)
		}
	}
}

func TestLookAhead_AsksForTheNextSubjectsWhileTheFirstIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t)
	release := r.registry.holdBack()
	done := make(chan error, 1)
	go func() { done <- r.run() }()
	for r.registry.asked.Load() < 1+maxAhead {
		runtime.Gosched()
	}
	release()
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
	r := newAheadRig(t)
	r.registry.away.Store(true)
	if err := r.run(); err == nil || asHalt(err) != nil {
		t.Fatalf("got %v, want the registry's refusal", err)
	}
	r.schemas.asking.Wait()
	r.registry.away.Store(false)
	if err := r.run(); err != nil {
		t.Fatal(err)
	}
	r.wantEach()
}

func TestLookAhead_AnOldAnswerIsAskedForAgain(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t)
	r.schemas.ask(t.Context(), []byte("order.t0"))
	answer := <-r.schemas.asked["order.t0"]
	answer.schema.fetched = time.Now().Add(-2 * r.registry.ttl)
	r.schemas.asked["order.t0"] <- answer
	r.registry.register("order.t0", 2)
	if err := r.run(); err != nil {
		t.Fatal(err)
	}
	if v := r.schemas.latest["order.t0"].version; v != 2 {
		t.Errorf("version %d is used, want 2", v)
	}
}

func TestLookAhead_LeavesOutWhatNeedsNoLatestVersion(t *testing.T) {
	t.Parallel()
	for name, values := range map[string]map[string]string{
		"Avro":               {"payload": "NULL", "payload_avro": `\x00`, "schema_fingerprint": `\x` + strings.Repeat("00", 32)},
		"tombstones":         {"payload": "NULL"},
		"pinned versions":    {"headers": `{"postrider-schema-version": "1"}`},
		"rows that no event": {"aggregate_id": "NULL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newAheadRig(t, values)
			r.rest = r.chunk.buf
			r.lookAhead(t.Context())
			if n := len(r.schemas.asked); n != 0 {
				t.Errorf("the registry is asked for %d subjects", n)
			}
		})
	}
}

func TestLookAhead_EndsWhereTheTableChanges(t *testing.T) {
	t.Parallel()
	r := newAheadRig(t)
	r.chunk.reset()
	r.add(wireRelation(r.relation))
	r.add(wireInsert(r.relation.OID, outboxRow(r.relation, nil).New...))
	r.rest = r.chunk.buf
	r.lookAhead(t.Context())
	if n := len(r.schemas.asked); n != 0 {
		t.Errorf("the registry is asked for %d subjects", n)
	}
}
