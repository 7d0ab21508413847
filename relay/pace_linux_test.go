package relay

import (
	"testing"

	"golang.org/x/sys/unix"
)

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
