package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postrider/postrider/relay"
)

// replayCompletion bounds what the shell's completion of --key may take.
const replayCompletion = 3 * time.Second

type replayOptions struct {
	config  configFlags
	key     string
	topic   string
	giveUp  []string
	all     bool
	list    bool
	yes     bool
	asJSON  bool
	timeout time.Duration
}

func newReplayCommand() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay -c FILE (--key ID | --all | --list)",
		Short: "Release the events of a parked key, in order",
		Long: `With on_poison: halt-key, an event that cannot be published parks its key: it
and every later event of the same topic and key wait in the dead-letter topic
while others flow on. Mend the cause first: register a schema that takes the
event, raise the topic's max.message.bytes, or UPDATE the event's row. Then this
command asks the running relay to publish what waits, as the rows stand now, in
order and before anything newer of the key.

The request is a message in the database's log, so it needs no way to the relay,
takes its place among the events, and survives restarts. If an event still
cannot be published, it and those behind it stay parked; --give-up passes over
one that never can be.

Exits 0 when everything was released, 1 when something stays parked or nothing
was, 3 when Kafka, Postgres or the relay did not answer.`,
		Example: `  postrider replay -c postrider.yaml --list
  postrider replay -c postrider.yaml --key 42
  postrider replay -c postrider.yaml --key 42 \
      --give-up 0199e1f5-6f0c-7c7d-8a55-0c6f0a1f4f11
  postrider replay -c postrider.yaml --all --yes --timeout 10m`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asked := 0
			for _, flag := range []string{"key", "all", "list"} {
				if cmd.Flags().Changed(flag) {
					asked++
				}
			}
			if asked != 1 {
				return usageError(errors.New("say one of --key ID, --all and --list"))
			}
			cfg, err := o.config.load()
			if err != nil {
				return err
			}
			warnOfVariables(cmd.ErrOrStderr())
			request := relay.ReplayRequest{All: o.all, GiveUp: o.giveUp}
			if cmd.Flags().Changed("key") {
				request.Key = &o.key
			}
			if cmd.Flags().Changed("topic") {
				request.Topic = &o.topic
			}
			return o.run(cmd, cfg, request)
		},
	}
	o.config.addFile(cmd)
	f := cmd.Flags()
	f.StringVar(&o.key, "key", "", "release this key, an aggregate id")
	f.StringVar(&o.topic, "topic", "", "only what was meant for this topic")
	f.StringSliceVar(&o.giveUp, "give-up", nil, "do not publish the event of this id (repeatable): its dead letter is what remains")
	f.BoolVar(&o.all, "all", false, "release every key")
	f.BoolVar(&o.list, "list", false, "show what is parked, and release nothing")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "how long to wait for servers and relay")
	_ = cmd.RegisterFlagCompletionFunc("key", o.complete(func(k relay.ParkedKey) string { return k.Key }))
	_ = cmd.RegisterFlagCompletionFunc("topic", o.complete(func(k relay.ParkedKey) string { return k.Topic }))
	return cmd
}

// complete offers a field of the parked keys.
func (o *replayOptions) complete(field func(relay.ParkedKey) string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		cfg, err := o.config.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), replayCompletion)
		defer cancel()
		keys, err := relay.ListParked(ctx, cfg)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var values []string
		for _, k := range keys {
			if v := field(k); v != "" && strings.HasPrefix(v, prefix) {
				values = append(values, v)
			}
		}
		slices.Sort(values)
		return slices.Compact(values), cobra.ShellCompDirectiveNoFileComp
	}
}

func (o *replayOptions) run(cmd *cobra.Command, cfg relay.Config, request relay.ReplayRequest) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	out := cmd.OutOrStdout()
	parked, err := relay.ListParked(ctx, cfg)
	if err != nil {
		return o.failed(ctx, err)
	}
	parked = slices.DeleteFunc(parked, func(k relay.ParkedKey) bool {
		return request.Key != nil && k.Key != *request.Key || request.Topic != nil && k.Topic != *request.Topic
	})
	if o.list {
		return o.printList(out, parked)
	}
	if len(parked) == 0 {
		return &exitError{exitNo, errors.New("nothing of that is parked; see postrider replay --list")}
	}
	if !o.yes {
		printParked(cmd.ErrOrStderr(), parked)
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return usageError(errors.New("standard input is no terminal to ask on: give --yes to release this"))
		}
		question := fmt.Sprintf("Release %s of %s?", count(events(parked), "event"), count(len(parked), "key"))
		if !ask(cmd.InOrStdin(), cmd.ErrOrStderr(), question) {
			return &exitError{exitNo, errors.New("nothing was released")}
		}
		// The time for an answer is not the relay's.
		cancel()
		ctx, cancel = context.WithTimeout(cmd.Context(), o.timeout)
		defer cancel()
	}
	bar := newWorkBar(cmd.ErrOrStderr())
	bar.show("waiting for the relay", 0, 0)
	outcomes, err := relay.RequestReplay(ctx, cfg, request, func(answered, of int) { bar.show("releasing keys", answered, of) })
	bar.end()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return o.failed(ctx, err)
	}
	if printErr := o.printOutcomes(out, outcomes); printErr != nil {
		return printErr
	}
	if err != nil {
		return unreachable(fmt.Errorf("no answer from the relay within %v: is it running (postrider status)? "+
			"The request stays in the stream, and the relay carries it out when it comes to it", o.timeout))
	}
	for _, k := range outcomes {
		if k.Parked > 0 {
			return &exitError{exitNo, errors.New("not everything is released: mend the cause and try again")}
		}
	}
	return nil
}

func (o *replayOptions) failed(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, relay.ErrNotHaltKey):
		return usageError(err)
	case errors.Is(err, relay.ErrNotParked):
		return &exitError{exitNo, err}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return unreachable(fmt.Errorf("no answer within %v: %w; see --timeout", o.timeout, err))
	}
	var halt *relay.HaltError
	if errors.As(err, &halt) { // it has a hint
		return unreachable(err)
	}
	return unreachable(fmt.Errorf("%w (%s)", err, askDoctor))
}

func (o *replayOptions) printList(w io.Writer, parked []relay.ParkedKey) error {
	if o.asJSON {
		return printJSON(w, parked)
	}
	if len(parked) == 0 {
		fmt.Fprintln(w, "nothing is parked")
	}
	printParked(w, parked)
	return nil
}

// printParked describes keys for people.
func printParked(w io.Writer, parked []relay.ParkedKey) {
	for _, k := range parked {
		topic := k.Topic
		if topic == "" {
			topic = "(no topic)"
		}
		fmt.Fprintf(w, "%s %q: %s since %s\n", topic, k.Key, count(k.Events, "event"), k.Since.Local().Format(time.DateTime))
		fmt.Fprintf(w, "  %s: %s\n", k.Code, k.Reason)
		fmt.Fprintf(w, "  first %s at %s\n", k.First.ID, k.First.Position)
		if k.Events > 1 {
			fmt.Fprintf(w, "  last  %s at %s\n", k.Last.ID, k.Last.Position)
		}
	}
}

func (o *replayOptions) printOutcomes(w io.Writer, outcomes []relay.ReplayOutcome) error {
	if o.asJSON {
		return printJSON(w, outcomes)
	}
	for _, k := range outcomes {
		fmt.Fprintf(w, "%s %q: %s released", k.Topic, k.Key, count(k.Released, "event"))
		if k.GivenUp > 0 {
			fmt.Fprintf(w, ", %s given up", count(k.GivenUp, "event"))
		}
		if k.Parked > 0 {
			fmt.Fprintf(w, ", %s still parked\n  %s: %s", count(k.Parked, "event"), k.Code, k.Reason)
		}
		fmt.Fprintln(w)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func events(parked []relay.ParkedKey) (n int) {
	for _, k := range parked {
		n += k.Events
	}
	return n
}

// count is "1 key", "2 keys".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
