package relay

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/pierrec/lz4/v4"
)

// checkLZ4Block fails the test where block, which is one of LZ4 for n bytes, breaks one of the
// rules for its end: decompressors that copy more than they need rely on them, and others
// never notice (LZ4 Block Format, "End of block restrictions").
func checkLZ4Block(tb testing.TB, block []byte, n int) {
	tb.Helper()
	length := func(nibble byte) int {
		n := int(nibble)
		for more := nibble == 15; more; block = block[1:] {
			n += int(block[0])
			more = block[0] == 255
		}
		return n
	}
	at, last := 0, -1 // the start of the last match
	for {
		token := block[0]
		block = block[1:]
		literals := length(token >> 4)
		at += literals
		block = block[literals:]
		if len(block) > 0 {
			if offset := int(binary.LittleEndian.Uint16(block)); offset == 0 || offset > at {
				tb.Fatalf("at %d of %d bytes is a match of what stands %d before", at, n, offset)
			}
			block, last = block[2:], at
			at += 4 + length(token&15)
			continue
		}
		switch {
		case at != n:
			tb.Fatalf("the block is of %d bytes, want %d", at, n)
		case token&15 != 0:
			tb.Fatal("the last sequence has the length of a match")
		case last >= 0 && literals < 5:
			tb.Fatalf("the last %d of %d bytes are literals, want 5", literals, n)
		case last >= 0 && last > n-12:
			tb.Fatalf("the last match begins at %d of %d bytes", last, n)
		}
		return
	}
}

func checkLZ4(tb testing.TB, src []byte) {
	tb.Helper()
	if len(src) > 0 && len(src) <= lz4Block {
		checkLZ4Block(tb, appendLZ4Block(nil, src, s2.EncodeSnappy(nil, src)), len(src))
	}
	out := new(lz4Frames).compress(nil, src)
	got, err := decompressors["lz4"](out)
	if err != nil || !bytes.Equal(got, src) {
		tb.Fatalf("%d bytes are %d when compressed and %d when read again: %v", len(src), len(out), len(got), err)
	}
}

// snappyBlock is a block and its snappy form, which is written by hand: s2 finds no matches
// near the end of one.
type snappyBlock struct{ block, snappy []byte }

func (s *snappyBlock) literals(b []byte) {
	if len(b) == 0 {
		return
	}
	s.block = append(s.block, b...)
	if len(b) <= 60 {
		s.snappy = append(s.snappy, byte(len(b)-1)<<2)
	} else {
		s.snappy = append(s.snappy, 60<<2, byte(len(b)-1))
	}
	s.snappy = append(s.snappy, b...)
}

// match appends what stands offset bytes before, in elements of at most so many bytes.
func (s *snappyBlock) match(offset, length, most int) {
	for ; length > 0; length -= most {
		n := min(length, most)
		for range n {
			s.block = append(s.block, s.block[len(s.block)-offset])
		}
		if n >= 4 && n <= 11 {
			s.snappy = append(s.snappy, byte(1|(n-4)<<2|offset>>8<<5), byte(offset))
		} else {
			s.snappy = append(s.snappy, byte(2|(n-1)<<2), byte(offset), byte(offset>>8))
		}
	}
}

func (s *snappyBlock) check(tb testing.TB) {
	tb.Helper()
	out := appendLZ4Block([]byte("before"), s.block, append(binary.AppendUvarint(nil, uint64(len(s.block))), s.snappy...))
	out = bytes.TrimPrefix(out, []byte("before"))
	checkLZ4Block(tb, out, len(s.block))
	got := make([]byte, len(s.block))
	if n, err := lz4.UncompressBlock(out, got); err != nil || !bytes.Equal(got[:n], s.block) {
		tb.Fatalf("%d bytes, snappy % x: read again as %q: %v", len(s.block), s.snappy, got[:n], err)
	}
}

// Every length of the last match, and every distance of its end from that of the block.
func TestLZ4Block_KeepsTheRulesForTheEnd(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 256)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for _, before := range []int{1, 3, 15, 16, 61, 200} {
		for length := range 90 {
			for tail := range 25 {
				for _, most := range []int{1, 3, 7, 60, 64} {
					var one, two snappyBlock
					one.literals(noise[:before])
					one.match(before, length, most)
					one.literals(noise[:tail])
					one.check(t)

					two.literals(noise[:before])
					two.match(1, 20, 64)
					two.match(before, length, most)
					two.literals(noise[:tail])
					two.check(t)
				}
			}
		}
	}
}

// s2 writes none of these in a block of this size.
func TestLZ4Block_ElementsThatItDoesNotKnowLeaveTheBlockAsItIs(t *testing.T) {
	t.Parallel()
	block := bytes.Repeat([]byte("abcd"), 10)
	for name, element := range map[string]string{
		"literals with a length of three bytes": "\xf8\x03\x00\x00abcd",
		"a match with an offset of four bytes":  "\x0cabcd\x8f\x04\x00\x00\x00",
	} {
		out := appendLZ4Block(nil, block, append(binary.AppendUvarint(nil, uint64(len(block))), element...))
		checkLZ4Block(t, out, len(block))
		got := make([]byte, len(block))
		if n, err := lz4.UncompressBlock(out, got); err != nil || !bytes.Equal(got[:n], block) {
			t.Errorf("%s: read again as %q: %v", name, got[:n], err)
		}
	}
}

func FuzzLZ4Frames(f *testing.F) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 1, 12, 13, 64, 1000} {
		f.Add(compressible(random, n))
	}
	f.Fuzz(func(t *testing.T, src []byte) { checkLZ4(t, src) })
}
