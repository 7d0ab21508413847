package relay

import (
	"cmp"
	"slices"
	"time"
)

// parkedExamples is how many parked keys /status shows.
const parkedExamples = 5

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
