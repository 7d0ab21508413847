package torture

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/relay"
)

// relayFaults end, stop and freeze the relay itself.
var relayFaults = []Fault{
	crashPoint("read", 2000),
	crashPoint("decoded", 2000),
	crashPoint("encoded", 2000),
	crashPoint("enqueued", 2000),
	crashPoint("appended", 100),
	crashPoint("acked", 100),
	crashPoint("confirmed", 20),
	{
		Name: "kill", Row: 1, What: "kill -9 at a random moment",
		Run: func(ctx context.Context, a *Arena) error {
			r, err := a.active(ctx)
			if err != nil {
				return err
			}
			r.kill()
			return r.comeBack(ctx)
		},
	},
	{
		Name: "kill-stalled", Row: 1, What: "kill -9 while Kafka does not answer and everything is queued", Needs: KafkaProxy,
		Run: func(ctx context.Context, a *Arena) error {
			r, err := a.active(ctx)
			if err != nil {
				return err
			}
			silence := toxic{"timeout", map[string]int{"timeout": 0}, true}
			if err := silence.add(a.proxies.kafka); err != nil {
				return err
			}
			pause(ctx, 1500*time.Millisecond)
			r.kill()
			if err := silence.remove(a.proxies.kafka); err != nil {
				return err
			}
			return r.comeBack(ctx)
		},
	},
	{
		Name: "kill-waiting", Row: 1, What: "kill -9 while an event waits for its schema and others queue behind it",
		Run: func(ctx context.Context, a *Arena) error {
			r, err := a.active(ctx)
			if err != nil {
				return err
			}
			a.registry.fail(http.StatusServiceUnavailable, 0)
			defer a.registry.fail(0, 0)
			if err := a.emitUnknown(ctx); err != nil {
				return err
			}
			pause(ctx, 1500*time.Millisecond)
			r.kill()
			a.registry.fail(0, 0)
			return r.comeBack(ctx)
		},
	},
	{
		Name: "term", Row: 2, Alone: true, What: "SIGTERM under load",
		Run: func(ctx context.Context, a *Arena) error { return a.term(ctx) },
	},
	{
		Name: "term-waiting", Row: 2, Alone: true, What: "SIGTERM while an event waits for its schema, right behind one that was delivered",
		Run: func(ctx context.Context, a *Arena) error {
			a.writing.Lock() // nothing in between
			defer a.writing.Unlock()
			waiting, err := a.unknownType(ctx)
			if err != nil {
				return err
			}
			a.registry.fail(http.StatusServiceUnavailable, 0)
			defer a.registry.fail(0, 0)
			delivered := a.single("delivered")
			if err := errors.Join(a.emit(delivered), a.emit(waiting)); err != nil {
				return err
			}
			err = a.relays[0].await(ctx, "the event waiting", func(s relay.StatusReport) bool { return !s.Ready })
			if err != nil {
				return err
			}
			return a.term(ctx)
		},
	},
	freeze("freeze", "SIGSTOP for some seconds, then SIGCONT", 2*time.Second, false),
	freeze("freeze-long", "SIGSTOP for twice wal_sender_timeout, then SIGCONT", 2*walSenderTimeout, true),
	{
		Name: "takeover-kill", Row: 15, What: "the active relay of two killed", Needs: Standby,
		Run: func(ctx context.Context, a *Arena) error {
			return a.takeover(ctx, (*instance).kill, "takeover after kill -9", 5*time.Second)
		},
	},
	{
		Name: "takeover-term", Row: 15, What: "the active relay of two stopped", Needs: Standby,
		Run: func(ctx context.Context, a *Arena) error {
			return a.takeover(ctx, (*instance).stop, "takeover after SIGTERM", 2*time.Second)
		},
	},
	{
		Name: "upgrade", Row: 18, What: "a new relay started beside the old one, which is then stopped", Needs: Standby,
		Run: func(ctx context.Context, a *Arena) error {
			old, fresh, err := a.roles(ctx)
			if err != nil {
				return err
			}
			fresh.stop()
			if err := fresh.start(); err != nil {
				return err
			}
			pause(ctx, time.Second)
			old.stop()
			if err := fresh.awaitStreaming(ctx); err != nil {
				return err
			}
			return old.start()
		},
	},
	{
		Name: "config-error", Row: 18, What: "restarted with a configuration that is wrong, then with the right one",
		Run: func(ctx context.Context, a *Arena) error {
			r := a.relays[0]
			r.stop()
			out, err := a.command(ctx, "relay", "-c", r.config, "--set", "kafka.compression=brotli").CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "kafka.compression") {
				return fmt.Errorf("with kafka.compression=brotli the relay said %q and ended: %w", out, err)
			}
			return r.comeBack(ctx)
		},
	},
	{
		Name: "backlog", Row: 16, Slow: true, Alone: true, What: "the relay down while a backlog grows",
		Run: func(ctx context.Context, a *Arena) error {
			r := a.relays[0]
			r.kill()
			rows := a.cfg.Backlog
			began := time.Now()
			for left := rows; left > 0; left -= 500 {
				if err := a.writer.commit(plan{segments: [][]draft{a.writer.drafts(min(left, 500), left/500%2 == 0)}}); err != nil {
					return err
				}
			}
			a.log.Info("backlog written", "events", rows, "took", time.Since(began).String())
			if err := r.comeBack(ctx); err != nil {
				return err
			}
			began = time.Now()
			if _, ok := a.recover(ctx); ok {
				a.notice(fmt.Sprintf("catching up with %d events", rows), time.Since(began))
			}
			return nil
		},
	},
}

// crashPoint makes the fault of a relay that dies by SIGKILL the n-th time that it passes a
// point, with n up to most.
func crashPoint(point string, most int) Fault {
	return Fault{
		Name: "crash-" + point, Row: 1, Alone: true, What: "kill -9 at the point " + point,
		Run: func(ctx context.Context, a *Arena) error {
			r := a.relays[0]
			r.kill()
			if err := r.startDoomed(fmt.Sprintf("POSTRIDER_FAILPOINT=%s:%d", point, 1+a.rng.IntN(most))); err != nil {
				return err
			}
			select {
			case <-r.expectEnd():
			case <-time.After(a.cfg.Patience):
				return fmt.Errorf("the relay did not reach the point %q in %v", point, a.cfg.Patience)
			case <-ctx.Done():
				return ctx.Err()
			}
			return r.comeBack(ctx)
		},
	}
}

// term stops the relay, mends the registry and starts the relay again. All that was
// delivered must have been confirmed before the end, so that Postgres sends none of it again.
func (a *Arena) term(ctx context.Context) error {
	r := a.relays[0]
	r.stop()
	a.registry.fail(0, 0)
	if err := r.comeBack(ctx); err != nil {
		return err
	}
	// The stream is in order: once a new event has come through, so has all that came again.
	if err := a.emit(a.single("term")); err != nil {
		return err
	}
	if _, ok := a.recover(ctx); !ok {
		return errors.New("nothing arrives after the new start")
	}
	s, err := r.status(ctx)
	if err == nil && s.Skipped > 0 {
		a.violate("I3", "%d events were sent again by Postgres after a clean stop, and skipped", s.Skipped)
	}
	return err
}

// freeze makes the fault of a relay that stands still without knowing it.
func freeze(name, what string, least time.Duration, slow bool) Fault {
	return Fault{
		Name: name, Row: 2, What: what, Slow: slow, Handover: true,
		Run: func(ctx context.Context, a *Arena) error {
			r, err := a.active(ctx)
			if err != nil {
				return err
			}
			r.signal(syscall.SIGSTOP)
			defer r.signal(syscall.SIGCONT)
			pause(ctx, least)
			a.chance(ctx, time.Second)
			return nil
		},
	}
}

// comeBack starts the relay again after a while, and returns when it does its work: it
// streams, or stands by where another one does.
func (i *instance) comeBack(ctx context.Context) error {
	i.arena.chance(ctx, 300*time.Millisecond)
	if err := i.start(); err != nil {
		return err
	}
	return i.await(ctx, "streaming or standing by", func(s relay.StatusReport) bool {
		return s.Phase == relay.PhaseStreaming || s.Phase == relay.PhaseStandby
	})
}

// active returns the relay that streams; the only one, where there is one.
func (a *Arena) active(ctx context.Context) (*instance, error) {
	if len(a.relays) == 1 {
		return a.relays[0], nil
	}
	waiting, cancel := context.WithTimeout(ctx, a.cfg.Patience)
	defer cancel()
	for {
		var streaming []*instance
		for _, i := range a.relays {
			if s, err := i.status(waiting); err == nil && s.Phase == relay.PhaseStreaming {
				streaming = append(streaming, i)
			}
		}
		if len(streaming) == 1 { // two believe it while one has not learnt of its loss
			return streaming[0], nil
		}
		if !pause(waiting, 20*time.Millisecond) {
			return nil, fmt.Errorf("%d relays stream, not one, within %v", len(streaming), a.cfg.Patience)
		}
	}
}

// roles returns the relay that streams and one that stands by.
func (a *Arena) roles(ctx context.Context) (active, standby *instance, err error) {
	waiting, cancel := context.WithTimeout(ctx, a.cfg.Patience)
	defer cancel()
	for {
		active, standby = nil, nil
		for _, i := range a.relays {
			switch s, err := i.status(waiting); {
			case err != nil:
			case s.Phase == relay.PhaseStreaming:
				active = i
			case s.Phase == relay.PhaseStandby:
				standby = i
			}
		}
		if active != nil && standby != nil {
			return active, standby, nil
		}
		if !pause(waiting, 20*time.Millisecond) {
			return nil, nil, fmt.Errorf("there is not one relay that streams and one that stands by within %v", a.cfg.Patience)
		}
	}
}

// takeover ends the active relay and measures how long it takes until another publishes.
func (a *Arena) takeover(ctx context.Context, end func(*instance), what string, bound time.Duration) error {
	active, standby, err := a.roles(ctx)
	if err != nil {
		return err
	}
	end(active)
	began := time.Now()
	err = standby.await(ctx, "publishing", func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStreaming && s.Published > 0 })
	if err != nil {
		return err
	}
	took, bound := time.Since(began), bound+a.cfg.Slack
	a.notice(what, took)
	if took > bound {
		a.violate("I7", "%s took %s, the bound is %s", what, brief(took), brief(bound))
	}
	return active.comeBack(ctx)
}

// chance waits for a random time up to most.
func (a *Arena) chance(ctx context.Context, most time.Duration) {
	pause(ctx, time.Duration(a.rng.Int64N(int64(most))))
}
