package schemaregistry

import (
	"context"
	"errors"
	"testing"
)

// heldStore begins an update only when it is let.
type heldStore struct {
	*MemoryStore
	begun, let chan struct{}
}

func (s *heldStore) Update(ctx context.Context, change func() ([]Record, error), done func(error)) error {
	s.begun <- struct{}{}
	<-s.let
	return s.MemoryStore.Update(ctx, change, done)
}

func TestRegister_OfOneWhoGivesUpIsWithdrawnOrAnswered(t *testing.T) {
	t.Parallel()
	store := &heldStore{NewMemoryStore(), make(chan struct{}), make(chan struct{})}
	r := New(store)
	must(t, r.Load(t.Context()))
	register := func(ctx context.Context, subject string) chan error {
		answer := make(chan error, 1)
		go func() {
			_, _, err := r.Register(ctx, subject, Submission{Schema: record("id")})
			answer <- err
		}()
		return answer
	}
	ctx, giveUp := context.WithCancel(t.Context())
	first := register(ctx, "begun")
	<-store.begun // from here on it cannot be withdrawn
	second := register(ctx, "waiting")
	giveUp()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that waits: %v, want %v", err, context.Canceled)
	}
	close(store.let)
	if err := <-first; err != nil {
		t.Errorf("the one that was begun: %v, want the answer", err)
	}
	third := register(t.Context(), "after")
	<-store.begun
	must(t, <-third)
	if _, err := r.Versions(t.Context(), "waiting", WithoutDeleted); err == nil {
		t.Error("what was withdrawn is there")
	}
}
