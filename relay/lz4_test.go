package relay

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
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

// Each length of a match that reaches the end of a block, and each start before it.
func TestLZ4Frames_KeepTheRulesForTheEndOfABlock(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for match := range 80 {
		for tail := range 16 {
			src := append(bytes.Clone(noise[:200]), noise[100:100+match]...)
			checkLZ4(t, append(src, noise[500:500+tail]...))
		}
	}
	for n := 1; n < 300; n++ {
		checkLZ4(t, bytes.Repeat([]byte{'x'}, n))
		checkLZ4(t, compressible(random, n))
	}
}

func FuzzLZ4Frames(f *testing.F) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 1, 12, 13, 64, 1000} {
		f.Add(compressible(random, n))
	}
	f.Fuzz(func(t *testing.T, src []byte) { checkLZ4(t, src) })
}
