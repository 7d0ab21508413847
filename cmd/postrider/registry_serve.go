package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/access"
)

const (
	// registryDrain is how long requests under way may take after SIGTERM.
	registryDrain = 8 * time.Second
	// registryHeader bounds the header of a request in bytes; net/http adds 4 kB to it.
	registryHeader = 32 << 10
)

func openRegistryStore(ctx context.Context, store string) (schemaregistry.Store, func(), error) {
	switch {
	case store == "memory":
		return schemaregistry.NewMemoryStore(), func() {}, nil
	case strings.HasPrefix(store, "postgres://"), strings.HasPrefix(store, "postgresql://"):
	default:
		return nil, nil, usageError(errors.New("--store is neither memory nor a URL like postgres://user@host:5432/database"))
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	postgres, err := schemaregistry.OpenPostgres(ctx, store)
	var malformed *pgconn.ParseConfigError
	var answer *pgconn.PgError
	switch {
	case errors.As(err, &malformed):
		return nil, nil, usageError(err)
	case errors.As(err, &answer) && answer.Code == "42501": // insufficient_privilege
		return nil, nil, fmt.Errorf("%w (let a DBA run: CREATE SCHEMA postrider_registry AUTHORIZATION the_role)", err)
	case err != nil:
		return nil, nil, unreachable(fmt.Errorf("%w (is the server up, and do URL and password fit?)", err))
	}
	return postgres, postgres.Close, nil
}

func listenTCP(address string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, usageError(fmt.Errorf("--listen %s: %w; want host:port, such as 127.0.0.1:8081", address, err))
	}
	listener, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, unreachable(fmt.Errorf("%s is in use by another process: stop it, or choose another address with --listen", address))
	case err != nil:
		return nil, unreachable(fmt.Errorf("cannot listen on %s: %w", address, err))
	}
	return listener, nil
}

// serveHTTP serves until ctx ends, then lets requests under way finish. certificates may be
// nil for plain HTTP.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, certificates *access.Certificates, logger *slog.Logger) error {
	server := &http.Server{
		Handler: handler,
		// A client that sends a byte now and then holds a connection no longer than this.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    registryHeader,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		logger.Info("stopping, requests under way may finish", "within", registryDrain.String())
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), registryDrain)
		defer cancel()
		drained <- server.Shutdown(drain)
	})
	var err error
	if certificates == nil {
		err = server.Serve(listener)
	} else {
		server.TLSConfig = certificates.TLS()
		err = server.ServeTLS(listener, "", "")
	}
	if stop() { // ctx goes on: the listener failed
		return err
	}
	if err := <-drained; err != nil {
		_ = server.Close()
		logger.Warn("requests did not finish in time and were cut off")
	}
	return nil
}
