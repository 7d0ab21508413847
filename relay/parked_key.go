package relay

import "slices"

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

func (k *parkedKey) holdsBack(system string, at Position) bool {
	for i := range k.runs {
		r := &k.runs[i]
		if len(r.events) > 0 && (r.system != system || !at.Less(r.events[0].at)) {
			return true
		}
	}
	return false
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
