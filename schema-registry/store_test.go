package schemaregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stores are all implementations of Store. Each returns a function that opens the same
// empty store again and again, as replicas do.
var stores = map[string]func(t *testing.T) (open func() Store){
	"memory": func(*testing.T) func() Store {
		store := NewMemoryStore()
		return func() Store { return store }
	},
	"postgres": func(t *testing.T) func() Store {
		url := testserver.Postgres(t)
		return func() Store {
			store, err := OpenPostgres(context.Background(), url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(store.Close)
			return store
		}
	},
}

// onEachStore runs a test on every kind of store.
func onEachStore(t *testing.T, test func(t *testing.T, open func() Store)) {
	t.Parallel()
	for name, newStore := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newStore(t))
		})
	}
}

func add(t *testing.T, s Store, subject, schema string, after int) Version {
	t.Helper()
	v, err := s.AddVersion(t.Context(), subject, schema, after)
	if err != nil {
		t.Fatalf("AddVersion(%q, %q, %d): %v", subject, schema, after, err)
	}
	return v
}

func TestStore_SameSchemaHasOneIDInAllSubjects(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		got := []Version{add(t, s, "a", `"int"`, 0), add(t, s, "a", `"long"`, 1), add(t, s, "b", `"int"`, 0)}
		want := []Version{{1, 1, `"int"`, false}, {2, 2, `"long"`, false}, {1, 1, `"int"`, false}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		versions, err := s.Versions(t.Context(), "a")
		if diff := cmp.Diff(want[:2], versions); err != nil || diff != "" {
			t.Error(err, diff)
		}
		if schema, err := s.SchemaByID(t.Context(), 2); err != nil || schema != `"long"` {
			t.Errorf("SchemaByID(2) = %q, %v", schema, err)
		}
		if _, err := s.SchemaByID(t.Context(), 3); !errors.Is(err, errNoSchema) {
			t.Errorf("SchemaByID(3) error = %v, want errNoSchema", err)
		}
	})
}

func TestStore_VersionAddedMeanwhileIsAConflict(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		add(t, s, "a", `"int"`, 0)
		for _, after := range []int{0, 2} {
			if _, err := s.AddVersion(t.Context(), "a", `"long"`, after); !errors.Is(err, errConflict) {
				t.Errorf("AddVersion after %d: error = %v, want errConflict", after, err)
			}
		}
		if v := add(t, s, "b", `"long"`, 0); v.ID != 2 {
			t.Errorf("a conflict used up an ID: got %d, want 2", v.ID)
		}
	})
}

func TestStore_SoftDeletedVersionsStayReadable(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		add(t, s, "a", `"int"`, 0)
		add(t, s, "a", `"long"`, 1)
		if err := s.DeleteVersions(t.Context(), "a", []int{2}, false); err != nil {
			t.Fatal(err)
		}
		versions, err := s.Versions(t.Context(), "a")
		want := []Version{{1, 1, `"int"`, false}, {2, 2, `"long"`, true}}
		if diff := cmp.Diff(want, versions); err != nil || diff != "" {
			t.Error(err, diff)
		}
		if schema, err := s.SchemaByID(t.Context(), 2); err != nil || schema != `"long"` {
			t.Errorf("SchemaByID(2) = %q, %v", schema, err)
		}
		if v := add(t, s, "a", `"long"`, 2); v.Version != 3 || v.ID != 2 {
			t.Errorf("registered again as version %d, ID %d, want 3 and 2", v.Version, v.ID)
		}
	})
}

func TestStore_IDsAreNotReusedAfterPermanentDeletion(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		add(t, s, "a", `"int"`, 0)
		add(t, s, "b", `"int"`, 0)
		add(t, s, "a", `"long"`, 1)
		if err := s.SetLevel(t.Context(), "a", Full); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteVersions(t.Context(), "a", []int{1, 2}, true); err != nil {
			t.Fatal(err)
		}
		if level, err := s.Level(t.Context(), "a"); err != nil || level != "" {
			t.Errorf("level of a subject that is gone = %q, %v", level, err)
		}
		if _, err := s.SchemaByID(t.Context(), 2); !errors.Is(err, errNoSchema) {
			t.Errorf("schema that no version has: error = %v, want errNoSchema", err)
		}
		if schema, err := s.SchemaByID(t.Context(), 1); err != nil || schema != `"int"` {
			t.Errorf("schema that another subject has = %q, %v", schema, err)
		}
		if v := add(t, s, "a", `"long"`, 0); v.Version != 1 || v.ID != 3 {
			t.Errorf("got version %d, ID %d, want version 1 with the new ID 3", v.Version, v.ID)
		}
	})
}

func TestStore_Subjects(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		odd := []string{"a/b", "..", "ä ö", "%2F", "'; DROP TABLE versions --", "a\\b", "x?y#z"}
		for _, subject := range odd {
			add(t, s, subject, `"int"`, 0)
		}
		subjects, err := s.Subjects(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name, versions := range subjects {
			names = append(names, name)
			if len(versions) != 1 || versions[0].ID != 1 || versions[0].Version != 1 {
				t.Errorf("versions of %q = %v", name, versions)
			}
		}
		slices.Sort(names)
		slices.Sort(odd)
		if diff := cmp.Diff(odd, names); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStore_Levels(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		level := func(subject string, want Level) {
			t.Helper()
			if got, err := s.Level(t.Context(), subject); err != nil || got != want {
				t.Errorf("Level(%q) = %q, %v, want %q", subject, got, err, want)
			}
		}
		set := func(subject string, level Level) {
			t.Helper()
			if err := s.SetLevel(t.Context(), subject, level); err != nil {
				t.Error(err)
			}
		}
		level("", "")
		set("", Full)
		set("a", None)
		set("a", Forward)
		level("", Full)
		level("a", Forward)
		level("b", "")
		set("a", "")
		level("a", "")
		if subjects, err := s.Subjects(t.Context()); err != nil || len(subjects) > 0 {
			t.Errorf("a level made a subject: %v, %v", subjects, err)
		}
	})
}

// Replicas start at the same time and serve the same clients.
func TestStore_ConcurrentRegistrationLeavesNoGapsAndNoTwins(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() Store) {
		const clients, schemas = 8, 20
		registries := make([]*Registry, clients)
		results := make([]map[string]Version, clients)
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() { registries[i] = New(open()) })
		}
		wg.Wait()
		for i := range clients {
			results[i] = make(map[string]Version)
			wg.Go(func() {
				for n := range schemas {
					text := fmt.Sprintf(`{"type":"record","name":"r","doc":"%d","fields":[]}`, (n+i*3)%schemas)
					v, _, err := registries[i].Register(context.Background(), "s", parse(t, text))
					if err != nil {
						t.Error(err)
						return
					}
					results[i][v.Schema] = v
				}
			})
		}
		wg.Wait()
		for _, result := range results[1:] {
			if diff := cmp.Diff(results[0], result); diff != "" {
				t.Fatalf("two clients got different answers:\n%s", diff)
			}
		}
		versions, err := registries[0].Versions(t.Context(), "s", true)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range versions {
			if v.Version != i+1 || v.ID != i+1 {
				t.Errorf("version %d with ID %d at place %d", v.Version, v.ID, i+1)
			}
		}
		if len(versions) != schemas {
			t.Errorf("%d versions, want %d", len(versions), schemas)
		}
	})
}

func TestPostgresStore_KeepsAcrossRestarts(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	first, err := OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	add(t, first, "a", `"int"`, 0)
	first.Close()
	second, err := OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if v := add(t, second, "a", `"long"`, 1); v.ID != 2 {
		t.Errorf("ID after a restart = %d, want 2", v.ID)
	}
}

func TestPostgresStore_RefusesTablesOfANewerRelease(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	store, err := OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.pool.Exec(t.Context(), "INSERT INTO postrider_registry.migrations VALUES (1000)"); err != nil {
		t.Fatal(err)
	}
	if newer, err := OpenPostgres(t.Context(), url); err == nil {
		newer.Close()
		t.Error("opened tables of a newer release")
	}
}

func TestOpenPostgres_ErrorHidesThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://u:hunter2@127.0.0.1:1/db?connect_timeout=1",
		"postgres://u:hunter2@127.0.0.1:port/db",
		"postgres://u:hunter2@127.0.0.1:1/db?sslmode=nonsense",
	} {
		_, err := OpenPostgres(t.Context(), url)
		if err == nil {
			t.Fatalf("opened %s", url)
		}
		refuseSecret(t, err)
	}
}
