package benchmark

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// cleanupTimeout bounds the removal of everything.
const cleanupTimeout = time.Minute

// cleanup remembers how to remove what was made. A removal is noted down before the thing is
// made, since a server may have made it though its answer was lost: every removal takes it
// well when there is nothing to remove.
type cleanup struct {
	removals []removal
}

type removal struct {
	what string
	do   func(context.Context) error
}

func (c *cleanup) add(what string, do func(context.Context) error) {
	c.removals = append(c.removals, removal{what, do})
}

// run removes the latest first. It is not ended by the end of ctx.
func (c *cleanup) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	var left []error
	for _, r := range slices.Backward(c.removals) {
		if err := r.do(ctx); err != nil {
			left = append(left, fmt.Errorf("left behind: %s, remove it by hand: %w", r.what, err))
		}
	}
	c.removals = nil
	return errors.Join(left...)
}
