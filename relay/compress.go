package relay

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
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
