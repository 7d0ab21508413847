package transcode

import (
	"encoding/binary"
	"math"
	"time"
)

// time encodes the logical types date, time-…, timestamp-… and local-timestamp-…, given
// as a count (a JSON number) or as text.
func (e *encoder) time(dst []byte, n *node) ([]byte, *Error) {
	if e.peek() != '"' {
		return e.integer(dst, n)
	}
	from := e.pos
	s, err := e.str()
	if err != nil {
		return dst, err
	}
	v, kind, reason := n.parseTime(s)
	if kind != 0 {
		return dst, e.failAt(from, kind, reason)
	}
	return binary.AppendVarint(dst, v), nil
}

// parseTime returns the count that the text s stands for in n's unit, or what is wrong with it.
func (n *node) parseTime(s []byte) (v int64, kind Kind, reason string) {
	t := timeText{rest: s}
	ok := true
	if n.kind != kindTime {
		ok = t.date()
	}
	if n.kind == kindTimestamp {
		ok = ok && t.separator()
	}
	if n.kind != kindDate {
		ok = ok && t.clock()
	}
	if n.kind == kindTimestamp && !n.local {
		ok = ok && t.offset()
	}
	if !ok || len(t.rest) > 0 {
		return 0, BadValue, "want " + n.name + " such as " + n.example()
	}
	if n.kind == kindDate {
		return t.seconds / 86400, 0, ""
	}
	// Finer digits are cut off, as every Avro library does: now() in Postgres has microseconds,
	// and whoever declares milliseconds asks for no more.
	tick := int64(time.Second) / n.perSecond // in nanoseconds
	v, ok = ticks(t.seconds, t.nanos/tick, n.perSecond)
	if !ok {
		return 0, OutOfRange, "beyond what " + n.name + " can hold"
	}
	return v, 0, ""
}

func (n *node) example() string {
	switch {
	case n.kind == kindDate:
		return "2026-11-21"
	case n.kind == kindTime:
		return "05:00:00.123 (no time zone)"
	case n.local:
		return "2026-11-21T05:00:00.123 (no time zone)"
	}
	return "2026-11-21T05:00:00.123Z (a time zone is required)"
}

// ticks returns seconds and the sub-second part as one count of ticks.
func ticks(seconds, part, perSecond int64) (int64, bool) {
	// Before 1970 the part counts towards zero, so that the product alone does not
	// overflow where the sum would still fit.
	if seconds < 0 {
		seconds++
		part -= perSecond
	}
	if seconds > math.MaxInt64/perSecond || seconds < math.MinInt64/perSecond {
		return 0, false
	}
	v := seconds * perSecond
	if part > 0 && v > math.MaxInt64-part || part < 0 && v < math.MinInt64-part {
		return 0, false
	}
	return v + part, true
}

// timeText reads a time from left to right, in the forms of RFC 3339 and of Postgres.
type timeText struct {
	rest    []byte
	seconds int64 // since 1970-01-01, or since midnight where there is no date
	nanos   int64
}

// number reads exactly n digits.
func (t *timeText) number(n int) (int, bool) {
	if len(t.rest) < n {
		return 0, false
	}
	v := 0
	for _, c := range t.rest[:n] {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int(c-'0')
	}
	t.rest = t.rest[n:]
	return v, true
}

// skip reads one byte, if it is c.
func (t *timeText) skip(c byte) bool {
	if len(t.rest) == 0 || t.rest[0] != c {
		return false
	}
	t.rest = t.rest[1:]
	return true
}

func (t *timeText) date() bool {
	year, ok1 := t.number(4)
	dash1 := t.skip('-')
	month, ok2 := t.number(2)
	dash2 := t.skip('-')
	day, ok3 := t.number(2)
	if !ok1 || !dash1 || !ok2 || !dash2 || !ok3 {
		return false
	}
	// time.Date turns February 30 into March 2: a month that changes shows a day that does not exist.
	d := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if d.Month() != time.Month(month) {
		return false
	}
	t.seconds = d.Unix()
	return true
}

// separator stands between date and time; a space is what Postgres writes in text.
func (t *timeText) separator() bool {
	return t.skip('T') || t.skip('t') || t.skip(' ')
}

func (t *timeText) clock() bool {
	hour, ok1 := t.number(2)
	colon1 := t.skip(':')
	minute, ok2 := t.number(2)
	colon2 := t.skip(':')
	second, ok3 := t.number(2)
	if !ok1 || !colon1 || !ok2 || !colon2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return false
	}
	t.seconds += int64(hour*3600 + minute*60 + second)
	return !t.skip('.') || t.fraction()
}

func (t *timeText) fraction() bool {
	n := countDigits(t.rest)
	for i, c := range t.rest[:n] {
		if i < 9 {
			t.nanos = t.nanos*10 + int64(c-'0')
		}
	}
	for i := n; i < 9; i++ {
		t.nanos *= 10
	}
	t.rest = t.rest[n:]
	return n > 0
}

// offset reads Z, ±hh:mm, and what Postgres writes besides: ±hh, and ±hh:mm:ss for
// places before they had time zones.
func (t *timeText) offset() bool {
	if t.skip('Z') || t.skip('z') {
		return true
	}
	sign := int64(-1) // local time is ahead of UTC by a positive offset
	if !t.skip('+') {
		if !t.skip('-') {
			return false
		}
		sign = 1
	}
	hour, ok := t.number(2)
	minute, second := 0, 0
	if ok && t.skip(':') {
		minute, ok = t.number(2)
		if ok && t.skip(':') {
			second, ok = t.number(2)
		}
	}
	t.seconds += sign * int64(hour*3600+minute*60+second)
	return ok && hour < 24 && minute < 60 && second < 60
}
