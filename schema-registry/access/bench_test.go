package access

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkGuard is what the guard adds to a GET by ID.
func BenchmarkGuard(b *testing.B) {
	f := newFixture(b, nil)
	f.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, question := w.(*capture); question {
			_, _ = w.Write([]byte(`[{"subject":"open.a","version":1}]`))
		}
	})
	for who, request := range map[string]*http.Request{
		"token": f.request("ci", "GET", "/schemas/ids/1", ""), "password": f.request("admin", "GET", "/schemas/ids/1", ""),
		"rights by subject": f.request("team", "GET", "/schemas/ids/1", ""),
	} {
		b.Run(who, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.ServeHTTP(httptest.NewRecorder(), request)
			}
		})
	}
}
