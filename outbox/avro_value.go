package outbox

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"time"
	"unicode/utf8"
)

func (w *writer) long(n int64) { w.b = binary.AppendVarint(w.b, n) }

func (w *writer) uint32(n uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, n) }

func (w *writer) bytes(p []byte) {
	w.long(int64(len(p)))
	w.b = append(w.b, p...)
}

func (w *writer) string(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not valid UTF-8", s)
	}
	w.long(int64(len(s)))
	w.b = append(w.b, s...)
	return nil
}

func encodeBool(w *writer, v reflect.Value) error {
	if v.Bool() {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
	return nil
}

func encodeFloat(w *writer, v reflect.Value) error {
	w.uint32(math.Float32bits(float32(v.Float())))
	return nil
}

func encodeDouble(w *writer, v reflect.Value) error {
	w.b = binary.LittleEndian.AppendUint64(w.b, math.Float64bits(v.Float()))
	return nil
}

func encodeBytes(w *writer, v reflect.Value) error {
	w.bytes(v.Bytes())
	return nil
}

func encodeFixed(w *writer, v reflect.Value) error {
	for i := range v.Len() {
		w.b = append(w.b, byte(v.Index(i).Uint()))
	}
	return nil
}

// integer encodes every Go integer, checked against the range of an Avro int or long.
func integer(t reflect.Type, isInt bool) encoder {
	low, high, name := int64(math.MinInt64), int64(math.MaxInt64), "long"
	if isInt {
		low, high, name = math.MinInt32, math.MaxInt32, "int"
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(w *writer, v reflect.Value) error {
			n := v.Int()
			if n < low || n > high {
				return fmt.Errorf("%d is out of range for %s", n, name)
			}
			w.long(n)
			return nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(w *writer, v reflect.Value) error {
			n := v.Uint()
			if n > uint64(high) {
				return fmt.Errorf("%d is out of range for %s", n, name)
			}
			w.long(int64(n))
			return nil
		}
	}
	return nil
}

// textOf returns how a value of type t gives its text, nil if it has none.
func textOf(t reflect.Type) func(reflect.Value) (string, error) {
	switch {
	case t.Implements(textMarshalerType):
		return func(v reflect.Value) (string, error) {
			text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
			return string(text), err
		}
	case reflect.PointerTo(t).Implements(textMarshalerType) && t.Kind() != reflect.String:
		return func(v reflect.Value) (string, error) {
			p := reflect.New(t)
			p.Elem().Set(v)
			text, err := p.Interface().(encoding.TextMarshaler).MarshalText()
			return string(text), err
		}
	case t.Kind() == reflect.String:
		return func(v reflect.Value) (string, error) { return v.String(), nil }
	}
	return nil
}

func encodeString(text func(reflect.Value) (string, error), isUUID bool) encoder {
	return func(w *writer, v reflect.Value) error {
		s, err := text(v)
		if err != nil {
			return err
		}
		if isUUID && !looksLikeUUID(s) {
			return fmt.Errorf("%q is not a UUID", s)
		}
		return w.string(s)
	}
}

// looksLikeUUID wants the form of RFC 9562: 8-4-4-4-12 hexadecimal digits.
func looksLikeUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	return true
}

const secondsOfDay = 24 * 60 * 60

// encodeDate takes the date that the time shows in its own location: midnight of a day in
// Berlin is that day, though UTC still has the one before.
func encodeDate(w *writer, v reflect.Value) error {
	t := v.Interface().(time.Time)
	days := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / secondsOfDay
	if days < math.MinInt32 || days > math.MaxInt32 {
		return fmt.Errorf("%v is out of range for date", t)
	}
	w.long(days)
	return nil
}

// encodeClock encodes a time of day.
func encodeClock(unit time.Duration) encoder {
	return func(w *writer, v reflect.Value) error {
		d := time.Duration(v.Int())
		if d < 0 || d >= secondsOfDay*time.Second {
			return fmt.Errorf("%v is not a time of day", d)
		}
		w.long(int64(d / unit))
		return nil
	}
}

// encodeTimestamp encodes an instant or, local, what the clock shows at it.
func encodeTimestamp(unit time.Duration, local bool) encoder {
	perSecond := int64(time.Second / unit)
	return func(w *writer, v reflect.Value) error {
		t := v.Interface().(time.Time)
		if local {
			t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
		}
		seconds := t.Unix()
		if seconds > math.MaxInt64/perSecond-1 || seconds < math.MinInt64/perSecond+1 {
			return fmt.Errorf("%v is out of range for a timestamp in units of %v", t, unit)
		}
		w.long(seconds*perSecond + int64(t.Nanosecond())/int64(unit))
		return nil
	}
}

// decimal encodes a big.Rat as its unscaled integer, big endian in two's complement: in the
// fewest bytes, or in exactly size of them where size is not 0. A value that the scale
// cannot hold exactly is refused rather than rounded.
func decimal(precision, scale, size int) encoder {
	factor := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)
	return func(w *writer, v reflect.Value) error {
		var r *big.Rat
		if v.CanAddr() {
			r = v.Addr().Interface().(*big.Rat)
		} else {
			value := v.Interface().(big.Rat)
			r = &value
		}
		unscaled, rest := new(big.Int).QuoRem(new(big.Int).Mul(r.Num(), factor), r.Denom(), new(big.Int))
		if rest.Sign() != 0 {
			return fmt.Errorf("%s has more decimals than scale %d allows", r.RatString(), scale)
		}
		if unscaled.CmpAbs(limit) >= 0 {
			return fmt.Errorf("%s has more digits than precision %d allows", r.FloatString(scale), precision)
		}
		b := twosComplement(unscaled)
		if size == 0 {
			w.bytes(b)
			return nil
		}
		if len(b) > size {
			return fmt.Errorf("%s does not fit into %d bytes", r.FloatString(scale), size)
		}
		var sign byte
		if unscaled.Sign() < 0 {
			sign = 0xff
		}
		for range size - len(b) {
			w.b = append(w.b, sign)
		}
		w.b = append(w.b, b...)
		return nil
	}
}

func twosComplement(n *big.Int) []byte {
	if n.Sign() >= 0 {
		// One bit for the sign in front.
		return n.FillBytes(make([]byte, n.BitLen()/8+1))
	}
	// -n-1 has the bits of n inverted.
	inverted := new(big.Int).Not(n)
	b := inverted.FillBytes(make([]byte, inverted.BitLen()/8+1))
	for i := range b {
		b[i] = ^b[i]
	}
	return b
}
