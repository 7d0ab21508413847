package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postrider/postrider/relay"
)

func newRepairCommand() *cobra.Command {
	var (
		config configFlags
		yes    bool
		dryRun bool
		all    bool
		asJSON bool
		since  string
	)
	cmd := &cobra.Command{
		Use:   "repair -c FILE",
		Short: "Replace a lost slot and publish what Kafka misses of the kept rows",
		Long: `The remedy for a relay that halts with SLOT_MISSING, SLOT_LOST, SLOT_AHEAD,
PUBLICATION_MISSING, PUBLICATION_DRIFT or SYSTEM_CHANGED. It compares the rows
that the outbox table still has with the topics, shows what it found and asks.
Then it makes a new slot and publishes the missing rows, each with the header
postrider-repair. A relay that stands in the halt goes on by itself when the
repair is done.

What is missing is published behind what Kafka has. Consumers that have seen a
later event of the same key get the missing one late: the plan says how many
keys that concerns. Rows that retention has removed from the table cannot be
brought back. Records that have aged out of their topic look like missing ones:
--since leaves older rows alone.

Exits 0 when it is done, 1 when it was not confirmed or something must be mended
first, 2 on wrong usage, 3 when a server cannot be reached.`,
		Example: `  postrider repair -c postrider.yaml --dry-run
  postrider repair -c postrider.yaml
  postrider repair -c postrider.yaml --yes --json`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.load()
			if err != nil {
				return err
			}
			warnOfVariables(cmd.ErrOrStderr())
			in, terminal := cmd.InOrStdin(), term.IsTerminal(int(os.Stdin.Fd()))
			if !yes && !dryRun && !terminal {
				return usageError(errors.New("standard input is no terminal to ask on: give --yes to repair, or --dry-run to see the plan"))
			}
			var from time.Time
			if since != "" {
				if from, err = time.Parse(time.RFC3339, since); err != nil {
					return usageError(fmt.Errorf("--since: %q is not a time such as 2026-11-21T09:00:00Z", since))
				}
			}
			logger, err := config.logger()
			if err != nil {
				return usageError(err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				out = io.Discard
			}
			bar := newWorkBar(cmd.ErrOrStderr())
			result, err := relay.Repair(cmd.Context(), cfg, relay.RepairOptions{
				Logger: logger, All: all, Since: from, Progress: bar.show,
				Confirm: func(plan relay.RepairPlan) (bool, error) {
					bar.end()
					printPlan(out, plan)
					if dryRun {
						return false, nil
					}
					return yes || ask(in, cmd.ErrOrStderr(), "Repair now?"), nil
				},
			})
			bar.end()
			if err != nil {
				return repairError(err)
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				if err := enc.Encode(result); err != nil {
					return err
				}
			}
			switch {
			case result.Repaired:
				fmt.Fprintf(out, "done: %d published, %d dead-lettered; slot %s begins at %s\n",
					result.Published, result.DeadLettered, result.Slot, result.LSN)
				if !result.Remembered {
					fmt.Fprintln(out, "there is no topic yet to write the new place to: restart a relay that stands in the halt")
				}
			case dryRun:
				fmt.Fprintln(out, "nothing was changed (--dry-run)")
			default:
				return &exitError{exitNo, errors.New("nothing was changed")}
			}
			return nil
		},
	}
	config.add(cmd, "warn")
	f := cmd.Flags()
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.BoolVar(&dryRun, "dry-run", false, "show the plan and change nothing")
	f.StringVar(&since, "since", "", "leave out rows created before, such as 2026-11-21T09:00:00Z")
	f.BoolVar(&all, "all", false, "publish every kept row again, without a comparison with Kafka")
	f.BoolVar(&asJSON, "json", false, "print plan and result as JSON")
	return cmd
}

// repairError says what to do about err.
func repairError(err error) error {
	switch {
	case errors.Is(err, relay.ErrRelayActive):
		return fmt.Errorf("%w: nothing is to be repaired, or stop it first", err)
	case errors.Is(err, relay.ErrNoIDs):
		return usageError(fmt.Errorf("%w; --all publishes every kept row again", err))
	}
	var halt *relay.HaltError
	if errors.As(err, &halt) {
		return fmt.Errorf("mend this first, then run the repair again: %w", err)
	}
	return unreachable(fmt.Errorf("%w (%s)", err, askDoctor))
}

func printPlan(w io.Writer, p relay.RepairPlan) {
	why := "no halt asks for it"
	if p.Reason != "" {
		why = fmt.Sprintf("%s: %s", p.Reason, p.Detail)
	}
	fmt.Fprintf(w, "why        %s\n", why)
	slot := "is made"
	if p.Replaces {
		slot = "is dropped and made anew"
	}
	fmt.Fprintf(w, "slot       %s %s\n", p.Slot, slot)
	fmt.Fprintf(w, "kept rows  %d\n", p.Kept)
	if p.Older > 0 {
		fmt.Fprintf(w, "left out   %d, from before --since\n", p.Older)
	}
	if p.Compared {
		fmt.Fprintf(w, "in Kafka   %d\n", p.InKafka)
	} else {
		fmt.Fprintf(w, "in Kafka   not compared (--all)\n")
	}
	missing := fmt.Sprintf("%d", p.Missing)
	if p.Oldest != nil {
		missing += fmt.Sprintf(", from %s to %s", p.Oldest.UTC().Format(time.DateTime), p.Newest.UTC().Format(time.DateTime)+" UTC")
	}
	what := "missing   "
	if !p.Compared {
		what = "to publish"
	}
	fmt.Fprintf(w, "%s %s\n", what, missing)
	if len(p.Topics) > 0 {
		fmt.Fprintf(w, "topics     %s\n", strings.Join(p.Topics, ", "))
	}
	if p.LateKeys > 0 {
		fmt.Fprintf(w, "late keys  %d have later events in Kafka already: %s\n", p.LateKeys, strings.Join(p.LateExamples, ", "))
	}
}

// ask puts a question that is answered with y or n; anything but yes is no.
func ask(in io.Reader, out io.Writer, question string) bool {
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// workBar shows the steps of a long work on a terminal.
type workBar struct {
	w    io.Writer
	step string
	bar  *progressbar.ProgressBar
}

// newWorkBar returns a bar that shows nothing where standard error is no terminal.
func newWorkBar(w io.Writer) *workBar {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		w = nil
	}
	return &workBar{w: w}
}

// show tells how much of a step is done; a total of 0 is not known.
func (b *workBar) show(step string, done, total int) {
	if b.w == nil {
		return
	}
	if step != b.step {
		b.end()
		b.step = step
		b.bar = progressbar.NewOptions(-1, progressbar.OptionSetWriter(b.w), progressbar.OptionSetElapsedTime(false),
			progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	if total > 0 {
		step += fmt.Sprintf(" %d of %d", done, total)
	} else {
		step += fmt.Sprintf(" %d", done)
	}
	b.bar.Describe(step)
	_ = b.bar.Add(0)
}

// end removes the bar.
func (b *workBar) end() {
	if b.bar != nil {
		_ = b.bar.Finish() // or it goes on turning, over what is written next
		b.bar, b.step = nil, ""
	}
}
