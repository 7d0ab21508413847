package relay

import (
	"strings"
	"testing"
)

// fullBlock returns a block as the encoder hands it over.
func fullBlock(bytes int) *block {
	return &block{bytes: make([]byte, bytes), records: make([]blockRecord, 1), size: bytes}
}

func TestBlockPool_KeepsEmptyBlocksUpToItsLimit(t *testing.T) {
	t.Parallel()
	p := blockPool{limit: 1 << 20}
	for range 100 {
		b := fullBlock(300 << 10)
		p.lend(b)
		p.put(b)
	}
	if len(p.spare) != 3 || p.bytes > p.limit || p.lent != 0 {
		t.Errorf("%d blocks of 300 kB are kept, %d bytes, and %d are lent; the limit is %d", len(p.spare), p.bytes, p.lent, p.limit)
	}
	for range 4 { // one more than there are
		if b := p.take(); len(b.bytes)+len(b.records) != 0 {
			t.Error("a block is not empty")
		}
	}
	if p.bytes != 0 {
		t.Errorf("%d bytes are kept in no block", p.bytes)
	}
}

// Else what a moment of many small blocks has left would stay beside the large ones.
func TestBlockPool_CountsWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	p := blockPool{limit: 1 << 20}
	large := fullBlock(900 << 10)
	p.lend(large)
	for range 10 {
		b := fullBlock(50 << 10)
		p.lend(b)
		p.put(b)
	}
	if len(p.spare) != 2 {
		t.Errorf("%d blocks of 50 kB are kept beside 900 kB on their way, want 2 under a limit of 1 MiB", len(p.spare))
	}
	p.put(large)
	if p.lent != 0 {
		t.Errorf("%d bytes are lent, though all blocks came back", p.lent)
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

func TestBlock_NamesThePartsOfARecord(t *testing.T) {
	t.Parallel()
	for _, headers := range []int{0, 1, 63, 64, 70, 9000} {
		var b block
		b.put([]byte("another record"))
		m := b.mark()
		key := b.put([]byte("order-1"))
		start := b.open(10)
		b.copy([]byte(strings.Repeat("v", 9000))) // its length takes more bytes than that of ten
		value := b.close(start, 10)
		b.beginHeaders()
		for range headers {
			b.text("name", "value")
		}
		id := b.named(appendText(nil, "ce_id"), []byte("e7"))
		b.add(m, blockRecord{key: key, value: value, id: id})
		r := &b.records[0]
		if got := string(b.at(r.key)) + " " + string(b.at(r.id)); got != "order-1 e7" {
			t.Errorf("with %d headers, key and id are %.20q", headers, got)
		}
		if got := string(b.at(r.value)); got != strings.Repeat("v", 9000) {
			t.Errorf("with %d headers, the value is %.20q", headers, got)
		}
		if int(r.body.from) != m || int(r.body.to) != len(b.bytes) {
			t.Errorf("with %d headers, the record is %v of %d bytes, want from %d on", headers, r.body, len(b.bytes), m)
		}
	}
}
