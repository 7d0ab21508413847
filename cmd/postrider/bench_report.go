package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/benchmark"
)

const notKnown = "not known"

// printBench prints a column for each drain.
func printBench(w io.Writer, r benchmark.Report) {
	version, _, _ := strings.Cut(r.Server, " ") // what follows is of the package
	fmt.Fprintf(w, "%s events of %d bytes, %s, %s registry\nPostgres %s, round trip %.2f ms; Kafka, round trip %.2f ms\n\n",
		thousands(float64(r.Events), 0), r.PayloadBytes, count(r.Partitions, "partition"), r.Registry, version, r.PostgresRoundTrip, r.KafkaRoundTrip)
	line := func(name, unit string, value func(benchmark.Drain) string) {
		fmt.Fprintf(w, "%-22s%-19s", name, unit)
		for _, d := range r.Drains {
			fmt.Fprintf(w, "%11s", value(d))
		}
		fmt.Fprintln(w)
	}
	number := func(decimals int, of func(benchmark.Drain) *float64) func(benchmark.Drain) string {
		return func(d benchmark.Drain) string {
			v := of(d)
			if v == nil {
				return notKnown
			}
			return thousands(*v, decimals)
		}
	}
	line("rows in a transaction", "", func(d benchmark.Drain) string { return thousands(float64(d.RowsPerTransaction), 0) })
	line("raw read, greedy", "rows/s", number(0, func(d benchmark.Drain) *float64 { return &d.Greedy.RowsPerSecond }))
	line("  its walsender", "CPU s per million", number(1, func(d benchmark.Drain) *float64 { return d.Greedy.WalsenderCPU }))
	line("raw read, paced", "rows/s", number(0, func(d benchmark.Drain) *float64 { return &d.Paced.RowsPerSecond }))
	line("  its walsender", "CPU s per million", number(1, func(d benchmark.Drain) *float64 { return d.Paced.WalsenderCPU }))
	line("relay", "events/s", number(0, func(d benchmark.Drain) *float64 { return d.EventsPerSecond }))
	line("  to raw, paced", "", number(2, func(d benchmark.Drain) *float64 { return d.Ratio }))
	line("  its CPU", "s per million", number(1, func(d benchmark.Drain) *float64 { return d.RelayCPU }))
	line("  its walsender", "CPU s per million", number(1, func(d benchmark.Drain) *float64 { return d.WalsenderCPU }))
	line("  its memory, peak", "MB", number(0, func(d benchmark.Drain) *float64 {
		if d.PeakMemory == nil {
			return nil
		}
		megabytes := *d.PeakMemory / 1e6
		return &megabytes
	}))
	line("  acknowledged after", "ms", number(0, func(d benchmark.Drain) *float64 { return d.AckTime }))

	fmt.Fprintln(w, "\nwhat limits")
	for _, d := range r.Drains {
		writeWrapped(w, fmt.Sprintf("%s a transaction: %s: %s", count(d.RowsPerTransaction, "row"), strings.ToUpper(d.Verdict.Limit), d.Verdict.Why))
	}
	if r.Disturbed() {
		writeWrapped(w, fmt.Sprintf("Something else kept %.1f of the %d cores here busy before it began: the figures are of what was left.", *r.Background, r.Cores))
	}
	if l := r.Latency; l != nil {
		fmt.Fprintf(w, "\nlatency from commit to consumer, %s events/s (%s events)\n  p50 %.1f ms, p99 %.1f ms, at most %.1f ms\n",
			thousands(l.Rate, 0), thousands(float64(l.Events), 0), l.P50, l.P99, l.Max)
		if l.Rate < 0.95*float64(l.WantRate) {
			fmt.Fprintf(w, "  Postgres committed no more than that; %d were asked for\n", l.WantRate)
		}
	}
}

// writeWrapped writes a paragraph in lines of at most 80 columns, all but the first indented
// further.
func writeWrapped(w io.Writer, text string) {
	line := " "
	for _, word := range strings.Fields(text) {
		if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > 80 {
			fmt.Fprintln(w, line)
			line = "   "
		}
		line += " " + word
	}
	fmt.Fprintln(w, line)
}

// thousands prints a number with commas.
func thousands(v float64, decimals int) string {
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole
}
