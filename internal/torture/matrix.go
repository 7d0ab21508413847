package torture

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Row is what was found out about one fault of the matrix.
type Row struct {
	Row     int     `json:"row"`
	Fault   string  `json:"fault"`
	What    string  `json:"what"`
	Skipped string  `json:"not_run,omitempty"` // why
	Report  *Report `json:"report,omitempty"`
	Error   string  `json:"error,omitempty"` // nothing was proved
}

// elsewhere are the rows, or parts of them, that the harness does not inject.
var elsewhere = []Row{
	{Row: 11, Fault: "security", What: "wrong password, expired certificate, revoked right", Skipped: "go test ./relay -run Security"},
	{Row: 17, Fault: "clocks", What: "clock jumps", Skipped: "order comes from the log, expiry from the database's clock: go test ./relay -run Expired"},
}

// Matrix runs every fault by itself, three times where it passes without an operator, on
// the same servers, and calls each for every row as it is known.
func Matrix(ctx context.Context, cfg Config, each func(Row)) error {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return err
	}
	servers, err := OpenServers(ctx, cfg)
	if err != nil {
		return err
	}
	defer servers.Close()
	for row := 1; row <= 18; row++ {
		for i := range Faults {
			if f := &Faults[i]; f.Row == row && (len(cfg.Faults) == 0 || slices.Contains(cfg.Faults, f.Name)) {
				each(f.alone(ctx, cfg, servers))
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
		}
		for _, r := range elsewhere {
			if r.Row == row && len(cfg.Faults) == 0 {
				each(r)
			}
		}
	}
	return nil
}

// times is how often the matrix injects a fault that passes by itself.
const times = 3

// alone runs one fault in an arena of its own.
func (f *Fault) alone(ctx context.Context, cfg Config, servers *Servers) Row {
	row := Row{Row: f.Row, Fault: f.Name, What: f.What}
	if lacks := f.Needs.missing(servers); lacks != "" {
		row.Skipped = "needs " + lacks
		return row
	}
	cfg.Script, cfg.Faults = []string{f.Name}, nil
	for n := 1; n < times && !f.Operator && !f.Slow; n++ {
		cfg.Script = append(cfg.Script, f.Name)
	}
	report, err := RunOn(ctx, cfg, servers)
	if err != nil {
		row.Error = err.Error()
		return row
	}
	row.Report = report
	return row
}

// OK reports whether the row passed, or was not run.
func (r Row) OK() bool { return r.Error == "" && (r.Report == nil || r.Report.OK()) }

// Print writes the row for people.
func (r Row) Print(w io.Writer) {
	switch {
	case r.Skipped != "":
		fmt.Fprintf(w, "%2d %-22s not run  %s (%s)\n", r.Row, r.Fault, r.Skipped, r.What)
	case r.Error != "":
		fmt.Fprintf(w, "%2d %-22s ERROR    %s (%s)\n", r.Row, r.Fault, r.Error, r.What)
	default:
		result, broken := "PASS", ""
		if !r.Report.OK() {
			result, broken = "FAIL", strings.Join(r.Report.Failed(), " ")+" "
		}
		f := FaultLine{}
		if len(r.Report.Faults) > 0 {
			f = r.Report.Faults[0]
		}
		fmt.Fprintf(w, "%2d %-22s %s     %s%d×, %d events, %d lost, %d reordered, %d duplicates, recovered in %s%s (%s)\n",
			r.Row, r.Fault, result, broken, f.Times, r.Report.Committed, r.Report.Lost, r.Report.Reordered, f.Duplicates, brief(f.Longest),
			r.Report.halts(), r.What)
		for _, line := range r.Report.Lines {
			for _, e := range line.Evidence {
				fmt.Fprintf(w, "       %s: %s\n", line.Invariant, e)
			}
		}
	}
}

// halts returns which halts were shown, and what else took its time.
func (r *Report) halts() string {
	var parts []string
	for _, line := range r.Lines {
		if line.Invariant == "I8" && line.Text != "no halt" {
			parts = append(parts, line.Text)
		}
	}
	for _, what := range sortedKeys(r.Durations) {
		if what == "drain" {
			continue
		}
		var all []string
		for _, d := range r.Durations[what] {
			all = append(all, brief(d))
		}
		parts = append(parts, what+" "+strings.Join(all, " "))
	}
	if len(parts) == 0 {
		return ""
	}
	return ", " + strings.Join(parts, ", ")
}
