package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testserver"
	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/transfer"
)

// server is a registry whose requests a test can meddle with.
type server struct {
	*schemaregistry.Client
	meddle atomic.Pointer[func(http.ResponseWriter, *http.Request) bool] // true: the request is answered
}

func newServer(t testing.TB, store schemaregistry.Store) *server {
	t.Helper()
	t.Cleanup(store.Close)
	s := &server{}
	handler := schemaregistry.NewHandler(schemaregistry.New(store), schemaregistry.HandlerConfig{})
	httpServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if meddle := s.meddle.Load(); meddle != nil && (*meddle)(w, r) {
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(httpServer.Close)
	var err error
	if s.Client, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: httpServer.URL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (s *server) set(meddle func(http.ResponseWriter, *http.Request) bool) { s.meddle.Store(&meddle) }

func (s *server) must(t testing.TB, method, path string, body any) {
	t.Helper()
	var answer any
	if err := s.Do(t.Context(), method, path, body, &answer); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

type object = map[string]any

func record(name string, fields int) string {
	var text []string
	for i := range fields {
		text = append(text, fmt.Sprintf(`{"name":"f%d","type":"int","default":0}`, i))
	}
	return fmt.Sprintf(`{"type":"record","name":%q,"fields":[%s]}`, name, strings.Join(text, ","))
}

// newSource is a registry with something of everything.
func newSource(t testing.TB) *server {
	t.Helper()
	s := newServer(t, schemaregistry.NewMemoryStore())
	for i := range 20 {
		subject := fmt.Sprintf("/subjects/events.e%02d/versions", i)
		for fields := range 3 {
			s.must(t, "POST", subject, object{"schema": record(fmt.Sprint("E", i%15), fields)})
		}
	}
	s.must(t, "DELETE", "/subjects/events.e03/versions/2", nil)
	s.must(t, "DELETE", "/subjects/events.e04", nil)
	s.must(t, "DELETE", "/subjects/events.e05/versions/1", nil)
	s.must(t, "DELETE", "/subjects/events.e05/versions/1?permanent=true", nil)

	// a refers to b, which has a higher ID than another version of a.
	s.must(t, "PUT", "/config/a", object{"compatibility": "NONE"})
	s.must(t, "POST", "/subjects/a/versions", object{"schema": record("A", 0)})
	s.must(t, "POST", "/subjects/b/versions", object{"schema": record("B", 0)})
	uses := func(subject string) object {
		return object{"schema": `{"type":"record","name":"A","fields":[{"name":"b","type":"B"}]}`,
			"references": []object{{"name": "B", "subject": subject, "version": 1}}}
	}
	s.must(t, "POST", "/subjects/a/versions", uses("b"))
	s.must(t, "POST", "/subjects/:.west:b/versions", object{"schema": record("B", 0)})
	s.must(t, "POST", "/subjects/:.west:a/versions", uses("b"))
	s.must(t, "POST", "/subjects/odd%2Fname%20%25%3A/versions", object{"schema": `"string"`})
	s.must(t, "POST", "/subjects/%2E%2E/versions", object{"schema": `"string"`})
	s.must(t, "POST", "/subjects/tagged/versions", object{"schema": record("T", 1), "metadata": object{"properties": object{"owner": "me"}}})

	s.must(t, "PUT", "/config", object{"compatibility": "FULL"})
	s.must(t, "PUT", "/config/:.west:", object{"compatibility": "FORWARD_TRANSITIVE"})
	s.must(t, "PUT", "/config/events.e01", object{"compatibility": "NONE", "normalize": true})
	s.must(t, "PUT", "/mode/events.e02", object{"mode": "READONLY"})
	return s
}

func read(t testing.TB, s *server) *transfer.Content {
	t.Helper()
	content, err := transfer.Read(t.Context(), s.Client, nil)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// text is what the file of an export says.
func text(t testing.TB, content *transfer.Content) string {
	t.Helper()
	var file bytes.Buffer
	if err := content.Write(&file); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

func TestImport_BringsEverythingAndTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	file := text(t, read(t, newSource(t)))
	for name, open := range map[string]func(t *testing.T) schemaregistry.Store{
		"memory": func(*testing.T) schemaregistry.Store { return schemaregistry.NewMemoryStore() },
		"file": func(t *testing.T) schemaregistry.Store {
			store, err := schemaregistry.OpenStore(t.Context(), "file:"+t.TempDir()+"/registry.db")
			if err != nil {
				t.Fatal(err)
			}
			return store
		},
		"Postgres": func(t *testing.T) schemaregistry.Store {
			store, err := schemaregistry.OpenStore(t.Context(), testserver.Postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			return store
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content, err := transfer.ReadFile(strings.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			target := newServer(t, open(t))
			dry, err := transfer.Import(t.Context(), target.Client, content, transfer.Options{DryRun: true})
			if err != nil || len(read(t, target).Schemas) != 0 {
				t.Fatalf("dry run: %+v, %v", dry, err)
			}
			report, err := transfer.Import(t.Context(), target.Client, content, transfer.Options{})
			if err != nil || !report.Verified || report.Added != len(content.Schemas) || report.Added != dry.Added || report.Deleted != 4 {
				t.Fatalf("%+v, %v", report, err)
			}
			if diff := cmp.Diff(file, text(t, read(t, target))); diff != "" {
				t.Errorf("what was imported exports differently:\n%s", diff)
			}
			target.set(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodGet {
					t.Errorf("the second import sends %s %s", r.Method, r.URL)
				}
				return false
			})
			report, err = transfer.Import(t.Context(), target.Client, content, transfer.Options{})
			if err != nil || !report.Verified || report.Added+report.Deleted+report.Configs+report.Modes != 0 {
				t.Errorf("the second time: %+v, %v", report, err)
			}
			// IDs go on behind those that were imported.
			highest := 0
			for _, s := range content.Schemas {
				highest = max(highest, s.ID)
			}
			target.set(func(http.ResponseWriter, *http.Request) bool { return false })
			if id, err := target.Register(t.Context(), "new", record("New", 1)); err != nil || id <= highest {
				t.Errorf("the next ID is %d, %v", id, err)
			}
		})
	}
}

// An import that is killed leaves its target with subjects in mode IMPORT; the next one ends it.
func TestImport_GoesOnAfterItWasKilled(t *testing.T) {
	t.Parallel()
	content := read(t, newSource(t))
	file := text(t, content)
	for _, survives := range []int{0, 1, 5, 30, 63, 69, 75, 90, 100} {
		target := newServer(t, schemaregistry.NewMemoryStore())
		var writes atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		target.set(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet || writes.Add(1) <= int64(survives) {
				return false
			}
			cancel()
			w.WriteHeader(http.StatusServiceUnavailable) // nothing reaches it any more, the restoring of modes neither
			return true
		})
		if _, err := transfer.Import(ctx, target.Client, content, transfer.Options{}); err == nil {
			t.Fatalf("survives %d writes: no error", survives)
		}
		cancel()
		target.set(func(http.ResponseWriter, *http.Request) bool { return false })
		report, err := transfer.Import(t.Context(), target.Client, content, transfer.Options{})
		if err != nil || !report.Verified {
			t.Fatalf("after %d writes: %+v, %v", survives, report, err)
		}
		if diff := cmp.Diff(file, text(t, read(t, target))); diff != "" {
			t.Errorf("after %d writes:\n%s", survives, diff)
		}
	}
}

func TestImport_PutsModesBackWhenItFails(t *testing.T) {
	t.Parallel()
	target := newServer(t, schemaregistry.NewMemoryStore())
	var posts atomic.Int64
	target.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && posts.Add(1) > 5 {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		return false
	})
	_, err := transfer.Import(t.Context(), target.Client, read(t, newSource(t)), transfer.Options{})
	if err == nil || !strings.Contains(err.Error(), "register subject") {
		t.Fatal(err)
	}
	for _, mode := range read(t, target).Modes {
		if mode.Mode == "IMPORT" {
			t.Errorf("%q is still in mode IMPORT", mode.Subject)
		}
	}
}

func TestImport_RefusesConflictsAndChangesNothing(t *testing.T) {
	t.Parallel()
	content := read(t, newSource(t))
	target := newServer(t, schemaregistry.NewMemoryStore())
	target.must(t, "POST", "/subjects/events.e00/versions", object{"schema": record("Other", 3)})
	target.must(t, "POST", "/subjects/own/versions", object{"schema": record("Own", 3)})
	before := text(t, read(t, target))
	report, err := transfer.Import(t.Context(), target.Client, content, transfer.Options{})
	if !errors.Is(err, transfer.ErrConflicts) || len(report.Conflicts) < 2 || !strings.Contains(report.Conflicts[0], `subject "events.e00" version 1`) {
		t.Fatalf("%+v, %v", report, err)
	}
	if diff := cmp.Diff(before, text(t, read(t, target))); diff != "" {
		t.Error(diff)
	}
}

func TestImport_SaysWhatDidNotArrive(t *testing.T) {
	t.Parallel()
	target := newServer(t, schemaregistry.NewMemoryStore())
	target.set(func(w http.ResponseWriter, r *http.Request) bool {
		lost := r.Method == http.MethodPut && r.URL.Path == "/config/events.e01"
		if lost {
			fmt.Fprint(w, "{}")
		}
		return lost
	})
	report, err := transfer.Import(t.Context(), target.Client, read(t, newSource(t)), transfer.Options{})
	if !errors.Is(err, transfer.ErrNotVerified) || len(report.Missing) != 1 || !strings.Contains(report.Missing[0], "events.e01") {
		t.Errorf("%+v, %v", report, err)
	}
}

// Registries of other makers lack some of the API, or give pages of their own size.
func TestRead_WorksWithWhatARegistryOffers(t *testing.T) {
	t.Parallel()
	source := newSource(t)
	want := text(t, read(t, source))
	for name, meddle := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"no list of schemas": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/schemas" {
				http.NotFound(w, r)
			}
			return r.URL.Path == "/schemas"
		},
		"small pages": func(_ http.ResponseWriter, r *http.Request) bool {
			if query := r.URL.Query(); r.URL.Path == "/schemas" {
				query.Set("limit", "7")
				r.URL.RawQuery = query.Encode()
			}
			return false
		},
		"no pages": func(_ http.ResponseWriter, r *http.Request) bool {
			if query := r.URL.Query(); r.URL.Path == "/schemas" {
				query.Del("offset")
				r.URL.RawQuery = query.Encode()
			}
			return false
		},
	} {
		source.set(meddle)
		if diff := cmp.Diff(want, text(t, read(t, source))); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	source.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/contexts" || strings.HasPrefix(r.URL.Path, "/mode") {
			http.NotFound(w, r)
			return true
		}
		return false
	})
	content := read(t, source)
	if len(content.Modes) != 0 || len(content.Schemas) == 0 {
		t.Errorf("a registry without contexts and modes: %d modes, %d schemas", len(content.Modes), len(content.Schemas))
	}
	target := newServer(t, schemaregistry.NewMemoryStore())
	target.set(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/mode") {
			http.NotFound(w, r)
			return true
		}
		return false
	})
	if _, err := transfer.Import(t.Context(), target.Client, content, transfer.Options{}); err == nil || !strings.Contains(err.Error(), "knows no modes") {
		t.Errorf("a target without modes: %v", err)
	}
}

func TestReadFile_RefusesWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	whole := text(t, read(t, newSource(t)))
	lines := strings.SplitAfter(strings.TrimSuffix(whole, "\n"), "\n")
	without := func(i int) string { return strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), "") }
	for name, file := range map[string]string{
		"empty":             "",
		"cut off":           strings.Join(lines[:10], ""),
		"cut in a line":     whole[:len(whole)/2],
		"a line is lost":    without(5),
		"no header":         without(0),
		"a line twice":      strings.Join(append(append([]string{}, lines[:6]...), lines[5:]...), ""),
		"another format":    strings.Replace(whole, "postrider-registry-export", "x", 1),
		"a newer format":    strings.Replace(whole, `"version":1}}`, `"version":2}}`, 1),
		"an unknown key":    strings.Replace(whole, `"subject"`, `"sbject"`, 1),
		"no version":        strings.Replace(whole, `"version":1,`, `"version":0,`, 1),
		"something else":    "id,schema\n",
		"two things in one": lines[0][:len(lines[0])-2] + `,"end":{}}`,
	} {
		if _, err := transfer.ReadFile(strings.NewReader(file)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzReadFile(f *testing.F) {
	f.Add(`{"header":{"format":"postrider-registry-export","version":1}}` + "\n" +
		`{"schema":{"subject":"a","version":1,"id":1,"schema":"\"int\"","references":[{"name":"x","subject":"a","version":1}]}}` + "\n" +
		`{"config":{"subject":"","settings":{"compatibilityLevel":"FULL"}}}` + "\n" + `{"mode":{"subject":"a","mode":"READONLY"}}` + "\n" +
		`{"end":{"schemas":1,"configs":1,"modes":1}}`)
	f.Add(`{"header":{"format":"postrider-registry-export","version":1}}` + "\n" + `{"end":{"schemas":0,"configs":0,"modes":0}}`)
	f.Fuzz(func(t *testing.T, file string) {
		content, err := transfer.ReadFile(strings.NewReader(file))
		if err != nil {
			return
		}
		first := text(t, content)
		again, err := transfer.ReadFile(strings.NewReader(first))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, first)
		}
		if diff := cmp.Diff(first, text(t, again)); diff != "" {
			t.Error(diff)
		}
	})
}
