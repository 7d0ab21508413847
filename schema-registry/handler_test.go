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

func newTestHandler() http.Handler { return NewHandler(New(NewMemoryStore()), HandlerConfig{}) }

// quoted is a request body with a schema.
func quoted(schema string) string {
	text, _ := json.Marshal(map[string]string{"schema": schema})
	return string(text)
}

func TestHandler_API(t *testing.T) {
	t.Parallel()
	const failed = `{"error_code":%d,"message":%q}`
	fail := func(code int, message string) string { return fmt.Sprintf(failed, code, message) }
	a, ab, aOrB := record("a"), record("a b"), record("a b?")
	versionJSON := func(subject string, version, id int, schema string) string {
		text, _ := json.Marshal(map[string]any{"subject": subject, "version": version, "id": id, "schema": schema, "schemaType": "AVRO", "guid": guid(schema)})
		return string(text)
	}
	registered := func(version, id int, schema string) string {
		text, _ := json.Marshal(map[string]any{"version": version, "id": id, "schema": schema, "schemaType": "AVRO", "guid": guid(schema)})
		return string(text)
	}
	runScript(t, newTestHandler(), []exchange{
		{"GET", "/", "", 200, `{}`},
		{"GET", "/subjects", "", 200, `[]`},
		{"GET", "/schemas/types", "", 200, `["AVRO"]`},
		{"GET", "/livez", "", 200, "ok"},
		{"GET", "/readyz", "", 200, "ok"},

		{"GET", "/subjects/s/versions", "", 404, fail(40401, "Subject 's' not found.")},
		{"POST", "/subjects/s", quoted(a), 404, fail(40401, "Subject 's' not found.")},
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s/versions", quoted(" " + a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s", quoted(a), 200, versionJSON("s", 1, 1, a)},
		{"POST", "/subjects/s", quoted(ab), 404, fail(40403, "Schema not found")},
		{"POST", "/subjects/s/versions", quoted(ab), 409, `{"error_code":409,"message":"*"}`},
		{"POST", "/subjects/s/versions", quoted(aOrB), 200, registered(2, 2, aOrB)},
		{"POST", "/subjects/t/versions", quoted(aOrB), 200, registered(1, 2, aOrB)},
		{"GET", "/subjects", "", 200, `["s","t"]`},
		{"GET", "/subjects?subjectPrefix=t", "", 200, `["t"]`},
		{"GET", "/subjects?offset=1&limit=5", "", 200, `["t"]`},
		{"GET", "/subjects?limit=1", "", 200, `["s"]`},
		{"GET", "/subjects/s/versions", "", 200, `[1,2]`},
		{"GET", "/subjects/s/versions/1", "", 200, versionJSON("s", 1, 1, a)},
		{"GET", "/subjects/s/versions/latest", "", 200, versionJSON("s", 2, 2, aOrB)},
		{"GET", "/subjects/s/versions/-1", "", 200, versionJSON("s", 2, 2, aOrB)},
		{"GET", "/subjects/s/versions/latest/schema", "", 200, aOrB},
		{"GET", "/subjects/s/versions/3", "", 404, fail(40402, "Version 3 not found.")},
		{"GET", "/subjects/s/versions/0", "", 422, `{"error_code":42202,"message":"*"}`},
		{"GET", "/subjects/s/versions/x", "", 422, `{"error_code":42202,"message":"*"}`},
		{"GET", "/subjects/x/versions/1", "", 404, fail(40401, "Subject 'x' not found.")},
		{"GET", "/schemas/ids/1", "", 200, fmt.Sprintf(`{"schema":%q,"schemaType":"AVRO","guid":%q}`, a, guid(a))},
		{"GET", "/schemas/ids/1/schema", "", 200, a},
		{"GET", "/schemas/ids/2/versions", "", 200, `[{"subject":"s","version":2},{"subject":"t","version":1}]`},
		{"GET", "/schemas/ids/2/versions?subject=t", "", 200, `[{"subject":"t","version":1}]`},
		{"GET", "/schemas/ids/2/subjects", "", 200, `["s","t"]`},
		{"GET", "/schemas/ids/9/subjects", "", 404, fail(40403, "Schema 9 not found")},
		{"GET", "/schemas/ids/x/versions", "", 404, fail(404, "HTTP 404 Not Found")},
		{"GET", "/schemas/ids/9", "", 404, fail(40403, "Schema 9 not found")},
		{"GET", "/schemas/ids/99999999999", "", 404, fail(404, "HTTP 404 Not Found")},

		{"POST", "/compatibility/subjects/s/versions/latest", quoted(record("a c")), 200, `{"is_compatible":false}`},
		{"POST", "/compatibility/subjects/s/versions", quoted(record("a c?")), 200, `{"is_compatible":true}`},
		{"POST", "/compatibility/subjects/s/versions/1?verbose=true", quoted(ab), 200,
			`{"is_compatible":false,"messages":["data of version 1 cannot be read with the new schema: READER_FIELD_MISSING_DEFAULT_VALUE at /fields/1: the reader's field b has no default and the writer does not write it"]}`},
		{"POST", "/compatibility/subjects/s/versions/9", quoted(a), 404, fail(40402, "Version 9 not found.")},
		{"POST", "/compatibility/subjects/x/versions/latest", quoted(a), 200, `{"is_compatible":true}`},
		{"POST", "/compatibility/subjects/x/versions", quoted(a), 200, `{"is_compatible":true}`},
		{"POST", "/compatibility/subjects/x/versions/1", quoted(a), 404, fail(40402, "Version 1 not found.")},
		{"POST", "/compatibility/subjects/s/versions", quoted("string"), 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/compatibility/subjects/s/versions?verbose=true", quoted("string"), 200, `{"is_compatible":false,"messages":["Invalid schema of type AVRO, details: line 1, column 1: expected a JSON value; a type name needs double quotes"]}`},

		{"GET", "/config", "", 200, `{"compatibilityLevel":"BACKWARD"}`},
		{"PUT", "/config", `{"compatibility":"full_transitive"}`, 200, `{"compatibility":"FULL_TRANSITIVE"}`},
		{"GET", "/config", "", 200, `{"compatibilityLevel":"FULL_TRANSITIVE"}`},
		{"DELETE", "/config", "", 200, `{"compatibilityLevel":"FULL_TRANSITIVE"}`},
		{"GET", "/config", "", 200, `{"compatibilityLevel":"BACKWARD"}`},
		{"GET", "/config/s", "", 404, fail(40408, "Subject 's' does not have subject-level compatibility configured")},
		{"GET", "/config/s?defaultToGlobal=true", "", 200, `{"compatibilityLevel":"BACKWARD"}`},
		{"PUT", "/config/s", `{"compatibility":"none"}`, 200, `{"compatibility":"NONE"}`},
		{"GET", "/config/s", "", 200, `{"compatibilityLevel":"NONE"}`},
		{"PUT", "/config/s", `{"compatibility":"sideways"}`, 422, `{"error_code":42203,"message":"*"}`},
		{"POST", "/subjects/s/versions", quoted(`"int"`), 200, registered(3, 3, `"int"`)},
		{"DELETE", "/config/s", "", 200, `{"compatibilityLevel":"NONE"}`},
		{"DELETE", "/config/s", "", 404, fail(40401, "Subject 's' not found.")},
		{"PUT", "/config/unknown", `{"compatibility":"NONE"}`, 200, `{"compatibility":"NONE"}`},
		{"GET", "/subjects", "", 200, `["s","t"]`},

		{"DELETE", "/subjects/s/versions/3", "", 200, "3"},
		{"GET", "/subjects/s/versions", "", 200, `[1,2]`},
		{"GET", "/subjects/s/versions?deleted=true", "", 200, `[1,2,3]`},
		{"GET", "/subjects/s/versions?deletedOnly=true", "", 200, `[3]`},
		{"GET", "/subjects/s/versions/3", "", 404, fail(40402, "Version 3 not found.")},
		{"GET", "/subjects/s/versions/3?deleted=true", "", 200, versionJSON("s", 3, 3, `"int"`)},
		{"GET", "/schemas/ids/3", "", 200, `{"schema":"\"int\"","schemaType":"AVRO","guid":"*"}`},
		{"GET", "/schemas/ids/3/versions", "", 200, `[]`},
		{"GET", "/schemas/ids/3/versions?deleted=true", "", 200, `[{"subject":"s","version":3}]`},
		{"DELETE", "/subjects/s", "", 200, `[1,2]`},
		{"GET", "/subjects", "", 200, `["t"]`},
		{"GET", "/subjects?deleted=true", "", 200, `["s","t"]`},
		{"GET", "/subjects?deletedOnly=true", "", 200, `["s"]`},
		{"DELETE", "/subjects/s?permanent=true", "", 200, `[1,2,3]`},
		{"GET", "/schemas/ids/3", "", 404, fail(40403, "Schema 3 not found")},
		{"POST", "/subjects/s/versions", quoted(`"int"`), 200, registered(1, 4, `"int"`)},
	})
}

func TestHandler_RefusesMalformedRequests(t *testing.T) {
	t.Parallel()
	const path = "/subjects/s/versions"
	runScript(t, NewHandler(New(NewMemoryStore()), HandlerConfig{MaxBody: 1000}), []exchange{
		{"POST", path, ``, 422, `{"error_code":422,"message":"*"}`},
		{"POST", path, `null`, 422, `{"error_code":422,"message":"*"}`},
		{"POST", path, `{`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `{} {}`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `[]`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `{}`, 422, `{"error_code":42201,"message":"Empty schema"}`},
		{"POST", path, `{"schema":"nope"}`, 422, `{"error_code":42201,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","schemaType":"PROTOBUF"}`, 422, `{"error_code":42201,"message":"Schema type \"PROTOBUF\" is not supported, this registry takes AVRO only"}`},
		{"POST", path, `{"schema":"\"int\"","references":[{"name":"x","subject":"x","version":1}]}`, 422, `{"error_code":42201,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","metadata":{"properties":{}}}`, 422, `{"error_code":42201,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","id":7}`, 422, `{"error_code":42205,"message":"*"}`},
		{"POST", path, `{"schema":"` + strings.Repeat(" ", 1000) + `"}`, 413, `{"error_code":413,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","schemaType":"avro","references":[],"metadata":null,"id":-1,"more":1}`, 200, `{"id":1,"version":1,"schema":"\"int\"","schemaType":"AVRO","guid":"*"}`},
		{"GET", "/nope", ``, 404, `{"error_code":404,"message":"HTTP 404 Not Found"}`},
		{"PATCH", "/subjects", ``, 405, `{"error_code":405,"message":"HTTP 405 Method Not Allowed"}`},
		{"POST", "/subjects/%00/versions", `{"schema":"\"int\""}`, 422, `{"error_code":42208,"message":"*"}`},
	})
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
		req := httptest.NewRequest("POST", "/subjects/s/versions", strings.NewReader(quoted(`"int"`)))
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		resp := httptest.NewRecorder()
		handler.ServeHTTP(resp, req)
		if resp.Code != want {
			t.Errorf("Content-Type %q: status %d, want %d", contentType, resp.Code, want)
		}
	}
}

// brokenStore is a store whose database is down.
type brokenStore struct{ *MemoryStore }

func (brokenStore) Versions(context.Context, string) ([]Version, error) {
	return nil, errors.New("connection to 10.0.0.7 refused")
}

func (brokenStore) Ping(context.Context) error { return errors.New("down") }

func TestHandler_StoreFailureIsCode50001WithoutDetails(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	handler := NewHandler(New(brokenStore{NewMemoryStore()}), HandlerConfig{Logger: newTestLogger(&log)})
	runScript(t, handler, []exchange{
		{"GET", "/subjects/s/versions", "", 500, `{"error_code":50001,"message":"Error in the backend data store"}`},
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
	if got, want := guid(`"int"`), "ef524ea1-b91e-7317-3d93-8ade36c1db32"; got != want {
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
