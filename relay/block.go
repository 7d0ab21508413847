package relay

import "github.com/IBM/sarama"

// recordOverhead is about what a record costs in memory beyond its bytes.
const recordOverhead = 512

// recordHeader is a record's header as the publisher sends it.
type recordHeader = sarama.RecordHeader

// A block is the records that came out of one chunk, for all partitions, in the order of
// the stream. They share their memory, so that an event costs no allocation: the encoder
// fills a block, the publisher gives it back when the last of its records is acknowledged.
type block struct {
	bytes   []byte // keys, values and header values
	records []sarama.Record
	meta    []recordMeta
	headers []recordHeader
	refs    []*recordHeader

	unacked int // the publisher's count
	size    int // what it takes of the budget
}

// recordMeta is what the relay knows of a record beside its bytes.
type recordMeta struct {
	partition *partition
	ticket    Ticket
	position  Position
	id        []byte // of the event
	dead      string // why it goes to the dead-letter topic; empty for a record like others
}

// reset empties the block for the next use. One that a huge record has blown up gives its
// memory back.
func (b *block) reset() {
	if cap(b.bytes) > 8*chunkSize {
		*b = block{}
	}
	b.bytes, b.records, b.meta = b.bytes[:0], b.records[:0], b.meta[:0]
	b.headers, b.refs = b.headers[:0], b.refs[:0]
	b.unacked, b.size = 0, 0
}

// copy appends p to the block's bytes and returns it there, never nil: Kafka tells an empty
// key from none.
func (b *block) copy(p []byte) []byte {
	if len(p) == 0 {
		return []byte{}
	}
	start := len(b.bytes)
	b.bytes = append(b.bytes, p...)
	return b.since(start)
}

// since returns what was appended to bytes from start on. Growing bytes later moves what
// is appended after, never what a slice points at.
func (b *block) since(start int) []byte { return b.bytes[start:len(b.bytes):len(b.bytes)] }

// header adds a header to the record under construction.
func (b *block) header(key, value []byte) {
	b.headers = append(b.headers, recordHeader{Key: key, Value: value})
	b.refs = append(b.refs, &b.headers[len(b.headers)-1])
}

// sharedHeader adds a header that many records have in common.
func (b *block) sharedHeader(h *recordHeader) { b.refs = append(b.refs, h) }

// mark is a place in a block to which truncate returns.
type mark struct{ bytes, headers, refs int }

func (b *block) mark() mark { return mark{len(b.bytes), len(b.headers), len(b.refs)} }

func (b *block) truncate(m mark) {
	b.bytes, b.headers, b.refs = b.bytes[:m.bytes], b.headers[:m.headers], b.refs[:m.refs]
}

// add completes the record whose headers were added since m.
func (b *block) add(m mark, key, value []byte, meta recordMeta) {
	b.records = append(b.records, sarama.Record{
		Headers: b.refs[m.refs:len(b.refs):len(b.refs)],
		Key:     key,
		Value:   value,
	})
	b.meta = append(b.meta, meta)
}

// memory estimates what the block occupies.
func (b *block) memory() int { return len(b.bytes) + len(b.records)*recordOverhead }
