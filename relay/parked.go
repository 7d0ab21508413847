package relay

import (
	"math"
	"slices"
	"strings"
	"sync"
)

// With on_poison: halt-key an event that cannot be published goes to the dead-letter topic
// and takes every later event of its topic and key with it: the key is parked. The
// dead-letter topic is the durable log of what is parked, and parkedKeys is that log folded:
// a record that parks adds an event, a record that releases removes all up to a position.
//
// Both name events by their position in the stream, so the order in which the records are
// read, and how often, does not matter. A relay that meets a stretch of the stream again
// parks and releases again what it did before: an event only waits behind the parked ones
// that came before it, and a release only takes those.

const (
	// MaxParkedBytes bounds the memory of what is parked, about. An event takes 32 bytes, a
	// key 256 beside its first event: two million events of a few keys, or 230,000 keys of
	// one event. At the bound the relay stands still as with on_poison: halt.
	MaxParkedBytes = 64 << 20

	parkedEventBytes = 32
	parkedKeyBytes   = 256
	parkedOddBytes   = 128

	// reasonKeys is for how many keys the reason is remembered, of at most reasonBytes.
	reasonKeys  = 100
	reasonBytes = 300

	// maxLSN is above every LSN of the stream.
	maxLSN = LSN(math.MaxUint64)
)

// parkedKeys are the keys that are parked. The encoder changes it; any goroutine may read.
// The nil value parks nothing.
type parkedKeys struct {
	mu      sync.Mutex
	known   bool                  // the dead-letter topic has been read
	keys    map[string]*parkedKey // by mapKey
	events  int
	odd     map[oddEvent]string // ids that are no UUID
	reasons int                 // of how many keys the reason is kept
	scratch []byte
	stale   bool // there was a release, of which nobody knows yet whether it was carried out
	warned  bool // of a topic that forgets

	// A release needs its rows until the slot has passed it: the stream may bring it again.
	releasing LSN        // the last one
	flushed   func() LSN // the checkpoint's
	changed   func(keys, events int)
}

func newParkedKeys(changed func(keys, events int)) *parkedKeys {
	p := &parkedKeys{reasons: reasonKeys, changed: changed}
	p.forget()
	return p
}

// forget empties p: the topic must be read again.
func (p *parkedKeys) forget() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.stale, p.events, p.releasing = false, false, 0, 0
	p.keys, p.odd = make(map[string]*parkedKey), make(map[oddEvent]string)
	p.tell()
}

// begin notes that a release at that place of the stream is begun.
func (p *parkedKeys) begin(at LSN, flushed func() LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stale, p.releasing, p.flushed = true, at, flushed
}

// uncertain reports whether the topic and the slot know more than p: a release was begun.
func (p *parkedKeys) uncertain() bool { return p != nil && p.stale }

// tell reports the sizes.
func (p *parkedKeys) tell() {
	if p.changed != nil {
		p.changed(len(p.keys), p.events)
	}
}

// any reports whether an event may have to wait. Only the encoder may call it.
func (p *parkedKeys) any() bool { return p != nil && len(p.keys) > 0 }

// full reports whether there is no room for another event.
func (p *parkedKeys) full() bool {
	return p.events*parkedEventBytes+len(p.keys)*parkedKeyBytes+len(p.odd)*parkedOddBytes > MaxParkedBytes
}

func (p *parkedKeys) lookUp(topic, key string) *parkedKey {
	p.scratch = append(append(append(p.scratch[:0], topic...), 0), key...)
	return p.keys[string(p.scratch)]
}

// behind returns the parked key behind which an event at this position has to wait, or nil.
// An unknown topic is empty.
func (p *parkedKeys) behind(topic, key, system string, at Position) *parkedKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.lookUp("", key); k != nil && k.holdsBack(system, at) {
		return k
	}
	if topic == "" {
		return nil
	}
	if k := p.lookUp(topic, key); k != nil && k.holdsBack(system, at) {
		return k
	}
	return nil
}

// why returns why the event at a position waits behind k: k's own reason, if it is the one
// that k was parked for and comes by again.
func (p *parkedKeys) why(k *parkedKey, system string, at Position) (code, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, found := k.run(system).find(at); found && i == 0 {
		return string(k.code), k.reason
	}
	return reasonKeyParked, "an earlier event of its key is parked"
}

// has reports whether the event at this position is parked.
func (p *parkedKeys) has(topic, key, system string, at Position) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.lookUp(topic, key)
	if k == nil {
		return false
	}
	_, found := k.run(system).find(at)
	return found
}

// park adds an event and reports whether its key was not parked before. One that is parked
// already, or has been released, changes nothing.
func (p *parkedKeys) park(r *parkedRecord) (begins bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.tell()
	k := p.lookUp(r.topic, r.key)
	if k == nil {
		k = p.add(r)
		begins = true
	}
	run := k.makeRun(r.system)
	i, found := run.find(r.at)
	if found || run.released != (Position{}) && !run.released.Less(r.at) {
		return false
	}
	id, ok := parseUUID(r.id)
	if !ok {
		p.odd[oddEvent{run.system, r.at}] = strings.Clone(r.id)
	}
	run.events = slices.Insert(run.events, i, parkedEvent{r.at, id})
	p.events++
	if i == 0 {
		k.code, k.since, k.reason = HaltCode(r.code), r.time, ""
		if len(p.keys) <= p.reasons {
			k.reason = cut(r.reason, reasonBytes)
		}
	}
	return begins
}

// add makes the entry of the record's key.
func (p *parkedKeys) add(r *parkedRecord) *parkedKey {
	id := r.topic + "\x00" + r.key
	k := &parkedKey{topic: id[:len(r.topic)], key: id[len(r.topic)+1:]}
	p.keys[id] = k
	return k
}

// release removes the events up to and including a position, and remembers why the rest
// stays.
func (p *parkedKeys) release(r *parkedRecord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.tell()
	k := p.lookUp(r.topic, r.key)
	if k == nil {
		if p.known || r.through == (Position{}) {
			return
		}
		k = p.add(r) // what it released may be read later
	}
	run := k.makeRun(r.system)
	if run.released.Less(r.through) {
		run.released = r.through
	}
	n, found := run.find(r.through)
	if found {
		n++
	}
	for _, e := range run.events[:n] {
		delete(p.odd, oddEvent{run.system, e.at})
	}
	p.events -= n
	run.events = slices.Delete(run.events, 0, n)
	if 2*len(run.events) < cap(run.events) {
		run.events = slices.Clip(slices.Clone(run.events))
	}
	if r.code != "" {
		k.code = HaltCode(r.code)
		if len(p.keys) <= p.reasons {
			k.reason = cut(r.reason, reasonBytes)
		}
	}
	if p.known {
		p.prune(k)
	}
}

// prune drops k when nothing of it is parked.
func (p *parkedKeys) prune(k *parkedKey) {
	k.runs = slices.DeleteFunc(k.runs, func(r parkedRun) bool { return len(r.events) == 0 })
	if len(k.runs) == 0 {
		delete(p.keys, k.topic+"\x00"+k.key)
	}
}

// fold takes a record of the dead-letter topic. Releases of this cluster that the slot has
// not passed are left out: the stream brings them again.
func (p *parkedKeys) fold(r *parkedRecord, system string, passed LSN) {
	switch {
	case !r.releases:
		p.park(r)
	case r.system != system || r.at.LSN < passed:
		p.release(r)
	}
}

// settled ends the reading of the topic.
func (p *parkedKeys) settled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.keys {
		p.prune(k)
	}
	for _, k := range p.keys {
		for i := range k.runs {
			k.runs[i].released = Position{} // only what is read out of order needs it
		}
	}
	p.known = true
	p.tell()
}

// ids returns the ids of all events that are parked, as the table prints them: their rows
// are needed. It reports false while nobody knows: the dead-letter topic has not been read, or
// a release is under way. A nil p parks nothing, and knows that.
func (p *parkedKeys) ids() (ids []string, known bool) {
	if p == nil {
		return nil, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ids = make([]string, 0, p.events)
	for _, k := range p.keys {
		for i := range k.runs {
			for _, e := range k.runs[i].events {
				ids = append(ids, p.id(k.runs[i].system, e))
			}
		}
	}
	return ids, p.known && (p.releasing == 0 || p.flushed() > p.releasing)
}

// id returns the id of an event as text.
func (p *parkedKeys) id(system string, e parkedEvent) string {
	if e.id == ([16]byte{}) {
		return p.odd[oddEvent{system, e.at}]
	}
	return formatUUID(e.id)
}

// cut returns s, shortened to n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return strings.Clone(s)
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
