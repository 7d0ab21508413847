package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// registryDrain is how long requests under way may take after SIGTERM.
const registryDrain = 8 * time.Second

func newRegistryCommand() *cobra.Command {
	var listen, store, logLevel, logFormat string
	cmd := &cobra.Command{
		Use:   "registry",
		Short: "Run the schema registry",
		Long: `Serves schemas by the HTTP API of Confluent's schema registry, so that the usual clients
work with it. The store is "memory", which forgets everything on exit, or the URL of a
Postgres database; several registries may share one. The URL can be given by the
environment variable POSTRIDER_REGISTRY_STORE too, which keeps its password off the
command line.

It asks nobody who they are: listen beyond the loopback only where a network policy or a
proxy in front decides who may change schemas.`,
		Example: `  postrider registry
  postrider registry --listen 127.0.0.1:8081 --store postgres://registry@127.0.0.1:5432/registry
  curl -s http://127.0.0.1:8081/subjects`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(logLevel, logFormat)
			if err != nil {
				return usageError(err)
			}
			if store == "" {
				store = os.Getenv("POSTRIDER_REGISTRY_STORE")
			}
			if store == "" {
				store = "memory"
			}
			backend, closeStore, err := openRegistryStore(cmd.Context(), store)
			if err != nil {
				return err
			}
			defer closeStore()
			listener, err := listenTCP(listen)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "schema registry listens on http://%s\n", listener.Addr())
			if store == "memory" {
				logger.Warn("the store is memory: every schema is forgotten on exit; use --store postgres://… to keep them")
			}
			if addr, ok := listener.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
				logger.Warn("whoever reaches this address can change schemas", "listen", addr.String())
			}
			handler := schemaregistry.NewHandler(schemaregistry.New(backend), schemaregistry.HandlerConfig{Logger: logger})
			return serveHTTP(cmd.Context(), listener, handler, logger)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:8081", "address to listen on; port 0 takes a free one")
	f.StringVar(&store, "store", "", "memory, or the URL of a Postgres database (default $POSTRIDER_REGISTRY_STORE, or else memory)")
	addLogFlags(cmd, &logLevel, &logFormat, "info")
	return cmd
}

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

// serveHTTP serves until ctx ends, then lets requests under way finish.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		logger.Info("stopping, requests under way may finish", "within", registryDrain.String())
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), registryDrain)
		defer cancel()
		drained <- server.Shutdown(drain)
	})
	err := server.Serve(listener)
	if stop() { // ctx goes on: the listener failed
		return err
	}
	if err := <-drained; err != nil {
		_ = server.Close()
		logger.Warn("requests did not finish in time and were cut off")
	}
	return nil
}
