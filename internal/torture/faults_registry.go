package torture

import (
	"context"
	"net/http"
	"time"
)

// registryFaults happen to the schema registry. Events of known schemas go on; those of
// unknown ones wait.
var registryFaults = []Fault{
	registryFault("registry-down", "the registry does not answer", dropConnection, 0),
	registryFault("registry-5xx", "the registry answers 503", http.StatusServiceUnavailable, 0),
	registryFault("registry-slow", "the registry takes two seconds", 0, 2*time.Second),
	{
		Name: "registry-wiped", Row: 12, What: "the registry forgets everything, and is filled again", Needs: Halting, Operator: true,
		Run: func(ctx context.Context, a *Arena) error {
			restore := a.registry.wipe()
			defer restore()
			pause(ctx, 3*time.Second)
			return nil
		},
	},
}

func registryFault(name, what string, status int, delay time.Duration) Fault {
	return Fault{
		Name: name, Row: 12, What: what,
		Run: func(ctx context.Context, a *Arena) error {
			a.registry.fail(status, delay)
			defer a.registry.fail(0, 0)
			pause(ctx, time.Second)
			if err := a.emitUnknown(ctx); err != nil {
				return err
			}
			a.chance(ctx, 3*time.Second)
			return nil
		},
	}
}
