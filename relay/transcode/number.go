package transcode

import (
	"encoding/binary"
	"math"
	"strconv"
)

// integer encodes a JSON number as an int or long, or as one of the logical types that count.
func (e *encoder) integer(dst []byte, n *node) ([]byte, *Error) {
	v, err := e.int64(n)
	if err != nil {
		return dst, err
	}
	return binary.AppendVarint(dst, v), nil
}

// int64 reads a number that is integral, however it is written, and in the range of n.
func (e *encoder) int64(n *node) (int64, *Error) {
	neg := e.peek() == '-'
	doc, p := e.doc, e.pos
	if neg {
		p++
	}
	first, u := p, uint64(0)
	for ; p < len(doc) && p-first < 19; p++ {
		d := doc[p] - '0'
		if d > 9 {
			break
		}
		u = u*10 + uint64(d)
	}
	digits := p - first
	if digits == 0 || digits > 18 || digits > 1 && doc[first] == '0' ||
		p < len(doc) && (doc[p] == '.' || doc[p]|0x20 == 'e') {
		return e.unusualInt64(n)
	}
	v := int64(u)
	if neg {
		v = -v
	}
	if v < n.low || v > n.high {
		return 0, e.outOfRange(e.pos, n)
	}
	e.pos = p
	return v, nil
}

// unusualInt64 reads an integer that is long, has a fraction or an exponent, or is none.
func (e *encoder) unusualInt64(n *node) (int64, *Error) {
	from := e.pos
	num, err := e.number(n)
	if err != nil {
		return 0, err
	}
	if num.exp < 0 {
		return 0, e.failAt(from, Inexact, "want "+n.name+", got a fraction")
	}
	if num.digits() > 19 {
		return 0, e.outOfRange(from, n)
	}
	u := num.uint64()
	v := int64(u)
	if num.neg {
		v = -v
	}
	// 19 digits fit uint64, so what does not fit int64 shows by the sign.
	if num.neg != (v < 0) || v < n.low || v > n.high {
		return 0, e.outOfRange(from, n)
	}
	return v, nil
}

func (e *encoder) outOfRange(pos int, n *node) *Error {
	return e.failAt(pos, OutOfRange, "beyond what "+n.name+" can hold")
}

// float encodes a number as the float nearest to it.
func (e *encoder) float(dst []byte, n *node) ([]byte, *Error) {
	f, err := e.float64(n, 32)
	if err != nil {
		return dst, err
	}
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(f))), nil
}

// double encodes a number as the double nearest to it.
func (e *encoder) double(dst []byte, n *node) ([]byte, *Error) {
	f, err := e.float64(n, 64)
	if err != nil {
		return dst, err
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), nil
}

func (e *encoder) float64(n *node, size int) (float64, *Error) {
	if e.peek() == '"' {
		return e.notFinite(n)
	}
	from := e.pos
	if size == 64 {
		if f, length := shortDouble(e.doc[from:]); length > 0 {
			e.pos += length
			return f, nil
		}
	}
	length := scanNumber(e.doc[from:])
	if length == 0 {
		return 0, e.noNumber(n)
	}
	// The conversion stays on the stack for tokens of up to 32 bytes.
	f, err := strconv.ParseFloat(string(e.doc[from:from+length]), size)
	if err != nil {
		return 0, e.outOfRange(from, n)
	}
	e.pos += length
	return f, nil
}

// powersOfTen are the powers that a double holds exactly, as far as shortDouble needs them.
var powersOfTen = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// shortDouble reads a number of at most 15 digits without an exponent, as nearly all are. Its
// digits and its power of ten are exact as doubles, so that their quotient is the double
// nearest to it (W. D. Clinger, How to Read Floating Point Numbers Accurately, 1990). Zeros at
// the end of a fraction do not count: Postgres writes a dozen of them after a division. For any
// other number the length is 0.
func shortDouble(b []byte) (f float64, length int) {
	p := 0
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		p++
	}
	first, point := p, -1
	u := uint64(0)             // the digits so far; of no use once there are too many
	short, end := uint64(0), p // those up to end, without the zeros behind
	for ; p < len(b); p++ {
		d := b[p] - '0'
		if d > 9 {
			if b[p] != '.' || point >= 0 {
				break
			}
			point = p
			continue
		}
		u = u*10 + uint64(d)
		if d != 0 || point < 0 {
			short, end = u, p+1
		}
	}
	whole, fraction := p-first, 0
	if point >= 0 {
		whole, fraction = point-first, max(end-point-1, 0)
	}
	if whole == 0 || whole > 1 && b[first] == '0' || point == p-1 || whole+fraction > 15 ||
		p < len(b) && b[p]|0x20 == 'e' {
		return 0, 0
	}
	f = float64(short) / powersOfTen[fraction]
	if neg {
		f = -f
	}
	return f, p
}

// notFinite reads the strings for what JSON has no numbers for.
func (e *encoder) notFinite(n *node) (float64, *Error) {
	from := e.pos
	s, err := e.str()
	if err != nil {
		return 0, err
	}
	switch string(s) {
	case "NaN":
		return math.NaN(), nil
	case "Infinity":
		return math.Inf(1), nil
	case "-Infinity":
		return math.Inf(-1), nil
	}
	return 0, e.failAt(from, WrongType, "want "+n.name+`, got a string other than "NaN", "Infinity" and "-Infinity"`)
}

// decNumber is a decimal number, ±mantissa × 10^exp. The mantissa is whole·fraction, read as
// one run of digits without zeros at its ends; both are empty when the number is 0.
type decNumber struct {
	neg             bool
	whole, fraction []byte
	exp             int
}

// number reads a JSON number.
func (e *encoder) number(n *node) (decNumber, *Error) {
	e.peek()
	length := scanNumber(e.doc[e.pos:])
	if length == 0 {
		return decNumber{}, e.noNumber(n)
	}
	num := parseNumber(e.doc[e.pos : e.pos+length])
	e.pos += length
	return num, nil
}

// noNumber is the error where a number was wanted: something else, or a number that breaks off.
func (e *encoder) noNumber(n *node) *Error {
	if formOf(e.peek()) == formNumber {
		return e.fail(Malformed, "a number that JSON does not allow")
	}
	return e.wrongType(n)
}

// scanNumber returns the length of the JSON number at the start of b, 0 when there is none.
func scanNumber(b []byte) int {
	p := 0
	if p < len(b) && b[p] == '-' {
		p++
	}
	n := countDigits(b[p:])
	if n == 0 || n > 1 && b[p] == '0' {
		return 0
	}
	p += n
	if p < len(b) && b[p] == '.' {
		if n = countDigits(b[p+1:]); n == 0 {
			return 0
		}
		p += 1 + n
	}
	if p < len(b) && b[p]|0x20 == 'e' {
		p++
		if p < len(b) && (b[p] == '+' || b[p] == '-') {
			p++
		}
		if n = countDigits(b[p:]); n == 0 {
			return 0
		}
		p += n
	}
	return p
}

func countDigits(b []byte) int {
	for i, c := range b {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(b)
}

// maxExp is where exponents saturate: far beyond any precision, far below an overflow.
const maxExp = 1 << 40

// parseNumber takes apart a number whose syntax scanNumber has checked.
func parseNumber(b []byte) decNumber {
	var num decNumber
	if b[0] == '-' {
		num.neg = true
		b = b[1:]
	}
	n := countDigits(b)
	num.whole, b = b[:n], b[n:]
	if len(b) > 0 && b[0] == '.' {
		n = countDigits(b[1:])
		num.fraction, b = b[1:1+n], b[1+n:]
	}
	if len(b) > 0 {
		num.exp = parseExponent(b[1:])
	}
	num.exp -= len(num.fraction)
	num.trim()
	return num
}

func parseExponent(b []byte) int {
	neg := b[0] == '-'
	exp := 0
	for _, c := range b {
		if c >= '0' && c <= '9' && exp < maxExp {
			exp = exp*10 + int(c-'0')
		}
	}
	if neg {
		return -exp
	}
	return exp
}

// trim takes zeros off both ends of the mantissa.
func (num *decNumber) trim() {
	num.fraction = num.trimRight(num.fraction)
	if len(num.fraction) == 0 {
		num.whole = num.trimRight(num.whole)
	}
	num.whole = trimLeft(num.whole)
	if len(num.whole) == 0 {
		num.fraction = trimLeft(num.fraction)
	}
	if num.mantissa() == 0 {
		num.exp, num.neg = 0, false
	}
}

func (num *decNumber) trimRight(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == '0' {
		b = b[:len(b)-1]
		num.exp++
	}
	return b
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && b[0] == '0' {
		b = b[1:]
	}
	return b
}

// mantissa returns how many digits the mantissa has.
func (num *decNumber) mantissa() int { return len(num.whole) + len(num.fraction) }

// digits returns how many digits the number has as an integer. Only for exp ≥ 0.
func (num *decNumber) digits() int { return num.mantissa() + num.exp }

// uint64 returns the number's absolute value. Only for exp ≥ 0 and up to 19 digits.
func (num *decNumber) uint64() uint64 {
	var u uint64
	for _, c := range num.whole {
		u = u*10 + uint64(c-'0')
	}
	for _, c := range num.fraction {
		u = u*10 + uint64(c-'0')
	}
	for range num.exp {
		u *= 10
	}
	return u
}
