package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A compressor returns what src is when compressed, in the memory of dst, which is empty, if
// it fits. It keeps memory for its next call, so it is used by one goroutine.
type compressor func(dst, src []byte) []byte

// newCompressor returns the compressor of a codec of kafka.compression.
func newCompressor(codec string) (compressor, error) {
	switch codec {
	case "none":
		return func(dst, src []byte) []byte { return append(dst, src...) }, nil
	case "gzip":
		w := gzip.NewWriter(nil)
		return func(dst, src []byte) []byte {
			buf := bytes.NewBuffer(dst) // writing to it cannot fail
			w.Reset(buf)
			_, _ = w.Write(src)
			_ = w.Close()
			w.Reset(nil) // or it would keep the memory
			return buf.Bytes()
		}, nil
	case "snappy":
		return xerial.Encode, nil
	case "lz4":
		return new(lz4Frames).compress, nil
	case "zstd":
		// Most batches are smaller than the window, and for none of them pays a larger one.
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxBatchBytes))
		if err != nil {
			return nil, err
		}
		return func(dst, src []byte) []byte { return w.EncodeAll(src, dst) }, nil
	}
	return nil, fmt.Errorf("no such compression: %q", codec)
}

// lz4Frames writes LZ4 frames of blocks that do not depend on each other: Kafka's own reader
// knows no others. lz4.Writer would do the same by way of two buffers more.
type lz4Frames struct{ blocks lz4.Compressor }

const (
	// lz4Header begins a frame of version 1 with independent blocks of at most 64 kB and without
	// checksums, for the record batch has one (LZ4 Frame Format, "Frame Descriptor"). Its last
	// byte is its own checksum.
	lz4Header = "\x04\x22\x4d\x18\x60\x40\x82"
	lz4Block  = 64 << 10
	// lz4Stored in a block's size marks one that is not compressed.
	lz4Stored = 1 << 31
)

func (f *lz4Frames) compress(dst, src []byte) []byte {
	dst = append(dst, lz4Header...)
	for block := range slices.Chunk(src, lz4Block) {
		dst = append(dst, 0, 0, 0, 0) // its size
		start := len(dst)
		dst = slices.Grow(dst, lz4.CompressBlockBound(len(block)))
		n, err := f.blocks.CompressBlock(block, dst[start:cap(dst)])
		size := uint32(n)
		if err != nil || n == 0 || n >= len(block) {
			n = copy(dst[start:cap(dst)], block)
			size = uint32(n) | lz4Stored
		}
		dst = dst[:start+n]
		binary.LittleEndian.PutUint32(dst[start-4:], size)
	}
	return append(dst, 0, 0, 0, 0) // the end mark
}
