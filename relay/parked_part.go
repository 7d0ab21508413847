package relay

import (
	"cmp"
	"slices"
)

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
