package relay

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"testing"
	"weak"
)

// ended returns a relay and what is left of a session of it that has ended.
func ended(t *testing.T) (*Relay, weak.Pointer[pipeline], weak.Pointer[partition]) {
	t.Helper()
	r, err := New(minimalConfig(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	part := &partition{topic: testTopic, appended: Position{LSN: 0x20}}
	p := &pipeline{relay: r, slotMade: true, checkpoint: NewCheckpoint(0x10, nil), chunks: newChunks()}
	p.kafka = &cluster{topics: map[string]*topic{testTopic: {name: testTopic, partitions: []*partition{part}}}}
	p.keeper = newKeeper(p.kafka, p.checkpoint, r.status, r.metrics, p.now, 0x10)
	r.verdicts["behind"], r.verdicts["ahead"] = &HaltError{at: Position{LSN: 0x28}}, &HaltError{at: Position{LSN: 0x30}}
	p.checkpoint.Progress(0x30)
	r.status.begin(p.keeper.confirmable)
	r.leave(p)
	return r, weak.Make(p), weak.Make(part)
}

func TestSession_LeavesToTheNextWhatItMustKnow(t *testing.T) {
	t.Parallel()
	r, _, _ := ended(t)
	if got := r.flushed(); got != 0x30 {
		t.Errorf("everything up to %s is known to be in Kafka, want 0/30", got)
	}
	if known := r.known[testTopic]; len(known) != 1 || known[0] != (Position{LSN: 0x20}) {
		t.Errorf("known of the topic: %v", known)
	}
	if got := r.Status().ConfirmedLSN; got != "0/10" {
		t.Errorf("confirmed LSN %q, want 0/10", got)
	}
	if len(r.verdicts) != 1 || r.verdicts["ahead"] == nil {
		t.Errorf("of the refused records those that come again are %v", slices.Collect(maps.Keys(r.verdicts)))
	}
}

// Another relay delivers what this one owes.
func TestStandBy_OwesNothing(t *testing.T) {
	t.Parallel()
	r, _, _ := ended(t)
	r.owed.add([]byte("dead letter"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.standBy(ctx)
	if r.owed.any() {
		t.Error("a dead letter is still awaited")
	}
}

// A session's queues and buffers are as large as the next one's: between the two, or beside
// each other, they would take twice the memory.
func TestSession_IsNotKeptInMemoryBehindItsEnd(t *testing.T) {
	t.Parallel()
	r, session, part := ended(t)
	runtime.GC()
	if session.Value() != nil {
		t.Error("the relay holds on to a session that has ended")
	}
	if part.Value() != nil {
		t.Error("the relay holds on to a partition, and what is queued there, of a session that has ended")
	}
	runtime.KeepAlive(r)
}
