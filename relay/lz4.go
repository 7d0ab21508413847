package relay

import (
	"encoding/binary"
	"slices"

	"github.com/klauspost/compress/s2"
)

// lz4Frames writes LZ4 frames of blocks that do not depend on each other: Kafka's own reader
// knows no others.
type lz4Frames struct {
	snappy []byte // the block that is being compressed, in snappy's format
}

const (
	// lz4Header begins a frame of version 1 with independent blocks of at most 64 kB and without
	// checksums, for the record batch has one (LZ4 Frame Format, "Frame Descriptor"). Its last
	// byte is its own checksum.
	lz4Header = "\x04\x22\x4d\x18\x60\x40\x82"
	// lz4Block is what goes into a block, a byte less than may: so no match of snappy's is
	// further back than LZ4 can say.
	lz4Block = 64<<10 - 1
	// lz4Stored in a block's size marks one that is not compressed.
	lz4Stored = 1 << 31
)

func (f *lz4Frames) compress(dst, src []byte) []byte {
	dst = append(dst, lz4Header...)
	for block := range slices.Chunk(src, lz4Block) {
		// To find the matches is the work. s2 does it in a third of the time that Go's library for
		// LZ4 needs, and to write them down in the other format takes half as long again.
		f.snappy = s2.EncodeSnappy(f.snappy, block)

		dst = append(dst, 0, 0, 0, 0) // its size
		start := len(dst)
		dst = appendLZ4Block(dst, block, f.snappy)
		size := uint32(len(dst) - start)
		if len(dst)-start >= len(block) {
			dst = append(dst[:start], block...)
			size = uint32(len(block)) | lz4Stored
		}
		binary.LittleEndian.PutUint32(dst[start-4:], size)
	}
	return append(dst, 0, 0, 0, 0) // the end mark
}

const (
	// lz4MinMatch is the shortest match that LZ4 can write.
	lz4MinMatch = 4
	// No match of LZ4 begins within the last 12 bytes of a block, and none covers its last 5
	// (LZ4 Block Format, "End of block restrictions").
	lz4LastMatch, lz4LastLiterals = 12, 5
)

// appendLZ4Block appends block, which snappy is the compressed form of, as a block of LZ4 with
// the same matches, except where LZ4 allows none. What snappy must write as several matches of
// at most 64 bytes becomes one again.
func appendLZ4Block(dst, block, snappy []byte) []byte {
	_, n := binary.Uvarint(snappy) // the length of block
	snappy = snappy[n:]

	start := len(dst)
	written := 0         // so much of block is in dst
	var m, next lz4Match // m is not written yet: the next may continue it
	for at := 0; at < len(block); {
		// Snappy Format Description, section 2.
		tag := snappy[0]
		switch tag & 3 {
		case 0: // literals
			size, length := 1, int(tag>>2)+1
			switch tag >> 2 {
			case 60:
				size, length = 2, int(snappy[1])+1
			case 61:
				size, length = 3, int(binary.LittleEndian.Uint16(snappy[1:]))+1
			case 62, 63: // more literals than there are
				return appendLZ4Literals(dst[:start], block, 0)
			}
			at += length
			snappy = snappy[size+length:]
			continue
		case 1: // a match of 4 to 11 bytes, at most 2047 back
			next = lz4Match{at, at + 4 + int(tag>>2&7), int(tag>>5)<<8 | int(snappy[1])}
			snappy = snappy[2:]
		case 2: // a match of 1 to 64 bytes, at most 65535 back
			next = lz4Match{at, at + 1 + int(tag>>2), int(binary.LittleEndian.Uint16(snappy[1:]))}
			snappy = snappy[3:]
		default: // a match further back than there is anything
			return appendLZ4Literals(dst[:start], block, 0)
		}
		at = next.end
		if next.start == m.end && next.offset == m.offset {
			m.end = at
			continue
		}
		dst, written = m.append(dst, block, written)
		m = next
	}
	dst, written = m.append(dst, block, written)
	return appendLZ4Literals(dst, block[written:], 0)
}

// An lz4Match says that the bytes from start to end of a block are those that stand offset
// bytes before them.
type lz4Match struct{ start, end, offset int }

// append appends the bytes of block from written on that are before m, and m. It leaves them
// to those that come next if LZ4 does not allow m.
func (m lz4Match) append(dst, block []byte, written int) ([]byte, int) {
	end := min(m.end, len(block)-lz4LastLiterals)
	length := end - m.start - lz4MinMatch
	if length < 0 || m.start > len(block)-lz4LastMatch {
		return dst, written
	}
	dst = appendLZ4Literals(dst, block[written:m.start], length)
	dst = append(dst, byte(m.offset), byte(m.offset>>8))
	return appendLZ4Length(dst, length), end
}

// appendLZ4Literals appends the literals of a sequence, and before them its token, in which
// stands the length of its match as well.
func appendLZ4Literals(dst, literals []byte, match int) []byte {
	dst = append(dst, byte(min(len(literals), 15)<<4|min(match, 15)))
	dst = appendLZ4Length(dst, len(literals))
	return append(dst, literals...)
}

// appendLZ4Length appends what of a length does not fit into the token.
func appendLZ4Length(dst []byte, n int) []byte {
	if n < 15 {
		return dst
	}
	for n -= 15; n >= 255; n -= 255 {
		dst = append(dst, 255)
	}
	return append(dst, byte(n))
}
