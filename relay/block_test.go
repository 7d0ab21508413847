package relay

import "testing"

func TestBlockPool_KeepsEmptyBlocksUpToItsLimit(t *testing.T) {
	t.Parallel()
	p := blockPool{limit: 1 << 20}
	for range 100 {
		b := &block{bytes: make([]byte, 1, 300<<10), records: make([]blockRecord, 1), headers: make([]headerSpans, 1)}
		p.put(b)
	}
	if len(p.spare) != 3 || p.bytes > p.limit {
		t.Errorf("%d blocks of 300 kB are kept, %d bytes, limit %d", len(p.spare), p.bytes, p.limit)
	}
	for range 4 { // one more than there are
		if b := p.take(); len(b.bytes)+len(b.records)+len(b.headers) != 0 {
			t.Error("a block is not empty")
		}
	}
	if p.bytes != 0 {
		t.Errorf("%d bytes are kept in no block", p.bytes)
	}
}

// Else a backlog would make each of the blocks that a moment has needed as large as a full one.
func TestBlockPool_TakesTheSameFewAgain(t *testing.T) {
	t.Parallel()
	p := blockPool{limit: 1 << 20}
	for range 50 {
		p.put(new(block))
	}
	used := make(map[*block]bool)
	for range 1000 {
		a, b := p.take(), p.take()
		used[a], used[b] = true, true
		p.put(a)
		p.put(b)
	}
	if len(used) > 2 {
		t.Errorf("%d blocks were used where 2 were needed at a time", len(used))
	}
}
