package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/relay"
)

const statusTimeout = 5 * time.Second

func newStatusCommand() *cobra.Command {
	var (
		url    string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what a running relay does, and whether it is ready",
		Long: `Asks a running relay for its status. Exits 0 when the relay streams or stands
by, 1 when it waits or halts, 3 when it cannot be reached: fit for a health
check.`,
		Example: `  postrider status
  postrider status --url http://relay:8080 --json`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !strings.Contains(url, "://") {
				url = "http://" + url
			}
			body, err := fetchStatus(cmd.Context(), url)
			if err != nil {
				return err
			}
			var report relay.StatusReport
			if err := json.Unmarshal(body, &report); err != nil {
				return unreachable(fmt.Errorf("%s does not answer like a relay: %w", url, err))
			}
			if asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "%s", body)
			} else {
				printStatus(cmd.OutOrStdout(), report)
			}
			if !report.Ready {
				return &exitError{exitNo, errors.New("the relay is not ready")}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&url, "url", "http://"+relay.DefaultHTTPListen, "where the relay's http.listen is")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the relay's answer as it is")
	return cmd
}

func fetchStatus(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(url, "/")+"/status", nil)
	if err != nil {
		return nil, usageError(fmt.Errorf("--url: %w", err))
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, unreachable(fmt.Errorf("%w; is the relay running, and is this its http.listen?", err))
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, unreachable(fmt.Errorf("%s answers %s; is this the relay's http.listen?", url, res.Status))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, unreachable(err)
	}
	return body, nil
}

func printStatus(w io.Writer, r relay.StatusReport) {
	fmt.Fprintf(w, "relay %s: %s since %s\n", r.Name, r.Phase, r.Since.Local().Format(time.DateTime))
	for _, t := range r.Troubles {
		word := "waits for " + t.Component
		if t.Code != "" {
			word = "HALTED " + string(t.Code)
		}
		fmt.Fprintf(w, "  %s since %s\n    %s\n", word, t.Since.Local().Format(time.DateTime), t.Message)
		if t.Hint != "" {
			fmt.Fprintf(w, "    → %s\n", t.Hint)
		}
	}
	confirmed := "(not known yet)"
	if r.ConfirmedLSN != "" {
		confirmed = "at " + r.ConfirmedLSN
	}
	fmt.Fprintf(w, "  slot          %s %s\n", r.Slot, confirmed)
	lag, retained := "not known", "not known"
	if r.Lag != nil {
		lag = size(r.Lag.Bytes)
		if r.Lag.Seconds >= 0 {
			lag += fmt.Sprintf(", %.1f s", r.Lag.Seconds)
		}
		retained = size(r.Lag.RetainedBytes)
		if left := r.Lag.SecondsToLoss; left != nil {
			retained += fmt.Sprintf(" (the slot is lost in about %v if nothing is confirmed)", time.Duration(*left)*time.Second)
		}
	}
	fmt.Fprintf(w, "  lag           %s\n", lag)
	fmt.Fprintf(w, "  retained WAL  %s\n", retained)
	fmt.Fprintf(w, "  events        %d published, %d in flight, %d dead-lettered, %d expired, %d duplicates skipped\n",
		r.Published, r.InFlight, r.DeadLettered, r.Expired, r.Skipped)
	if r.Parked != nil && r.Parked.Keys > 0 {
		fmt.Fprintf(w, "  parked        %s of %s; for all of them: postrider replay --list\n",
			count(r.Parked.Events, "event"), count(r.Parked.Keys, "key"))
		for _, k := range r.Parked.Examples {
			fmt.Fprintf(w, "    %s %q: %s since %s, %s\n", k.Topic, k.Key, count(k.Events, "event"), k.Since.Local().Format(time.DateTime), k.Code)
		}
	}
}

// size prints bytes for people.
func size(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
}
