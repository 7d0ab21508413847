package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// removalTimeout bounds each removal: what is made on one server is to be removed also when
	// another is down.
	removalTimeout = 10 * time.Second
	// hurriedTimeout bounds each removal once somebody is in a hurry.
	hurriedTimeout = time.Second
)

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

// close is add for what is gone with the process at the latest. It is not waited for when it does
// not end in time.
func (c *cleanup) close(what string, do func()) {
	c.add(what, func(ctx context.Context) error {
		closed := make(chan struct{})
		go func() { do(); close(closed) }()
		select {
		case <-closed:
		case <-ctx.Done():
		}
		return nil
	})
}

// run removes the latest first. When hurry ends it does not wait long for any of them, but tries
// each.
func (c *cleanup) run(hurry context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []error
	for _, r := range slices.Backward(c.removals) {
		if err := r.run(hurry); err != nil {
			left = append(left, fmt.Errorf("left behind: %s, remove it by hand: %w", r.what, err))
		}
	}
	c.removals = nil
	return errors.Join(left...)
}

func (r removal) run(hurry context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(hurry), removalTimeout)
	defer cancel()
	defer context.AfterFunc(hurry, func() { time.AfterFunc(hurriedTimeout, cancel) })()
	return r.do(ctx)
}
