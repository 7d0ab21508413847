package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// command runs postrider with arguments and returns what it prints.
func command(t testing.TB, stdin string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(io.Discard)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func writeText(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newServerCertificate writes a certificate of the loopback that signs itself.
func newServerCertificate(t testing.TB, certPath, keyPath string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, certPath, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeText(t, keyPath, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// TestRegistry_LetsInWhomTheFileNames goes the way of the documentation: a password and a
// token from the commands, an access file, TLS, and a token for CI that can only check.
func TestRegistry_LetsInWhomTheFileNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	newServerCertificate(t, path("tls.crt"), path("tls.key"))
	user, err := command(t, "s3cret\n", "registry", "password", "alice")
	if err != nil {
		t.Fatal(err)
	}
	out, err := command(t, "", "registry", "token", "ci", "--json")
	var token struct{ Token, Line string }
	if err := json.Unmarshal([]byte(out), &token); err != nil {
		t.Fatal(err)
	}
	if err != nil || strings.Contains(token.Line, token.Token) {
		t.Fatal(out, err)
	}
	writeText(t, path("access.yaml"), fmt.Sprintf("users:\n  %stokens:\n  %s\nrights:\n"+
		"  - {who: [alice], subjects: [\"*\"], actions: [all]}\n  - {who: [ci], subjects: [\"*\"], actions: [read, check]}\n", user, token.Line))

	url, stop := startRegistryURL(t, "--access", path("access.yaml"), "--tls-cert", path("tls.crt"), "--tls-key", path("tls.key"), "--listen", "127.0.0.1:0")
	if !strings.HasPrefix(url, "https://") {
		t.Fatal(url)
	}
	roots := x509.NewCertPool()
	cert, err := os.ReadFile(path("tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(cert)
	newClient := func(cfg schemaregistry.ClientConfig) *schemaregistry.Client {
		cfg.URL, cfg.TLS = url, &tls.Config{RootCAs: roots}
		cfg.Timeout = time.Minute // bcrypt is slow on purpose, and slower under the race detector
		client, err := schemaregistry.NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		return client
	}
	alice := newClient(schemaregistry.ClientConfig{Username: "alice", Password: "s3cret"})
	ci := newClient(schemaregistry.ClientConfig{BearerToken: token.Token})
	const schema = `{"type":"record","name":"R","fields":[]}`
	if _, err := alice.Register(t.Context(), "orders", schema); err != nil {
		t.Error(err)
	}
	if answer, err := ci.CheckCompatibility(t.Context(), "orders", schema); err != nil || !answer.Compatible {
		t.Errorf("the CI's check: %+v, %v", answer, err)
	}
	if _, err := ci.Latest(t.Context(), "orders"); err != nil {
		t.Errorf("the CI's read: %v", err)
	}
	_, err = ci.Register(t.Context(), "orders", `{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":1}]}`)
	if !schemaregistry.IsUnauthorized(err) || !strings.Contains(err.Error(), "40301") {
		t.Errorf("the CI registers: %v", err)
	}
	if _, err := newClient(schemaregistry.ClientConfig{}).Subjects(t.Context()); !schemaregistry.IsUnauthorized(err) || !strings.Contains(err.Error(), "40101") {
		t.Errorf("nobody: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestRegistry_ReadsChangedRightsWithoutARestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "access.yaml")
	writeText(t, file, "rights: [{who: [anonymous], subjects: ['*'], actions: [read]}]")
	client, stop := startRegistry(t, "--access", file)
	register := func() error { _, err := client.Register(t.Context(), "s", `"int"`); return err }
	if err := register(); !schemaregistry.IsUnauthorized(err) {
		t.Fatal(err)
	}
	writeText(t, file, "rights: [{who: [anonymous], subjects: ['*'], actions: [all]}]")
	deadline, ticker := time.After(20*time.Second), time.NewTicker(50*time.Millisecond)
	defer ticker.Stop()
	for register() != nil {
		select {
		case <-deadline:
			t.Fatal("the changed file is not loaded")
		case <-ticker.C:
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestRegistry_AnswersProbesAndShowsMetrics(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "access.yaml")
	out, err := command(t, "", "registry", "token", "prometheus", "--json")
	var token struct{ Token, Line string }
	if err := json.Unmarshal([]byte(out), &token); err != nil {
		t.Fatal(err)
	}
	writeText(t, file, "tokens: {"+token.Line+"}\nrights: [{who: [prometheus], subjects: [none], actions: [read]}]")
	if err != nil {
		t.Fatal(err)
	}
	url, stop := startRegistryURL(t, "--access", file)
	get := func(path, token string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if status, _ := get(path, ""); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := get("/metrics", ""); status != 401 {
		t.Errorf("metrics for anybody: %d", status)
	}
	if status, body := get("/subjects", token.Token); status != 200 || strings.TrimSpace(body) != "[]" {
		t.Errorf("subjects: %d %s", status, body)
	}
	status, metrics := get("/metrics", token.Token)
	for _, want := range []string{`postrider_registry_refused_total{reason="unauthenticated"} 1`, `postrider_registry_reload_failed{what="access"} 0`, "postrider_registry_request_seconds"} {
		if status != 200 || !strings.Contains(metrics, want) {
			t.Errorf("metrics: %d, no %s in\n%s", status, want, metrics)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestRegistry_CutsOffClientsThatTellNothing(t *testing.T) {
	t.Parallel()
	url, stop := startRegistryURL(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n")); err != nil {
		t.Fatal(err)
	}
	// The header never ends; the server does not wait for it longer than for its timeout.
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection stays open: %v", err)
	}
	long, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	_, _ = fmt.Fprintf(long, "GET / HTTP/1.1\r\nHost: h\r\nX: %s\r\n\r\n", strings.Repeat("x", registryHeader+8<<10))
	answer := make([]byte, 12)
	if _, err := io.ReadFull(long, answer); err != nil || string(answer) != "HTTP/1.1 431" {
		t.Errorf("a long header: %q, %v", answer, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestRegistryPassword_PrintsLinesOfBothFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flag, want string }{{"--htpasswd=false", `alice: "$2a$12$`}, {"--htpasswd", "alice:$2a$12$"}} {
		out, err := command(t, "s3cret\n", "registry", "password", "alice", c.flag)
		if err != nil || !strings.HasPrefix(out, c.want) || strings.Contains(out, "s3cret") {
			t.Errorf("%s: %q, %v", c.flag, out, err)
		}
	}
	for _, password := range []string{"", strings.Repeat("x", 73)} {
		if out, err := command(t, password, "registry", "password", "alice"); err == nil {
			t.Errorf("a password of %d bytes: %q", len(password), out)
		}
	}
}
