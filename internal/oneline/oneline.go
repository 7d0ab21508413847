// Package oneline puts errors that go over several lines on one, for logs and terminals.
package oneline

import (
	"slices"
	"strings"
)

// Error returns err with its message on one line, and nil for nil. What the lines say twice is
// said once: pgconn has a line for each way to a server that it tried, with TLS and without.
func Error(err error) error {
	if err == nil || !strings.Contains(err.Error(), "\n") {
		return err
	}
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if len(lines) > 1 && strings.HasSuffix(lines[0], ":") {
		lines = append([]string{lines[0] + " " + lines[1]}, lines[2:]...)
	}
	return &folded{strings.Join(lines, "; "), err}
}

type folded struct {
	message string
	err     error
}

func (f *folded) Error() string { return f.message }
func (f *folded) Unwrap() error { return f.err }
