package torture

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Invariants are what is proved, by name.
var Invariants = []Invariant{
	{"I1", "no loss", (*checker).loss},
	{"I2", "order per key", (*checker).order},
	{"I3", "duplicates", (*checker).duplicates},
	{"I4", "slot never ahead", (*checker).slot},
	{"I5", "no phantoms", (*checker).phantoms},
	{"I6", "readable", (*checker).readable},
	{"I7", "recovers by itself", (*checker).recovery},
	{"I8", "halts hold the slot", (*checker).halts},
	{"I9", "bounded memory", (*checker).memory},
	{"I10", "one active relay", (*checker).alone},
}

// Invariant is one guarantee.
type Invariant struct {
	Name  string
	What  string
	check func(*checker) verdict
}

// Line is what was found out about one invariant.
type Line struct {
	Invariant string   `json:"invariant"`
	What      string   `json:"what"`
	OK        bool     `json:"ok"`
	Text      string   `json:"text"`
	Evidence  []string `json:"evidence,omitempty"`
}

// FaultLine is what was seen of one kind of fault.
type FaultLine struct {
	Name       string        `json:"name"`
	Times      int           `json:"times"`
	Duplicates int           `json:"duplicates"`
	Mean       time.Duration `json:"mean_recovery_ns"`
	Longest    time.Duration `json:"longest_recovery_ns"`
}

// Report is the result of a run.
type Report struct {
	Seed        uint64                     `json:"seed"`
	Interrupted bool                       `json:"interrupted,omitempty"` // before all faults: what had happened by then was checked
	Server      string                     `json:"postgres"`
	Took        time.Duration              `json:"took_ns"`
	Committed   int                        `json:"committed"`
	Lost        int                        `json:"lost"`
	Reordered   int                        `json:"reordered"`
	Lines       []Line                     `json:"invariants"`
	Faults      []FaultLine                `json:"faults"`
	Durations   map[string][]time.Duration `json:"durations_ns"`
	Logs        string                     `json:"logs,omitempty"`
}

// OK reports whether all invariants stand.
func (r *Report) OK() bool {
	for _, l := range r.Lines {
		if !l.OK {
			return false
		}
	}
	return true
}

// Failed returns the names of the broken invariants.
func (r *Report) Failed() []string {
	var names []string
	for _, l := range r.Lines {
		if !l.OK {
			names = append(names, l.Invariant)
		}
	}
	return names
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "seed %d, Postgres %s, %s\n", r.Seed, r.Server, brief(r.Took))
	if r.Interrupted {
		fmt.Fprintf(w, "interrupted: the %d events committed by then were checked\n", r.Committed)
	}
	for _, l := range r.Lines {
		result := "PASS"
		if !l.OK {
			result = "FAIL"
		}
		fmt.Fprintf(w, "%-3s %-19s %s  %s\n", l.Invariant, l.What, result, l.Text)
		for _, e := range l.Evidence {
			fmt.Fprintf(w, "       %s\n", e)
		}
	}
	for _, f := range r.Faults {
		fmt.Fprintf(w, "fault %-22s %3d×  %d duplicates  recovery %s, at most %s\n", f.Name, f.Times, f.Duplicates, brief(f.Mean), brief(f.Longest))
	}
	for _, what := range sortedKeys(r.Durations) {
		longest := time.Duration(0)
		for _, d := range r.Durations[what] {
			longest = max(longest, d)
		}
		fmt.Fprintf(w, "%-30s %3d×  at most %s\n", what, len(r.Durations[what]), brief(longest))
	}
	if failed := r.Failed(); len(failed) > 0 {
		fmt.Fprintf(w, "broken: %s\n", strings.Join(failed, ", "))
	}
	if r.Logs != "" {
		fmt.Fprintf(w, "the relay's log is in %s\n", r.Logs)
	}
}
