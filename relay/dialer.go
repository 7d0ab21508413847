package relay

import (
	"context"
	"net"
	"sync"
	"time"
)

// dialer makes connections that end with ctx, and none after that: the Kafka client knows no
// contexts, and would wait for a broker that does not answer.
type dialer struct {
	ctx    context.Context //nolint:containedctx // the interface it implements has none to pass
	dialer net.Dialer

	mu   sync.Mutex
	open map[*dialedConn]struct{}
}

func newDialer(ctx context.Context, timeout time.Duration) *dialer {
	return &dialer{ctx: ctx, dialer: net.Dialer{Timeout: timeout}, open: make(map[*dialedConn]struct{})}
}

// Dial implements golang.org/x/net/proxy.Dialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := d.dialer.DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &dialedConn{Conn: conn, dialer: d}
	d.mu.Lock()
	d.open[c] = struct{}{}
	d.mu.Unlock()
	c.release = context.AfterFunc(d.ctx, func() { _ = conn.Close() })
	return c, nil
}

// closeAll ends the connections that are open. Their users fail at once, whatever they wait
// for.
func (d *dialer) closeAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.open {
		_ = c.Conn.Close()
	}
}

type dialedConn struct {
	net.Conn
	dialer  *dialer
	release func() bool
}

// Close implements net.Conn.
func (c *dialedConn) Close() error {
	c.release()
	c.dialer.mu.Lock()
	delete(c.dialer.open, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}
