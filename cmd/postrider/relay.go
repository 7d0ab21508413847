package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postrider/postrider/relay"
)

func newRelayCommand() *cobra.Command {
	var (
		config configFlags
		check  bool
	)
	cmd := &cobra.Command{
		Use:   "relay -c FILE",
		Short: "Publish the outbox to Kafka: the daemon",
		Long: `Reads the outbox table by logical replication and publishes its events to Kafka,
in commit order per key. It makes its publication and its replication slot,
publishes the rows that were there before, and then streams until it is told to
stop (SIGTERM, Ctrl-C).

Every key of the file can be given by the environment (POSTRIDER_KAFKA_BROKERS
for kafka.brokers) and by --set kafka.brokers=host:9092, which wins. ${NAME} in
a value is replaced from the environment, a value file:PATH by the file's
content.`,
		Example: `  postrider relay -c postrider.yaml
  postrider relay -c postrider.yaml --check-config
  curl -s http://127.0.0.1:8080/status`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.load()
			if check {
				if text, yamlErr := cfg.YAML(); yamlErr == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s", text)
				}
			}
			if err != nil {
				return err
			}
			if check {
				warnOfVariables(cmd.ErrOrStderr())
				fmt.Fprintln(cmd.ErrOrStderr(), "configuration is valid")
				return nil
			}
			logger, err := config.logger()
			if err != nil {
				return usageError(err)
			}
			for _, warning := range unknownVariables(os.Environ()) {
				logger.Warn(warning)
			}
			r, err := relay.New(cfg, relay.Options{Logger: logger})
			if err != nil {
				return usageError(err)
			}
			limitMemory(cfg, r)
			logger.Info("postrider relay", "version", buildVersion(), "name", cfg.Name)
			if err := r.Run(cmd.Context()); err != nil {
				return unreachable(err) // it could not listen
			}
			return nil
		},
	}
	config.add(cmd, "info")
	cmd.Flags().BoolVar(&check, "check-config", false, "print the effective configuration, secrets masked, and every problem; then exit")
	return cmd
}

// parkedInterval is how often it is asked how much is parked.
const parkedInterval = 5 * time.Second

// garbagePercent lets the heap grow to three times what lives in it, which is little: nearly
// all garbage is the requests to Kafka, and collecting it half as often as by default costs
// 12 MB and saves 3 % of the CPU.
const garbagePercent = 200

// limitMemory makes the garbage collector work harder before the heap grows beyond what the
// relay needs: about four times what may be in flight, and what it has anyway. GOGC and
// GOMEMLIMIT in the environment win.
func limitMemory(cfg relay.Config, r *relay.Relay) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	inFlight := cfg.Kafka.MaxInFlightBytes
	if inFlight == 0 {
		inFlight = relay.DefaultMaxInFlightBytes
	}
	limit := int64(4*inFlight) + 18<<20
	debug.SetMemoryLimit(limit)
	if cfg.OnPoison != "halt-key" {
		return
	}
	go func() { // until the process ends: what is parked needs room of its own
		for range time.Tick(parkedInterval) {
			if parked := r.Status().Parked; parked != nil {
				debug.SetMemoryLimit(limit + min(2*(int64(parked.Events)*32+int64(parked.Keys)*256), relay.MaxParkedBytes))
			}
		}
	}()
}

// configProblems lists the joined problems of a configuration, one a line.
func configProblems(err error) error {
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		return err
	}
	return errors.New("the configuration has problems:\n  " + strings.Join(lines, "\n  "))
}

func addLogFlags(cmd *cobra.Command, level, format *string, defaultLevel string) {
	cmd.Flags().StringVar(level, "log-level", defaultLevel, "debug, info, warn or error")
	cmd.Flags().StringVar(format, "log-format", "auto", "text, json or auto: text on a terminal")
	for flag, values := range map[string][]string{"log-level": {"debug", "info", "warn", "error"}, "log-format": {"auto", "text", "json"}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// newLogger logs to standard error.
func newLogger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is not one of debug, info, warn, error", level)
	}
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	switch {
	case format == "json", format == "auto" && !terminal:
		return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
	case format == "text", format == "auto":
		return slog.New(tint.NewTextHandler(os.Stderr, &tint.Options{Level: l, TimeFormat: time.TimeOnly, NoColor: !terminal})), nil
	}
	return nil, fmt.Errorf("--log-format: %q is not one of auto, text, json", format)
}
