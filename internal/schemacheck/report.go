package schemacheck

import (
	"cmp"
	"slices"
)

// The severities of a problem. Only errors make a check fail.
const (
	SeverityError   = "error"
	SeverityWarning = "warning"
)

// Problem is one thing that is wrong, at one place.
type Problem struct {
	File      string `json:"file"`                 // as the directory was given, or of schemas.yaml or Go code
	Line      int    `json:"line,omitempty"`       // from 1; 0 is the file as a whole
	Column    int    `json:"column,omitempty"`     // in characters, from 1
	EndLine   int    `json:"end_line,omitempty"`   // where it ends
	EndColumn int    `json:"end_column,omitempty"` // behind its last character
	Severity  string `json:"severity"`             // SeverityError or SeverityWarning
	Rule      string `json:"rule"`                 // one of Rules
	Subject   string `json:"subject,omitempty"`
	Level     string `json:"level,omitempty"`
	Direction string `json:"direction,omitempty"` // DirectionBackward or DirectionForward
	Path      string `json:"path"`                // JSON pointer in File; "" is the whole
	Field     string `json:"field,omitempty"`     // the same for people: lines[].sku
	// Versions are the earlier ones that do not fit, newest first.
	Versions []string `json:"versions,omitempty"`
	Message  string   `json:"message"`
	Fix      string   `json:"fix,omitempty"`
	Waived   *Waived  `json:"waived,omitempty"` // set where a waiver lets it pass

	source string // the line of the file
}

// Waived says why a problem passes.
type Waived struct {
	Reason  string `json:"reason"`
	Expires string `json:"expires"`
}

// Fails tells whether the problem makes the check fail.
func (p *Problem) Fails() bool { return p.Severity == SeverityError && p.Waived == nil }

// The outcomes for a schema.
const (
	StatusSame         = "same"         // what was there before
	StatusCompatible   = "compatible"   // changed, and all readers can go on
	StatusNew          = "new"          // nothing to compare with
	StatusUnchecked    = "unchecked"    // its level is NONE
	StatusWaived       = "waived"       // not compatible, and let pass
	StatusIncompatible = "incompatible" // not compatible
)

// Schema is what became of one subject.
type Schema struct {
	File     string   `json:"file"`
	Subject  string   `json:"subject"`
	Status   string   `json:"status"`
	Level    string   `json:"level"`
	Versions []string `json:"versions"` // that it was compared with, newest first
}

// Report is what a check found.
type Report struct {
	Dir      string     `json:"dir"`
	Against  string     `json:"against"`
	Schemas  []*Schema  `json:"schemas"`  // by file
	Problems []*Problem `json:"problems"` // by place
	// Notes say what is good to know of the comparison as a whole.
	Notes []string `json:"notes"`
}

// Invalid tells whether a file is no schema or has no subject of its own, so that not all
// could be compared.
func (r *Report) Invalid() bool {
	return slices.ContainsFunc(r.Problems, func(p *Problem) bool { return p.Rule == RuleInvalidSchema || p.Rule == RuleSubject })
}

// Failed tells whether a problem is left that nothing excuses.
func (r *Report) Failed() bool { return slices.ContainsFunc(r.Problems, (*Problem).Fails) }

// Count returns how many schemas have one of the statuses.
func (r *Report) Count(status string) int {
	n := 0
	for _, s := range r.Schemas {
		if s.Status == status {
			n++
		}
	}
	return n
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Schemas, func(a, b *Schema) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Subject, b.Subject))
	})
	slices.SortStableFunc(r.Problems, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
