package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// registryClientConfig reads how to reach a registry from the environment, where the names
// of all variables begin with prefix. They are those that the relay takes too.
func registryClientConfig(url, prefix string) (schemaregistry.ClientConfig, error) {
	cfg := schemaregistry.ClientConfig{
		URL:         url,
		Username:    os.Getenv(prefix + "_AUTH_USERNAME"),
		Password:    os.Getenv(prefix + "_AUTH_PASSWORD"),
		BearerToken: os.Getenv(prefix + "_AUTH_TOKEN"),
	}
	ca, cert, key := os.Getenv(prefix+"_TLS_CA_FILE"), os.Getenv(prefix+"_TLS_CERT_FILE"), os.Getenv(prefix+"_TLS_KEY_FILE")
	if ca == "" && cert == "" && key == "" {
		return cfg, nil
	}
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return cfg, fmt.Errorf("%s_TLS_CA_FILE: %w", prefix, err)
		}
		cfg.TLS.RootCAs = x509.NewCertPool()
		if !cfg.TLS.RootCAs.AppendCertsFromPEM(text) {
			return cfg, fmt.Errorf("%s_TLS_CA_FILE: %s has no certificate in PEM", prefix, ca)
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return cfg, fmt.Errorf("%s_TLS_CERT_FILE and _TLS_KEY_FILE: %w", prefix, err)
		}
		cfg.TLS.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// newRegistryClient connects to a registry that must be given by a flag or the environment.
func newRegistryClient(url, flag, prefix string) (*schemaregistry.Client, error) {
	if url == "" {
		url = os.Getenv(prefix + "_URL")
	}
	if url == "" {
		return nil, usageError(fmt.Errorf("no registry given: use --%s http://127.0.0.1:8081 or set %s_URL", flag, prefix))
	}
	cfg, err := registryClientConfig(url, prefix)
	if err != nil {
		return nil, usageError(err)
	}
	client, err := schemaregistry.NewClient(cfg)
	if err != nil {
		return nil, usageError(err)
	}
	return client, nil
}

// transferTrouble gives an error of a registry its exit code and says what to look at.
func transferTrouble(err error, prefix string) error {
	var answer *schemaregistry.Error
	switch {
	case schemaregistry.IsUnauthorized(err):
		return unreachable(fmt.Errorf("%w (check %s_AUTH_USERNAME and _PASSWORD, or _TOKEN: it takes somebody who may do everything)", err, prefix))
	case errors.As(err, &answer) && !schemaregistry.IsTemporary(err):
		return err // the registry said no
	}
	return unreachable(fmt.Errorf("%w (%s)", err, registryHint(err)))
}
