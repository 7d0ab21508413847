package schemaregistry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// wide is a schema of about a kilobyte.
func wide(i int) string {
	var fields strings.Builder
	for f := range 12 {
		fmt.Fprintf(&fields, `,{"name":"field_%d","type":["null",{"type":"array","items":"string"}],"default":null}`, f)
	}
	return fmt.Sprintf(`{"type":"record","name":"r%d","namespace":"com.example.events","fields":[{"name":"id","type":"long"}%s]}`, i, fields.String())
}

// discard is a response that costs nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

func BenchmarkHandler_SchemaByID(b *testing.B) {
	handler := newTestHandler()
	resp := httptest.NewRecorder()
	handler.ServeHTTP(resp, httptest.NewRequest("POST", "/subjects/s/versions", strings.NewReader(quoted(wide(1)))))
	req := httptest.NewRequest("GET", "/schemas/ids/1", nil)
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(w, req)
	}
	if w.status != 200 {
		b.Fatal(w.status)
	}
}

func BenchmarkHandler_RegisterKnownSchema(b *testing.B) {
	handler := newTestHandler()
	body := quoted(wide(1))
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(w, httptest.NewRequest("POST", "/subjects/s/versions", strings.NewReader(body)))
	}
	if w.status != 200 {
		b.Fatal(w.status)
	}
}

func BenchmarkHandler_RegisterNewSchema(b *testing.B) {
	handler := newTestHandler()
	w := &discard{header: http.Header{}}
	i := 0
	for b.Loop() {
		i++
		handler.ServeHTTP(w, httptest.NewRequest("POST", fmt.Sprintf("/subjects/s%d/versions", i), strings.NewReader(quoted(wide(i)))))
	}
	if w.status != 200 {
		b.Fatal(w.status)
	}
}

// BenchmarkRegistry_Load tells how long a start takes and what a registry of 10,000 schemas
// needs of memory.
func BenchmarkRegistry_Load(b *testing.B) {
	url := "file://" + b.TempDir() + "/registry.db"
	store, err := OpenFile(url)
	if err != nil {
		b.Fatal(err)
	}
	r := New(store)
	const schemas = 10_000
	err = r.update(b.Context(), func(d *draft) error {
		for i := range schemas {
			if _, _, err := d.add(fmt.Sprint("subject-", i), 1, -1, content{Text: wide(i)}); err != nil {
				return err
			}
		}
		return nil
	})
	store.Close()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := time.Now()
		store, err := OpenFile(url)
		if err != nil {
			b.Fatal(err)
		}
		r := New(store)
		if err := r.Load(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/load")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		runtime.KeepAlive(r)
		store.Close()
	}
}
