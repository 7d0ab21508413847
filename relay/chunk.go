package relay

import (
	"encoding/binary"
	"sync/atomic"
)

// chunkSize is how many bytes of the stream travel together from the source to the
// encoder. Larger chunks cost latency under load and memory, smaller ones a channel
// operation more often.
const chunkSize = 128 << 10

// chunkSlack is room for the message that fills a chunk.
const chunkSlack = 8 << 10

// chunkCount bounds the chunks that exist, and with them what is read ahead of the
// encoder. A transaction of any size passes through them piece by piece.
const chunkCount = 16

// readAhead bounds the bytes in chunks that were handed over: a chunk with a huge row can be
// of any size. Nothing more is read while they hold more.
const readAhead = 2 * chunkCount * chunkSize

// A chunk is a run of messages in the order of the stream. The source fills it, the
// encoder reads it and gives it back.
type chunk struct {
	buf      []byte
	messages int
	// serverTime is the server's clock when it sent the last message, microseconds since
	// 2000-01-01: the clock by which events expire.
	serverTime int64
}

// The messages in a chunk: a length, a tag and the bytes.
const (
	tagWAL      = 'w' // a pgoutput message
	tagProgress = 'k' // an LSN from a keepalive, at its place in the stream
)

const chunkHeader = 5

func (c *chunk) reset() {
	if cap(c.buf) > 4*chunkSize {
		c.buf = nil // one huge row must not stay in memory for ever
	}
	c.buf, c.messages = c.buf[:0], 0
}

func (c *chunk) full() bool { return len(c.buf) >= chunkSize }

func (c *chunk) appendWAL(msg []byte) {
	if c.buf == nil {
		c.buf = make([]byte, 0, chunkSize+chunkSlack)
	}
	c.buf = binary.LittleEndian.AppendUint32(c.buf, uint32(len(msg)))
	c.buf = append(c.buf, tagWAL)
	c.buf = append(c.buf, msg...)
	c.messages++
}

func (c *chunk) appendProgress(lsn LSN) {
	c.buf = binary.LittleEndian.AppendUint32(c.buf, 8)
	c.buf = append(c.buf, tagProgress)
	c.buf = binary.LittleEndian.AppendUint64(c.buf, uint64(lsn))
	c.messages++
}

// next splits the first message off buf, which only this file has written.
func nextMessage(buf []byte) (tag byte, msg, rest []byte) {
	n := binary.LittleEndian.Uint32(buf)
	return buf[4], buf[chunkHeader : chunkHeader+n], buf[chunkHeader+n:]
}

func progressLSN(msg []byte) LSN { return LSN(binary.LittleEndian.Uint64(msg)) }

// chunks is the bounded set of chunks of one session: taken from free, handed over by
// filled, and given back to free.
type chunks struct {
	free   chan *chunk
	filled chan *chunk
	out    atomic.Int64 // bytes in chunks that are handed over and not given back
	spare  []*chunk     // free ones that the source has taken, and may not fill yet
}

func newChunks() *chunks {
	c := &chunks{free: make(chan *chunk, chunkCount), filled: make(chan *chunk, chunkCount)}
	for range chunkCount {
		c.free <- new(chunk)
	}
	return c
}

// take returns an empty chunk: nil while there is none, or while others hold more than
// readAhead. Who fills chunks waits for free then, keeps what comes, and asks again.
func (ch *chunks) take() *chunk {
	if ch.out.Load() > readAhead {
		return nil
	}
	if last := len(ch.spare) - 1; last >= 0 {
		c := ch.spare[last]
		ch.spare = ch.spare[:last]
		return c
	}
	select {
	case c := <-ch.free:
		return c
	default:
		return nil
	}
}

// keep puts aside a chunk that came from free.
func (ch *chunks) keep(c *chunk) { ch.spare = append(ch.spare, c) }

// handOver passes c on to the encoder. It never waits: the channel has room for every chunk
// there is.
func (ch *chunks) handOver(c *chunk) {
	ch.out.Add(int64(len(c.buf)))
	ch.filled <- c
}

// giveBack empties c for the next use, and lets go of the memory of a huge row at once.
func (ch *chunks) giveBack(c *chunk) {
	ch.out.Add(-int64(len(c.buf)))
	c.reset()
	ch.free <- c
}
