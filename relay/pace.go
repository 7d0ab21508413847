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
	readBufferSize = maxWindow
	// busyRate is the rate from which a stream counts as busy, bytes a second. Below it a
	// read costs less than the latency that a pause would add.
	busyRate   = 8 << 20
	rateWindow = 50 * time.Millisecond

	// nearby is the longest round trip to a server whose segments come as soon as there is
	// room for them: on the same machine.
	nearby    = 50 * time.Microsecond
	minWindow = 64 << 10
	maxWindow = 1 << 20
	// lowWater is from how many bytes on the kernel wakes us during a pause. It takes no more
	// than half of the receive buffer.
	lowWater = minWindow
	// windowRate is what a window lets through, bytes a second: the window is what flows in a
	// round trip at that rate. It is less than most servers can send, for a window that does
	// not fill is of no use, and more than a greedy receiver gets of one-row transactions.
	windowRate = 64 << 20
	// longestPause bounds how late a keepalive is answered, or a shutdown noticed.
	longestPause = 100 * time.Millisecond
)

// pace says how a busy stream is read.
type pace struct {
	window int // the socket's receive buffer, bytes
	// refill is the pause after a read that brought half a window or more: nothing can
	// come before the server has heard that there is room.
	refill time.Duration
	// shortest is the first pause after a read that brought less. Each one after it is
	// twice as long, up to longest, until the window fills.
	shortest, longest time.Duration
}

// paceFor returns the pace for a round-trip time.
func paceFor(rtt time.Duration) pace {
	if rtt <= nearby {
		// Room is filled at once from what the server has queued, so a small read means that
		// the queue is empty. It takes a long pause to queue up much.
		return pace{window: minWindow, shortest: 10 * time.Millisecond, longest: 10 * time.Millisecond}
	}
	// The first segments of a refill wake a waiting reader long before the last. And a
	// pause much longer than a round trip holds a link back whose flow the window bounds.
	return pace{
		window:   min(max(int(rtt.Seconds()*windowRate), minWindow), maxWindow),
		refill:   min(rtt, longestPause),
		shortest: 2 * time.Millisecond,
		longest:  min(max(4*rtt, 16*time.Millisecond), longestPause),
	}
}

// pacedConn is a net.Conn that reads ahead into a large buffer and, once it is told to, paces
// itself on a busy stream. It belongs to one goroutine.
type pacedConn struct {
	net.Conn
	buf  []byte
	r, w int

	greedy   bool // never paced
	paced    bool // off until streaming begins
	pace     pace
	pause    time.Duration // the last one
	last     int           // bytes that the last read brought
	lastRead time.Time     // when it brought them
	rate     rateMeter
	sleep    func(time.Duration)
}

func newPacedConn(c net.Conn) *pacedConn {
	return &pacedConn{Conn: c, buf: make([]byte, readBufferSize), sleep: time.Sleep}
}

// begin paces the reads from here on. What was said on the connection so far has shown how
// far the server is.
func (c *pacedConn) begin() error {
	if c.greedy {
		return nil
	}
	c.paced, c.pace = true, paceFor(roundTrip(c.Conn))
	return setWindow(c.Conn, c.pace.window)
}

// buffered returns how many bytes can be read without touching the network.
func (c *pacedConn) buffered() int { return c.w - c.r }

// Read implements net.Conn.
func (c *pacedConn) Read(p []byte) (int, error) {
	if c.r == c.w {
		if c.paced {
			if err := c.stroke(); err != nil {
				return 0, err
			}
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

// stroke waits until the window of a busy stream should be full.
func (c *pacedConn) stroke() error {
	now := time.Now()
	switch {
	case c.last == 0 || !c.rate.busy(now):
		c.pause = 0
	case c.last >= c.pace.window/2:
		c.pause = c.pace.refill
	default:
		c.pause = min(max(2*c.pause, c.pace.shortest), c.pace.longest)
	}
	// The window has been open since the last read, whatever was done meanwhile.
	if wait := c.pause - now.Sub(c.lastRead); wait > 0 {
		return c.rest(wait)
	}
	return nil
}

// rest waits. Whatever came meanwhile would wake this process each time, though nobody reads,
// and push the server off its core: the kernel is told to keep quiet while there is little.
func (c *pacedConn) rest(wait time.Duration) error {
	quiet := setLowWater(c.Conn, lowWater) == nil // not every system can
	c.sleep(wait)
	if !quiet {
		return nil
	}
	return setLowWater(c.Conn, 1)
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
