// Command postrider carries events from Postgres to Kafka: the relay, the schema
// registry, and the tools around the outbox table, one file per subcommand.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, the same for every subcommand.
const (
	exitNo          = 1 // the command ran and the answer is no
	exitUsage       = 2 // wrong flags, arguments or configuration
	exitUnreachable = 3 // something needed could not be reached
)

// exitError carries the exit code of a failed command up to main.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError marks err as the caller's mistake (exit 2).
func usageError(err error) error { return &exitError{exitUsage, err} }

// unreachable marks err as a server that did not answer (exit 3).
func unreachable(err error) error { return &exitError{exitUnreachable, err} }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "postrider",
		Version: buildVersion(),
		Short:   "Events from Postgres to Kafka: transactional, in order, as Avro",
		Long: `postrider carries events from Postgres to Kafka. Services write business rows
and events in one transaction; the relay reads them from logical replication and
publishes them as Avro, in commit order per key; a small schema registry keeps
the schemas compatible.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newOutboxCommand(),
		newRegistryCommand(),
		newDemoCommand(),
		newInitCommand(),
		newRelayCommand(),
		newReplayCommand(),
		newDoctorCommand(),
		newRepairCommand(),
		newSchemaCommand(),
		newStatusCommand(),
		newVersionCommand(),
		newBenchCommand(),
	)
	addUsage(root)
	return root
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// A second signal ends the process at once: whoever sends it does not want to wait.
	context.AfterFunc(ctx, stop)
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "postrider:", err)
	code := exitNo
	var coded *exitError
	if errors.As(err, &coded) {
		code = coded.code
	}
	os.Exit(code)
}
