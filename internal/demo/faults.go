package demo

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// command is what can be done to a running demo.
type command struct {
	key  rune   // on a terminal; 0 for those that are words only
	word string // elsewhere; keys with more than one meaning are no words
	name string // of the key, where it is none
	help string
	do   func(*faults, context.Context)
}

// commands in the order of the help.
var commands = []command{
	{'k', "kill relay", "", "kill -9 the relay; it is started again at once", (*faults).killRelay},
	{'b', "", "broker", "stop the broker, or start it again", (*faults).toggleBroker},
	{0, "stop broker", "", "close its port and all connections; its records stay", (*faults).stopBroker},
	{0, "start broker", "", "open the port again", (*faults).startBroker},
	{'p', "restart postgres", "", "shut Postgres down and start it again", (*faults).restartPostgres},
	{'x', "poison", "", "commit an event that its schema refuses", (*faults).poison},
	{'d', "decline", "", "decline the card of the next order", (*faults).decline},
	{' ', "", "orders", "pause the orders, or resume them", (*faults).togglePause},
	{0, "pause", "", "place no more orders for now", (*faults).pauseOrders},
	{0, "resume", "", "place orders again", (*faults).resumeOrders},
	{'?', "help", "", "show this", nil}, // obey does it
	{'q', "quit", "", "end when what is on its way has arrived", (*faults).quit},
}

// keyCommands are the commands of single keys.
var keyCommands = func() map[rune]string {
	m := map[rune]string{'h': "help"}
	for _, c := range commands {
		if c.key != 0 {
			m[c.key] = c.word + c.name
		}
	}
	return m
}()

// faults does to the demo what it is told, and says when that is made good.
type faults struct {
	demo *demo
	end  context.CancelFunc
	// recoveries are those that are awaited.
	recoveries sync.WaitGroup

	made    atomic.Int64 // faults, for which the relay may deliver twice
	poisons atomic.Int64

	mu       sync.Mutex // one command at a time
	stopped  atomic.Bool
	stopTime time.Time
}

// obey carries a command out.
func (f *faults) obey(ctx context.Context, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := text
	if runes := []rune(text); len(runes) == 1 && keyCommands[runes[0]] != "" {
		name = keyCommands[runes[0]]
	}
	for _, c := range commands {
		switch {
		case c.word+c.name != name:
			continue
		case ctx.Err() != nil:
		case c.do == nil:
			f.help()
		default:
			c.do(f, ctx)
		}
		return
	}
	f.say(yellow, "there is no command %q: try help", text)
}

// yours tells the user that a server is theirs, and reports whether it is.
func (f *faults) yours(is bool, what string) bool {
	if is {
		f.say(yellow, "%s is yours: the demo neither stops nor starts it", what)
	}
	return is
}

// finish returns when no command is under way, nothing is awaited and the broker is back: what
// uses it could not end without. The contexts of commands and of what is awaited have ended.
func (f *faults) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped.Load() && f.demo.servers.kafka.Restore() == nil {
		f.stopped.Store(false)
	}
	f.recoveries.Wait()
}

func (f *faults) say(tint, format string, args ...any) {
	f.demo.screen.news("●", tint, format, args...)
}

func (f *faults) killRelay(ctx context.Context) {
	began, starts := time.Now(), f.demo.relay.started()
	pid := f.demo.relay.kill()
	if pid == 0 {
		f.say(yellow, "the relay is dead already")
		return
	}
	f.made.Add(1)
	f.say(yellow, "kill -9 %d: the relay is dead", pid)
	f.recover(ctx, fmt.Sprintf("relay %d killed: back", pid), began, func(ctx context.Context) bool {
		return f.demo.relay.started() > starts && f.demo.relay.healthy(ctx)
	})
}

func (f *faults) brokerDown() bool { return f.stopped.Load() }

func (f *faults) toggleBroker(ctx context.Context) {
	if f.yours(f.demo.servers.kafka == nil, "the broker") {
		return
	}
	if f.stopped.Load() {
		f.startBroker(ctx)
	} else {
		f.stopBroker(ctx)
	}
}

func (f *faults) stopBroker(context.Context) {
	if f.yours(f.demo.servers.kafka == nil, "the broker") {
		return
	}
	if f.stopped.Swap(true) {
		f.say(yellow, "the broker is stopped already")
		return
	}
	f.made.Add(1)
	f.stopTime = time.Now()
	f.demo.servers.kafka.Cut()
	f.say(yellow, "broker stopped: port closed, connections cut; its records stay")
}

func (f *faults) startBroker(ctx context.Context) {
	if f.yours(f.demo.servers.kafka == nil, "the broker") {
		return
	}
	if !f.stopped.Load() {
		f.say(yellow, "the broker runs already")
		return
	}
	if err := f.demo.servers.kafka.Restore(); err != nil {
		f.say(red, "the broker cannot be started: %v; end what listens there and try again", err)
		return
	}
	f.stopped.Store(false)
	f.recover(ctx, fmt.Sprintf("broker down %s: back", seconds(time.Since(f.stopTime))), time.Now(), f.demo.relay.healthy)
}

func (f *faults) restartPostgres(ctx context.Context) {
	if f.yours(f.demo.servers.postgres == nil, "Postgres") {
		return
	}
	f.made.Add(1)
	began := time.Now()
	before, err := f.demo.relay.status(ctx)
	known := err == nil
	f.say(yellow, "Postgres is shut down")
	// Not to be left in the middle when the demo is ended: what is in flight needs it.
	if err := f.demo.restartPostgres(f.demo.leave); err != nil {
		return // the demo ends with that
	}
	f.say("", "Postgres runs again after %s", seconds(time.Since(began)))
	starts := f.demo.relay.started()
	f.recover(ctx, "Postgres restarted: back", began, func(ctx context.Context) bool {
		now, err := f.demo.relay.status(ctx)
		again := !known || now.Sessions > before.Sessions || f.demo.relay.started() > starts
		return err == nil && again && f.demo.relay.healthy(ctx) && f.demo.servers.pool.Ping(ctx) == nil
	})
}

func (f *faults) poison(ctx context.Context) {
	began, key := time.Now(), fmt.Sprintf("poison-%d", f.poisons.Add(1))
	id, err := f.demo.poison(ctx, key)
	if err != nil {
		f.say(red, "the poison event could not be written: %v", err)
		return
	}
	f.say(yellow, "%s committed: its amount is \"a lot\" and no number", key)
	f.recover(ctx, key+": dead letter", began, isClosed(f.demo.watch.await(id)))
}

func (f *faults) decline(context.Context) {
	f.demo.declineNext.Store(true)
	f.say(yellow, "the card of the next order will be declined")
}

// declined waits for what becomes of an order that decline is about.
func (f *faults) declined(id string) {
	f.recover(f.demo.ctx, id+" cancelled", time.Now(), isClosed(f.demo.watch.await(id+" order.cancelled")))
}

func (f *faults) togglePause(ctx context.Context) {
	if f.demo.pause.paused() {
		f.resumeOrders(ctx)
	} else {
		f.pauseOrders(ctx)
	}
}

func (f *faults) pauseOrders(context.Context) {
	f.demo.pause.set(true)
	f.say("", "orders paused")
}

func (f *faults) resumeOrders(context.Context) {
	f.demo.pause.set(false)
	f.say("", "orders go on")
}

func (f *faults) quit(context.Context) { f.end() }

// help shows the keys on a terminal, and the words elsewhere.
func (f *faults) help() {
	var b strings.Builder
	for _, c := range commands {
		key := string(c.key)
		if c.key == ' ' {
			key = "space"
		}
		switch {
		case f.demo.keys && c.key != 0:
			fmt.Fprintf(&b, "  %-6s %s\n", key, c.help)
		case !f.demo.keys && c.word != "":
			fmt.Fprintf(&b, "  %-17s %s\n", c.word, c.help)
		}
	}
	f.demo.screen.say(b.String())
}

// keyLine names the keys, in less than 80 columns.
func (f *faults) keyLine() string {
	keys := []string{"k kill relay"}
	if f.demo.servers.kafka != nil && f.stopped.Load() {
		keys = append(keys, "b start broker")
	} else if f.demo.servers.kafka != nil {
		keys = append(keys, "b stop broker")
	}
	if f.demo.servers.postgres != nil {
		keys = append(keys, "p restart Postgres")
	}
	return strings.Join(append(keys, "x poison", "d decline", "? help"), "  ")
}

// unbalancedAfter is when it is said that a recovery takes long.
const unbalancedAfter = time.Minute

// recover says when what was done at began is made good: back reports true, and then every
// event that was committed by then is accounted for.
func (f *faults) recover(ctx context.Context, what string, began time.Time, back func(context.Context) bool) {
	f.recoveries.Go(func() {
		d, most, warned := f.demo, 0, false
		look := func() bool {
			_ = d.count(ctx) // Postgres may be what is down
			most = max(most, d.book.ledger().InFlight)
			if !warned && time.Since(began) > unbalancedAfter {
				warned = true
				f.say(red, "%s: not yet, after %s; %s/status says why", what, unbalancedAfter, d.relay.url())
			}
			return sleep(ctx, pollInterval)
		}
		for !back(ctx) {
			if !look() {
				return
			}
		}
		after := time.Since(began)
		if d.count(ctx) != nil && ctx.Err() != nil {
			return
		}
		for mark := d.book.ledger().Committed; d.book.ledger().accounted() < mark; {
			if !look() {
				return
			}
		}
		delivered := "nothing in flight"
		if most > 0 {
			delivered = fmt.Sprintf("%d in flight arrived", most)
		}
		if now, err := d.read(ctx); err == nil {
			delivered += "; " + now.standing()
		}
		d.screen.news("✓", green, "%s after %s, %s", what, seconds(after), delivered)
	})
}

// isClosed makes a condition of a channel.
func isClosed(c <-chan struct{}) func(context.Context) bool {
	return func(context.Context) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
