package access

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
)

func newReader(text string) *bufio.Reader { return bufio.NewReader(strings.NewReader(text)) }

// FuzzGuard sends what a client with rights on open.* only could send, as net/http would read
// it, and sees that nothing of secret.b is told and nothing of it changes.
func FuzzGuard(f *testing.F) {
	for _, target := range []string{
		"/subjects/secret.b/versions/1", "//subjects//secret.b/versions/1", "/subjects/open.a/../secret.b/versions/1",
		"/subjects/open.a/%2e%2e/secret.b/versions/1", "/%2Fsubjects/secret.b/versions/1", "/subjects/:.:secret.b/versions/1",
		"/contexts/.west/subjects/:.:secret.b/versions/1", "/contexts/:.:/schemas/ids/2", "/schemas/ids/2?subject=open.a",
		"/schemas/ids/02/schema", "/schemas/ids/+2", "/schemas/guids/x/ids", "/subjects?subjectPrefix=:*:", "/schemas?limit=1&offset=1",
		"/subjects/open.z/versions/1", "/subjects/open.z/versions/latest/schema", "/contexts/east/subjects/open.z/versions/1",
		"/schemas/ids/1?subject=open.z", "/schemas/ids/1?subject=:.east:", "/contexts/.east", "/contexts/.west/contexts/.east",
		"/config/:.:", "/config", "/mode/secret.b", "http://host/subjects/secret.b", "/subjects/open.a/versions/1/schema?subject=secret.b",
	} {
		for method := range uint8(4) {
			f.Add(method, target, schemaBody(openSchema))
		}
	}
	// One registry for all: what is done to open.* is no matter.
	fx := newFixture(f, nil)
	// A registry looks for a subject without a context in all of them.
	if status, body := fx.do("admin", "POST", "/subjects/:.east:open.z/versions", schemaBody(secretSchema)); status != 200 {
		f.Fatal(body)
	}
	f.Fuzz(func(t *testing.T, method uint8, target, body string) {
		name := []string{"GET", "POST", "PUT", "DELETE"}[method%4]
		r, err := http.ReadRequest(newReader(name + " " + target + " HTTP/1.1\r\nHost: h\r\n\r\n"))
		if err != nil {
			return // does not come so far
		}
		before := fx.secret()
		r.Body = http.NoBody
		if body != "" {
			r.Body = readCloser{strings.NewReader(body)}
		}
		r.ContentLength = int64(len(body))
		r.SetBasicAuth("team", "team")
		if w := fx.record(r); w.Code < 400 && (strings.Contains(w.Body.String(), "TOPSECRET") || strings.Contains(w.Body.String(), "secret.b")) {
			t.Errorf("%s %s tells a secret: %s", name, target, w.Body)
		}
		if after := fx.secret(); after != before {
			t.Errorf("%s %s changes what it must not:\n%s\n%s", name, target, before, after)
		}
	})
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// secret is all that those without rights must neither know nor change.
func (f *fixture) secret() string {
	var all strings.Builder
	for _, target := range []string{"/subjects/secret.b/versions?deleted=true", "/subjects/secret.b/versions/1", "/config/secret.b", "/config", "/mode", "/mode/secret.b", "/config/:.west:", "/subjects/:.east:open.z/versions", "/config/:.east:"} {
		_, body := f.do("admin", "GET", target, "")
		all.WriteString(target + ": " + body)
	}
	return all.String()
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b*c", "aXbYc")
	f.Add("**", "")
	f.Add("*.*-value", "a.b-value")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 12 || len(s) > 20 {
			return
		}
		if got, want := glob(pattern, s), globByDefinition(pattern, s); got != want {
			t.Errorf("glob(%q, %q) = %v", pattern, s, got)
		}
	})
}

func globByDefinition(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	if pattern[0] != '*' {
		return s != "" && s[0] == pattern[0] && globByDefinition(pattern[1:], s[1:])
	}
	for i := range len(s) + 1 {
		if globByDefinition(pattern[1:], s[i:]) {
			return true
		}
	}
	return false
}

func FuzzPolicyFile(f *testing.F) {
	f.Add("users: {a: x}\nrights: []")
	f.Add("tokens: {a: [sha256:00]}\nrights: [{who: [a], subjects: ['*'], actions: [all]}]")
	f.Add("rights: [{who: [anonymous], subjects: [':.c:*', ':*:x'], actions: [read, check]}]")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parsePolicyFile([]byte(text))
		if err != nil {
			return
		}
		policy, err := newPolicy(file, nil)
		if err != nil {
			return
		}
		for who := range policy.rights {
			if who != Anonymous && !policy.names(who) && !strings.HasPrefix(who, certPrefix) {
				t.Errorf("rights for %q, whom nobody can be", who)
			}
		}
	})
}
