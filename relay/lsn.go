package relay

import (
	"strconv"

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

// less orders positions.
func (p Position) less(q Position) bool {
	return p.LSN < q.LSN || p.LSN == q.LSN && p.Index < q.Index
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
