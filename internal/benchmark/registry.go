package benchmark

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/postrider/postrider/relay"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// serveRegistry serves a registry that forgets everything, on a loopback port.
func serveRegistry(c *cleanup) (relay.RegistryConfig, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return relay.RegistryConfig{}, fmt.Errorf("registry: %w", err)
	}
	server := &http.Server{
		Handler:           schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{}),
		ReadHeaderTimeout: 5 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	c.add("registry at "+listener.Addr().String(), func(context.Context) error {
		err := server.Close()
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	})
	return relay.RegistryConfig{URL: relay.SecretURL("http://" + listener.Addr().String())}, nil
}

// registerSchema registers the schema of the events for subject.
func registerSchema(ctx context.Context, c *cleanup, cfg relay.RegistryConfig, subject string) error {
	client, err := cfg.Client()
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	c.add("subject "+subject, func(ctx context.Context) error {
		defer client.Close()
		for _, permanent := range []bool{false, true} {
			if err := client.DeleteSubject(ctx, subject, permanent); err != nil && !schemaregistry.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
	_, err = client.Register(ctx, subject, OrderSchema)
	switch {
	case err == nil:
		return nil
	case schemaregistry.IsTemporary(err):
		return &UnreachableError{Server: "registry", Err: err}
	case schemaregistry.IsUnauthorized(err):
		return &RefusedError{Missing: []string{fmt.Sprintf("registry: %v; check registry.auth, which must allow to register and to delete %s", err, subject)}}
	}
	return fmt.Errorf("registry: %w", err)
}
