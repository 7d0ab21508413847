package transcode

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"math/bits"
)

// maxPrecision bounds the work that a short number with a large exponent can cause. It is
// as many digits as Postgres' numeric has before the point.
const maxPrecision = 131072

// decimal encodes a JSON number, or a string that holds one, as an unscaled integer: big
// endian two's complement, of the least length for bytes and of the whole size for fixed.
// The digits come from the text; no binary floating point is on the way.
func (e *encoder) decimal(dst []byte, n *node) ([]byte, *Error) {
	e.peek()
	from := e.pos
	num, err := e.decimalText(n)
	if err != nil {
		return dst, err
	}
	num.exp += n.scale
	if num.exp < 0 {
		return dst, e.failAt(from, Inexact, "more digits after the point than "+n.name+" has")
	}
	if num.digits() > n.precision {
		return dst, e.outOfRange(from, n)
	}
	var fits bool
	if num.digits() <= 18 {
		dst, fits = smallDecimal(dst, num, n)
	} else {
		dst, fits = bigDecimal(dst, num, n)
	}
	if !fits {
		return dst, e.outOfRange(from, n)
	}
	return dst, nil
}

// decimalText reads the number, in quotes or without.
func (e *encoder) decimalText(n *node) (decNumber, *Error) {
	if e.peek() != '"' {
		return e.number(n)
	}
	from := e.pos
	s, err := e.str()
	if err != nil {
		return decNumber{}, err
	}
	if length := scanNumber(s); length == 0 || length != len(s) {
		return decNumber{}, e.failAt(from, BadValue, "want "+n.name+", got a string that is not a number")
	}
	return parseNumber(s), nil
}

func smallDecimal(dst []byte, num decNumber, n *node) ([]byte, bool) {
	v := int64(num.uint64())
	if num.neg {
		v = -v
	}
	size := bits.Len64(uint64(v^v>>63))/8 + 1
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(v))
	return appendUnscaled(dst, b[8-size:], num.neg, n)
}

func bigDecimal(dst []byte, num decNumber, n *node) ([]byte, bool) {
	text := append(append([]byte(nil), num.whole...), num.fraction...)
	text = append(text, bytes.Repeat([]byte{'0'}, num.exp)...)
	v, _ := new(big.Int).SetString(string(text), 10)
	if num.neg {
		v.Sub(v, big.NewInt(1)) // -v is the complement of v-1
	}
	b := v.FillBytes(make([]byte, v.BitLen()/8+1))
	if num.neg {
		for i := range b {
			b[i] = ^b[i]
		}
	}
	return appendUnscaled(dst, b, num.neg, n)
}

// appendUnscaled appends b, which has the least length, as bytes or sign-extended as fixed.
// It reports whether b fits.
func appendUnscaled(dst, b []byte, neg bool, n *node) ([]byte, bool) {
	if !n.isFixed {
		return append(binary.AppendVarint(dst, int64(len(b))), b...), true
	}
	if len(b) > n.size {
		return dst, false
	}
	fill := byte(0)
	if neg {
		fill = 0xff
	}
	for range n.size - len(b) {
		dst = append(dst, fill)
	}
	return append(dst, b...), true
}
