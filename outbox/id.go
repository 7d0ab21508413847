package outbox

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

// NewID returns a UUIDv7 (RFC 9562). The ids of one process rise strictly, also within a
// millisecond and when the clock is set back. It is safe for concurrent use.
func NewID() [16]byte { return ids.next(time.Now()) }

var ids idSource

// idSource makes UUIDv7s whose first 60 bits are milliseconds and, in the place of the
// twelve bits after them, the fraction of the millisecond (RFC 9562 section 6.2, method 3).
type idSource struct {
	mu   sync.Mutex
	last int64 // milliseconds << 12 | fraction
}

func (s *idSource) next(now time.Time) [16]byte {
	ns := now.UnixNano()
	const milli = int64(time.Millisecond)
	stamp := ns/milli<<12 | ns%milli<<12/milli

	s.mu.Lock()
	s.last = max(s.last+1, stamp)
	stamp = s.last
	s.mu.Unlock()

	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(stamp)>>12<<16|0x7000|uint64(stamp)&0xfff)
	rand.Read(id[8:]) // never fails: it ends the process rather than return an error
	id[8] = id[8]&0x3f | 0x80
	return id
}

// formatID is the canonical text form, for drivers that do not know [16]byte.
func formatID(id [16]byte) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 36)
	for i, c := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, digits[c>>4], digits[c&15])
	}
	return string(b)
}
