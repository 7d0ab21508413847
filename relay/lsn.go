package relay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
)

// LSN is a position in the write-ahead log of one Postgres cluster, printed as two
// hexadecimal numbers: 16/B374D848.
type LSN = pglogrepl.LSN

// Position names one event for ever: the commit LSN of its transaction and its index among
// the events of that transaction. Positions rise in commit order.
type Position struct {
	LSN   LSN
	Index uint32
}

// append appends the form that the postrider-position header carries: 16/B374D848/0.
func (p Position) append(dst []byte) []byte {
	dst = appendUpperHex(dst, uint32(p.LSN>>32))
	dst = append(dst, '/')
	dst = appendUpperHex(dst, uint32(p.LSN))
	dst = append(dst, '/')
	return strconv.AppendUint(dst, uint64(p.Index), 10)
}

// String returns the form that the postrider-position header carries.
func (p Position) String() string { return string(p.append(nil)) }

// Less reports whether p comes before q in commit order.
func (p Position) Less(q Position) bool {
	return p.LSN < q.LSN || p.LSN == q.LSN && p.Index < q.Index
}

// ParsePosition reads the form that String returns and the postrider-position header
// carries.
func ParsePosition(text string) (Position, error) {
	lsn, index, ok := cutLast(text, "/")
	if !ok {
		return Position{}, fmt.Errorf("%q is no position", text)
	}
	high, low, ok := strings.Cut(lsn, "/")
	if !ok {
		return Position{}, fmt.Errorf("%q is no position", text)
	}
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	i, err3 := strconv.ParseUint(index, 10, 32)
	return Position{LSN: LSN(h<<32 | l), Index: uint32(i)}, errors.Join(err1, err2, err3)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func appendUpperHex(dst []byte, v uint32) []byte {
	const digits = "0123456789ABCDEF"
	shift := 28
	for shift > 0 && v>>shift == 0 {
		shift -= 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digits[v>>shift&0xF])
	}
	return dst
}
