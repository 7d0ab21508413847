package schemacheck

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The colours of a terminal.
const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	faint  = "\x1b[2m"
	reset  = "\x1b[0m"
)

// page is text of a width, with or without colours.
type page struct {
	strings.Builder
	color bool
	width int
}

func (p *page) paint(color, text string) string {
	if !p.color || color == "" || text == "" {
		return text
	}
	return color + text + reset
}

// paragraph writes words into lines that all are indented. A word that is too long for a line
// has one for itself.
func (p *page) paragraph(indent, text string) {
	line := indent
	for _, word := range strings.Fields(text) {
		switch {
		case line == indent:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > p.width:
			p.WriteString(line + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	p.WriteString(line + "\n")
}

func (r *Report) text(opts WriteOptions) []byte {
	p := &page{color: opts.Color, width: opts.Width}
	if p.width <= 0 {
		p.width = 80
	}
	for _, problem := range r.Problems {
		p.problem(problem)
	}
	for _, note := range r.Notes {
		p.paragraph("", "note: "+note)
	}
	p.paragraph("", r.summary(p))
	return []byte(p.String())
}

func (p *page) problem(problem *Problem) {
	where := problem.File
	if problem.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", problem.File, problem.Line, problem.Column)
	}
	mark := map[string]string{"error": p.paint(red, "error"), "warning": p.paint(yellow, "warning"), "note": p.paint(yellow, "waived")}[problem.severity()]
	fmt.Fprintf(p, "%s: %s %s\n", p.paint(bold, where), mark, p.paint(faint, problem.Rule))
	p.quote(problem)
	p.paragraph("  ", problem.Message)
	if problem.Direction != "" {
		path := problem.Path
		if path == "" {
			path = "/"
		}
		p.paragraph("  ", fmt.Sprintf("at %s, subject %s, level %s", path, problem.Subject, problem.Level))
	}
	if problem.Fix != "" {
		p.paragraph("  ", "→ "+problem.Fix)
	}
	if w := problem.Waived; w != nil {
		p.paragraph("  ", fmt.Sprintf("waived until %s: %s", w.Expires, w.Reason))
	}
	p.WriteString("\n")
}

// quote shows the line of the file with a mark at the column.
func (p *page) quote(problem *Problem) {
	const indent = "    "
	line := []rune(strings.TrimRight(strings.ReplaceAll(problem.source, "\t", " "), "\r"))
	if len(line) == 0 {
		return
	}
	column := min(problem.Column-1, len(line)-1)
	end := len(line)
	if problem.EndLine == problem.Line {
		end = min(problem.EndColumn-1, end)
	}
	// Less indented than in the file: the place is what counts, not the depth.
	first, room := 0, p.width-len(indent)
	for first < column && line[first] == ' ' {
		first++
	}
	shown := line[first:]
	if len(shown) > room && column-first > room/2 {
		first = column - room/2
		shown = append([]rune("…"), line[first+1:]...)
	}
	if len(shown) > room {
		shown = append(slices.Clone(shown[:room-1]), '…')
	}
	length := max(1, min(end-column, len(shown)-(column-first)))
	fmt.Fprintf(p, "%s%s\n", indent, p.paint(faint, string(shown)))
	fmt.Fprintf(p, "%s%s%s\n", indent, strings.Repeat(" ", column-first), p.paint(red, strings.Repeat("^", length)))
}

// summary says what became of all schemas.
func (r *Report) summary(p *page) string {
	var parts []string
	for _, s := range []struct{ status, word, color string }{
		{StatusIncompatible, "not compatible", red}, {StatusWaived, "waived", yellow}, {StatusCompatible, "changed and compatible", green},
		{StatusSame, "unchanged", ""}, {StatusNew, "new", green}, {StatusUnchecked, "not checked (level NONE)", yellow},
	} {
		if n := r.Count(s.status); n > 0 {
			parts = append(parts, p.paint(s.color, fmt.Sprintf("%d %s", n, s.word)))
		}
	}
	invalid := 0
	for _, problem := range r.Problems {
		if problem.Rule == RuleInvalidSchema || problem.Rule == RuleSubject {
			invalid++
		}
	}
	if invalid > 0 {
		parts = append(parts, p.paint(red, fmt.Sprintf("%d not usable", invalid)))
	}
	return fmt.Sprintf("%s against %s: %s", count(len(r.Schemas), "schema"), r.Against, strings.Join(parts, ", "))
}
