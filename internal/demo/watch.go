package demo

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// watch keeps what is shown at the bottom, and tells when an event arrives that somebody waits
// for.
type watch struct {
	mu      sync.Mutex
	orders  Orders
	letters int                      // of the services
	awaited map[string]chan struct{} // by the event's id, or by its key and type
}

func newWatch() *watch { return &watch{awaited: make(map[string]chan struct{})} }

func (w *watch) setOrders(o Orders) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders = o
}

// current returns the orders as they were read last.
func (w *watch) current() Orders {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.orders
	o.DeadLetters = w.letters
	return o
}

// fell counts a dead letter of a service.
func (w *watch) fell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.letters++
}

// await returns a channel that is closed when the event arrives: the one with that id, or the
// one with that key and type.
func (w *watch) await(what string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.awaited[what] == nil {
		w.awaited[what] = make(chan struct{})
	}
	return w.awaited[what]
}

func (w *watch) arrived(key string, headers map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, what := range []string{headers["ce_id"], key + " " + headers["ce_type"]} {
		if c := w.awaited[what]; c != nil {
			close(c)
			delete(w.awaited, what)
		}
	}
}

const (
	countInterval = 250 * time.Millisecond
	// checkShare bounds what looking at the orders costs: so many times as long as it takes, it
	// is left alone.
	checkShare = 10
)

// look keeps the bottom of the screen up to date until ctx ends. A Postgres that is down is no
// news here.
func (d *demo) look(ctx context.Context) error {
	checkAt := time.Time{}
	for {
		_ = d.count(ctx)
		if time.Now().After(checkAt) {
			began := time.Now()
			_ = d.checkOrders(ctx)
			checkAt = time.Now().Add(checkShare * time.Since(began))
		}
		d.screen.show(d.bottom(ctx))
		if !sleep(ctx, countInterval) {
			return nil
		}
	}
}

// count reads how many events are committed: those of the services, and whatever psql added.
func (d *demo) count(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	var n int
	if err := d.servers.pool.QueryRow(ctx, `SELECT count(*) FROM outbox`).Scan(&n); err != nil {
		return fmt.Errorf("count the events: %w", err)
	}
	d.book.setCommitted(n)
	return nil
}

func (d *demo) bottom(ctx context.Context) bottom {
	b := bottom{ledger: d.book.ledger(), orders: d.watch.current()}
	pid := d.relay.pid()
	switch report, err := d.relay.status(ctx); {
	case pid == 0:
		b.state = "relay DEAD"
	case err != nil:
		b.state = fmt.Sprintf("relay %d starts", pid)
	case !report.Ready:
		b.state = fmt.Sprintf("relay %d waits", pid)
	default:
		b.state = fmt.Sprintf("relay %d %s", pid, report.Phase)
	}
	if d.faults.brokerDown() {
		b.state += ", broker STOPPED"
	}
	if d.pause.paused() {
		b.state += ", orders paused"
	}
	if d.keys {
		b.keys = d.faults.keyLine()
	}
	return b
}

// pause holds up the orders.
type pause struct {
	mu      sync.Mutex
	resumed chan struct{} // nil while orders are placed
}

func (p *pause) set(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case paused && p.resumed == nil:
		p.resumed = make(chan struct{})
	case !paused && p.resumed != nil:
		close(p.resumed)
		p.resumed = nil
	}
}

func (p *pause) paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resumed != nil
}

// wait returns true when orders may be placed, and false when ctx ends before.
func (p *pause) wait(ctx context.Context) bool {
	p.mu.Lock()
	resumed := p.resumed
	p.mu.Unlock()
	if resumed == nil {
		return ctx.Err() == nil
	}
	select {
	case <-resumed:
		return true
	case <-ctx.Done():
		return false
	}
}
