//go:build !linux

package relay

import (
	"fmt"
	"net"
	"time"
)

// roundTrip knows nothing here: every server is taken for a near one.
func roundTrip(net.Conn) time.Duration { return 0 }

// setLowWater does nothing here: each segment may wake us.
func setLowWater(net.Conn, int) error { return nil }

// setWindow sets the receive buffer.
func setWindow(c net.Conn, bytes int) error {
	sized, ok := c.(interface{ SetReadBuffer(int) error })
	if !ok {
		return nil
	}
	if err := sized.SetReadBuffer(bytes); err != nil {
		return fmt.Errorf("set the receive buffer: %w", err)
	}
	return nil
}
