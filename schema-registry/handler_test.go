package schemaregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exchange is one request and what must come back. A want that starts with { or [ is
// compared as JSON, where "*" stands for any value.
type exchange struct {
	method, path, body string
	status             int
	want               string
}

func runScript(t *testing.T, handler http.Handler, script []exchange) {
	t.Helper()
	for _, x := range script {
		req := httptest.NewRequest(x.method, x.path, strings.NewReader(x.body))
		resp := httptest.NewRecorder()
		handler.ServeHTTP(resp, req)
		if resp.Code != x.status {
			t.Errorf("%s %s %s: status %d, want %d: %s", x.method, x.path, x.body, resp.Code, x.status, resp.Body)
			continue
		}
		if diff := compareJSON(x.want, resp.Body.String()); diff != "" {
			t.Errorf("%s %s %s:\n%s", x.method, x.path, x.body, diff)
		}
	}
}

func compareJSON(want, got string) string {
	if !strings.HasPrefix(want, "{") && !strings.HasPrefix(want, "[") {
		return cmp.Diff(want, strings.TrimSuffix(got, "\n"))
	}
	var w, g any
	if err := errors.Join(json.Unmarshal([]byte(want), &w), json.Unmarshal([]byte(got), &g)); err != nil {
		return fmt.Sprintf("%v: %s", err, got)
	}
	if wanted, ok := w.(map[string]any); ok {
		if given, ok := g.(map[string]any); ok {
			for key, value := range wanted {
				if _, present := given[key]; present && value == "*" {
					given[key] = "*"
				}
			}
		}
	}
	return cmp.Diff(w, g)
}

// guidOf is the GUID of a schema that is nothing but its text.
func guidOf(schema string) string { return newSchema(".", 1, content{Text: schema}).guid }

func newTestHandler() http.Handler { return NewHandler(New(NewMemoryStore()), HandlerConfig{}) }

// quoted is a request body with a schema.
func quoted(schema string) string {
	text, _ := json.Marshal(map[string]string{"schema": schema})
	return string(text)
}

func TestHandler_SubjectsMayHaveAnyCharacters(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newTestHandler())
	defer server.Close()
	client := newTestClient(t, ClientConfig{URL: server.URL})
	for i, subject := range []string{"a/b", "a//b", ".", "..", "../..", "a b", "a+b", "a%2Fb", "ä/日本", "a?b=c&d#e", "a;b=c", ":.ctx:s", "versions", "latest", `a"b\c`, "*"} {
		want := record("f") // one version each
		id, err := client.Register(t.Context(), subject, want)
		if err != nil || id != 1 {
			t.Errorf("Register(%q) = %d, %v", subject, id, err)
			continue
		}
		v, err := client.Latest(t.Context(), subject)
		if err != nil || v.Subject != subject || v.Schema != want {
			t.Errorf("Latest(%q) = %v, %v", subject, v, err)
		}
		if names, err := client.Subjects(t.Context()); err != nil || len(names) != i+1 {
			t.Errorf("after %q: subjects %q, %v", subject, names, err)
		}
	}
}

func TestHandler_NegotiatesContentTypes(t *testing.T) {
	t.Parallel()
	handler := newTestHandler()
	const v1, any, plain = "application/vnd.schemaregistry.v1+json", "application/vnd.schemaregistry+json", "application/json"
	for accept, want := range map[string]string{
		"":                                v1,
		"*/*":                             v1,
		"application/*":                   v1,
		plain:                             plain,
		any:                               any,
		plain + ", */*":                   v1,
		plain + ", " + v1:                 v1,
		v1 + "; q=0.8, " + plain:          plain,
		v1 + ", " + any + ", " + plain:    v1,
		plain + ";q=0.1, " + any + ";q=1": any,
		"text/html, " + plain + ";q=0.5":  plain,
		"text/html":                       "",
		plain + ";q=0":                    "",
	} {
		req := httptest.NewRequest("GET", "/subjects", nil)
		if accept != "" {
			req.Header.Set("Accept", accept)
		}
		resp := httptest.NewRecorder()
		handler.ServeHTTP(resp, req)
		if want == "" {
			if resp.Code != http.StatusNotAcceptable {
				t.Errorf("Accept %q: status %d, want 406", accept, resp.Code)
			}
		} else if got := resp.Header().Get("Content-Type"); got != want {
			t.Errorf("Accept %q: Content-Type %q, want %q", accept, got, want)
		}
	}
	for contentType, want := range map[string]int{
		"": 200, v1: 200, any: 200, plain: 200, plain + "; charset=utf-8": 200, "application/octet-stream": 200, "text/plain": 415, "nonsense/": 415,
	} {
		for _, req := range []*http.Request{
			httptest.NewRequest("POST", "/subjects/s/versions", strings.NewReader(quoted(`"int"`))),
			httptest.NewRequest("GET", "/subjects", nil),
			httptest.NewRequest("GET", "/schemas/types", nil),
		} {
			if contentType != "" {
				req.Header.Set("Content-Type", contentType)
			}
			resp := httptest.NewRecorder()
			handler.ServeHTTP(resp, req)
			if resp.Code != want {
				t.Errorf("%s %s with Content-Type %q: status %d, want %d", req.Method, req.URL, contentType, resp.Code, want)
			}
		}
	}
}

// brokenStore is a store whose database is down.
type brokenStore struct{ *MemoryStore }

func (brokenStore) Update(context.Context, func() ([]Record, error), func(error)) error {
	return errors.New("connection to 10.0.0.7 refused")
}

func (brokenStore) Ping(context.Context) error { return errors.New("down") }

func TestHandler_StoreFailureIsCode50001WithoutDetails(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	handler := NewHandler(New(brokenStore{NewMemoryStore()}), HandlerConfig{Logger: newTestLogger(&log)})
	runScript(t, handler, []exchange{
		{"POST", "/subjects/s/versions", quoted(`"int"`), 500, `{"error_code":50001,"message":"Error in the backend data store"}`},
		{"GET", "/subjects", "", 200, `[]`},
		{"GET", "/readyz", "", 503, "the store cannot be reached"},
		{"GET", "/livez", "", 200, "ok"},
	})
	if !strings.Contains(log.String(), "10.0.0.7") {
		t.Errorf("the cause is not in the log: %s", log.String())
	}
}

func TestHandler_LogsEachChangeOnce(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	handler := NewHandler(New(NewMemoryStore()), HandlerConfig{Logger: newTestLogger(&log)})
	for range 2 {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/subjects/s/versions", strings.NewReader(quoted(`"int"`))))
	}
	if got := strings.Count(log.String(), "schema registered"); got != 1 {
		t.Errorf("%d lines, want 1: %s", got, log.String())
	}
}

func TestGUID_IsTheMD5OfTheText(t *testing.T) {
	t.Parallel()
	// printf '"int"' | md5sum
	if got, want := guidOf(`"int"`), "ef524ea1-b91e-7317-3d93-8ade36c1db32"; got != want {
		t.Errorf("guid = %s, want %s", got, want)
	}
}

func TestHandler_Metrics(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newTestHandler())
	defer server.Close()
	for _, path := range []string{"/subjects/a/versions", "/subjects/b/versions", "/made/up"} {
		resp, err := server.Client().Get(server.URL + path)
		must(t, err)
		resp.Body.Close()
	}
	resp, err := server.Client().Get(server.URL + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	for _, want := range []string{
		`postrider_registry_requests_total{code="404",method="GET",route="/subjects/{subject}/versions"} 2`,
		`postrider_registry_requests_total{code="404",method="any",route="none"} 1`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
