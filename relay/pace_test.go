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

// paceOf reads everything and returns how long that took beyond the time the reads needed.
func paceOf(t *testing.T, paced bool, reads []scriptedRead) (paused time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newPacedConn(&scriptedConn{reads: reads})
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

// walsender is a connection to a server that writes a message at every interval, whether
// they are read or not. A read brings what waits, up to the receive window.
type walsender struct {
	net.Conn // only Read is called
	message  int
	interval time.Duration
	total    int // bytes until the server closes

	started time.Time
	sent    int
	count   int // reads
}

func (c *walsender) Read(p []byte) (int, error) {
	c.count++
	if c.sent >= c.total {
		return 0, io.EOF
	}
	written := min(int(time.Since(c.started)/c.interval)*c.message, c.total)
	if written == c.sent {
		next := c.started.Add(time.Duration(c.sent/c.message+1) * c.interval)
		<-time.After(time.Until(next))
		written += c.message
	}
	n := copy(p, make([]byte, min(written-c.sent, receiveWindow)))
	c.sent += n
	return n, nil
}

func TestPacedConn_ReadsABusyStreamInLargePieces(t *testing.T) {
	t.Parallel()
	reads := func(paced bool) (count int, took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			server := &walsender{message: 1000, interval: 50 * time.Microsecond, total: 40_000_000, started: time.Now()} // 20 MB/s
			c := newPacedConn(server)
			c.paced = paced
			if n, err := io.Copy(io.Discard, struct{ io.Reader }{c}); err != nil || n != int64(server.total) {
				t.Errorf("%d bytes arrived of %d, %v", n, server.total, err)
			}
			count, took = server.count, time.Since(server.started)
		})
		return count, took
	}
	greedy, usual := reads(false)
	paced, took := reads(true)
	if paced > greedy/20 {
		t.Errorf("a paced connection reads %d times what a greedy one does in %d", paced, greedy)
	}
	if took > usual+2*pause {
		t.Errorf("pacing makes a stream of %v take %v", usual, took)
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
	if after := paceOf(t, true, append(storm, quiet...)) - during; after > 10*pause {
		t.Errorf("a stream that has become quiet was paused for %v", after)
	}
}

func TestPacedConn_ServesWhatItHasReadAhead(t *testing.T) {
	t.Parallel()
	conn := &scriptedConn{reads: []scriptedRead{{data: []byte("0123456789")}, {data: []byte("abc")}}}
	c := newPacedConn(conn)
	c.paced = true
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
	c := newPacedConn(&scriptedConn{reads: []scriptedRead{{err: os.ErrDeadlineExceeded}, {data: []byte("x")}}})
	c.paced = true
	p := make([]byte, 4)
	if n, err := c.Read(p); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %d bytes, %v", n, err)
	}
	if n, err := c.Read(p); n != 1 || err != nil || p[0] != 'x' {
		t.Errorf("after the deadline: %d bytes, %v", n, err)
	}
}
