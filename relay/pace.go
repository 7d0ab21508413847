package relay

import (
	"net"
	"time"
)

// The walsender sends each message by itself, and a receiver that is always waiting makes
// every one of them cross the network at once: a packet, a wake-up and a read for each. A
// receiver that lets its window fill first is sent large segments instead, which costs the
// server a third of the CPU and the stream is three times as fast. So a busy stream is read
// in strokes, and a quiet one at once.
const (
	readBufferSize = 512 << 10
	// receiveWindow is the socket's receive buffer: small enough to fill within a pause.
	receiveWindow = 64 << 10
	// smallRead is a read that found the window far from full.
	smallRead = 32 << 10
	// pause lets a window fill.
	pause = 10 * time.Millisecond
	// busyRate is the rate from which a stream counts as busy, bytes a second. Below it a
	// read costs less than the latency that a pause would add.
	busyRate   = 8 << 20
	rateWindow = 50 * time.Millisecond
)

// pacedConn is a net.Conn that reads ahead into a large buffer and paces itself on a busy
// stream. It belongs to one goroutine.
type pacedConn struct {
	net.Conn
	buf  []byte
	r, w int

	paced    bool      // off until streaming begins
	last     int       // bytes that the last read brought
	lastRead time.Time // when it brought them
	rate     rateMeter
	pauses   uint64
	sleep    func(time.Duration)
}

func newPacedConn(c net.Conn) *pacedConn {
	return &pacedConn{Conn: c, buf: make([]byte, readBufferSize), sleep: time.Sleep}
}

// buffered returns how many bytes can be read without touching the network.
func (c *pacedConn) buffered() int { return c.w - c.r }

// Read implements net.Conn.
func (c *pacedConn) Read(p []byte) (int, error) {
	if c.r == c.w {
		if c.paced && c.last > 0 && c.last < smallRead && c.rate.busy(time.Now()) {
			c.pauses++
			c.sleep(pause)
		}
		n, err := c.Conn.Read(c.buf)
		c.r, c.w, c.last = 0, n, n
		if n == 0 {
			return 0, err
		}
		c.lastRead = time.Now()
		if c.paced {
			c.rate.add(n, c.lastRead)
		}
	}
	n := copy(p, c.buf[c.r:c.w])
	c.r += n
	return n, nil
}

// rateMeter tells a busy stream from a quiet one by the bytes of the last whole window.
type rateMeter struct {
	started time.Time
	bytes   int
	was     bool
}

func (m *rateMeter) add(n int, now time.Time) {
	m.roll(now)
	m.bytes += n
}

func (m *rateMeter) roll(now time.Time) {
	elapsed := now.Sub(m.started)
	if elapsed < rateWindow {
		return
	}
	m.was = float64(m.bytes)/elapsed.Seconds() >= busyRate
	m.started, m.bytes = now, 0
}

func (m *rateMeter) busy(now time.Time) bool {
	m.roll(now)
	return m.was
}
