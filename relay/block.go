package relay

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"time"
)

// A block is the records that came out of one chunk, for all partitions, in the order of
// the stream. They stand in it as they travel, but for what tells their place in a batch, and
// share its memory, so that an event costs no allocation. A record names its parts by spans
// instead of slices, so that it costs the garbage collector nothing to look at. The encoder
// fills a block, the publisher gives it back when the last of its records is acknowledged.
type block struct {
	bytes   []byte
	records []blockRecord

	headers   int // of the record under construction
	headersAt int // where bytes says how many these are

	unacked int // the publisher's count
	size    int // what it takes of the budget

	// late is about how long after its commit the server sent the last of the records. The two
	// times may be of different clocks.
	late time.Duration
}

// span is a piece of a block's bytes. A block holds one chunk's records and stays far below
// the 4 GiB that a span can name: a row of Postgres has at most one.
type span struct{ from, to uint32 }

// null is the span of what does not exist: Kafka tells an empty key or value from none.
var null = span{math.MaxUint32, math.MaxUint32}

func (s span) len() int { return int(s.to - s.from) }

// blockRecord is a record and what the relay knows of it.
type blockRecord struct {
	body       span // key, value and headers, as they travel
	key, value span
	id         span // of the event; null for none
	partition  *partition
	ticket     Ticket
	position   Position
	dead       string // why it goes to the dead-letter topic; empty for a record like others
}

// memory estimates what the record occupies.
func (r *blockRecord) memory() int { return r.body.len() + recordOverhead }

// reset empties the block for the next use. One that a huge record has blown up gives its
// memory back.
func (b *block) reset() {
	if cap(b.bytes) > 8*chunkSize {
		*b = block{}
	}
	b.bytes, b.records = b.bytes[:0], b.records[:0]
	b.unacked, b.size = 0, 0
}

// at returns the bytes of s, nil for null.
func (b *block) at(s span) []byte {
	if s == null {
		return nil
	}
	return b.bytes[s.from:s.to:s.to]
}

// since returns what was appended to bytes from start on.
func (b *block) since(start int) span { return span{uint32(start), uint32(len(b.bytes))} }

// copy appends p to the block's bytes and returns it there, never null.
func (b *block) copy(p []byte) span {
	start := len(b.bytes)
	b.bytes = append(b.bytes, p...)
	return b.since(start)
}

// mark is where the next record begins, and where truncate returns to.
func (b *block) mark() int { return len(b.bytes) }

func (b *block) truncate(mark int) { b.bytes = b.bytes[:mark] }

// put appends p behind its length, as the parts of a record travel (Kafka protocol, "Record
// Batch", "Record"): key, value, then beginHeaders and the names and values of headers.
func (b *block) put(p []byte) span {
	b.bytes = binary.AppendVarint(b.bytes, int64(len(p)))
	return b.copy(p)
}

// putNull appends what stands for no key or no value, the length -1.
func (b *block) putNull() span {
	b.bytes = append(b.bytes, 1)
	return null
}

// open begins a part whose length is not known yet: what is appended to bytes until close. It
// costs least when the length takes as many bytes as that of size.
func (b *block) open(size int) (start int) {
	b.bytes = append(b.bytes, make([]byte, varintLen(size))...)
	return len(b.bytes)
}

// close ends the part that open(size) has begun at start.
func (b *block) close(start, size int) span {
	reserved, length := varintLen(size), len(b.bytes)-start
	if needs := varintLen(length); needs > reserved {
		b.bytes = slices.Insert(b.bytes, start, make([]byte, needs-reserved)...)
	} else if needs < reserved {
		b.bytes = slices.Delete(b.bytes, start-(reserved-needs), start)
	}
	part := span{uint32(len(b.bytes) - length), uint32(len(b.bytes))}
	binary.PutVarint(b.bytes[start-reserved:], int64(length))
	return part
}

// beginHeaders follows the value, with or without headers behind it.
func (b *block) beginHeaders() {
	b.headers, b.headersAt = 0, len(b.bytes)
	b.bytes = append(b.bytes, 0) // room for the usual number
}

// header adds a header.
func (b *block) header(name, value []byte) {
	b.put(name)
	b.put(value)
	b.headers++
}

// encoded adds n headers that are encoded already.
func (b *block) encoded(headers []byte, n int) {
	b.bytes = append(b.bytes, headers...)
	b.headers += n
}

// named adds a header whose name is encoded already, and returns where its value stands.
func (b *block) named(name, value []byte) span {
	b.encoded(name, 1)
	return b.put(value)
}

// openNamed adds a header whose name is encoded already and whose value follows, until close.
func (b *block) openNamed(name []byte, size int) (start int) {
	b.encoded(name, 1)
	return b.open(size)
}

// text adds a header of strings.
func (b *block) text(name, value string) {
	b.bytes = appendText(appendText(b.bytes, name), value)
	b.headers++
}

// appendText appends text behind its length.
func appendText(dst []byte, text string) []byte {
	return append(binary.AppendVarint(dst, int64(len(text))), text...)
}

// add completes the record that begins at mark.
func (b *block) add(mark int, r blockRecord) {
	if more := varintLen(b.headers) - 1; more > 0 {
		b.bytes = slices.Insert(b.bytes, b.headersAt, make([]byte, more)...)
		if r.id != null && int(r.id.from) > b.headersAt {
			r.id.from, r.id.to = r.id.from+uint32(more), r.id.to+uint32(more)
		}
	}
	binary.PutVarint(b.bytes[b.headersAt:], int64(b.headers))
	r.body = b.since(mark)
	b.records = append(b.records, r)
}

// varintLen is how many bytes n takes as a zigzag varint. n is not negative.
func varintLen(n int) int {
	size := 1
	for n >>= 6; n > 0; n >>= 7 {
		size++
	}
	return size
}

// recordOverhead is about what a record costs in memory beyond its bytes.
const recordOverhead = 128

// memory estimates what the block occupies.
func (b *block) memory() int { return len(b.bytes) + len(b.records)*recordOverhead }

// capacity is what the block keeps of memory for the next records, about.
func (b *block) capacity() int { return cap(b.bytes) + cap(b.records)*recordOverhead }

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
