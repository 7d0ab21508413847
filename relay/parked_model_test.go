package relay

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// modelRelay does with a stream of one topic what the encoder does, without servers: it dies
// at any moment, with any part of what was on its way appended, and begins again at any
// place that could have been confirmed.
type modelRelay struct {
	stream []modelItem
	mended map[string]bool // events that are poison no more
	blind  bool            // cannot tell what stands at the topic's end, as with headers: none

	topic  []modelRecord
	letter []parkedRecord // the dead-letter topic

	// on their way, in order within each topic
	topicQueue  []modelRecord
	letterQueue []parkedRecord
}

type modelRecord struct {
	id string
	at LSN
}

// modelItem is an event, or a request to release a key.
type modelItem struct {
	key, id  string
	poison   bool
	releases bool
}

// run reads the stream from one place to another, as a new process, and returns how far all
// was appended. crash draws how much of what is on its way is appended; nil is all.
func (m *modelRelay) run(from, to int, crash func(label string, n int) int) (confirmed int) {
	p := newParkedKeys(nil)
	for i := range m.letter {
		p.fold(&m.letter[i], "1", LSN(from+1))
	}
	p.settled()
	tail := make(map[string]bool)
	for _, r := range m.topic {
		if r.at >= LSN(from+1) && !m.blind {
			tail[r.id] = true
		}
	}
	poison := func(it *modelItem) bool { return it.poison && !m.mended[it.id] }
	publish := func(id string, at LSN) {
		if !tail[id] {
			m.topicQueue = append(m.topicQueue, modelRecord{id, at})
		}
	}
	byID := make(map[string]*modelItem)
	for i := range m.stream {
		byID[m.stream[i].id] = &m.stream[i]
	}
	confirmed = from
	for i := from; i < to; i++ {
		it, at := &m.stream[i], Position{LSN: LSN(i + 1)}
		switch {
		case it.releases:
			key := it.key
			for _, part := range p.before(&replayRequest{Key: &key}, "1", at) {
				answer := parkedRecord{releases: true, topic: part.topic, key: part.key, system: "1", at: at}
				for _, e := range part.events {
					id := p.id("1", e)
					if !tail[id] && poison(byID[id]) {
						break
					}
					publish(id, at.LSN)
					answer.through = e.at
				}
				if crash != nil && crash("dies before the answer", 2) == 1 {
					m.die(crash)
					return confirmed
				}
				m.flush()
				p.release(&answer)
				m.letterQueue = append(m.letterQueue, answer)
			}
		case p.any() && p.behind("t", it.key, "1", at) != nil, !tail[it.id] && poison(it):
			if p.has("t", it.key, "1", at) {
				break
			}
			r := parkedRecord{topic: "t", key: it.key, system: "1", at: at, id: it.id, code: "POISON_EVENT"}
			p.park(&r)
			m.letterQueue = append(m.letterQueue, r)
		default:
			publish(it.id, at.LSN)
		}
		if crash == nil || crash("acknowledged", 3) == 0 {
			m.flush()
			confirmed = i + 1
		}
	}
	if crash != nil {
		m.die(crash)
		return confirmed
	}
	m.flush()
	return to
}

func (m *modelRelay) flush() {
	m.topic, m.letter = append(m.topic, m.topicQueue...), append(m.letter, m.letterQueue...)
	m.topicQueue, m.letterQueue = nil, nil
}

func (m *modelRelay) die(crash func(string, int) int) {
	m.topicQueue = m.topicQueue[:crash("appended to the topic", len(m.topicQueue)+1)]
	m.letterQueue = m.letterQueue[:crash("appended to the dead letters", len(m.letterQueue)+1)]
	m.flush()
}

// Nor does any event come twice, unless the relay is blind.
func TestParked_NoCrashLosesOrReordersAnEvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &modelRelay{mended: make(map[string]bool), blind: rapid.Bool().Draw(t, "blind")}
		var want []string
		var poisonous []string
		for i := range rapid.IntRange(1, 30).Draw(t, "items") {
			it := modelItem{key: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"), id: fmt.Sprintf("018f0000-0000-7000-8000-%012d", i)}
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				it.releases = true
			case 1:
				it.poison = true
				poisonous = append(poisonous, it.id)
			}
			m.stream = append(m.stream, it)
			if !it.releases {
				want = append(want, it.key+" "+it.id)
			}
		}
		at := 0
		for range rapid.IntRange(0, 8).Draw(t, "crashes") {
			to := rapid.IntRange(at, len(m.stream)).Draw(t, "dies at")
			at = m.run(at, to, func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(t, label) })
			if len(poisonous) > 0 {
				m.mended[rapid.SampledFrom(poisonous).Draw(t, "mended")] = true
			}
		}
		at = m.run(at, len(m.stream), nil)
		for _, id := range poisonous {
			m.mended[id] = true
		}
		for _, key := range []string{"a", "b"} {
			m.stream = append(m.stream, modelItem{key: key, id: "release " + key, releases: true})
		}
		m.run(at, len(m.stream), nil)

		keyOf := make(map[string]string)
		for _, it := range m.stream {
			keyOf[it.id] = it.key
		}
		var got []string
		for _, r := range m.topic {
			record := keyOf[r.id] + " " + r.id
			if !m.blind || !slices.Contains(got, record) {
				got = append(got, record)
			}
		}
		// Order within a key is what counts.
		slices.SortStableFunc(got, func(x, y string) int { return int(x[0]) - int(y[0]) })
		slices.SortStableFunc(want, func(x, y string) int { return int(x[0]) - int(y[0]) })
		if !slices.Equal(got, want) {
			t.Fatalf("published %q\n     want %q", got, want)
		}
	})
}
