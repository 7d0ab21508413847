package access

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const readOnly = "rights: [{who: [anonymous], subjects: ['*'], actions: [read]}]"

func TestWatcher_LoadsWhatHasChangedAndSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "access.yaml")
		writeFile(t, path, readOnly)
		keeper, err := OpenKeeper(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		now := make(chan os.Signal)
		metrics := prometheus.NewRegistry()
		w := NewWatcher(WatcherConfig{Now: now, Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: metrics}, keeper)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { w.Run(ctx); close(ended) }()
		mayRegister := func() bool { return keeper.Policy().allows(Anonymous, Register, readName("s")) }
		// pass lets the watcher look n times.
		pass := func(n int) {
			timer := time.NewTimer(time.Duration(n)*DefaultWatchInterval + time.Millisecond)
			<-timer.C
			synctest.Wait()
		}

		pass(3)
		if got := metricValue(t, metrics, "postrider_registry_reloads_total", "ok"); got != 0 {
			t.Errorf("loaded %v times what had not changed", got)
		}
		writeFile(t, path, strings.Replace(readOnly, "[read]", "[all]", 1))
		pass(1)
		if mayRegister() {
			t.Error("loaded before it had settled")
		}
		pass(1)
		if !mayRegister() {
			t.Error("not loaded")
		}

		writeFile(t, path, "rights: [")
		pass(5)
		if !mayRegister() || metricValue(t, metrics, "postrider_registry_reload_failed", "access") != 1 {
			t.Error("a bad file must leave the old rights, and be seen in the metrics")
		}
		if got := strings.Count(log.String(), "level=ERROR"); got != 1 {
			t.Errorf("%d lines of error, want one:\n%s", got, log.String())
		}

		writeFile(t, path, readOnly)
		now <- os.Interrupt
		synctest.Wait()
		if mayRegister() || metricValue(t, metrics, "postrider_registry_reload_failed", "access") != 0 {
			t.Error("not loaded when told to")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		pass(3)
		if keeper.Policy() == nil || metricValue(t, metrics, "postrider_registry_reload_failed", "access") != 1 {
			t.Error("a file that is gone must leave the old rights")
		}
		cancel()
		<-ended
	})
}

// metricValue returns the counter or gauge that has a value among its labels.
func metricValue(t testing.TB, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			for _, l := range m.Label {
				if family.GetName() == name && l.GetValue() == label {
					return m.Counter.GetValue() + m.Gauge.GetValue()
				}
			}
		}
	}
	t.Fatalf("no metric %s with %s", name, label)
	return 0
}

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: name}}
	a.pem, a.key = a.sign(t, template)
	block, _ := pem.Decode(a.pem)
	var err error
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return a
}

// sign makes a certificate of a template; the authority itself signs its own.
func (a *authority) sign(t testing.TB, template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// write signs a certificate for the loopback and writes it with its key.
func (a *authority) write(t testing.TB, name, certPath, keyPath string) {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{"example.com"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, certPath, string(cert))
	writeFile(t, keyPath, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func TestCertificates_ServeWhatWasLoadedLast(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := CertificateFiles{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), ClientCA: filepath.Join(dir, "ca.crt")}
	servers, clients := newAuthority(t, "servers"), newAuthority(t, "clients")
	servers.write(t, "first", files.Cert, files.Key)
	writeFile(t, files.ClientCA, string(clients.pem))
	certificates, err := OpenCertificates(files, nil)
	if err != nil {
		t.Fatal(err)
	}

	f := newFixture(t, nil)
	server := httptest.NewUnstartedServer(f)
	server.TLS = certificates.TLS()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(servers.cert)
	clients.write(t, "reader", filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	// get asks on a connection of its own and returns the status and the server's name.
	get := func(path string, config *tls.Config) (int, string, error) {
		config.RootCAs, config.ServerName = roots, "example.com"
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get(server.URL + path)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.TLS.PeerCertificates[0].Subject.CommonName, nil
	}
	for path, want := range map[string]int{"/subjects/open.a/versions": 200, "/subjects/secret.b/versions": 403} {
		if status, name, err := get(path, &tls.Config{Certificates: []tls.Certificate{pair}}); status != want || name != "first" {
			t.Errorf("%s: %d from %s, %v", path, status, name, err)
		}
	}
	if _, _, err := get("/subjects", &tls.Config{}); err == nil {
		t.Error("a client without a certificate is served")
	}
	if _, _, err := get("/subjects", &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is served")
	}

	servers.write(t, "second", files.Cert, files.Key)
	if err := certificates.Load(); err != nil {
		t.Fatal(err)
	}
	if _, name, err := get("/subjects", &tls.Config{Certificates: []tls.Certificate{pair}}); name != "second" {
		t.Errorf("served %q after the change: %v", name, err)
	}

	writeFile(t, files.Key, "no key")
	if err := certificates.Load(); err == nil || !strings.Contains(err.Error(), files.Key) {
		t.Errorf("a bad key: %v", err)
	}
	if _, name, err := get("/subjects", &tls.Config{Certificates: []tls.Certificate{pair}}); name != "second" {
		t.Errorf("served %q after a bad change: %v", name, err)
	}
	for _, text := range []string{"", "junk", string(clients.pem) + "-----BEGIN X-----\n-----END X-----\n"} {
		if _, err := readAuthorities([]byte(text)); err == nil {
			t.Errorf("authorities of %.20q are taken", text)
		}
	}
}
