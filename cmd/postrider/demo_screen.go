package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// demoScreen prints lines, with the ledger below them: always at the bottom on a terminal,
// once in a while elsewhere.
type demoScreen struct {
	quiet    bool
	terminal bool

	mu     sync.Mutex
	out    io.Writer
	last   string // the ledger as it stands on the screen
	pinned bool
	at     time.Time
}

func newDemoScreen(out io.Writer, quiet bool) *demoScreen { return &demoScreen{out: out, quiet: quiet} }

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

const (
	colourReset  = "\x1b[0m"
	colourDim    = "\x1b[2m"
	colourRed    = "\x1b[31m"
	colourGreen  = "\x1b[32m"
	colourYellow = "\x1b[33m"
	colourBold   = "\x1b[1m"
)

func (s *demoScreen) colour(code, text string) string {
	if !s.terminal {
		return text
	}
	return code + text + colourReset
}

// say prints text as it is.
func (s *demoScreen) say(text string) {
	if s.quiet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unpin()
	fmt.Fprint(s.out, text)
	s.pin()
}

// Write prints a line of the log.
func (s *demoScreen) Write(p []byte) (int, error) {
	s.say(string(p))
	return len(p), nil
}

// unpin removes the ledger from the bottom, pin puts it back.
func (s *demoScreen) unpin() {
	if s.pinned {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.pinned = false
	}
}

func (s *demoScreen) pin() {
	if s.terminal && s.last != "" {
		fmt.Fprint(s.out, s.colour(colourBold, s.fit(s.last))) // a wrapped line could not be removed again
		s.pinned = true
	}
}

// fit cuts text to the width of the terminal.
func (s *demoScreen) fit(text string) string {
	if !s.terminal {
		return text
	}
	width, _, err := term.GetSize(int(os.Stdout.Fd()))
	runes := []rune(text)
	if err != nil || width < 2 || len(runes) < width {
		return text
	}
	return string(runes[:width-2]) + "…"
}

func (s *demoScreen) line(mark, colour, word, key, event, detail string) {
	s.say(fmt.Sprintf("%s %s %-11s  %-9s %-14s %s\n", s.colour(colourDim, time.Now().Format("04:05.000")),
		s.colour(colour, mark), word, key, event, detail))
}

func (s *demoScreen) committed(key, event, detail string) {
	s.line("+", colourYellow, "committed", key, event, s.colour(colourDim, detail))
}

func (s *demoScreen) rolledBack(key, event string) {
	s.line("-", colourDim, "rolled back", key, event, s.colour(colourDim, "nobody will ever see it"))
}

func (s *demoScreen) delivered(key, event, where, value string) {
	s.line("✓", colourGreen, "delivered", key, event, where+"\n"+s.colour(colourDim, s.fit(strings.Repeat(" ", 12)+value)))
}

func (s *demoScreen) deadLettered(key, event, code, reason string) {
	s.line("!", colourRed, "dead letter", key, event, code+": "+reason)
}

// ledger shows the ledger: in place on a terminal, elsewhere at most once a second.
func (s *demoScreen) ledger(r ledgerReport) {
	if s.quiet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	line := "ledger: " + r.String()
	if s.terminal && s.fit(line) != line {
		line = r.brief()
	}
	if line == s.last {
		return
	}
	if !s.terminal {
		if time.Since(s.at) >= time.Second {
			s.at, s.last = time.Now(), line
			fmt.Fprintln(s.out, line)
		}
		return
	}
	s.unpin()
	s.last = line
	s.pin()
}

// finish prints the last ledger for good.
func (s *demoScreen) finish(r ledgerReport) {
	if s.quiet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unpin()
	s.last = ""
	fmt.Fprintln(s.out, s.colour(colourBold, "ledger: "+r.String()))
}
