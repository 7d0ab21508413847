package schemaregistry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Registry holds the rules: what is a new version, what is compatible, what may be deleted.
// It answers from memory, where it keeps all that its store has. Its methods may be called
// from several goroutines. An answer that says no is an *Error with the code and message of
// the HTTP API; any other error comes from the store.
type Registry struct {
	store Store

	loading sync.Mutex // held while the store is read
	loaded  atomic.Bool

	mu    sync.RWMutex
	state *state // what the store has

	// draft is what the store will have when the changes under way are written. Whoever is
	// called by the store owns it: the writer, or receive.
	draft *state

	queue   sync.Mutex
	pending []*change
	writing bool // a writer is under way and takes what is pending

	parsed *parseCache
}

// New returns a registry that keeps what it knows in store. It reads the store on first use,
// or at Load.
func New(store Store) *Registry {
	return &Registry{store: store, state: newState(), draft: newState(), parsed: newParseCache()}
}

// Load reads the store, unless that is done.
func (r *Registry) Load(ctx context.Context) error {
	if r.loaded.Load() {
		return nil
	}
	r.loading.Lock()
	defer r.loading.Unlock()
	if r.loaded.Load() {
		return nil
	}
	if err := r.store.Load(ctx, r.receive); err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	r.loaded.Store(true)
	return nil
}

// Ready tells whether the registry can answer and change things now.
func (r *Registry) Ready(ctx context.Context) error {
	if err := r.Load(ctx); err != nil {
		return err
	}
	return r.store.Ping(ctx)
}

// receive takes in what the store has, or what others wrote to it.
func (r *Registry) receive(records []Record) error {
	facts := make([]fact, len(records))
	for i, record := range records {
		var err error
		if facts[i], err = decodeRecord(record); err != nil {
			return err
		}
	}
	for _, f := range facts {
		r.draft.apply(f)
	}
	r.commit(facts)
	return nil
}

// commit makes facts visible to readers.
func (r *Registry) commit(facts []fact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range facts {
		r.state.apply(f)
	}
}

// view gives parts of the work the state for as long as they need it: what takes long, as
// parsing does, must not keep others waiting.
type view func(func(*state))

// published is what readers see.
func (r *Registry) published(do func(*state)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	do(r.state)
}

// view is what a change sees.
func (d *draft) view(do func(*state)) { do(d.state) }

// read calls do with the state, which it must not keep.
func read[T any](ctx context.Context, r *Registry, do func(*state) (T, error)) (answer T, err error) {
	if err := r.Load(ctx); err != nil {
		return answer, err
	}
	r.published(func(s *state) { answer, err = do(s) })
	return answer, err
}

// find answers from the state. What is not found may just have been written by another
// registry: then the store is asked for news. A store that cannot be reached has none.
func find[T any](ctx context.Context, r *Registry, do func(view) (T, error)) (answer T, err error) {
	if err := r.Load(ctx); err != nil {
		return answer, err
	}
	answer, err = do(r.published)
	var no *Error
	if !errors.As(err, &no) || no.StatusCode != http.StatusNotFound || r.store.Refresh(ctx) != nil {
		return answer, err
	}
	return do(r.published)
}

// get is find for what needs the state only once.
func get[T any](ctx context.Context, r *Registry, do func(*state) (T, error)) (T, error) {
	return find(ctx, r, func(v view) (answer T, err error) {
		v(func(s *state) { answer, err = do(s) })
		return answer, err
	})
}

// change is one thing to do in a transaction.
type change struct {
	do   func(*draft) error
	done chan error // has room for the one answer
}

// attempt makes a change. net/http keeps a panic to the request that it comes from, but here
// it would end the process, and with it the requests of everybody: it becomes an error.
func (c *change) attempt(d *draft) (panicked bool, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			panicked, err = true, fmt.Errorf("a change panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	return false, c.do(d)
}

// draft is what a change sees and adds to.
type draft struct {
	*state
	facts []fact
	now   int64
}

// put adds a fact.
func (d *draft) put(f fact) {
	d.apply(f)
	d.facts = append(d.facts, f)
}

// batch bounds how many changes one transaction holds.
const batch = 256

// writeTimeout bounds a transaction. It is no client's own: several share it.
const writeTimeout = 10 * time.Second

// update runs do, in a transaction with the changes that are asked for at the same time. do
// sees what all changes before it have done, in this process or another. It either puts
// facts or returns an error.
func (r *Registry) update(ctx context.Context, do func(*draft) error) error {
	if err := r.Load(ctx); err != nil {
		return err
	}
	c := &change{do, make(chan error, 1)}
	r.queue.Lock()
	r.pending = append(r.pending, c)
	if !r.writing {
		r.writing = true
		go r.write() // ends when nothing is pending
	}
	r.queue.Unlock()
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		if r.withdraw(c) {
			return ctx.Err()
		}
		return <-c.done // it is being made, within writeTimeout
	}
}

// withdraw takes back a change that nobody has begun to make.
func (r *Registry) withdraw(c *change) bool {
	r.queue.Lock()
	defer r.queue.Unlock()
	i := slices.Index(r.pending, c)
	if i < 0 {
		return false
	}
	r.pending = slices.Delete(r.pending, i, i+1)
	return true
}

func (r *Registry) write() {
	for {
		r.queue.Lock()
		changes := r.pending[:min(len(r.pending), batch)]
		r.pending = r.pending[len(changes):]
		r.writing = len(changes) > 0
		r.queue.Unlock()
		if len(changes) == 0 {
			return
		}
		r.writeBatch(changes)
	}
}

func (r *Registry) writeBatch(changes []*change) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	answers := make([]error, len(changes))
	d := &draft{now: time.Now().UnixMilli()}
	broken := false // the draft, by a change that did a part
	err := r.store.Update(ctx, func() ([]Record, error) {
		d.state = r.draft
		for i, c := range changes {
			if broken, answers[i] = c.attempt(d); broken {
				return nil, answers[i]
			}
		}
		records := make([]Record, len(d.facts))
		for i, f := range d.facts {
			var err error
			if records[i], err = encodeFact(f); err != nil {
				return nil, err
			}
		}
		return records, nil
	}, func(err error) {
		switch {
		case err == nil:
			r.commit(d.facts)
		case broken || len(d.facts) > 0:
			r.draft = r.state.clone() // nobody writes to the state meanwhile
		}
	})
	for i, c := range changes {
		if err != nil && answers[i] == nil {
			answers[i] = err
		}
		c.done <- answers[i]
	}
}
