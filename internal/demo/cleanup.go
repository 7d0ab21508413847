package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// cleanupTimeout bounds the removal of everything.
const cleanupTimeout = 30 * time.Second

// cleanup remembers how to end and remove what was started and made. A removal is noted down
// before the thing is made, since a server may have made it though its answer was lost: every
// removal takes it well when there is nothing to remove.
type cleanup struct {
	mu       sync.Mutex
	removals []removal
}

type removal struct {
	what string
	do   func(context.Context) error
}

// add may be called by several goroutines.
func (c *cleanup) add(what string, do func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removals = append(c.removals, removal{what, do})
}

// close is add for what cannot fail to end.
func (c *cleanup) close(what string, do func()) {
	c.add(what, func(context.Context) error { do(); return nil })
}

// run removes the latest first. It is not ended by the end of ctx.
func (c *cleanup) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []error
	for _, r := range slices.Backward(c.removals) {
		if err := r.do(ctx); err != nil {
			left = append(left, fmt.Errorf("left behind: %s, remove it by hand: %w", r.what, err))
		}
	}
	c.removals = nil
	return errors.Join(left...)
}
