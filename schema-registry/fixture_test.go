package schemaregistry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/testserver"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(serveVariable); url != "" {
		serve(url)
		return
	}
	goleak.VerifyTestMain(m)
}

// storeURLs are all implementations of Store, each empty.
var storeURLs = map[string]func(t *testing.T) string{
	"memory": func(*testing.T) string { return "memory" },
	"file": func(t *testing.T) string {
		return "file://" + filepath.ToSlash(filepath.Join(t.TempDir(), "registry.db"))
	},
	"postgres": func(t *testing.T) string { return testserver.Postgres(t) },
}

// onEachStore runs a test with a registry on every kind of store.
func onEachStore(t *testing.T, test func(t *testing.T, r *Registry)) {
	t.Parallel()
	for name, newURL := range storeURLs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, openRegistry(t, newURL(t)))
		})
	}
}

func openRegistry(t *testing.T, url string) *Registry {
	t.Helper()
	store, err := OpenStore(t.Context(), url)
	must(t, err)
	t.Cleanup(store.Close)
	r := New(store)
	must(t, r.Load(t.Context()))
	return r
}

// record makes a record schema with int fields. A name that ends with ? has a default.
func record(fields string) string {
	var list []string
	for _, f := range strings.Fields(fields) {
		name, optional := strings.CutSuffix(f, "?")
		text := fmt.Sprintf(`{"name":%q,"type":"int"}`, name)
		if optional {
			text = fmt.Sprintf(`{"name":%q,"type":"int","default":0}`, name)
		}
		list = append(list, text)
	}
	return `{"type":"record","name":"r","fields":[` + strings.Join(list, ",") + `]}`
}

// avro is a submission without anything special.
func avro(schema string) Submission { return Submission{Schema: schema} }

func register(t *testing.T, r *Registry, subject, schema string) Version {
	t.Helper()
	v, _, err := r.Register(t.Context(), subject, avro(schema))
	must(t, err)
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			t.Fatalf("%v (code %d)", err, e.Code)
		}
		t.Fatal(err)
	}
}
func refuseSecret(t *testing.T, err error) {
	t.Helper()
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error shows a secret: %v", err)
	}
}
