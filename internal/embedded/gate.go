package embedded

import (
	"fmt"
	"net"
	"sync"
)

// gate is a listener whose port can be closed and opened again: whoever accepts from it waits
// meanwhile.
type gate struct {
	address net.Addr

	mu     sync.Mutex
	inner  net.Listener // nil while the port is closed
	opened chan struct{}
	conns  map[*gateConn]struct{}
	closed chan struct{}
}

func newGate(network, address string) (*gate, error) {
	inner, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	return &gate{
		address: inner.Addr(), inner: inner,
		opened: make(chan struct{}), closed: make(chan struct{}), conns: make(map[*gateConn]struct{}),
	}, nil
}

// Addr implements net.Listener.
func (g *gate) Addr() net.Addr { return g.address }

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		g.mu.Lock()
		inner, opened := g.inner, g.opened
		g.mu.Unlock()
		if inner == nil {
			select {
			case <-opened:
				continue
			case <-g.closed:
				return nil, net.ErrClosed
			}
		}
		conn, err := inner.Accept()
		if c, again, err := g.admit(inner, conn, err); !again {
			return c, err
		}
	}
}

// admit keeps a connection in mind. If the port was closed meanwhile, Accept has to wait again.
func (g *gate) admit(inner net.Listener, conn net.Conn, err error) (_ net.Conn, again bool, _ error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inner != inner {
		if err == nil {
			_ = conn.Close()
		}
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	c := &gateConn{Conn: conn, gate: g}
	g.conns[c] = struct{}{}
	return c, false, nil
}

// cut closes the port and all connections.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inner == nil {
		return
	}
	_ = g.inner.Close()
	g.inner = nil
	for c := range g.conns {
		_ = c.Conn.Close()
	}
	clear(g.conns)
}

// open opens the port again.
func (g *gate) open() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inner != nil {
		return nil
	}
	inner, err := net.Listen(g.address.Network(), g.address.String())
	if err != nil {
		return fmt.Errorf("open port %s again: %w", g.address, err)
	}
	g.inner = inner
	close(g.opened)
	g.opened = make(chan struct{})
	return nil
}

// Close implements net.Listener. It leaves the connections alone.
func (g *gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.closed:
		return nil
	default:
	}
	close(g.closed)
	if g.inner == nil {
		return nil
	}
	return g.inner.Close()
}

// gateConn is a connection that the gate can close.
type gateConn struct {
	net.Conn
	gate *gate
}

// Close implements net.Conn.
func (c *gateConn) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.conns, c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}
