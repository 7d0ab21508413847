package demo

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/examples/orders/balance"
)

// figures are ledger and orders of one moment.
type figures struct {
	Report
	at    time.Time
	stale bool // Postgres did not answer since
}

// wrong tells that there is what no moment may show.
func (f figures) wrong() bool {
	return f.OutOfOrder > 0 || len(f.Orders.Violations) > 0 || f.Orders.DeadLetters > 0
}

// balanced tells that at that moment all was well and every event where it belongs.
func (f figures) balanced() bool { return !f.stale && !f.wrong() && f.InFlight == 0 }

// standing says it in few words.
func (f figures) standing() string {
	switch {
	case f.balanced():
		return "balanced"
	case f.wrong():
		return "SOMETHING IS WRONG"
	default:
		return fmt.Sprintf("%d newer on their way", f.InFlight)
	}
}

// watch keeps what is shown at the bottom, and tells when an event arrives that somebody waits
// for.
type watch struct {
	mu      sync.Mutex
	last    figures
	letters int                      // of the services
	said    map[string]bool          // violations, by what they are
	awaited map[string]chan struct{} // by the event's id, or by its key and type
}

func newWatch() *watch {
	return &watch{awaited: make(map[string]chan struct{}), said: make(map[string]bool)}
}

// set takes figures, unless later ones are known, and returns the violations that are new.
func (w *watch) set(f figures) (fresh []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.at.After(w.last.at) {
		w.last = f
	}
	for _, violation := range f.Orders.Violations {
		// Behind it stand orders, of which there may be more from look to look.
		what, _, _ := strings.Cut(violation, ":")
		if !w.said[what] {
			w.said[what] = true
			fresh = append(fresh, violation)
		}
	}
	return fresh
}

// outdate says that at a moment no figures could be read.
func (w *watch) outdate(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.stale = w.last.stale || at.After(w.last.at)
}

// current returns the figures that were read last.
func (w *watch) current() figures {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// fallen is how many dead letters of services there are.
func (w *watch) fallen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.letters
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
	lookInterval = 250 * time.Millisecond
	// readShare bounds what the figures cost: so many times as long as reading them takes, they are
	// left alone.
	readShare = 10
)

// look keeps the bottom of the screen up to date until ctx ends. A Postgres that is down is no
// news here.
func (d *demo) look(ctx context.Context) error {
	readAt := time.Time{}
	for {
		if began := time.Now(); began.After(readAt) {
			if _, err := d.read(ctx); err == nil { // else it is tried again at once
				readAt = time.Now().Add(readShare * time.Since(began))
			}
		}
		d.screen.show(d.bottom(ctx))
		if !sleep(ctx, lookInterval) {
			return nil
		}
	}
}

// read reads the figures. After an error those that were read last are stale.
func (d *demo) read(ctx context.Context) (figures, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	// In this order: what has arrived is in the snapshot of the tables then, and nothing that came
	// later can stand for an event that is still in flight.
	arrived, letters := d.book.ledger(), d.watch.fallen()
	at := time.Now()
	sheet, err := balance.Check(ctx, d.servers.pool)
	if err != nil {
		d.watch.outdate(at)
		return figures{}, err
	}
	f := figures{Report: Report{arrived.of(sheet.Events), ordersOf(sheet, letters)}, at: at}
	for _, violation := range d.watch.set(f) {
		d.screen.news("✗", red, "violation: %s", violation)
	}
	return f, nil
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
	b := bottom{figures: d.watch.current()}
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
