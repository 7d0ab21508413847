package relay

import (
	"math"
	"sync"
)

// A block is the records that came out of one chunk, for all partitions, in the order of
// the stream. They share their memory, so that an event costs no allocation, and name it by
// spans instead of slices, so that it costs the garbage collector nothing to look at: the
// encoder fills a block, the publisher gives it back when the last of its records is
// acknowledged.
type block struct {
	bytes   []byte // begins with what all records share, then keys, values, header names and values
	headers []headerSpans
	records []blockRecord

	shared  int // how much of bytes is what all records share
	unacked int // the publisher's count
	size    int // what it takes of the budget
}

// span is a piece of a block's bytes. A block holds one chunk's records and stays far below
// the 4 GiB that a span can name: a row of Postgres has at most one.
type span struct{ from, to uint32 }

// null is the span of what does not exist: Kafka tells an empty key or value from none.
var null = span{math.MaxUint32, math.MaxUint32}

func (s span) len() int { return int(s.to - s.from) }

type headerSpans struct{ name, value span }

// blockRecord is a record and what the relay knows of it.
type blockRecord struct {
	key, value   span
	id           span   // of the event; null for none
	first, after uint32 // its headers: headers[first:after]
	size         uint32 // as it travels, about
	partition    *partition
	ticket       Ticket
	position     Position
	dead         string // why it goes to the dead-letter topic; empty for a record like others
}

// begin makes an empty block start with shared, in which the spans of shared headers lie.
func (b *block) begin(shared []byte) {
	if len(b.bytes) == 0 {
		b.bytes = append(b.bytes, shared...)
		b.shared = len(shared)
	}
}

// reset empties the block for the next use. One that a huge record has blown up gives its
// memory back.
func (b *block) reset() {
	if cap(b.bytes) > 8*chunkSize {
		*b = block{}
	}
	b.bytes, b.headers, b.records = b.bytes[:0], b.headers[:0], b.records[:0]
	b.unacked, b.size = 0, 0
}

// at returns the bytes of s, nil for null.
func (b *block) at(s span) []byte {
	if s == null {
		return nil
	}
	return b.bytes[s.from:s.to:s.to]
}

// copy appends p to the block's bytes and returns it there, never null.
func (b *block) copy(p []byte) span {
	start := len(b.bytes)
	b.bytes = append(b.bytes, p...)
	return b.since(start)
}

// since returns what was appended to bytes from start on.
func (b *block) since(start int) span { return span{uint32(start), uint32(len(b.bytes))} }

// header adds a header to the record under construction.
func (b *block) header(name, value span) {
	b.headers = append(b.headers, headerSpans{name, value})
}

// text adds a header of a name and a value that are not in the block yet.
func (b *block) text(name, value string) {
	start := len(b.bytes)
	b.bytes = append(b.bytes, name...)
	n := b.since(start)
	start = len(b.bytes)
	b.bytes = append(b.bytes, value...)
	b.header(n, b.since(start))
}

// mark is a place in a block to which truncate returns.
type mark struct{ bytes, headers int }

func (b *block) mark() mark { return mark{len(b.bytes), len(b.headers)} }

func (b *block) truncate(m mark) { b.bytes, b.headers = b.bytes[:m.bytes], b.headers[:m.headers] }

// add completes the record whose headers were added since m.
func (b *block) add(m mark, r blockRecord) {
	r.first, r.after = uint32(m.headers), uint32(len(b.headers))
	r.size = uint32(len(b.bytes) - m.bytes + b.shared)
	b.records = append(b.records, r)
}

const (
	// recordOverhead and headerOverhead are about what a record and a header cost in memory
	// beyond their bytes.
	recordOverhead = 128
	headerOverhead = 16
)

// memory estimates what the block occupies.
func (b *block) memory() int {
	return len(b.bytes) + len(b.records)*recordOverhead + len(b.headers)*headerOverhead
}

// capacity is what the block keeps of memory for the next records, about.
func (b *block) capacity() int {
	return cap(b.bytes) + cap(b.records)*recordOverhead + cap(b.headers)*headerOverhead
}

// blockPool keeps empty blocks for the next use. The one that came last is taken first: in a
// row each of them would grow in time to the size of a full one, however few are needed at
// once. What is on its way counts too, or the blocks of a moment that needed many small ones
// would stay beside the large ones that came after.
type blockPool struct {
	mu    sync.Mutex
	spare []*block
	bytes int // that the spare ones take
	lent  int // sizes of the others, as the budget counts them
	limit int // of both together, about
}

// take returns an empty block.
func (p *blockPool) take() *block {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.spare) - 1
	if last < 0 {
		return new(block)
	}
	b := p.spare[last]
	p.spare[last] = nil
	p.spare = p.spare[:last]
	p.bytes -= b.capacity()
	return b
}

// lend counts a block that is on its way, until it is put back.
func (p *blockPool) lend(b *block) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent += b.size
}

// put empties a block and keeps it, if there is room.
func (p *blockPool) put(b *block) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent -= b.size
	b.reset()
	if p.lent+p.bytes+b.capacity() <= p.limit {
		p.spare = append(p.spare, b)
		p.bytes += b.capacity()
	}
}
