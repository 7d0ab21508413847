package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/access"
)

func newRegistryCommand() *cobra.Command {
	var server registryServer
	cmd := &cobra.Command{
		Use:   "registry",
		Short: "Run the schema registry, secure it, move it",
		Long: `Serves schemas by the HTTP API of Confluent's schema registry, so that the
usual clients work with it.

The store is "memory", which forgets everything on exit, a file for one
registry by itself, or the URL of a Postgres database, which several may share.
POSTRIDER_REGISTRY_STORE gives it too, which keeps its password off the command
line.

On the loopback it asks nobody who they are. Beyond it, say who may do what in
an access file, such as

  users:
    alice: "$2a$12$…"           # postrider registry password alice
  tokens:
    ci: sha256:…                # postrider registry token ci
  rights:
    - {who: [alice], subjects: ["*"], actions: [all]}
    - {who: [ci], subjects: ["order.*"], actions: [read, check]}

Actions are read, register, check, config and delete. The name "anonymous"
stands for those who give no credentials, "cert:NAME" for a client's
certificate. Access file and certificates are read again when they change and
on SIGHUP; while a new one is bad, the old one holds.`,
		Example: `  postrider registry
  postrider registry --store file:registry.db
  postrider registry --store postgres://registry@127.0.0.1:5432/registry
  postrider registry --listen :8081 --access access.yaml \
      --tls-cert tls.crt --tls-key tls.key
  curl -s http://127.0.0.1:8081/subjects`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return server.run(cmd)
		},
	}
	server.addFlags(cmd)
	cmd.AddCommand(newRegistryExportCommand(), newRegistryImportCommand(), newRegistryPasswordCommand(), newRegistryTokenCommand())
	return cmd
}

// registryServer is what the flags say of the server.
type registryServer struct {
	listen, store       string
	accessFile          string
	tls                 access.CertificateFiles
	insecure            bool
	rateLimit           float64
	incompatibleCode    int
	keepRuleSets        bool
	maxBody             int64
	logLevel, logFormat string
}

func (s *registryServer) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.listen, "listen", "127.0.0.1:8081", "`ADDRESS` to listen on; port 0 takes a free one\n")
	f.StringVar(&s.store, "store", "", "memory, file:PATH, or the `URL` of a Postgres\ndatabase (default $POSTRIDER_REGISTRY_STORE,\nor else memory)")
	f.StringVar(&s.accessFile, "access", "", "`FILE` that says who may do what")
	f.StringVar(&s.tls.Cert, "tls-cert", "", "`FILE` of the server's certificate, PEM; serves https")
	f.StringVar(&s.tls.Key, "tls-key", "", "`FILE` of its key, PEM")
	f.StringVar(&s.tls.ClientCA, "client-ca", "", "`FILE` of authorities whose certificates clients\nmust show")
	f.BoolVar(&s.insecure, "insecure", false, `listen beyond the loopback though whoever
reaches the address can change schemas`)
	f.Float64Var(&s.rateLimit, "rate-limit", 0, "requests per second of one client, 0 for no limit")
	f.Int64Var(&s.maxBody, "max-body", access.DefaultMaxBody, "longest body of a request in `BYTES`\n")
	f.IntVar(&s.incompatibleCode, "conflict-code", schemaregistry.CodeIncompatible, `error code of an incompatible schema: 409, or
40901 as newer servers say`)
	f.BoolVar(&s.keepRuleSets, "keep-rule-sets", false, `keep rules that come with schemas; they are
left out otherwise, and never executed`)
	addLogFlags(cmd, &s.logLevel, &s.logFormat, "info")
	_ = cmd.RegisterFlagCompletionFunc("store", cobra.FixedCompletions([]string{"memory", "file:", "postgres://"}, cobra.ShellCompDirectiveNoSpace))
	_ = cmd.RegisterFlagCompletionFunc("conflict-code", cobra.FixedCompletions([]string{"409", "40901"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("listen", cobra.FixedCompletions([]string{"127.0.0.1:8081", ":8081"}, cobra.ShellCompDirectiveNoFileComp))
}

// validate names every flag that does not fit.
func (s *registryServer) validate() error {
	var problems []error
	if (s.tls.Cert == "") != (s.tls.Key == "") {
		problems = append(problems, errors.New("--tls-cert and --tls-key go together"))
	}
	if s.tls.ClientCA != "" && s.tls.Cert == "" {
		problems = append(problems, errors.New("--client-ca needs --tls-cert and --tls-key"))
	}
	if s.incompatibleCode != schemaregistry.CodeIncompatible && s.incompatibleCode != schemaregistry.CodeIncompatibleSchema {
		problems = append(problems, fmt.Errorf("--conflict-code: %d is neither 409 nor 40901", s.incompatibleCode))
	}
	if s.rateLimit < 0 {
		problems = append(problems, fmt.Errorf("--rate-limit: %v is negative", s.rateLimit))
	}
	if s.maxBody <= 0 {
		problems = append(problems, fmt.Errorf("--max-body: %d is not above 0", s.maxBody))
	}
	return errors.Join(problems...)
}

func (s *registryServer) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	plain, err := newLogger(s.logLevel, s.logFormat)
	if err != nil {
		return usageError(err)
	}
	if err := s.validate(); err != nil {
		return usageError(err)
	}
	logger := slog.New(access.AuditHandler(plain.Handler()))
	for _, warning := range unknownVariables(os.Environ()) {
		logger.Warn(warning)
	}
	var watched []access.Source
	var keeper *access.Keeper
	if s.accessFile != "" {
		if keeper, err = access.OpenKeeper(s.accessFile, logger); err != nil {
			return usageError(err)
		}
		watched = append(watched, keeper)
	}
	var certificates *access.Certificates
	if s.tls.Cert != "" {
		if certificates, err = access.OpenCertificates(s.tls, logger); err != nil {
			return usageError(err)
		}
		watched = append(watched, certificates)
	}
	if s.store == "" {
		s.store = os.Getenv("POSTRIDER_REGISTRY_STORE")
	}
	if s.store == "" {
		s.store = "memory"
	}
	store, err := openRegistryStore(ctx, s.store)
	if err != nil {
		return err
	}
	defer store.Close()
	registry, err := loadRegistry(ctx, store)
	if err != nil {
		return err
	}
	listener, err := listenTCP(s.listen)
	if err != nil {
		return err
	}
	if err := s.checkExposure(listener.Addr(), logger); err != nil {
		_ = listener.Close()
		return err
	}

	metrics := prometheus.NewRegistry()
	stopWatching := watchFiles(ctx, access.WatcherConfig{Logger: logger, Metrics: metrics}, watched)
	defer stopWatching()
	scheme := "http"
	if certificates != nil {
		scheme = "https"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "schema registry listens on %s://%s\n", scheme, listener.Addr())
	if s.store == "memory" {
		logger.Warn("the store is memory: every schema is forgotten on exit; use --store file:registry.db or postgres://… to keep them")
	}
	handler := schemaregistry.NewHandler(registry, schemaregistry.HandlerConfig{
		Logger: logger, MaxBody: s.maxBody, Metrics: metrics, IncompatibleCode: s.incompatibleCode, KeepRuleSets: s.keepRuleSets,
	})
	guard := access.NewGuard(handler, access.GuardConfig{
		Keeper: keeper, Logger: logger, Metrics: metrics, RateLimit: s.rateLimit, MaxBody: s.maxBody,
	})
	return serveHTTP(ctx, listener, guard, certificates, logger)
}

// checkExposure refuses to let everybody in who can reach an address, unless told to.
func (s *registryServer) checkExposure(address net.Addr, logger *slog.Logger) error {
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		return nil
	}
	switch {
	case s.accessFile == "" && s.tls.ClientCA == "" && !s.insecure:
		return usageError(fmt.Errorf("--listen %s is beyond the loopback, and whoever reaches it could change schemas: "+
			"say who may with --access FILE (see postrider registry --help), or give --insecure where something else decides", s.listen))
	case s.accessFile == "" && s.tls.ClientCA == "":
		logger.Warn("whoever reaches this address can change schemas", "listen", address.String())
	case s.tls.Cert == "":
		logger.Warn("passwords and tokens travel in the clear: use --tls-cert and --tls-key, or a proxy that ends TLS", "listen", address.String())
	}
	return nil
}

// watchFiles loads sources again when their files change and on SIGHUP, until ctx ends or it
// is stopped. Where there is nothing to load, SIGHUP ends the process as ever.
func watchFiles(ctx context.Context, cfg access.WatcherConfig, sources []access.Source) (stop func()) {
	if len(sources) == 0 {
		return func() {}
	}
	hangup := make(chan os.Signal, 1)
	signal.Reset(syscall.SIGHUP) // main made it end the process
	signal.Notify(hangup, syscall.SIGHUP)
	cfg.Now = hangup
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	watcher := access.NewWatcher(cfg, sources...)
	go func() { // watches until the server has ended
		defer close(ended)
		watcher.Run(ctx)
	}()
	return func() {
		cancel()
		<-ended
		signal.Stop(hangup)
	}
}
