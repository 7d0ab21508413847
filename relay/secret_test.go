package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// printed returns v in every way that it could be printed.
func printed(t *testing.T, v any) string {
	t.Helper()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("it", "value", v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("it", "value", v)
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(asJSON)
	out.Write(asYAML)
	return out.String()
}

func TestSecret_IsNeverPrinted(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, v := range []any{
		Secret(secret),
		struct{ Password Secret }{secret},
		&struct{ Password Secret }{secret},
		[]Secret{secret},
		map[string]Secret{"password": secret},
		SecretURL("postgres://app:" + secret + "@db/app"),
		&struct{ URL SecretURL }{"http://app:" + secret + "@registry"},
	} {
		all := printed(t, v)
		if strings.Contains(all, secret) || strings.Contains(all, fmt.Sprintf("%x", secret)) {
			t.Errorf("%T shows its secret:\n%s", v, all)
		}
		if !strings.Contains(all, "***") && !strings.Contains(all, "%2A%2A") {
			t.Errorf("%T does not show that there is a secret:\n%s", v, all)
		}
	}
}

func TestSecret_ShowsThatItIsEmpty(t *testing.T) {
	t.Parallel()
	if got := Secret("").String(); got != "" {
		t.Errorf("an empty secret is printed as %q", got)
	}
}

func TestSecretURL_MasksThePasswordAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		url  SecretURL
		keep []string
	}{
		{"password of a user", "postgres://app:hunter2@db.example:5433/shop?sslmode=verify-full", []string{"app", "db.example:5433", "shop", "sslmode=verify-full"}},
		{"password of a nameless user", "http://:hunter2@registry:8081", []string{"registry:8081"}},
		{"encoded password", "postgres://app:hunter2%40%2F@db/shop", []string{"app", "@db/shop"}},
		{"password in the query", "postgres://db/shop?user=app&password=hunter2&sslmode=disable", []string{"db/shop", "user=app", "sslmode=disable"}},
		{"password of the key in the query", "postgres://app@db/shop?sslkey=k.pem&sslpassword=hunter2", []string{"app@db/shop", "sslkey=k.pem"}},
		{"both", "postgres://app:hunter2@db/shop?password=hunter2", []string{"app", "db/shop"}},
		{"keywords", "host=db user=app password=hunter2 dbname=shop", []string{"host=db", "user=app", "dbname=shop"}},
		{"keywords in quotes", `host=db password='hunter2 hunter2' dbname=shop`, []string{"host=db", "dbname=shop"}},
		{"keywords with an escaped quote", `host=db password='it\'s hunter2' dbname=shop`, []string{"host=db", "dbname=shop"}},
		{"keywords with space about", `host=db PASSWORD = hunter2 dbname=shop`, []string{"host=db", "dbname=shop"}},
		{"keywords that are no URL", `host=db password=a:hunter2%zz`, nil},
		{"port that is none", "postgres://app:hunter2@db:port/shop", nil},
		{"control character", "postgres://app:hunter2@db/\x7f", nil},
	} {
		got := tc.url.String()
		if strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s", tc.name, got)
		}
		for _, keep := range tc.keep {
			if !strings.Contains(got, keep) {
				t.Errorf("%s: %s has lost %s", tc.name, got, keep)
			}
		}
	}
	for _, plain := range []SecretURL{"", "http://127.0.0.1:8081", "postgres://app@db/shop?sslmode=disable", "host=db user=app"} {
		if got := plain.String(); got != string(plain) {
			t.Errorf("%s holds no secret and is printed as %s", string(plain), got)
		}
	}
}

func TestSecretURL_MasksUnescapedPasswords(t *testing.T) {
	t.Parallel()
	for _, s := range []SecretURL{"postgres://h/db?password=hun%zzhunter2", "postgres://h/db?password=a;hunter2",
		"postgres://u:12#hunter2@h/db", "postgres://u:12/hunter2@h/db", "postgres://u:12?hunter2@h/db",
		"host=h password='x hunter2 user=x"} {
		if strings.Contains(s.String(), "hunter2") {
			t.Error(s.String())
		}
	}
}

func TestConfig_ErrorsHoldNoPasswordPgconnMisses(t *testing.T) {
	t.Parallel()
	for _, u := range []SecretURL{"host=h password = hunter2 sslmode=bogus", "postgres://u:a@hunter2@h:port/db"} {
		c := minimalConfig()
		c.Postgres.URL = u
		if err := c.Validate(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
	}
}
