package access

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
)

// CertificateFiles are the files of a server's TLS, in PEM.
type CertificateFiles struct {
	Cert string // the server's certificate and those between it and its authority
	Key  string
	// ClientCA has the authorities whose certificates clients must show. "" asks for none.
	ClientCA string
}

// Certificates is a server's side of TLS whose files can be loaded again. Its methods may be
// called from several goroutines.
type Certificates struct {
	paths  CertificateFiles
	log    *slog.Logger
	config atomic.Pointer[tls.Config]

	mu    sync.Mutex
	files fileSet
}

// OpenCertificates reads the files. logger may be nil.
func OpenCertificates(paths CertificateFiles, logger *slog.Logger) (*Certificates, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c := &Certificates{paths: paths, log: logger}
	return c, c.Load()
}

// TLS returns a configuration that uses for each connection what was loaded last.
func (c *Certificates) TLS() *tls.Config {
	config := c.config.Load().Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.config.Load(), nil }
	return config
}

// Load reads the files again. If that fails, what was loaded goes on to be used.
func (c *Certificates) Load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = fileSet{}
	config, err := c.read()
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	c.config.Store(config)
	c.log.Info("certificate loaded", "path", c.paths.Cert,
		"subject", config.Certificates[0].Leaf.Subject.String(), "not_after", config.Certificates[0].Leaf.NotAfter)
	return nil
}

func (c *Certificates) read() (*tls.Config, error) {
	cert, certErr := c.files.read(c.paths.Cert)
	key, keyErr := c.files.read(c.paths.Key)
	var authorities []byte
	var authoritiesErr error
	if c.paths.ClientCA != "" {
		authorities, authoritiesErr = c.files.read(c.paths.ClientCA)
	}
	if err := errors.Join(certErr, keyErr, authoritiesErr); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", c.paths.Cert, c.paths.Key, err)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if c.paths.ClientCA != "" {
		config.ClientCAs, err = readAuthorities(authorities)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.paths.ClientCA, err)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// readAuthorities is strict where x509's own reading skips what it does not understand.
func readAuthorities(text []byte) (*x509.CertPool, error) {
	pool, found := x509.NewCertPool(), false
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a block %q is no certificate", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
		found = true
	}
	if !found {
		return nil, errors.New("no certificate in PEM")
	}
	return pool, nil
}

func (c *Certificates) name() string { return "tls" }

func (c *Certificates) changed() (digest [digestSize]byte, differs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files.changed()
}
