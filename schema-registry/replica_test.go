package schemaregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testserver"
)

// eventually waits for what another goroutine brings about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func TestReplicas_SeeWhatTheOthersDo(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	a, b := openRegistry(t, url), openRegistry(t, url)
	ctx := t.Context()
	v := register(t, a, "s", record("a"))
	// What is not known here yet is asked for.
	if got, err := b.SchemaByID(ctx, v.ID, ""); err != nil || got.Schema != v.Schema {
		t.Errorf("SchemaByID = %v, %v", got, err)
	}
	// What has changed since arrives by itself.
	_, err := a.DeleteSubject(ctx, "s", false)
	must(t, err)
	eventually(t, "the other replica hears of the deletion", func() bool {
		names, err := b.Subjects(ctx, "", WithoutDeleted)
		return err == nil && len(names) == 0
	})
	_, err = b.DeleteSubject(ctx, "s", true)
	must(t, err)
	if v := register(t, a, "s", record("a")); v.Version != 1 || v.ID != 2 {
		t.Errorf("version %d with ID %d after the other replica forgot the first, want 1 with 2", v.Version, v.ID)
	}
}

func TestReplicas_LevelCountsAtOnce(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	a, b := openRegistry(t, url), openRegistry(t, url)
	register(t, a, "s", record("a"))
	must(t, a.SetLevel(t.Context(), "", None))
	register(t, b, "s", record("b"))
	must(t, b.SetLevel(t.Context(), "", Full))
	if _, _, err := a.Register(t.Context(), "s", avro(record("c"))); !IsIncompatible(err) {
		t.Errorf("registered against the level that the other replica has set: %v", err)
	}
}

func TestReplicas_RegisterTheSameAtOnceWithoutTwins(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	replicas := []*Registry{openRegistry(t, url), openRegistry(t, url)}
	must(t, replicas[0].SetLevel(t.Context(), "", None))
	const schemas, clients = 60, 3
	var mu sync.Mutex
	ids := map[string]int{}
	var group sync.WaitGroup
	for _, r := range replicas {
		for range clients {
			group.Go(func() {
				for i := range schemas {
					schema := record(fmt.Sprint("f", i))
					v, _, err := r.Register(t.Context(), fmt.Sprint("s", i%2), avro(schema))
					if err != nil {
						t.Errorf("register: %v", err)
						return
					}
					mu.Lock()
					if other, known := ids[schema]; known && other != v.ID {
						t.Errorf("%s has IDs %d and %d", schema, other, v.ID)
					}
					ids[schema] = v.ID
					mu.Unlock()
				}
			})
		}
	}
	group.Wait()
	for _, r := range replicas {
		must(t, r.store.Refresh(t.Context()))
		for _, subject := range []string{"s0", "s1"} {
			numbers, err := r.Versions(t.Context(), subject, WithDeleted)
			must(t, err)
			if len(numbers) != schemas/2 || numbers[len(numbers)-1] != schemas/2 {
				t.Errorf("versions of %s: %v, want 1 to %d", subject, numbers, schemas/2)
			}
		}
		if last, err := r.LastID(t.Context(), ""); err != nil || last != schemas {
			t.Errorf("last ID %d, %v, want %d", last, err, schemas)
		}
	}
}

func TestPostgresStore_ReadsGoOnWithoutPostgresAndWritesRecover(t *testing.T) {
	t.Parallel()
	cluster := testserver.NewPostgresCluster(t)
	r := openRegistry(t, cluster.URL())
	other := openRegistry(t, cluster.URL())
	ctx := t.Context()
	register(t, r, "s", record("a"))
	eventually(t, "the other replica hears of it", func() bool {
		names, err := other.Subjects(ctx, "", WithoutDeleted)
		return err == nil && slices.Equal(names, []string{"s"})
	})
	cluster.Crash()
	for _, r := range []*Registry{r, other} {
		if v, err := r.Version(ctx, "s", Latest, false); err != nil || v.ID != 1 {
			t.Errorf("a read while Postgres is down: %v, %v", v, err)
		}
		if _, err := r.Version(ctx, "t", Latest, false); !IsNotFound(err) {
			t.Errorf("a read of what is not there: %v", err)
		}
		if v, added, err := r.Register(ctx, "s", avro(record("a"))); err != nil || added || v.ID != 1 {
			t.Errorf("registering what is registered: %v, %v", v, err)
		}
		var no *Error
		if _, _, err := r.Register(ctx, "s", avro(record("a b?"))); err == nil || errors.As(err, &no) {
			t.Errorf("registering what is new: %v, want an error of the store", err)
		}
		if r.Ready(ctx) == nil {
			t.Error("ready without a store")
		}
	}
	cluster.Start()
	for i, r := range []*Registry{r, other} {
		schema := record(fmt.Sprint("a b? c", i, "?"))
		eventually(t, "writes recover", func() bool {
			_, _, err := r.Register(ctx, "s", avro(schema))
			return err == nil
		})
	}
	eventually(t, "news arrive again", func() bool {
		numbers, err := r.Versions(ctx, "s", WithoutDeleted)
		return err == nil && slices.Equal(numbers, []int{1, 2, 3})
	})
}
