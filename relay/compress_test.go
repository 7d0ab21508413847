package relay

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// decompressors read what others wrote.
var decompressors = map[string]func([]byte) ([]byte, error){
	"none": func(b []byte) ([]byte, error) { return b, nil },
	"gzip": func(b []byte) ([]byte, error) {
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	},
	"snappy": xerial.Decode,
	"lz4":    func(b []byte) ([]byte, error) { return io.ReadAll(lz4.NewReader(bytes.NewReader(b))) },
	"zstd": func(b []byte) ([]byte, error) {
		r, err := zstd.NewReader(nil)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return r.DecodeAll(b, nil)
	},
}

// compressible returns n bytes in which some repeats and some does not.
func compressible(random *rand.Rand, n int) []byte {
	b := make([]byte, 0, n)
	for len(b) < n {
		if from := random.IntN(len(b) + 1); random.IntN(2) == 0 {
			b = append(b, b[from:min(len(b), from+random.IntN(300))]...)
			continue
		}
		for range random.IntN(100) {
			b = append(b, byte(random.Uint32()))
		}
	}
	return b[:n]
}

func TestCompressor_WritesWhatOthersRead(t *testing.T) {
	t.Parallel()
	for codec := range compressionCodecs {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			compress, err := newCompressor(codec)
			if err != nil {
				t.Fatal(err)
			}
			noise := make([]byte, 3*lz4Block+17)
			for i := range noise {
				noise[i] = byte(random.Uint32())
			}
			sources := [][]byte{{7}, bytes.Repeat([]byte{'x'}, 2<<20), noise, noise[:10], noise[:lz4Block]}
			for range 100 {
				sources = append(sources, compressible(random, 1+random.IntN(1+random.IntN(300_000))))
			}
			var out []byte
			for _, src := range sources {
				kept := slices.Clone(src)
				out = compress(out[:0], src)
				if !bytes.Equal(src, kept) {
					t.Fatal("the source was changed")
				}
				got, err := decompressors[codec](out)
				if err != nil || !bytes.Equal(got, src) {
					t.Fatalf("%d bytes are %d when compressed and %d when read again: %v", len(src), len(out), len(got), err)
				}
				if len(src) == 2<<20 && codec != "none" && len(out) > len(src)/10 {
					t.Errorf("%d equal bytes are %d when compressed", len(src), len(out))
				}
			}
		})
	}
}

func TestCompressor_RefusesACodecThatKafkaDoesNotHave(t *testing.T) {
	t.Parallel()
	if _, err := newCompressor("brotli"); err == nil {
		t.Error("no error")
	}
}
