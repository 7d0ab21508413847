package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// scriptedConn is a connection whose reads bring what is scripted, after a delay each.
type scriptedConn struct {
	net.Conn // only Read is called
	reads    []scriptedRead
	count    int
}

type scriptedRead struct {
	after time.Duration
	data  []byte
	err   error
}

func (c *scriptedConn) Read(p []byte) (int, error) {
	c.count++
	if len(c.reads) == 0 {
		return 0, io.EOF
	}
	r := c.reads[0]
	c.reads = c.reads[1:]
	<-time.After(r.after)
	return copy(p, r.data), r.err
}

// repeated returns n reads of size bytes, every interval.
func repeated(n int, interval time.Duration, size int) []scriptedRead {
	var reads []scriptedRead
	for range n {
		reads = append(reads, scriptedRead{after: interval, data: make([]byte, size)})
	}
	return reads
}

// newPaced returns a connection that streams from a server so far away.
func newPaced(c net.Conn, rtt time.Duration) *pacedConn {
	p := newPacedConn(c)
	p.paced, p.pace = true, paceFor(rtt)
	return p
}

// paceOf reads everything and returns how long that took beyond the time the reads needed.
func paceOf(t *testing.T, paced bool, reads []scriptedRead) (paused time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newPaced(&scriptedConn{reads: reads}, 0)
		c.paced = paced
		start := time.Now()
		n, err := io.Copy(io.Discard, struct{ io.Reader }{c})
		if err != nil {
			t.Error(err)
		}
		paused = time.Since(start)
		want := int64(0)
		for _, r := range reads {
			paused -= r.after
			want += int64(len(r.data))
		}
		if n != want {
			t.Errorf("%d bytes arrived of %d", n, want)
		}
	})
	return paused
}

// link is a connection to a server that writes at a steady rate, whether that is read or not,
// at the other end of a link with a round-trip time. TCP sends what the receiver's window
// has room for; the server learns half a round trip late how much that is.
type link struct {
	net.Conn // only Read is called
	rtt      time.Duration
	window   int
	rate     int // bytes a second
	total    int // bytes until the server closes

	started time.Time
	// What had been sent, and what had been read, at every step so far.
	sent, read []int
	consumed   int
	count      int // reads
}

// step is how finely a link is simulated.
const step = 25 * time.Microsecond

// past returns what history knew half a round trip before its end.
func (c *link) past(history []int) int {
	if i := len(history) - 1 - int(c.rtt/2/step); i >= 0 {
		return history[i]
	}
	return 0
}

// arrived returns how many bytes wait to be read now.
func (c *link) arrived() int {
	for time.Duration(len(c.sent))*step <= time.Since(c.started) {
		written := min(int(float64(c.rate)*(time.Duration(len(c.sent))*step).Seconds()), c.total)
		c.read = append(c.read, c.consumed)
		c.sent = append(c.sent, min(written, c.past(c.read)+c.window))
	}
	return c.past(c.sent) - c.consumed
}

func (c *link) Read(p []byte) (int, error) {
	c.count++
	if c.consumed >= c.total {
		return 0, io.EOF
	}
	n := c.arrived()
	for n == 0 {
		<-time.After(step)
		n = c.arrived()
	}
	n = copy(p, make([]byte, n))
	c.consumed += n
	return n, nil
}

// readAll reads total bytes that a server writes at a rate, rtt away.
func readAll(t *testing.T, paced bool, rtt time.Duration, rate, total int) (reads int, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := &link{rtt: rtt, window: paceFor(rtt).window, rate: rate, total: total, started: time.Now()}
		c := newPaced(server, rtt)
		c.paced = paced
		if n, err := io.Copy(io.Discard, struct{ io.Reader }{c}); err != nil || n != int64(total) {
			t.Errorf("%d bytes arrived of %d, %v", n, total, err)
		}
		reads, took = server.count, time.Since(server.started)
	})
	return reads, took
}

func TestPacedConn_ReadsABusyStreamInLargePieces(t *testing.T) {
	t.Parallel()
	const rate, total = 40_000_000, 20_000_000
	for _, rtt := range []time.Duration{0, 100 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
		t.Run(rtt.String(), func(t *testing.T) {
			t.Parallel()
			greedy, usual := readAll(t, false, rtt, rate, total)
			paced, took := readAll(t, true, rtt, rate, total)
			// The stream is greedily read until it counts as busy.
			if free := greedy / int(total/rate/rateWindow.Seconds()+1); paced-free > greedy/10 {
				t.Errorf("a paced connection reads %d times what a greedy one does in %d", paced, greedy)
			}
			if took > usual*11/10+longestPause {
				t.Errorf("pacing makes a stream of %v take %v", usual, took)
			}
		})
	}
}

// A window that does not fill is given time, also where the pause is a round trip.
func TestPacedConn_PausesLongerWhileTheWindowDoesNotFill(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rtt  time.Duration
		want []time.Duration
	}{
		{0, []time.Duration{10, 10, 10, 10, 0, 10}},
		{time.Millisecond, []time.Duration{2, 4, 8, 16, 1, 2}},
		{5 * time.Millisecond, []time.Duration{2, 4, 8, 16, 5, 10}},
		{20 * time.Millisecond, []time.Duration{2, 4, 8, 16, 20, 40}},
		{300 * time.Millisecond, []time.Duration{2, 4, 8, 16, 100, 100}},
	} {
		t.Run(tc.rtt.String(), func(t *testing.T) {
			t.Parallel()
			var got []time.Duration
			synctest.Test(t, func(t *testing.T) {
				full := paceFor(tc.rtt).window / 2
				conn := &scriptedConn{}
				c := newPaced(conn, tc.rtt)
				c.sleep = func(d time.Duration) { got = append(got, d/time.Millisecond) }
				for _, n := range []int{1000, 1000, 1000, 1000, full, full - 1, 1000} {
					conn.reads = append(conn.reads, scriptedRead{data: make([]byte, n)})
					pauses := len(got)
					c.rate = rateMeter{started: time.Now(), was: true}
					if _, err := c.Read(make([]byte, readBufferSize)); err != nil {
						t.Error(err)
					}
					if conn.count > 1 && len(got) == pauses {
						got = append(got, 0)
					}
				}
			})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("pauses in ms (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPaceFor_FitsTheWindowToTheRoundTrip(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rtt    time.Duration
		window int
	}{
		{0, 64 << 10},
		{10 * time.Microsecond, 64 << 10},
		{time.Millisecond, 64 << 10},
		{5 * time.Millisecond, 320 << 10},
		{20 * time.Millisecond, 1 << 20},
		{time.Second, 1 << 20},
	} {
		p := paceFor(tc.rtt)
		if got := p.window &^ (16<<10 - 1); got != tc.window {
			t.Errorf("%v: a window of %d, want about %d", tc.rtt, p.window, tc.window)
		}
		if p.shortest <= 0 || p.shortest > p.longest || p.longest > longestPause || p.refill > p.longest {
			t.Errorf("%v: %+v", tc.rtt, p)
		}
	}
}

// The time since the last read counts: whoever takes long over what he has read need not wait.
func TestPacedConn_DoesNotPauseAfterWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newPaced(&scriptedConn{reads: repeated(200, 0, 16<<10)}, 0)
		p := make([]byte, readBufferSize)
		started := time.Now()
		for range 200 {
			if _, err := c.Read(p); err != nil {
				t.Fatal(err)
			}
			<-time.After(c.pace.longest)
		}
		if took := time.Since(started); took != 200*c.pace.longest {
			t.Errorf("200 times %v of work took %v", c.pace.longest, took)
		}
	})
}

// loopback returns a connection over TCP that has carried something both ways.
func loopback(t *testing.T) *net.TCPConn {
	t.Helper()
	c, _ := loopbackPair(t)
	return c
}

// loopbackPair returns both ends of such a connection.
func loopbackPair(t *testing.T) (near *net.TCPConn, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	for _, way := range [][2]net.Conn{{c, far}, {far, c}} {
		if _, err := way[0].Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way[1], make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	return c.(*net.TCPConn), far
}

func TestPacedConn_BeginsByTheDistanceOfTheServer(t *testing.T) {
	t.Parallel()
	c := newPacedConn(loopback(t))
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	if rtt := roundTrip(c.Conn); !c.paced || rtt > 10*time.Millisecond || c.pace != paceFor(rtt) && c.pace.window != minWindow {
		t.Errorf("a server on this machine is %v away, read with %+v", rtt, c.pace)
	}
	greedy := newPacedConn(loopback(t))
	greedy.greedy = true
	if err := greedy.begin(); err != nil || greedy.paced {
		t.Errorf("a greedy connection is paced: %v, %v", greedy.paced, err)
	}
}

func TestPacedConn_ReadsAtOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		paced bool
		reads []scriptedRead
	}{
		{"a busy stream whose reads are large", true, repeated(500, time.Millisecond, 64<<10)},
		{"a quiet stream of small reads", true, repeated(500, time.Millisecond, 1<<10)},
		{"a trickle", true, repeated(100, time.Second, 100)},
		{"single large transactions with silence between", true, repeated(20, time.Second, 200<<10)},
		{"a busy connection before it streams", false, repeated(500, time.Millisecond, 16<<10)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if paused := paceOf(t, tc.paced, tc.reads); paused != 0 {
				t.Errorf("paused for %v", paused)
			}
		})
	}
}

func TestPacedConn_ReadsAtOnceAfterAStorm(t *testing.T) {
	t.Parallel()
	storm := repeated(100, time.Millisecond, 16<<10) // 16 MB/s
	quiet := repeated(500, 10*time.Millisecond, 500)
	during := paceOf(t, true, storm)
	if during == 0 {
		t.Fatal("the storm was not paced")
	}
	// Its end is noticed within a window.
	if after := paceOf(t, true, append(storm, quiet...)) - during; after > longestPause {
		t.Errorf("a stream that has become quiet was paused for %v", after)
	}
}

func TestPacedConn_ServesWhatItHasReadAhead(t *testing.T) {
	t.Parallel()
	conn := &scriptedConn{reads: []scriptedRead{{data: []byte("0123456789")}, {data: []byte("abc")}}}
	c := newPaced(conn, 0)
	var got []byte
	for i, want := range []struct{ n, buffered, reads int }{{4, 6, 1}, {4, 2, 1}, {2, 0, 1}, {3, 0, 2}} {
		p := make([]byte, 4)
		n, err := c.Read(p)
		if err != nil || n != want.n || c.buffered() != want.buffered || conn.count != want.reads {
			t.Fatalf("read %d: %d bytes, %v, %d buffered after %d reads of the network, want %+v", i, n, err, c.buffered(), conn.count, want)
		}
		got = append(got, p[:n]...)
	}
	if !bytes.Equal(got, []byte("0123456789abc")) {
		t.Errorf("read %q", got)
	}
	if _, err := c.Read(make([]byte, 4)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// A deadline wakes the source, which then reads on.
func TestPacedConn_ReadsOnAfterADeadline(t *testing.T) {
	t.Parallel()
	c := newPaced(&scriptedConn{reads: []scriptedRead{{err: os.ErrDeadlineExceeded}, {data: []byte("x")}}}, 0)
	p := make([]byte, 4)
	if n, err := c.Read(p); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %d bytes, %v", n, err)
	}
	if n, err := c.Read(p); n != 1 || err != nil || p[0] != 'x' {
		t.Errorf("after the deadline: %d bytes, %v", n, err)
	}
}
