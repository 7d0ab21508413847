package torture

import (
	"context"
	"fmt"
	"syscall"
	"time"
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
			r := a.relays[0]
			r.kill()
			a.chance(ctx, 300*time.Millisecond)
			if err := r.start(); err != nil {
				return err
			}
			return r.awaitStreaming(ctx)
		},
	},
	{
		Name: "term", Row: 2, What: "SIGTERM under load",
		Run: func(ctx context.Context, a *Arena) error {
			r := a.relays[0]
			r.stop()
			a.chance(ctx, 300*time.Millisecond)
			if err := r.start(); err != nil {
				return err
			}
			return r.awaitStreaming(ctx)
		},
	},
	{
		Name: "freeze", Row: 2, What: "SIGSTOP for a few seconds, then SIGCONT",
		Run: func(ctx context.Context, a *Arena) error {
			r := a.relays[0]
			r.signal(syscall.SIGSTOP)
			defer r.signal(syscall.SIGCONT)
			a.chance(ctx, 4*time.Second)
			return nil
		},
	},
}

// crashPoint makes the fault of a relay that dies by SIGKILL the n-th time that it passes a
// point, with n up to most.
func crashPoint(point string, most int) Fault {
	return Fault{
		Name: "crash-" + point, Row: 1, What: "kill -9 at the point " + point,
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
			a.chance(ctx, 300*time.Millisecond)
			if err := r.start(); err != nil {
				return err
			}
			return r.awaitStreaming(ctx)
		},
	}
}

// chance waits for a random time up to most.
func (a *Arena) chance(ctx context.Context, most time.Duration) {
	pause(ctx, time.Duration(a.rng.Int64N(int64(most))))
}
