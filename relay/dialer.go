package relay

import (
	"context"
	"net"
	"time"
)

// dialer makes connections that end with ctx, and none after that: the Kafka client knows no
// contexts, and would wait half a minute for a broker that does not answer.
type dialer struct {
	ctx    context.Context //nolint:containedctx // the interface it implements has none to pass
	dialer net.Dialer
}

func newDialer(ctx context.Context, timeout time.Duration) *dialer {
	return &dialer{ctx, net.Dialer{Timeout: timeout}}
}

// Dial implements golang.org/x/net/proxy.Dialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := d.dialer.DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &dialedConn{conn, context.AfterFunc(d.ctx, func() { _ = conn.Close() })}, nil
}

type dialedConn struct {
	net.Conn
	release func() bool
}

// Close implements net.Conn.
func (c *dialedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
