package relay

import (
	"fmt"
	"math"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roundTrip returns the shortest round-trip time that TCP has seen on the connection, 0 where
// there is none to be seen.
func roundTrip(c net.Conn) (rtt time.Duration) {
	_ = control(c, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Min_rtt != math.MaxUint32 {
			rtt = time.Duration(info.Min_rtt) * time.Microsecond
		}
		return err
	})
	return rtt
}

// setWindow sets the receive buffer. Where net.core.rmem_max grants less than half of it, a
// window that the kernel sizes by itself lets more through, and that is what remains.
func setWindow(c net.Conn, bytes int) error {
	err := control(c, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes); err != nil {
			return err
		}
		granted, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF) // twice as much as was asked for
		if err != nil || granted >= bytes {
			return err
		}
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0)
		if err == unix.ENOPROTOOPT { // before Linux 5.14
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("set the receive buffer: %w", err)
	}
	return nil
}

// setLowWater sets how many bytes must have come before the kernel says that there is something
// to read (socket(7), SO_RCVLOWAT). A read that does not wait returns less.
func setLowWater(c net.Conn, bytes int) error {
	err := control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes) })
	if err != nil {
		return fmt.Errorf("set the receive buffer's low-water mark: %w", err)
	}
	return nil
}

// control calls do with the socket of c, if it has one.
func control(c net.Conn, do func(fd int) error) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}
