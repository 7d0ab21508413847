// Command torture runs the harness of package torture; see `make torture`.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postrider/postrider/internal/torture"
)

var (
	// errBroken ends the program with status 1: an invariant does not stand.
	errBroken = errors.New("an invariant is broken")
	// errInterrupted ends it with status 130: what was checked until then stands.
	errInterrupted = errors.New("interrupted")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	switch {
	case errors.Is(err, errBroken):
		os.Exit(1)
	case errors.Is(err, errInterrupted):
		os.Exit(130)
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "torture: interrupted before there was anything to check")
		os.Exit(130)
	}
	fmt.Fprintln(os.Stderr, "torture: nothing was proved:", err)
	os.Exit(2)
}

func newCommand() *cobra.Command {
	var (
		cfg     torture.Config
		asJSON  bool
		verbose bool
		list    bool
		matrix  bool
	)
	cmd := &cobra.Command{
		Use:   "torture",
		Short: "Prove the relay's guarantees on real servers",
		Long: `Writes events to a Postgres while faults happen, reads what the relay publishes, and
says of each invariant whether it stood. Without --postgres-url and --kafka it starts servers
of its own, and can then crash those too. A fault is begun only where it can be expected to
end within --duration; starting the servers, settling and reading the topics come on top.

Ctrl-C ends the faults when the present one is over; what has happened by then is checked.

Exits 0 when every invariant stands, 1 when one is broken, 2 when nothing could be proved,
130 when it was interrupted and what it checked stands. make and go run have codes of their
own; for these build it: go build -o bin/torture ./internal/torture/cmd/torture`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				printFaults(cmd)
				return nil
			}
			cfg.Logger = slog.New(slog.DiscardHandler)
			if verbose {
				cfg.Logger = slog.New(tint.NewTextHandler(os.Stderr, &tint.Options{TimeFormat: time.TimeOnly}))
			}
			screen := &screen{out: os.Stderr, terminal: term.IsTerminal(int(os.Stderr.Fd()))}
			cfg.Progress = screen.show
			if cfg.Seed == 0 {
				cfg.Seed = uint64(time.Now().UnixNano()) % 1_000_000
			}
			fmt.Fprintf(os.Stderr, "seed %d\n", cfg.Seed)
			if matrix {
				return runMatrix(cmd, cfg, screen, asJSON)
			}
			report, err := torture.Run(cmd.Context(), cfg)
			screen.clear()
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(report); err != nil {
					return err
				}
			} else {
				report.Print(cmd.OutOrStdout())
				fmt.Fprintf(cmd.OutOrStdout(), "repeat with: make torture ARGS='%s'\n", repeat(report.Seed))
			}
			switch {
			case !report.OK():
				return errBroken
			case report.Interrupted:
				return errInterrupted
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.PostgresURL, "postgres-url", "", "a Postgres of your own, wal_level=logical, a role that may create databases and replicate")
	f.StringSliceVar(&cfg.Brokers, "kafka", nil, "a Kafka of your own: host:port, more by commas")
	f.IntVar(&cfg.Nodes, "nodes", 3, "nodes of the Kafka that is started")
	f.DurationVar(&cfg.Duration, "duration", time.Minute, "for how long faults are injected")
	f.Uint64Var(&cfg.Seed, "seed", 0, "draw the same faults as a run that printed this seed")
	f.StringSliceVar(&cfg.Faults, "faults", nil, "draw from these faults only (--list shows all)")
	f.StringSliceVar(&cfg.Script, "script", nil, "inject these faults in this order, and end")
	f.BoolVar(&matrix, "matrix", false, "run every fault by itself and print a line for each row of the fault matrix")
	f.IntVar(&cfg.Relays, "relays", 1, "relays that share the slot")
	f.StringVar(&cfg.Binary, "relay", "", "the relay to run; default: built from this checkout with failpoints")
	f.StringVar(&cfg.Bug, "bug", "", "give the relay a known bug, to see that it is found")
	f.IntVar(&cfg.Writers, "writers", 4, "connections that write")
	f.IntVar(&cfg.Rate, "rate", 200, "transactions a second")
	f.IntVar(&cfg.Keys, "keys", 64, "keys of the events")
	f.IntVar(&cfg.Large, "large", 2000, "events of an occasional large transaction")
	f.IntVar(&cfg.Huge, "huge", 50_000, "events of the fault huge-transaction")
	f.IntVar(&cfg.Backlog, "backlog", 20_000, "events of the fault backlog")
	f.DurationVar(&cfg.Patience, "patience", time.Minute, "how long a recovery may take")
	f.StringVar(&cfg.Dir, "dir", "", "where the relays' logs go")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	f.BoolVarP(&verbose, "verbose", "v", false, "log each fault")
	f.BoolVar(&list, "list", false, "list the faults and end")
	return cmd
}

// runMatrix prints each row as soon as it is known.
func runMatrix(cmd *cobra.Command, cfg torture.Config, screen *screen, asJSON bool) error {
	var rows []torture.Row
	err := torture.Matrix(cmd.Context(), cfg, func(row torture.Row) {
		screen.clear()
		rows = append(rows, row)
		if !asJSON {
			row.Print(cmd.OutOrStdout())
		}
	})
	if asJSON {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		err = errors.Join(err, encoder.Encode(rows))
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "repeat with: make torture ARGS='%s'\n", repeat(cfg.Seed))
	}
	for _, row := range rows {
		if row.Report != nil && !row.Report.OK() {
			return errBroken
		}
	}
	if cmd.Context().Err() != nil {
		fmt.Fprintf(os.Stderr, "interrupted after %d rows\n", len(rows))
		return errInterrupted
	}
	for _, row := range rows {
		if row.Error != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", row.Fault, row.Error))
		}
	}
	return err
}

func printFaults(cmd *cobra.Command) {
	for _, f := range torture.Faults {
		fmt.Fprintf(cmd.OutOrStdout(), "%2d  %-24s %s\n", f.Row, f.Name, f.What)
	}
}

// repeat returns the arguments of this run, with the seed.
func repeat(seed uint64) string {
	args := []string{fmt.Sprintf("--seed %d", seed)}
	for i := 1; i < len(os.Args); i++ {
		if name, _, _ := strings.Cut(os.Args[i], "="); name == "--seed" {
			if name == os.Args[i] {
				i++
			}
			continue
		}
		args = append(args, os.Args[i])
	}
	return strings.Join(args, " ")
}

// screen shows the progress in one line of a terminal, or now and then in a line of a log.
type screen struct {
	out      *os.File
	terminal bool
	shown    int
	phase    string
}

func (s *screen) show(p torture.Progress) {
	line := p.Phase
	if p.Phase == "" {
		line = p.Doing
		if p.Left > 0 {
			line = fmt.Sprintf("%s left  %s", p.Left.Round(time.Second), line)
		}
	}
	if p.Committed > 0 {
		line += fmt.Sprintf("  %d committed  %d delivered  %d faults", p.Committed, p.Delivered, p.Faults)
	}
	if p.Phase != s.phase {
		s.phase, s.shown = p.Phase, 0
	}
	s.shown++
	switch {
	case s.terminal:
		fmt.Fprintf(s.out, "\r%s\x1b[K", line)
	case s.shown%10 == 1:
		fmt.Fprintln(s.out, line)
	}
}

func (s *screen) clear() {
	if s.terminal {
		fmt.Fprint(s.out, "\r\x1b[K")
	}
}
