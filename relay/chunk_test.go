package relay

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// chunkMessage is a message of a chunk: WAL bytes, or the LSN of a keepalive.
type chunkMessage struct {
	WAL      []byte
	Progress LSN
}

func readChunk(t rapid.TB, c *chunk) (messages []chunkMessage) {
	for rest := c.buf; len(rest) > 0; {
		var tag byte
		var msg []byte
		tag, msg, rest = nextMessage(rest)
		switch tag {
		case tagWAL:
			messages = append(messages, chunkMessage{WAL: append([]byte{}, msg...)})
		case tagProgress:
			messages = append(messages, chunkMessage{Progress: progressLSN(msg)})
		default:
			t.Fatalf("tag %q", tag)
		}
	}
	return messages
}

func TestChunk_GivesBackItsMessagesInOrder(t *testing.T) {
	t.Parallel()
	var c chunk // one for all, as the relay uses it
	rapid.Check(t, func(t *rapid.T) {
		c.reset()
		var want []chunkMessage
		for range rapid.IntRange(0, 20).Draw(t, "messages") {
			if rapid.Bool().Draw(t, "keepalive") {
				lsn := LSN(rapid.Uint64().Draw(t, "lsn"))
				c.appendProgress(lsn)
				want = append(want, chunkMessage{Progress: lsn})
				continue
			}
			msg := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "wal")
			c.appendWAL(msg)
			want = append(want, chunkMessage{WAL: append([]byte{}, msg...)})
		}
		if c.messages != len(want) {
			t.Fatalf("%d messages are counted, %d were appended", c.messages, len(want))
		}
		if diff := cmp.Diff(want, readChunk(t, &c)); diff != "" {
			t.Fatalf("messages (-appended +read):\n%s", diff)
		}
	})
}

func TestChunk_IsFullAtItsSize(t *testing.T) {
	t.Parallel()
	var c chunk
	c.appendWAL(make([]byte, chunkSize-chunkHeader-1))
	if c.full() {
		t.Errorf("full at %d bytes", len(c.buf))
	}
	c.appendWAL(nil)
	if !c.full() {
		t.Errorf("not full at %d bytes", len(c.buf))
	}
}

func TestChunk_LetsGoOfTheMemoryOfAHugeRow(t *testing.T) {
	t.Parallel()
	var c chunk
	c.appendWAL(make([]byte, 8<<20))
	c.reset()
	if cap(c.buf) > 4*chunkSize || c.messages != 0 || len(c.buf) != 0 {
		t.Errorf("after a row of 8 MiB a chunk keeps %d bytes and %d messages", cap(c.buf), c.messages)
	}
	c.appendWAL([]byte("next"))
	if diff := cmp.Diff([]chunkMessage{{WAL: []byte("next")}}, readChunk(t, &c)); diff != "" {
		t.Errorf("messages after a huge row (-want +got):\n%s", diff)
	}
}

func TestChunk_IsFilledAgainWithoutAllocation(t *testing.T) {
	msg := make([]byte, 1000)
	var c chunk
	allocs := testing.AllocsPerRun(10, func() {
		c.reset()
		for !c.full() {
			c.appendWAL(msg)
			c.appendProgress(1)
		}
	})
	if allocs != 0 {
		t.Errorf("filling a used chunk costs %v allocations", allocs)
	}
}

func TestChunks_AreBoundedAndNeverBlockTheOneWhoHandsOver(t *testing.T) {
	t.Parallel()
	ch := newChunks()
	for range chunkCount {
		c := ch.take()
		if c == nil {
			t.Fatalf("there are fewer than %d chunks", chunkCount)
		}
		ch.handOver(c)
	}
	if ch.take() != nil {
		t.Errorf("there are more than %d chunks", chunkCount)
	}
}

// Sixteen rows of twenty megabytes would else be read while the encoder stands at the first.
func TestChunks_AreNotTakenWhileHugeRowsFillOthers(t *testing.T) {
	t.Parallel()
	ch := newChunks()
	huge := ch.take()
	huge.appendWAL(make([]byte, readAhead))
	ch.handOver(huge)
	for range chunkCount - 1 {
		if c := ch.take(); c != nil {
			t.Fatal("a chunk was taken beside one with a huge row")
		}
		ch.keep(<-ch.free)
	}
	ch.giveBack(<-ch.filled)
	ch.keep(<-ch.free)
	for range chunkCount {
		c := ch.take()
		if c == nil {
			t.Fatal("a chunk was lost")
		}
		if len(c.buf) != 0 || cap(c.buf) > 4*chunkSize {
			t.Errorf("a chunk that was given back holds %d bytes in %d", len(c.buf), cap(c.buf))
		}
	}
}
