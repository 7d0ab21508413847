package relay

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
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

	// parkedExamples is how many parked keys /status shows.
	parkedExamples = 5
)

// ParkedKey is a key whose events wait in the dead-letter topic.
type ParkedKey struct {
	// Topic is where the events would have gone; empty where that could not be told, in which
	// case every later event of the key waits, whatever its topic.
	Topic  string      `json:"topic"`
	Key    string      `json:"key"`
	Events int         `json:"events"`
	First  ParkedEvent `json:"first"`
	Last   ParkedEvent `json:"last"`
	Since  time.Time   `json:"since"`
	// Code and Reason say why the first event cannot be published. /status knows the reason
	// only of the first hundred keys; the dead letter always has it.
	Code   HaltCode `json:"code"`
	Reason string   `json:"reason,omitempty"`
}

// ParkedEvent is an event that waits.
type ParkedEvent struct {
	ID       string `json:"id"`
	Position string `json:"position"`
}

// ParkedReport is what /status says of parked keys.
type ParkedReport struct {
	Keys     int         `json:"keys"`
	Events   int         `json:"events"`
	Examples []ParkedKey `json:"examples"` // a few that have been parked for longest
}

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

// parkedKey is one key that is parked.
type parkedKey struct {
	topic, key string
	code       HaltCode
	reason     string
	since      int64 // Unix milliseconds
	runs       []parkedRun
}

// parkedRun is what was parked from one Postgres cluster: positions of different ones cannot
// be compared. A key has one, unless it is parked while the cluster is replaced.
type parkedRun struct {
	system   string
	released Position      // everything up to here was released
	events   []parkedEvent // by position
}

type parkedEvent struct {
	at Position
	id [16]byte // zero for one of parkedKeys.odd
}

type oddEvent struct {
	system string
	at     Position
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

func (k *parkedKey) holdsBack(system string, at Position) bool {
	for i := range k.runs {
		r := &k.runs[i]
		if len(r.events) > 0 && (r.system != system || !at.Less(r.events[0].at)) {
			return true
		}
	}
	return false
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

// run returns what is parked from one cluster, or nil.
func (k *parkedKey) run(system string) *parkedRun {
	for i := range k.runs {
		if k.runs[i].system == system {
			return &k.runs[i]
		}
	}
	return nil
}

// makeRun is run that makes what it does not find.
func (k *parkedKey) makeRun(system string) *parkedRun {
	if r := k.run(system); r != nil {
		return r
	}
	k.runs = append(k.runs, parkedRun{system: system})
	return &k.runs[len(k.runs)-1]
}

// find returns where the event at a position is, or belongs.
func (r *parkedRun) find(at Position) (int, bool) {
	if r == nil {
		return 0, false
	}
	if n := len(r.events); n == 0 || r.events[n-1].at.Less(at) {
		return n, false
	}
	return slices.BinarySearchFunc(r.events, at, func(e parkedEvent, at Position) int {
		switch {
		case e.at.Less(at):
			return -1
		case at.Less(e.at):
			return 1
		}
		return 0
	})
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

// idsOf returns the ids of a part's events from i on, at most limit of them.
func (p *parkedKeys) idsOf(part *parkedPart, i, limit int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for _, e := range part.events[i:min(i+limit, len(part.events))] {
		ids = append(ids, p.id(part.system, e))
	}
	return ids
}

// id returns the id of an event as text.
func (p *parkedKeys) id(system string, e parkedEvent) string {
	if e.id == ([16]byte{}) {
		return p.odd[oddEvent{system, e.at}]
	}
	return formatUUID(e.id)
}

// list returns the parked keys, those parked for longest first, at most limit of them.
func (p *parkedKeys) list(limit int) []ParkedKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	order := func(a, b *parkedKey) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.topic, b.topic), cmp.Compare(a.key, b.key))
	}
	var keys []*parkedKey
	for _, k := range p.keys {
		if limit < len(p.keys) { // a few of many: the lock is the encoder's too
			i, _ := slices.BinarySearchFunc(keys, k, order)
			if i == limit {
				continue
			}
			keys = slices.Insert(keys, i, k)[:min(limit, len(keys)+1)]
			continue
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, order)
	out := make([]ParkedKey, 0, len(keys))
	for _, k := range keys {
		out = append(out, p.describe(k))
	}
	return out
}

func (p *parkedKeys) describe(k *parkedKey) ParkedKey {
	d := ParkedKey{Topic: k.topic, Key: k.key, Code: k.code, Reason: k.reason, Since: time.UnixMilli(k.since).UTC()}
	for i := range k.runs {
		r := &k.runs[i]
		for _, e := range [2]int{0, len(r.events) - 1} {
			if e < 0 || e >= len(r.events) {
				continue
			}
			event := ParkedEvent{p.id(r.system, r.events[e]), r.events[e].at.String()}
			if d.Events == 0 && e == 0 {
				d.First = event
			}
			d.Last = event
		}
		d.Events += len(r.events)
	}
	return d
}

// report is what /status says; nil where nothing can be parked.
func (p *parkedKeys) report() *ParkedReport {
	if p == nil {
		return nil
	}
	examples := p.list(parkedExamples)
	p.mu.Lock()
	defer p.mu.Unlock()
	return &ParkedReport{Keys: len(p.keys), Events: p.events, Examples: examples}
}

// parkedPart is what a release takes: events of one key from one cluster.
type parkedPart struct {
	topic, key, system string
	events             []parkedEvent
}

// before returns the parts of the keys that a request names, as they were parked when the
// stream came by that position: first those of known topics, in the order in which they were
// parked.
func (p *parkedKeys) before(r *replayRequest, system string, at Position) []parkedPart {
	p.mu.Lock()
	defer p.mu.Unlock()
	var parts []parkedPart
	for _, k := range p.keys {
		if !r.names(k.topic, k.key) {
			continue
		}
		for _, run := range k.runs {
			n := len(run.events)
			if run.system == system {
				n, _ = run.find(at)
			}
			if n > 0 {
				parts = append(parts, parkedPart{k.topic, k.key, run.system, slices.Clone(run.events[:n])})
			}
		}
	}
	slices.SortStableFunc(parts, func(a, b parkedPart) int {
		return cmp.Or(
			cmpBool(a.topic == "", b.topic == ""),
			cmpBool(a.system == system, b.system == system), // an older cluster's come first
			cmp.Compare(a.events[0].at.LSN, b.events[0].at.LSN), cmp.Compare(a.events[0].at.Index, b.events[0].at.Index),
			cmp.Compare(a.topic, b.topic), cmp.Compare(a.key, b.key))
	})
	return parts
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// cut returns s, shortened to n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return strings.Clone(s)
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// parseUUID reads a UUID as Postgres prints it. Anything else, and the UUID of zeroes, is
// kept as text.
func parseUUID(text string) (id [16]byte, ok bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, false
	}
	digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil || formatUUID(id) != text {
		return [16]byte{}, false
	}
	return id, id != [16]byte{}
}

func formatUUID(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
