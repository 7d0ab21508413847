package relay

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRecordQueue_KeepsTheOrderAndLetsGoOfWhatWasPopped(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q recordQueue
		var want []queuedRecord
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			for range rapid.IntRange(0, 9).Draw(t, "pushed") {
				r := queuedRecord{block: new(block)}
				q.push(r)
				want = append(want, r)
			}
			n := rapid.IntRange(0, len(want)).Draw(t, "popped")
			if !slices.Equal(q.front(n), want[:n]) {
				t.Fatal("the first records are not those that were pushed first")
			}
			q.pop(n)
			want = want[n:]
			if q.len() != len(want) {
				t.Fatalf("%d records are in the queue, want %d", q.len(), len(want))
			}
			held := 0
			for _, r := range q.records[:cap(q.records)] {
				if r.block != nil {
					held++
				}
			}
			if held != len(want) {
				t.Fatalf("the queue holds on to %d blocks, %d records are in it", held, len(want))
			}
		}
	})
}
