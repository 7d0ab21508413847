package access

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadPolicy_NamesEveryProblem(t *testing.T) {
	t.Parallel()
	good, digest := hashOf(t, "x"), "sha256:"+strings.Repeat("ab", 32)
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "user: {a: b}", "field user not found"},
		{"second document", "rights: []\n---\nrights: []", "second document"},
		{"duplicate key", "users: {a: '" + good + "', a: '" + good + "'}", "already defined"},
		{"no rights", "users: {a: '" + good + "'}", "no rights"},
		{"plain password", "users: {a: secret}", `the password of "a" is not bcrypt`},
		{"costly password", "users: {a: '$2a$31$" + strings.Repeat(".", 53) + "'}", "bcrypt cost 31"},
		{"plain token", "tokens: {a: secret}", "postrider registry token a"},
		{"short token", "tokens: {a: sha256:abcd}", "64 hexadecimal digits"},
		{"long token", "tokens: {a: " + digest + "ab}", "64 hexadecimal digits"},
		{"no token", "tokens: {a: []}", `"a" has none`},
		{"one token for two", "tokens: {a: " + digest + ", b: " + digest + "}", `"b" has the same token as "a"`},
		{"one name for two", "users: {a: '" + good + "'}\ntokens: {a: " + digest + "}", `"a" is there twice`},
		{"reserved name", "users: {anonymous: '" + good + "'}", "no credentials"},
		{"name with a colon", "tokens: {'cert:x': " + digest + "}", "is no name"},
		{"unknown holder", "rights: [{who: [bob], subjects: ['*'], actions: [read]}]", `"bob" is neither a user nor a token`},
		{"unknown action", "rights: [{who: [anonymous], subjects: ['*'], actions: [write]}]", `"write" is not one of read`},
		{"no subjects", "rights: [{who: [anonymous], actions: [read]}]", "who, subjects and actions are all needed"},
		{"pattern of no context", "rights: [{who: [anonymous], subjects: [':.west'], actions: [read]}]", "neither like"},
		{"pattern of half a context", "rights: [{who: [anonymous], subjects: [':.w*:x'], actions: [read]}]", "neither like"},
	} {
		path := filepath.Join(t.TempDir(), "access.yaml")
		writeFile(t, path, c.text)
		_, err := LoadPolicy(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells a secret: %v", c.name, err)
		}
	}
	if _, err := LoadPolicy(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a missing file is taken")
	}
}

func TestLoadPolicy_ReadsHtpasswdBesideIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "access.yaml"), "htpasswd: users\nrights: [{who: [a, b], subjects: ['*'], actions: [all]}]")
	writeFile(t, filepath.Join(dir, "users"), "# people\na:"+hashOf(t, "1")+"\n\nb:"+strings.Replace(hashOf(t, "2"), "$2a$", "$2y$", 1)+"\n")
	policy, err := LoadPolicy(filepath.Join(dir, "access.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	always := func() bool { return true }
	for user, password := range map[string]string{"a": "1", "b": "2"} {
		if who, err := policy.authenticate(t.Context(), credentials{user: user, password: password}, always); who != user || err != nil {
			t.Errorf("%s: %q, %v", user, who, err)
		}
		if who, err := policy.authenticate(t.Context(), credentials{user: user, password: "3"}, always); err == nil {
			t.Errorf("%s with a wrong password is %q", user, who)
		}
	}
	writeFile(t, filepath.Join(dir, "users"), "a:{SHA}abc\n")
	if _, err := LoadPolicy(filepath.Join(dir, "access.yaml")); err == nil || !strings.Contains(err.Error(), "htpasswd line 1") {
		t.Errorf("a weak hash: %v", err)
	}
}

func TestPattern_Matches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"*", []string{"a", ":.west:a", ":.west:", ":.__GLOBAL:"}, nil},
		{"order.*", []string{"order.", "order.created"}, []string{"order", "reorder.x", ":.west:order.x"}},
		{"*-value", []string{"a-value", "-value"}, []string{"a-key", ":.west:a-value", ":.west:"}},
		{"a*b*c", []string{"abc", "aXbYc", "abbcbc"}, []string{"acb", "abcd", ""}},
		{":.:*", []string{"a", ""}, []string{":.west:a", ":.__GLOBAL:"}},
		{":.west:*", []string{":.west:a", ":.west:", ":.west"}, []string{"a", ":.western:a", ""}},
		{":.west:a*", []string{":.west:ab"}, []string{"ab", ":.west:", ":.east:ab"}},
		{":*:a*", []string{"ab", ":.west:ab"}, []string{":.west:b", "", ":.west:"}},
		{"Ä*", []string{"Äx"}, []string{"x"}},
	} {
		p, err := readPattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
		}
		for _, s := range c.yes {
			if !p.matches(readName(s)) {
				t.Errorf("%s does not match %s", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if p.matches(readName(s)) {
				t.Errorf("%s matches %s", c.pattern, s)
			}
		}
	}
}

func TestPolicy_TokensRotate(t *testing.T) {
	t.Parallel()
	old, oldLine := NewToken()
	next, nextLine := NewToken()
	path := filepath.Join(t.TempDir(), "access.yaml")
	writeFile(t, path, "tokens: {ci: ["+oldLine+", "+nextLine+"]}\nrights: [{who: [ci], subjects: ['*'], actions: [read]}]")
	policy, err := LoadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{old, next} {
		if who, err := policy.authenticate(t.Context(), credentials{token: token}, nil); who != "ci" || err != nil {
			t.Errorf("%q, %v", who, err)
		}
	}
	if _, err := policy.authenticate(t.Context(), credentials{token: oldLine}, nil); err == nil {
		t.Error("what stands in the file is taken for a token")
	}
}

func TestReadCredentials_TakesOneKindOnly(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]credentials{
		"Bearer abc":       {token: "abc"},
		"bearer  abc":      {token: "abc"},
		"Basic YTpiOmM=":   {user: "a", password: "b:c"},
		"basic YTo=":       {user: "a"},
		"Basic OmI=":       {}, // no user
		"Negotiate YWJj":   {},
		"Bearer":           {},
		"Basic not base64": {},
	} {
		got, err := readCredentials(&http.Request{Header: http.Header{"Authorization": {header}}})
		if got != want || (err == nil) != (want != credentials{}) {
			t.Errorf("%s: %+v, %v", header, got, err)
		}
	}
}
