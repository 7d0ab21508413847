package schemaregistry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newTestLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func newTestClient(t *testing.T, cfg ClientConfig) *Client {
	t.Helper()
	c, err := NewClient(cfg)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// countingServer counts the requests that reach handler.
func countingServer(t *testing.T, handler http.Handler) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

func TestClient_AgainstTheRegistry(t *testing.T) {
	t.Parallel()
	url, _ := countingServer(t, newTestHandler())
	c := newTestClient(t, ClientConfig{URL: url + "/"})
	ctx := t.Context()

	if _, err := c.Latest(ctx, "s"); !IsNotFound(err) {
		t.Errorf("Latest of an unknown subject: %v", err)
	}
	id, err := c.Register(ctx, "s", record("a"))
	if err != nil || id != 1 {
		t.Fatalf("Register = %d, %v", id, err)
	}
	want := SubjectVersion{Subject: "s", Version: 1, ID: 1, Schema: record("a")}
	for name, get := range map[string]func() (SubjectVersion, error){
		"Latest":  func() (SubjectVersion, error) { return c.Latest(ctx, "s") },
		"Version": func() (SubjectVersion, error) { return c.Version(ctx, "s", 1) },
		"Lookup":  func() (SubjectVersion, error) { return c.Lookup(ctx, "s", " "+record("a")) },
	} {
		got, err := get()
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	if _, err := c.Version(ctx, "s", 2); !IsNotFound(err) {
		t.Errorf("unknown version: %v", err)
	}
	if _, err := c.Lookup(ctx, "s", record("b")); !IsNotFound(err) {
		t.Errorf("unknown schema: %v", err)
	}
	if _, err := c.SchemaByID(ctx, 9); !IsNotFound(err) {
		t.Errorf("unknown ID: %v", err)
	}
	if schema, err := c.SchemaByID(ctx, 1); err != nil || schema != record("a") {
		t.Errorf("SchemaByID = %q, %v", schema, err)
	}
	if _, err := c.Register(ctx, "s", record("a b")); !IsIncompatible(err) || IsTemporary(err) || IsNotFound(err) {
		t.Errorf("incompatible schema: %v", err)
	}
	if answer, err := c.CheckCompatibility(ctx, "s", record("a b")); err != nil || answer.Compatible || len(answer.Messages) == 0 {
		t.Errorf("CheckCompatibility = %v, %v", answer, err)
	}
	if answer, err := c.CheckCompatibility(ctx, "s", record("a b?")); err != nil || !answer.Compatible {
		t.Errorf("CheckCompatibility = %v, %v", answer, err)
	}
	if names, err := c.Subjects(ctx); err != nil || !cmp.Equal(names, []string{"s"}) {
		t.Errorf("Subjects = %v, %v", names, err)
	}
	if versions, err := c.Versions(ctx, "s"); err != nil || !cmp.Equal(versions, []int{1}) {
		t.Errorf("Versions = %v, %v", versions, err)
	}
}

func TestClient_CachesWhatCannotChange(t *testing.T) {
	t.Parallel()
	url, requests := countingServer(t, newTestHandler())
	c := newTestClient(t, ClientConfig{URL: url, CacheSize: 2})
	cost := func(do func() error) int64 {
		before := requests.Load()
		must(t, do())
		return requests.Load() - before
	}
	registerSchema := func(doc int) func() error {
		return func() error {
			_, err := c.Register(t.Context(), "s", fmt.Sprintf(`{"type":"record","name":"r","doc":"%d","fields":[]}`, doc))
			return err
		}
	}
	byID := func() error { _, err := c.SchemaByID(t.Context(), 1); return err }
	latest := func() error { _, err := c.Latest(t.Context(), "s"); return err }
	for i, step := range []struct {
		do   func() error
		want int64
	}{
		{registerSchema(1), 1}, {registerSchema(1), 0}, {byID, 1}, {byID, 0}, {latest, 1}, {latest, 1},
		{registerSchema(2), 1}, {registerSchema(1), 0},
		{registerSchema(3), 1}, // forgets 2, which was not used for the longest
		{registerSchema(1), 0}, {registerSchema(2), 1},
	} {
		if got := cost(step.do); got != step.want {
			t.Errorf("step %d took %d requests, want %d", i, got, step.want)
		}
	}
}

func TestClient_DeletesASubjectAndForgetsIt(t *testing.T) {
	t.Parallel()
	url, _ := countingServer(t, newTestHandler())
	c := newTestClient(t, ClientConfig{URL: url})
	ctx := t.Context()
	if err := c.DeleteSubject(ctx, "s", false); !IsNotFound(err) {
		t.Errorf("an unknown subject: %v", err)
	}
	id, err := c.Register(ctx, "s", record("a"))
	must(t, err)
	if err := c.DeleteSubject(ctx, "s", true); err == nil {
		t.Error("a subject is deleted for good at once")
	}
	must(t, c.DeleteSubject(ctx, "s", false))
	if _, err := c.Latest(ctx, "s"); !IsNotFound(err) {
		t.Errorf("Latest after the deletion: %v", err)
	}
	if again, err := c.Register(ctx, "s", record("a")); err != nil || again != id {
		t.Errorf("registered again = %d, %v, want %d", again, err, id)
	}
	if _, err := c.Latest(ctx, "s"); err != nil {
		t.Errorf("the second registration never reached the registry: %v", err)
	}
	must(t, c.DeleteSubject(ctx, "s", false))
	must(t, c.DeleteSubject(ctx, "s", true))
	if names, err := c.Subjects(ctx); err != nil || len(names) != 0 {
		t.Errorf("subjects in the end: %v, %v", names, err)
	}
}

func TestClient_FailureIsNotCached(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	registry := newTestHandler()
	url, _ := countingServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		registry.ServeHTTP(w, r)
	}))
	c := newTestClient(t, ClientConfig{URL: url})
	if _, err := c.Register(t.Context(), "s", `"int"`); !IsTemporary(err) {
		t.Fatalf("error = %v, want a temporary one", err)
	}
	down.Store(false)
	if _, err := c.Register(t.Context(), "s", `"int"`); err != nil {
		t.Error(err)
	}
}

func TestClient_AsksTheNextServer(t *testing.T) {
	t.Parallel()
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	sick, sickRequests := countingServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	healthy, _ := countingServer(t, newTestHandler())
	c := newTestClient(t, ClientConfig{URL: dead.URL + " , " + sick + "," + healthy})
	for range 3 {
		if _, err := c.Subjects(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := sickRequests.Load(); got != 1 {
		t.Errorf("the failing server was asked %d times, want once", got)
	}
	if _, err := c.Latest(t.Context(), "x"); !IsNotFound(err) {
		t.Errorf("an answer that says no must be final: %v", err)
	}
}

func TestClient_Credentials(t *testing.T) {
	t.Parallel()
	url, _ := countingServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user == "u" && password == "hunter2" || r.Header.Get("Authorization") == "Bearer hunter2" {
			fmt.Fprint(w, "[]")
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error_code":401,"message":"Unauthorized"}`)
	}))
	withUser := strings.Replace(url, "http://", "http://u:hunter2@", 1)
	for name, cfg := range map[string]ClientConfig{
		"basic": {URL: url, Username: "u", Password: "hunter2"}, "bearer": {URL: url, BearerToken: "hunter2"}, "in the URL": {URL: withUser},
	} {
		if _, err := newTestClient(t, cfg).Subjects(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newTestClient(t, ClientConfig{URL: url}).Subjects(t.Context()); !IsUnauthorized(err) {
		t.Errorf("without credentials: %v", err)
	}
	if _, err := NewClient(ClientConfig{URL: url, Username: "u", BearerToken: "t"}); err == nil {
		t.Error("two kinds of credentials were accepted")
	}
}

func TestClient_ErrorsHideSecrets(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"http://u:hunter2@127.0.0.1:1", "ftp://u:hunter2@h", "http://u:hunter2@h:port", "u:hunter2@h", "http://u:hunter2@[::1", ""} {
		c, err := NewClient(ClientConfig{URL: url})
		if err == nil {
			defer c.Close()
			if servers := c.Servers(); servers != "http://127.0.0.1:1" {
				t.Errorf("%s stands for %q", servers, url)
			}
			_, err = c.Subjects(t.Context())
		}
		if err == nil {
			t.Fatalf("%q works", url)
		}
		refuseSecret(t, err)
	}
}

// Servers and proxies resolve dots in paths, unless they are encoded.
func TestClient_EncodesSubjects(t *testing.T) {
	t.Parallel()
	var path string
	url, _ := countingServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.EscapedPath()
		fmt.Fprint(w, "[]")
	}))
	c := newTestClient(t, ClientConfig{URL: url + "/base/"})
	for subject, want := range map[string]string{
		"..": "/base/subjects/%2E%2E/versions", "a/b c": "/base/subjects/a%2Fb%20c/versions", "a.b": "/base/subjects/a%2Eb/versions",
	} {
		if _, err := c.Versions(t.Context(), subject); err != nil || path != want {
			t.Errorf("%q: path %s, want %s: %v", subject, path, want, err)
		}
	}
}

func TestClient_TLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(newTestHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if _, err := newTestClient(t, ClientConfig{URL: server.URL, TLS: &tls.Config{RootCAs: roots}}).Subjects(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := newTestClient(t, ClientConfig{URL: server.URL}).Subjects(t.Context()); err == nil {
		t.Error("an unknown certificate was accepted")
	}
}

func TestClient_TimesOut(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	url, _ := countingServer(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release) }) // before the server closes, which waits for it
	c := newTestClient(t, ClientConfig{URL: url, Timeout: 20 * time.Millisecond})
	if _, err := c.Subjects(t.Context()); !IsTemporary(err) {
		t.Errorf("timeout: %v is not temporary", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Subjects(ctx); !errors.Is(err, context.Canceled) || IsTemporary(err) {
		t.Errorf("canceled: %v must be neither hidden nor temporary", err)
	}
}

func TestClient_ClassifiesAnswers(t *testing.T) {
	t.Parallel()
	cases := []struct {
		status                                          int
		body                                            string
		notFound, incompatible, unauthorized, temporary bool
	}{
		{404, `{"error_code":40401,"message":"x"}`, true, false, false, false},
		{404, `{"error_code":40402,"message":"x"}`, true, false, false, false},
		{404, `{"error_code":40403,"message":"x"}`, true, false, false, false},
		{404, `{"error_code":404,"message":"x"}`, false, false, false, false},
		{404, `<html>`, false, false, false, false},
		{409, `{"error_code":409,"message":"x"}`, false, true, false, false},
		{409, `{"error_code":40901,"message":"x"}`, false, true, false, false},
		{401, `{"error_code":401,"message":"x"}`, false, false, true, false},
		{403, `{"error_code":40301,"message":"x"}`, false, false, true, false},
		{422, `{"error_code":42201,"message":"x"}`, false, false, false, false},
		{429, ``, false, false, false, true},
		{500, `{"error_code":50001,"message":"x"}`, false, false, false, true},
		{502, `<html>`, false, false, false, true},
		{200, `<html>`, false, false, false, false},
		{200, `{}`, false, false, false, false},
	}
	for _, c := range cases {
		url, _ := countingServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		}))
		_, err := newTestClient(t, ClientConfig{URL: url}).Register(t.Context(), "s", `"int"`)
		if err == nil {
			t.Errorf("%d %s: no error", c.status, c.body)
			continue
		}
		got := []bool{IsNotFound(err), IsIncompatible(err), IsUnauthorized(err), IsTemporary(err)}
		if diff := cmp.Diff([]bool{c.notFound, c.incompatible, c.unauthorized, c.temporary}, got); diff != "" {
			t.Errorf("%d %s: %v\n%s", c.status, c.body, err, diff)
		}
	}
}

func TestClient_DistrustIsNotTemporary(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(newTestHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that fail
	server.StartTLS()
	defer server.Close()
	plain := strings.Replace(server.URL, "https:", "http:", 1)
	for name, cfg := range map[string]ClientConfig{
		"unknown authority": {URL: server.URL},
		"no name of its":    {URL: strings.Replace(server.URL, "127.0.0.1", "localhost", 1), TLS: &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}},
	} {
		if _, err := newTestClient(t, cfg).Subjects(t.Context()); err == nil || IsTemporary(err) {
			t.Errorf("%s: %v, temporary %v", name, err, IsTemporary(err))
		}
	}
	trusted := ClientConfig{URL: server.URL, TLS: server.Client().Transport.(*http.Transport).TLSClientConfig}
	if _, err := newTestClient(t, trusted).Subjects(t.Context()); err != nil {
		t.Errorf("trusted: %v", err)
	}
	unencrypted := httptest.NewServer(newTestHandler())
	defer unencrypted.Close()
	if _, err := newTestClient(t, ClientConfig{URL: strings.Replace(unencrypted.URL, "http:", "https:", 1)}).Subjects(t.Context()); err == nil || IsTemporary(err) {
		t.Errorf("TLS to a server without: %v", err)
	}
	if _, err := newTestClient(t, ClientConfig{URL: plain}).Subjects(t.Context()); err == nil {
		t.Error("plain HTTP to a server with TLS was answered")
	}
}
