package schemaregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/testserver"
)

func TestStore_KeepsAllAcrossRestarts(t *testing.T) {
	t.Parallel()
	for name, newURL := range storeURLs {
		if name == "memory" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := newURL(t)
			store, err := OpenStore(t.Context(), url)
			must(t, err)
			r := New(store)
			register(t, r, "a", `"int"`)
			register(t, r, ":.x:a", `"string"`)
			second := register(t, r, "b", `"long"`)
			_, err = r.DeleteSubject(t.Context(), "b", false)
			must(t, err)
			_, err = r.DeleteSubject(t.Context(), "b", true)
			must(t, err)
			must(t, r.SetLevel(t.Context(), "a", None))
			must(t, r.SetMode(t.Context(), "c", ReadOnly, false))
			store.Close()

			r = openRegistry(t, url)
			if v, err := r.Version(t.Context(), "a", Latest, false); err != nil || v.Schema != `"int"` || v.Time == 0 {
				t.Errorf("Version = %v, %v", v, err)
			}
			if level, err := r.Level(t.Context(), "a"); err != nil || level != None {
				t.Errorf("Level = %v, %v", level, err)
			}
			if mode, err := r.Mode(t.Context(), "c", false); err != nil || mode != ReadOnly {
				t.Errorf("Mode = %v, %v", mode, err)
			}
			if names, err := r.Contexts(t.Context()); err != nil || !slices.Equal(names, []string{".", ".x"}) {
				t.Errorf("Contexts = %v, %v", names, err)
			}
			if v := register(t, r, "b", `"long"`); v.ID != second.ID+1 {
				t.Errorf("ID %d was given again or left out: now %d", second.ID, v.ID)
			}
		})
	}
}

func TestStore_ConcurrentRegistrationLeavesNoGapsAndNoTwins(t *testing.T) {
	const clients, schemas = 8, 40
	onEachStore(t, func(t *testing.T, r *Registry) {
		must(t, r.SetLevel(t.Context(), "", None))
		var group sync.WaitGroup
		for range clients {
			group.Go(func() {
				for i := range schemas {
					if _, _, err := r.Register(t.Context(), "s", avro(record(fmt.Sprint("f", i)))); err != nil {
						t.Errorf("register %d: %v", i, err)
					}
				}
			})
		}
		group.Wait()
		versions, err := r.Schemas(t.Context(), "", true, false)
		must(t, err)
		if len(versions) != schemas {
			t.Errorf("%d versions, want %d", len(versions), schemas)
		}
		for i, v := range versions {
			if v.Version != i+1 || v.ID != i+1 {
				t.Errorf("version %d has ID %d, want %d for both", v.Version, v.ID, i+1)
			}
		}
	})
}

// failingStore fails to write while it is told to.
type failingStore struct {
	MemoryStore
	fails bool
}

func (s *failingStore) Update(_ context.Context, change func() ([]Record, error), done func(error)) error {
	_, err := change()
	if err == nil && s.fails {
		err = errors.New("disk full")
	}
	done(err)
	return err
}

func TestRegistry_WhatWasNotWrittenWasNotDone(t *testing.T) {
	t.Parallel()
	store := &failingStore{}
	r := New(store)
	register(t, r, "s", record("a"))
	store.fails = true
	if _, _, err := r.Register(t.Context(), "s", avro(record("a b?"))); err == nil {
		t.Fatal("registered without writing")
	}
	if _, err := r.DeleteSubject(t.Context(), "s", false); err == nil {
		t.Fatal("deleted without writing")
	}
	store.fails = false
	if v := register(t, r, "s", record("a c?")); v.Version != 2 || v.ID != 2 {
		t.Errorf("version %d, ID %d after failures, want 2 and 2", v.Version, v.ID)
	}
}

func TestRegistry_OutlivesAChangeThatPanics(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *Registry) {
		register(t, r, "s", record("a"))
		err := r.update(t.Context(), func(d *draft) error {
			d.put(modeFact{"s", ReadOnly})
			panic("halfway")
		})
		if err == nil || !strings.Contains(err.Error(), "halfway") {
			t.Errorf("answered %v, want what the panic says", err)
		}
		if v := register(t, r, "s", record("a c?")); v.Version != 2 || v.ID != 2 {
			t.Errorf("version %d, ID %d after it, want 2 and 2", v.Version, v.ID)
		}
	})
}

func TestPostgresStore_TakesOverTablesOfTheFirstRelease(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(context.Background())
	first, err := migrationFiles.ReadFile("migrations/0001_init.sql")
	must(t, err)
	for _, sql := range []string{
		"CREATE SCHEMA postrider_registry; SET search_path = postrider_registry",
		"CREATE TABLE migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now()); INSERT INTO migrations VALUES (1)",
		string(first),
		`INSERT INTO schemas VALUES (1, '\x01', '"int"'), (3, '\x03', '"long"'); UPDATE state SET last_id = 7`,
		"INSERT INTO versions VALUES ('a/b', 1, 1, true), ('a/b', 2, 3, false)",
		"INSERT INTO levels VALUES ('', 'FULL'), ('a/b', 'NONE')",
	} {
		_, err := conn.Exec(t.Context(), sql)
		must(t, err)
	}
	r := openRegistry(t, url)
	numbers, err := r.Versions(t.Context(), "a/b", WithDeleted)
	must(t, err)
	level, err := r.Level(t.Context(), "")
	must(t, err)
	own, err := r.Level(t.Context(), "a/b")
	must(t, err)
	if !slices.Equal(numbers, []int{1, 2}) || level != Full || own != None {
		t.Errorf("versions %v, levels %s and %s", numbers, level, own)
	}
	if v := register(t, r, "a/b", `"string"`); v.Version != 3 || v.ID != 8 {
		t.Errorf("next version %d with ID %d, want 3 with 8", v.Version, v.ID)
	}
}

func TestPostgresStore_RefusesTablesOfANewerRelease(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	store, err := OpenPostgres(t.Context(), url)
	must(t, err)
	defer store.Close()
	_, err = store.pool.Exec(t.Context(), "INSERT INTO postrider_registry.migrations VALUES (1000)")
	must(t, err)
	if newer, err := OpenPostgres(t.Context(), url); err == nil {
		newer.Close()
		t.Error("opened tables of a newer release")
	}
}

func TestOpenStore_ErrorHidesThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://u:hunter2@127.0.0.1:1/db?connect_timeout=1",
		"postgres://u:hunter2@127.0.0.1:port/db",
		"postgres://u:hunter2@127.0.0.1:1/db?sslmode=nonsense",
		"mysql://u:hunter2@127.0.0.1/db",
	} {
		_, err := OpenStore(t.Context(), url)
		if err == nil {
			t.Fatalf("opened %s", url)
		}
		refuseSecret(t, err)
	}
}

func TestOpenFile_IsForOneProcess(t *testing.T) {
	t.Parallel()
	url := storeURLs["file"](t)
	first, err := OpenFile(url)
	must(t, err)
	defer first.Close()
	if _, err := OpenFile(url); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second open: %v", err)
	}
}

func TestOpenFile_WantsAPath(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"file:", "file://", "file://host/path"} {
		if _, err := OpenFile(url); !errors.Is(err, ErrStoreURL) {
			t.Errorf("OpenFile(%q): %v", url, err)
		}
	}
}
