package access

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// policyText is a policy in which each of these knows the password or token that is its name.
const policyText = `
users:
  admin: %s
  team: %s
tokens:
  ci: %s
rights:
  - {who: [admin], subjects: ["*"], actions: [all]}
  - {who: [team], subjects: ["open.*", ":.west:open.*"], actions: [read, register, check, config, delete]}
  - {who: [ci], subjects: ["*"], actions: [read, check]}
  - {who: ["cert:reader"], subjects: ["open.*"], actions: [read]}
`

func hashOf(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fixture is a registry behind a guard, with the subjects open.a and secret.b.
type fixture struct {
	*Guard
	path    string // of the policy
	token   string // of ci
	log     *bytes.Buffer
	metrics *prometheus.Registry
}

const (
	openSchema   = `{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}`
	secretSchema = `{"type":"record","name":"TOPSECRET","fields":[{"name":"x","type":"int"}]}`
)

func newFixture(t testing.TB, change func(*GuardConfig)) *fixture {
	t.Helper()
	f := &fixture{path: filepath.Join(t.TempDir(), "access.yaml"), log: new(bytes.Buffer), metrics: prometheus.NewRegistry()}
	token, digest := NewToken()
	f.token = token
	writeFile(t, f.path, fmt.Sprintf(policyText, hashOf(t, "admin"), hashOf(t, "team"), digest))
	keeper, err := OpenKeeper(f.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(AuditHandler(slog.NewTextHandler(f.log, nil)))
	cfg := GuardConfig{Keeper: keeper, Logger: logger, Metrics: f.metrics}
	if change != nil {
		change(&cfg)
	}
	registry := schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{Logger: logger})
	f.Guard = NewGuard(registry, cfg)
	for _, c := range [][2]string{{"open.a", openSchema}, {"secret.b", secretSchema}} {
		if status, body := f.do("admin", "POST", "/subjects/"+c[0]+"/versions", schemaBody(c[1])); status != 200 {
			t.Fatalf("register %s: %d %s", c[0], status, body)
		}
	}
	return f
}

func schemaBody(schema string) string {
	text, _ := json.Marshal(map[string]string{"schema": schema})
	return string(text)
}

// do sends a request as somebody: a user whose password is the name, "ci", or "" for nobody.
func (f *fixture) do(who, method, target, body string) (status int, answer string) {
	w := f.record(f.request(who, method, target, body))
	return w.Code, w.Body.String()
}

func (f *fixture) request(who, method, target, body string) *http.Request {
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	path, query, _ := strings.Cut(target, "?")
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = unescape(path), path, query
	r.RequestURI = target
	switch who {
	case "":
	case "ci":
		r.Header.Set("Authorization", "Bearer "+f.token)
	default:
		r.SetBasicAuth(who, who)
	}
	return r
}

func (f *fixture) record(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// unescape is what net/http makes of a path that it takes.
func unescape(path string) string {
	r, err := http.ReadRequest(newReader("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"))
	if err != nil {
		return path
	}
	return r.URL.Path
}

func TestGuard_AsksForCredentials(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for _, who := range []string{"", "stranger", "admin:wrong"} {
		r := f.request("", "GET", "/subjects", "")
		if user, password, ok := strings.Cut(who, ":"); ok || who != "" {
			r.SetBasicAuth(user, password)
		}
		w := f.record(r)
		var body struct {
			Code    int    `json:"error_code"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 401 || body.Code != 40101 || body.Message == "" {
			t.Errorf("%q: %d %s", who, w.Code, w.Body)
		}
		if got := w.Header().Values("WWW-Authenticate"); len(got) != 2 || !strings.HasPrefix(got[0], "Basic ") || !strings.HasPrefix(got[1], "Bearer ") {
			t.Errorf("%q: WWW-Authenticate %q", who, got)
		}
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if status, _ := f.do("", "GET", path, ""); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
	for _, header := range []string{"Bearer", "Bearer wrong", "Basic !", "Digest x", "Basic " + f.token} {
		r := f.request("", "GET", "/subjects", "")
		r.Header.Set("Authorization", header)
		if w := f.record(r); w.Code != 401 {
			t.Errorf("Authorization: %s: %d", header, w.Code)
		}
	}
	r := f.request("ci", "GET", "/subjects", "")
	r.Header.Add("Authorization", "Basic YWRtaW46YWRtaW4=")
	if w := f.record(r); w.Code != 401 {
		t.Errorf("two credentials: %d", w.Code)
	}
}

// TestGuard_ActionOfEachPath goes through the table with somebody who may do all but one
// action, and with somebody who may do that one only.
func TestGuard_ActionOfEachPath(t *testing.T) {
	t.Parallel()
	paths := map[string]Action{
		"POST /subjects/s":                            Read,
		"DELETE /subjects/s":                          Delete,
		"GET /subjects/s/versions":                    Read,
		"POST /subjects/s/versions":                   Register,
		"GET /subjects/s/versions/1":                  Read,
		"HEAD /subjects/s/versions/1":                 Read,
		"DELETE /subjects/s/versions/1":               Delete,
		"GET /subjects/s/versions/latest/schema":      Read,
		"GET /subjects/s/versions/1/referencedby":     Read,
		"POST /compatibility/subjects/s/versions":     Check,
		"POST /compatibility/subjects/s/versions/1":   Check,
		"GET /config/s":                               Read,
		"PUT /config/s":                               Config,
		"DELETE /config/s":                            Config,
		"PUT /config":                                 Config,
		"DELETE /config":                              Config,
		"GET /mode/s":                                 Read,
		"PUT /mode/s":                                 Config,
		"DELETE /mode/s":                              Config,
		"PUT /mode":                                   Config,
		"DELETE /mode":                                Config,
		"GET /schemas/ids/1":                          Read,
		"GET /schemas/ids/1/schema":                   Read,
		"GET /schemas/ids/1/subjects":                 Read,
		"GET /schemas/ids/1/versions":                 Read,
		"GET /schemas/guids/g":                        Read,
		"GET /schemas/guids/g/ids":                    Read,
		"GET /subjects/s/metadata":                    Read,
		"DELETE /contexts/.west":                      Delete,
		"POST /":                                      0,
		"GET /":                                       0,
		"GET /subjects":                               0,
		"GET /schemas":                                0,
		"GET /schemas/types":                          0,
		"GET /contexts":                               0,
		"GET /config":                                 0,
		"GET /mode":                                   0,
		"GET /metrics":                                0,
		"GET /v1/metadata/id":                         0,
		"GET /v1/metadata/version":                    0,
		"PUT /contexts/west/config":                   Config,
		"DELETE /contexts/west/mode":                  Config,
		"POST /contexts/.west/subjects/s/versions":    Register,
		"GET /contexts/:.west:/subjects/s/versions/1": Read,
		"GET /contexts/.west/schemas/ids/1":           Read,
	}
	covered := map[string]bool{}
	token, digest := NewToken()
	for target, want := range paths {
		method, path, _ := strings.Cut(target, " ")
		req, ok := parsePath(path)
		if !ok {
			t.Errorf("%s: not a path of the API", target)
			continue
		}
		covered[method+" "+req.route.pattern] = true
		for _, action := range []Action{Read, Register, Check, Config, Delete} {
			file := filepath.Join(t.TempDir(), "access.yaml")
			writeFile(t, file, fmt.Sprintf("tokens: {it: %q}\nrights: [{who: [it], subjects: [\"*\"], actions: [%s]}]", digest, action))
			keeper, err := OpenKeeper(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			// A registry that says yes to everything.
			reached := false
			guard := NewGuard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, question := w.(*capture); !question {
					reached = true
				}
				switch {
				case strings.HasSuffix(r.URL.Path, "/ids"):
					fmt.Fprint(w, `[{"context":".","id":1}]`)
				case strings.Contains(r.URL.Path, "/ids/"):
					fmt.Fprint(w, `[{"subject":"s","version":1}]`)
				case strings.HasPrefix(r.URL.Path, "/subjects/"):
					fmt.Fprint(w, `{"subject":"s","version":1}`)
				default:
					fmt.Fprint(w, "[]")
				}
			}), GuardConfig{Keeper: keeper})
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			guard.ServeHTTP(w, r)
			may := want == 0 || action == want
			list := may && req.route.needs[http.MethodGet].list != notAList // the guard asks for it itself
			if may != (w.Code == 200) || may != (reached || list) {
				t.Errorf("%s with %s: %d, reached %v", target, action, w.Code, reached)
			}
			if !may && w.Code != 403 {
				t.Errorf("%s with %s: %d, want 403", target, action, w.Code)
			}
		}
	}
	for _, route := range routes {
		for method, need := range route.needs {
			if need.what != open && !covered[method+" "+route.pattern] {
				t.Errorf("%s %s is not in this test", method, route.pattern)
			}
		}
	}
}

func TestGuard_RightsEndAtTheirSubjects(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	compatible := schemaBody(openSchema)
	for _, c := range []struct {
		method, target, body string
		want                 int
	}{
		{"GET", "/subjects/open.a/versions", "", 200},
		{"GET", "/subjects/open%2Ea/versions/1", "", 200},
		{"GET", "/subjects/secret.b/versions", "", 403},
		{"GET", "/subjects/secret%2Eb/versions", "", 403},
		{"GET", "//subjects/secret.b/versions", "", 403},
		{"GET", "/subjects//secret.b//versions", "", 403},
		{"GET", "/contexts//.///subjects/secret.b/versions", "", 403},
		{"DELETE", "/contexts/.west", "", 403},
		{"DELETE", "/contexts/:.west:/", "", 403},
		{"GET", "/contexts/.west/livez", "", 404},
		{"DELETE", "/contexts/.west/contexts/.west", "", 404},
		{"GET", "/subjects/secret.b/versions/", "", 403},
		{"GET", "/%73ubjects/secret.b/versions", "", 403},
		{"GET", "/subjects/open.a/../secret.b/versions", "", 404},
		{"GET", "/subjects/open.a%2F..%2Fsecret.b/versions", "", 404}, // a subject of its own
		{"GET", "/subjects/open.a%2Fversions", "", 405},
		{"GET", "/subjects/./secret.b/versions", "", 404},
		{"GET", "/subjects/:.:secret.b/versions", "", 403},
		{"GET", "/contexts/./subjects/secret.b/versions", "", 403},
		{"GET", "/contexts/.west/subjects/secret.b/versions", "", 403},
		{"GET", "/contexts/.west/subjects/:.:secret.b/versions", "", 403},
		{"GET", "/contexts/.east/subjects/:.west:open.a/versions", "", 403},
		{"GET", "/contexts/.west:/subjects/open.a/versions", "", 404},
		{"GET", "/contexts/.west%2F..%2F/subjects/open.a/versions", "", 404},
		{"GET", "/subjects/:.east:open.a/versions", "", 403},
		{"GET", "/subjects/:.west", "", 405},
		{"PUT", "/config/:.west:", `{"compatibility":"NONE"}`, 403},
		{"PUT", "/config/:.west", `{"compatibility":"NONE"}`, 403},
		{"PUT", "/config/:.__GLOBAL:", `{"compatibility":"NONE"}`, 403},
		{"PUT", "/config", `{"compatibility":"NONE"}`, 403},
		{"PUT", "/contexts/.west/config", `{"compatibility":"NONE"}`, 403},
		{"PUT", "/config/open.a", `{"compatibility":"NONE"}`, 200},
		{"GET", "/config", "", 200},
		{"POST", "/subjects/secret.b/versions", compatible, 403},
		{"POST", "/subjects/open.a/versions", compatible, 200},
		{"POST", "/subjects/open.a/versions", `{"schema":"\"int\"","references":[{"name":"B","subject":"secret.b","version":1}]}`, 403},
		{"POST", "/subjects/open.a", `{"references":[{"Subject":"secret.b"}]}`, 403},
		{"POST", "/subjects/open.a", `{"references":[{"subject":"secret.b","subject":"open.a"}]}`, 403},
		{"POST", "/subjects/open.a", `{"references":[{"subject":"secret.b"}],"references":[]}`, 403},
		{"PUT", "/config/open.a", `{"alias":"secret.b","Alias":"open.a"}`, 403},
		{"PUT", "/config/open.a", `{"alias":"open.z"}`, 200},
		{"PUT", "/config/open.a", `{"alias":null}`, 200},
		{"POST", "/subjects/open.a/versions", `{`, 400},
		{"DELETE", "/subjects/secret.b", "", 403},
		{"GET", "/schemas/ids/1", "", 200},
		{"GET", "/schemas/ids/2", "", 403},
		{"GET", "/schemas/ids/2/schema", "", 403},
		{"GET", "/schemas/ids/2?subject=open.a", "", 403},
		{"GET", "/schemas/ids/1?subject=secret.b", "", 200}, // where that subject has not got it, the ID counts
		{"GET", "/schemas/ids/2/subjects", "", 403},
		{"GET", "/schemas/ids/3", "", 404},
		{"GET", "/schemas/ids/x", "", 404},
		{"PATCH", "/subjects/open.a", "", 405},
		{"GET", "/exporters", "", 404},
	} {
		if status, body := f.do("team", c.method, c.target, c.body); status != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.target, status, body, c.want)
		}
	}
}

func TestGuard_ListsWhatMayBeRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for i := range 5 {
		for _, s := range []string{"open", "secret"} {
			if status, body := f.do("admin", "POST", fmt.Sprintf("/subjects/%s.%d/versions", s, i), schemaBody(`"int"`)); status != 200 {
				t.Fatal(body)
			}
		}
	}
	for target, want := range map[string]string{
		"/subjects":                            `["open.0","open.1","open.2","open.3","open.4","open.a"]`,
		"/subjects?offset=1&limit=2":           `["open.1","open.2"]`,
		"/subjects?offset=9":                   `[]`,
		"/subjects?limit=0":                    `[]`,
		"/subjects?subjectPrefix=secret":       `[]`,
		"/schemas/ids/3/subjects":              `["open.0","open.1","open.2","open.3","open.4"]`,
		"/schemas/ids/3/versions?limit=1":      `[{"subject":"open.0","version":1}]`,
		"/schemas/ids/3/versions?offset=4":     `[{"subject":"open.4","version":1}]`,
		"/schemas/ids/3/subjects?limit=1":      `["open.0"]`,
		"/schemas/ids/1/subjects":              `["open.a"]`,
		"/contexts/./schemas/types?whatever=1": "",
	} {
		status, body := f.do("team", "GET", target, "")
		if want != "" && (status != 200 || strings.TrimSpace(body) != want) {
			t.Errorf("%s: %d %s, want %s", target, status, body, want)
		}
	}
	if status, body := f.do("ci", "GET", "/subjects", ""); status != 200 || !strings.Contains(body, "secret.b") {
		t.Errorf("somebody who reads everything: %d %s", status, body)
	}
}

// A registry may find a version in another subject than the one in the path.
func TestGuard_JudgesTheSubjectThatIsFound(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	subject := ":.west:open.a"
	f.next = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"subject":%q,"version":1}`, subject)
	})
	for found, want := range map[string]int{":.west:open.a": 200, "open.b": 200, ":.east:open.a": 403, "secret.b": 403} {
		subject = found
		if status, body := f.do("team", "GET", "/subjects/open.a/versions/1", ""); status != want {
			t.Errorf("found in %s: %d %s", found, status, body)
		}
	}
}

func TestNamedSubjects_FindsEachThatMayCount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body, attribute string
		want            []string
	}{
		{``, "references", nil},
		{`null`, "references", nil},
		{`{"references":[{"name":"n","subject":"a","version":1},{"subject":"b"}]}`, "references", []string{"a", "b"}},
		{`{"references":[{"SUBJECT":"a","subject":"b"}],"References":[{"subject":{"subject":"c"}}]}`, "references", []string{"a", "b", "c"}},
		{`{"metadata":{"subject":"x"},"subject":"y"}`, "references", nil},
		{`{"references":{"subject":5}}`, "references", []string{"5"}},
		{`{"alias":"a","alias":null,"ALIAS":"b"} behind`, "alias", []string{"a", "b"}},
	} {
		got, err := namedSubjects([]byte(c.body), c.attribute)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", c.body, err, diff)
		}
	}
	for _, body := range []string{`{`, `{"a":}`, `{"references":[`, `{"a":1`} {
		if _, err := namedSubjects([]byte(body), "references"); err == nil {
			t.Errorf("%s is taken", body)
		}
	}
}

func TestGuard_PagesThroughSchemas(t *testing.T) {
	t.Parallel()
	const total = 2*schemasPage + 500
	registry := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		offset, limit, _ := readPage(r.URL.Query())
		list := []map[string]any{}
		for i := offset; i < min(offset+limit, total); i++ {
			subject := "secret.x"
			if i%1000 == 7 {
				subject = fmt.Sprint("open.", i)
			}
			list = append(list, map[string]any{"subject": subject, "version": 1, "id": i})
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	f := newFixture(t, nil)
	f.next = registry
	status, body := f.do("team", "GET", "/schemas", "")
	var got []struct{ Subject string }
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
		t.Fatal(status, body)
	}
	want := []struct{ Subject string }{{"open.7"}, {"open.1007"}, {"open.2007"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestGuard_TellsWhoChangedWhat(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.log.Reset()
	for _, c := range [][3]string{
		{"team", "PUT /config/open.a", `{"compatibility":"FULL"}`},
		{"team", "PUT /config/secret.b", `{"compatibility":"FULL"}`},
		{"team", "POST /subjects/open.a/versions", schemaBody(`"int"`)},
		{"ci", "DELETE /subjects/open.a/versions/1", ""},
		{"team", "GET /subjects/secret.b/versions", ""},
	} {
		method, path, _ := strings.Cut(c[1], " ")
		f.do(c[0], method, path, c[2])
	}
	log := f.log.String()
	for _, want := range []string{
		`msg="compatibility level set" subject=open.a level=FULL who=team client=192.0.2.1`,
		`msg="change refused" change="set level" subject=secret.b status=403`,
		`msg="change refused" change=register subject=open.a status=409`,
		`msg="change refused" change="delete version" subject=open.a version=1 status=403 reason="ci may not delete subject \"open.a\"" who=ci`,
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("not once: %s in\n%s", want, log)
		}
	}
	if got := strings.Count(log, "\n"); got != 4 {
		t.Errorf("%d lines, want one for each change:\n%s", got, log)
	}
}

func TestGuard_WithoutPolicyIsOpenWithinLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(cfg *GuardConfig) { cfg.Keeper, cfg.MaxURL, cfg.MaxBody = nil, 100, 200 })
	if status, _ := f.do("", "GET", "/subjects/secret.b/versions/1", ""); status != 200 {
		t.Errorf("read: %d", status)
	}
	if status, body := f.do("", "GET", "/subjects/"+strings.Repeat("x", 100), ""); status != 414 || !strings.Contains(body, "414") {
		t.Errorf("long URL: %d %s", status, body)
	}
	if status, _ := f.do("", "POST", "/subjects/s/versions", strings.Repeat(" ", 201)); status != 413 {
		t.Errorf("long body: %d", status)
	}
	r := f.request("", "POST", "/subjects/s/versions", "")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat(" ", 201))), -1
	if w := f.record(r); w.Code != 413 {
		t.Errorf("long body of unknown length: %d", w.Code)
	}
}

func TestGuard_LimitsTheRateOfEachClient(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.requests = newLimiter(0.001, 3)
	for i := range 4 {
		w := f.record(f.request("team", "GET", "/subjects", ""))
		if limited := i == 3; limited != (w.Code == 429) {
			t.Errorf("request %d: %d", i, w.Code)
		}
		if w.Code == 429 && w.Header().Get("Retry-After") != "1000" {
			t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
		}
	}
	if status, _ := f.do("admin", "GET", "/subjects", ""); status != 200 {
		t.Errorf("another client: %d", status)
	}
	if status, _ := f.do("", "GET", "/livez", ""); status != 200 {
		t.Errorf("livez: %d", status)
	}
}

func TestGuard_LimitsGuesses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.hashes = newLimiter(0.001, 3)
	guess := func(user, password string) int {
		r := f.request("", "GET", "/subjects", "")
		r.SetBasicAuth(user, password)
		return f.record(r).Code
	}
	if code := guess("team", "team"); code != 200 {
		t.Fatal(code)
	}
	for i, want := range []int{401, 401, 429, 429} {
		if code := guess("team", fmt.Sprint(i)); code != want {
			t.Errorf("guess %d: %d, want %d", i, code, want)
		}
	}
	if code := guess("team", "team"); code != 200 {
		t.Errorf("the right password, which was right before: %d", code)
	}
	for i, want := range []int{401, 401, 401, 429} {
		if code := guess(fmt.Sprint("nobody", i), "x"); code != want {
			t.Errorf("unknown user %d: %d, want %d", i, code, want)
		}
	}
	if code := guess("admin", "admin"); code != 200 {
		t.Errorf("another user: %d", code)
	}
}

func TestGuard_AnonymousMayBeLetIn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	writeFile(t, f.path, `rights: [{who: [anonymous], subjects: ["open.*"], actions: [read]}]`)
	if err := f.keeper.Load(); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]int{"/subjects": 200, "/subjects/open.a/versions": 200, "/subjects/secret.b/versions": 401} {
		if status, body := f.do("", "GET", target, ""); status != want {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
	if status, _ := f.do("admin", "GET", "/subjects", ""); status != 401 {
		t.Errorf("wrong credentials are worse than none: %d", status)
	}
}

func TestGuard_CountsRefusalsByBoundedReasons(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.do("", "GET", "/subjects", "")
	f.do("team", "GET", "/subjects/secret.b/versions", "")
	f.do("team", "GET", "/nothing/here", "")
	families, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, m := range families[0].Metric {
		got[m.Label[0].GetValue()] = m.Counter.GetValue()
	}
	want := map[string]float64{"unauthenticated": 1, "forbidden": 1, "path": 1, "rate": 0, "password_rate": 0, "url": 0, "body": 0, "store": 0, "canceled": 0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
