package relay

import (
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Else every segment that comes while nobody reads wakes this process for nothing.
func TestPacedConn_IsNotWokenDuringAPause(t *testing.T) {
	t.Parallel()
	near, far := loopbackPair(t)
	c := newPacedConn(near)
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	c.pace.shortest, c.pace.longest = time.Hour, time.Hour // however long this test is held up
	mark := func() (bytes int) {
		err := control(near, func(fd int) (err error) {
			bytes, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return bytes
	}
	var during []int
	c.sleep = func(time.Duration) { during = append(during, mark()) }
	for _, text := range []string{"what shows that the stream is busy", "what comes during the pause"} {
		if _, err := far.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		c.rate = rateMeter{started: time.Now(), was: true}
		if _, err := io.ReadFull(c, make([]byte, len(text))); err != nil { // less than the mark, and it does not wait for more
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]int{lowWater}, during); diff != "" {
		t.Errorf("low-water marks during the pauses (-want +got):\n%s", diff)
	}
	if got := mark(); got != 1 {
		t.Errorf("low-water mark %d after the pause, want 1", got)
	}
}

func TestSetWindow_LeavesTheSystemsWindowWhereLittleIsGranted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		bytes  int
		locked int
	}{
		{"what every system grants", minWindow, unix.SOCK_RCVBUF_LOCK},
		{"more than any does", 1 << 30, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := loopback(t)
			if err := setWindow(c, tc.bytes); err != nil {
				t.Fatal(err)
			}
			err := control(c, func(fd int) error {
				locked, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
				if err == nil && locked&unix.SOCK_RCVBUF_LOCK != tc.locked {
					t.Errorf("the receive buffer's lock is %d, want %d", locked, tc.locked)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
