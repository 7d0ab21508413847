package schemacheck

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Formats are the names of the formats that Write knows.
var Formats = []string{"text", "json", "github", "gitlab", "junit", "sarif"}

// WriteOptions say how to write a report.
type WriteOptions struct {
	Format string // one of Formats
	Color  bool   // text in colour
	Width  int    // of lines of text. Defaults to 80.
}

// Write writes a report. Formats for machines name files as their readers look for them:
// from the top of the repository that the working directory is in.
func (r *Report) Write(w io.Writer, opts WriteOptions) error {
	var text []byte
	var err error
	switch opts.Format {
	case "text":
		text = r.text(opts)
	case "json":
		text, err = indented(r)
	case "github":
		text = r.github()
	case "gitlab":
		text, err = indented(r.gitlab())
	case "junit":
		text, err = r.junit()
	case "sarif":
		text, err = indented(r.sarif())
	default:
		err = fmt.Errorf("there is no format %q", opts.Format)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func indented(v any) ([]byte, error) {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return []byte(out.String()), err
}

// fromRepository turns a path into one from the top of the repository around the working
// directory; without one, it stays as it is.
func fromRepository(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	full := filepath.FromSlash(path)
	if !filepath.IsAbs(full) {
		full = filepath.Join(here, full)
	}
	for top := here; ; top = filepath.Dir(top) {
		if _, err := os.Stat(filepath.Join(top, ".git")); err == nil {
			if below, err := filepath.Rel(top, full); err == nil && filepath.IsLocal(below) {
				return filepath.ToSlash(below)
			}
			return path
		}
		if top == filepath.Dir(top) {
			return path
		}
	}
}

// sentence is the message with what would mend it.
func (p *Problem) sentence() string {
	s := p.Message
	if p.Fix != "" {
		s += ". To mend it: " + p.Fix
	}
	if p.Waived != nil {
		s += fmt.Sprintf(" (waived until %s: %s)", p.Waived.Expires, p.Waived.Reason)
	}
	return s
}

// severity is how much the problem counts: that of a waived one is less.
func (p *Problem) severity() string {
	switch {
	case p.Waived != nil:
		return "note"
	default:
		return p.Severity
	}
}
