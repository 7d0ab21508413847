package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
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

func openRegistryStore(ctx context.Context, url string) (schemaregistry.Store, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	store, err := schemaregistry.OpenStore(ctx, url)
	var malformed *pgconn.ParseConfigError
	var answer *pgconn.PgError
	switch {
	case err == nil:
		return store, nil
	case errors.Is(err, schemaregistry.ErrStoreURL):
		return nil, usageError(errors.New("--store is neither memory, nor a file like file:registry.db, nor a URL like postgres://user@host:5432/database"))
	case errors.As(err, &malformed):
		return nil, usageError(err)
	case strings.HasPrefix(url, "file:") && errors.Is(err, fs.ErrNotExist):
		return nil, unreachable(fmt.Errorf("%w (make the directory first)", err))
	case strings.HasPrefix(url, "file:"):
		return nil, unreachable(fmt.Errorf("%w (may this user write there, and does no other registry use it?)", err))
	case errors.As(err, &answer) && answer.Code == "42501": // insufficient_privilege
		return nil, fmt.Errorf("%w (let a DBA run: CREATE SCHEMA postrider_registry AUTHORIZATION the_role)", err)
	}
	return nil, postgresTrouble(err)
}

// registryGarbage lets the heap grow to one and a half times what lives in it. That is all
// schemas, which stay, and little garbage is made: collecting twice as often as by default
// costs some per cent of the CPU and saves a third of the memory.
const registryGarbage = 50

// loadRegistry reads all that a store has, before anybody asks for it. GOGC in the
// environment wins.
func loadRegistry(ctx context.Context, store schemaregistry.Store) (*schemaregistry.Registry, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(registryGarbage)
	}
	registry := schemaregistry.New(store)
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := registry.Load(ctx); err != nil {
		return nil, unreachable(err)
	}
	debug.FreeOSMemory() // what reading needed is not needed again
	return registry, nil
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
