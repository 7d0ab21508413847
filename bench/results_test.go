package bench_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	resultsFile = "RESULTS.md"
	partialFile = "../bin/bench.md"
)

// write writes the results, if anything was measured. Only a run of everything, at full size
// and without a failure, takes the place of the last results; any other goes to a file beside
// the binary.
func (r *record) write(passed bool) error {
	if len(r.names) == 0 {
		return nil
	}
	r.noteMachine()
	var text bytes.Buffer
	r.render(&text, time.Now(), commit())
	file := partialFile
	if passed && flag.Lookup("test.bench").Value.String() == "." && os.Getenv("BENCH_EVENTS") == "" && os.Getenv("BENCH_SECONDS") == "" {
		file = resultsFile
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "results are in", path)
	return os.WriteFile(path, text.Bytes(), 0o644)
}

// commit returns the commit of the checkout, with "-dirty" where it was changed since.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		return "of no commit that git knows"
	}
	return strings.TrimSpace(string(out))
}

// render writes the page.
func (r *record) render(w io.Writer, at time.Time, commit string) {
	fmt.Fprintf(w, "# Results\n\nWritten by `make bench` on %s, at commit %s. [README.md](README.md) says what each figure means\n"+
		"and how to measure again: `%s`.\nFigures are medians, with the lowest and the highest of all runs behind them.\n\n",
		at.Format("2 January 2006"), commit, command())
	fmt.Fprint(w, "| | |\n|---|---|\n")
	loads, speeds := make([]string, len(r.moods)), make([]string, len(r.moods))
	for i, m := range r.moods {
		loads[i], speeds[i] = m.load, m.speed
	}
	for _, fact := range slices.Concat(r.facts, [][2]string{
		{"load average", "before: " + loads[0] + "; after each benchmark: " + strings.Join(loads[1:], ", ")},
		{"speed of one core, SHA-512 MB/s", "before: " + speeds[0] + "; after each benchmark: " + strings.Join(speeds[1:], ", ")},
	}) {
		fmt.Fprintf(w, "| %s | %s |\n", fact[0], fact[1])
	}
	fmt.Fprint(w, "\n## Goals\n\n| figure | goal | measured | |\n|---|---|---|---|\n")
	for _, g := range goals {
		s := r.figures[g.benchmark].of(g.unit)
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", g.figure, g.bound(), s, g.verdict(s))
	}
	r.renderTables(w)
}

// command returns what was typed, as far as it matters.
func command() string {
	typed := "make bench"
	if pattern := flag.Lookup("test.bench").Value.String(); pattern != "." {
		typed += " BENCH='" + pattern + "'"
	}
	typed += " BENCHTIME=" + flag.Lookup("test.benchtime").Value.String()
	for _, variable := range []string{"BENCH_EVENTS", "BENCH_SECONDS", "BENCH_TRANSACTIONS", "BENCH_BACKLOG", "BENCH_DEBEZIUM"} {
		if value := os.Getenv(variable); value != "" {
			typed += " " + variable + "=" + value
		}
	}
	return typed
}

// renderTables writes a table for each benchmark, with a column for each of its parts.
func (r *record) renderTables(w io.Writer) {
	var groups []string
	parts := make(map[string][]string)
	for _, name := range r.names {
		group, _, _ := strings.Cut(name, "/")
		if parts[group] == nil {
			groups = append(groups, group)
		}
		parts[group] = append(parts[group], name)
	}
	for _, group := range groups {
		fmt.Fprintf(w, "\n## %s\n\n|", strings.TrimPrefix(group, "Benchmark"))
		var units []string
		for _, name := range parts[group] {
			_, part, _ := strings.Cut(name, "/")
			fmt.Fprintf(w, " | %s", part)
			for _, unit := range r.figures[name].units {
				if !slices.Contains(units, unit) {
					units = append(units, unit)
				}
			}
		}
		fmt.Fprintf(w, " |\n|---%s|\n", strings.Repeat("|---", len(parts[group])))
		for _, unit := range units {
			fmt.Fprintf(w, "| `%s` |", unit)
			for _, name := range parts[group] {
				fmt.Fprintf(w, " %s |", r.figures[name].of(unit))
			}
			fmt.Fprintln(w)
		}
	}
}

func (s spread) String() string {
	switch s.runs {
	case 0:
		return ""
	case 1:
		return number(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median), number(s.lowest), number(s.highest))
}

// number writes three digits that count, and thousands with commas.
func number(v float64) string {
	size := math.Abs(v)
	decimals := 0
	switch {
	case v == 0 || size >= 100:
	case size >= 10:
		decimals = 1
	default:
		decimals = 2
	}
	if size >= 1000 {
		unit := math.Pow(10, math.Floor(math.Log10(size))-3) // four digits
		v = math.Round(v/unit) * unit
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole
}

func TestNumber_KeepsTheDigitsThatCount(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 0.0712: "0.07", 3.14159: "3.14", 42.195: "42.2", 999.4: "999", 1234: "1,234", 121_743: "121,700", 1_000_000: "1,000,000",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) is %s, want %s", v, got, want)
		}
	}
}

func TestFigures_SpreadIsMedianAndEnds(t *testing.T) {
	t.Parallel()
	f := newFigures()
	for _, v := range []float64{3, 1, 2} {
		f.add("odd", v)
	}
	f.add("even", 1)
	f.add("even", 2)
	for unit, want := range map[string]spread{"odd": {2, 1, 3, 3}, "even": {1.5, 1, 2, 2}, "nothing": {}} {
		if got := f.of(unit); got != want {
			t.Errorf("%s: %+v, want %+v", unit, got, want)
		}
	}
}

func TestRecord_RendersGoalsAndTables(t *testing.T) {
	t.Parallel()
	r := record{figures: make(map[string]*figures), moods: []mood{{"0.1", "500"}}}
	add := func(name, unit string, values ...float64) {
		f := newFigures()
		for _, v := range values {
			f.add(unit, v)
		}
		r.keep(name, f)
		r.moods = append(r.moods[:1], mood{"2.3", "250"})
	}
	add("BenchmarkDrain/one-row", "x_paced_raw", 0.9, 0.8, 0.86)
	add("BenchmarkDrain/hundred-row", "x_debezium", 2.4)
	r.note("machine", "small")
	r.note("machine", "another")
	var page strings.Builder
	r.render(&page, time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), "abc")
	for _, want := range []string{
		"on 21 November 2026, at commit abc",
		"| machine | small |\n| load average | before: 0.1; after each benchmark: 2.3 |\n",
		"| speed of one core, SHA-512 MB/s | before: 500; after each benchmark: 250 |\n",
		"| ≥ 0.85 | 0.86 (0.80–0.90) | reached |\n",
		"| ≥ 2.5 | 2.40 | missed |\n",
		"| ≤ 0.3 |  | not measured |\n",
		"## Drain\n\n| | one-row | hundred-row |\n|---|---|---|\n| `x_paced_raw` | 0.86 (0.80–0.90) |  |\n| `x_debezium` |  | 2.40 |\n",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q\n%s", want, page.String())
		}
	}
	if n := strings.Count(page.String(), "machine"); n != 1 {
		t.Error(cmp.Diff(1, n))
	}
}
