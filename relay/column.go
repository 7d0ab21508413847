package relay

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// The stream carries values in binary where they can be read here, and as text elsewhere
// (PostgreSQL manual, "Logical Streaming Replication Parameters", binary). That spares the
// server the printing of timestamps and UUIDs, and both sides the hexadecimal digits of a
// bytea. An event knows only the text of what is not a bytea: rows that are read by a query
// come as text, and must become the same record.

// binaryForm is how a value that travels in binary is read: by what the type's send function
// writes.
type binaryForm byte

const (
	formUnknown   binaryForm = iota
	formText                 // the text itself
	formJSONB                // a version, 1, and the text
	formUUID                 // 16 bytes
	formInt                  // two, four or eight bytes
	formTimestamp            // microseconds since 2000-01-01
	formBytes                // the bytes themselves
)

var binaryForms = map[uint32]binaryForm{
	pgtype.TextOID: formText, pgtype.VarcharOID: formText, pgtype.BPCharOID: formText, pgtype.NameOID: formText,
	pgtype.JSONOID: formText, pgtype.JSONBOID: formJSONB, pgtype.UUIDOID: formUUID,
	pgtype.Int2OID: formInt, pgtype.Int4OID: formInt, pgtype.Int8OID: formInt,
	pgtype.TimestamptzOID: formTimestamp, pgtype.ByteaOID: formBytes,
}

// errNeedsText is returned where the stream carries in binary what can be read as text only.
// The next session asks for text.
var errNeedsText = errors.New("the stream has to be read as text")

// routeColumn is where a row has a column, below zero for one that the table does not have.
type routeColumn struct {
	at   int
	form binaryForm
	name string
}

// rowReader reads the columns of a row and remembers the first error. Nil is what a column is
// that cannot be read, that is null or that the table does not have.
type rowReader struct {
	row     []Value
	scratch []byte // for what does not stand in the row as it is returned
	second  *printedSecond
	err     error
}

// text returns the text of a column, as Postgres prints it under datestyle ISO and timezone
// UTC.
func (r *rowReader) text(c routeColumn) []byte {
	if c.at < 0 {
		return nil
	}
	switch v := &r.row[c.at]; v.Kind {
	case ValueText:
		return v.Data
	case ValueBinary:
		if c.form == formText {
			return v.Data
		}
		return r.print(c, v.Data)
	default:
		return nil
	}
}

// bytea returns the bytes of a bytea column.
func (r *rowReader) bytea(c routeColumn) []byte {
	if c.at < 0 {
		return nil
	}
	switch v := &r.row[c.at]; v.Kind {
	case ValueText:
		if r.scratch == nil {
			r.scratch = []byte{} // a record without fields is no tombstone
		}
		start := len(r.scratch)
		var err error
		if r.scratch, err = appendBytea(r.scratch, v.Data); err != nil {
			if r.err == nil {
				r.err = fmt.Errorf("column %s: %w", c.name, err)
			}
			return nil
		}
		return r.scratch[start:len(r.scratch):len(r.scratch)]
	case ValueBinary:
		return v.Data
	default:
		return nil
	}
}

// print returns the text of a value that came in binary.
func (r *rowReader) print(c routeColumn, data []byte) []byte {
	if c.form == formJSONB && len(data) > 0 && data[0] == 1 {
		return data[1:]
	}
	start, ok := len(r.scratch), true
	switch {
	case c.form == formUUID && len(data) == 16:
		r.scratch = appendUUID(r.scratch, data)
	case c.form == formTimestamp && len(data) == 8:
		r.scratch = r.second.appendTimestamp(r.scratch, int64(binary.BigEndian.Uint64(data)))
	case c.form == formBytes:
		r.scratch = hex.AppendEncode(append(r.scratch, `\x`...), data)
	case c.form == formInt:
		r.scratch, ok = appendInt(r.scratch, data)
	default:
		ok = false
	}
	if !ok {
		if r.err == nil {
			r.err = fmt.Errorf("column %s: %d bytes of a form that is not known: %w", c.name, len(data), errNeedsText)
		}
		return nil
	}
	return r.scratch[start:len(r.scratch):len(r.scratch)]
}

// appendBytea appends the bytes of a bytea in hex format: \x68656C6C6F.
func appendBytea(dst, text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return dst, errors.New("not bytea in hex format")
	}
	start := len(dst)
	dst = slices.Grow(dst, hex.DecodedLen(len(text)-2))[:start+hex.DecodedLen(len(text)-2)]
	if _, err := hex.Decode(dst[start:], text[2:]); err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// appendInt appends the digits of an integer of two, four or eight bytes.
func appendInt(dst, data []byte) (_ []byte, ok bool) {
	var n int64
	switch len(data) {
	case 2:
		n = int64(int16(binary.BigEndian.Uint16(data)))
	case 4:
		n = int64(int32(binary.BigEndian.Uint32(data)))
	case 8:
		n = int64(binary.BigEndian.Uint64(data))
	default:
		return dst, false
	}
	return strconv.AppendInt(dst, n, 10), true
}

// printedSecond is the text of a second, up to its fraction, and what follows that. Events that
// come one after the other mostly share theirs, and printing it takes three times as long as
// the rest of a timestamp.
type printedSecond struct {
	second int64 // since 2000-01-01
	text   []byte
	zone   string
}

// appendTimestamp appends a time of so many microseconds since 2000-01-01.
func (p *printedSecond) appendTimestamp(dst []byte, us int64) []byte {
	switch us {
	case math.MaxInt64:
		return append(dst, "infinity"...)
	case math.MinInt64:
		return append(dst, "-infinity"...)
	}
	second, micro := us/1e6, us%1e6
	if micro < 0 {
		second, micro = second-1, micro+1e6
	}
	if second != p.second || len(p.text) == 0 {
		p.print(second)
	}
	dst = append(dst, p.text...)
	if micro > 0 {
		n := uint32(micro)
		dst = append(dst, '.', digit(n/100000), digit(n/10000), digit(n/1000), digit(n/100), digit(n/10), digit(n))
		for dst[len(dst)-1] == '0' {
			dst = dst[:len(dst)-1]
		}
	}
	return append(dst, p.zone...)
}

func digit(n uint32) byte { return byte('0' + n%10) }

// print takes on the text of a second.
func (p *printedSecond) print(second int64) {
	const form = "2006-01-02 15:04:05"
	t := time.Unix(postgresEpoch+second, 0).UTC()
	p.second, p.zone = second, "+00"
	year := t.Year()
	if year > 0 {
		p.text = t.AppendFormat(p.text[:0], form)
		return
	}
	// The year 0 is 1 BC. The calendar repeats itself after a cycle.
	const cycle = 400
	p.text = t.AddDate((1-year/cycle)*cycle, 0, 0).AppendFormat(p.text[:0], form)
	copy(p.text, fmt.Sprintf("%04d", 1-year))
	p.zone += " BC"
}
