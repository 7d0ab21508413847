package demo

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

const (
	// plainInterval is how often the ledger is printed where it cannot stay at the bottom.
	plainInterval = 3 * time.Second
	// frame is how often a terminal is drawn.
	frame = 30 * time.Millisecond
	// What may wait to be written: a terminal that is slower than the events must neither hold
	// them up nor show them late.
	maxTerminal, maxPlain = 64 << 10, 8 << 20
)

// screen prints lines, with the ledger below them: always at the bottom on a terminal, once in
// a while elsewhere. Nobody who has something to say waits for it to be written: that is the
// work of run.
type screen struct {
	quiet bool
	fixed bool       // the ledger stays at the bottom: a terminal that can move its cursor
	paint bool       // colours
	size  func() int // columns, 0 where there are none
	now   func() time.Time
	out   io.Writer // used by flush only

	wake chan struct{} // something is to be written
	end  chan struct{} // closed by close
	done chan struct{} // closed when all is written

	mu      sync.Mutex
	pending bytes.Buffer // lines to be written
	left    int          // lines that were left out since
	changed bool         // the bottom is to be drawn again
	foot    []string     // as it stands at the bottom, cut to the width
	shown   bool
	bottom  bottom
	last    string // the summary as it was printed last, elsewhere than on a terminal
	at      time.Time
}

// bottom is what is shown below the lines.
type bottom struct {
	figures
	state string // what runs and what does not; empty before and after
	keys  string // empty where there is no keyboard
}

func newScreen(out io.Writer, quiet bool, getenv func(string) string) *screen {
	s := &screen{
		out: out, quiet: quiet, now: time.Now, at: time.Now(), size: func() int { return 0 },
		wake: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{}),
	}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || getenv("TERM") == "dumb" {
		return s
	}
	s.fixed = true
	s.paint = getenv("NO_COLOR") == ""
	s.size = func() int {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return 0
		}
		return width
	}
	return s
}

// run writes what is said, until close.
func (s *screen) run() {
	defer close(s.done)
	for {
		select {
		case <-s.wake:
		case <-s.end:
			s.flush()
			return
		}
		s.flush()
		if s.fixed { // the bottom is drawn once for all lines of a frame
			time.Sleep(frame)
		}
	}
}

// close returns when everything is written, or hurry ends: a terminal may be held up.
func (s *screen) close(hurry context.Context) {
	close(s.end)
	select {
	case <-s.done:
	case <-hurry.Done():
	}
}

// flush writes what is pending, in one piece: a terminal would show the steps.
func (s *screen) flush() {
	s.mu.Lock()
	if s.pending.Len() == 0 && !s.changed {
		s.mu.Unlock()
		return
	}
	var b bytes.Buffer
	s.unpin(&b)
	_, _ = s.pending.WriteTo(&b)
	if s.left > 0 {
		fmt.Fprintf(&b, "… %d lines are left out: who reads them is too slow\n", s.left)
		s.left = 0
	}
	s.pin(&b)
	s.changed = false
	s.mu.Unlock()
	_, _ = s.out.Write(b.Bytes()) // the writer notices when nobody reads any more
}

// Colours, as terminals number them.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
	bold   = "1"
)

// orderColours are those of orders: no red and no green, which mean something.
var orderColours = []string{"36", "35", "34", "33", "96", "95", "94", "93", "37", "38;5;208", "38;5;141", "38;5;80"}

func orderColour(id string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return orderColours[h.Sum32()%uint32(len(orderColours))]
}

func (s *screen) colour(code, text string) string {
	if !s.paint || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// say prints text as it is.
func (s *screen) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(text)
}

// print has text written above the ledger.
func (s *screen) print(text string) {
	if s.quiet {
		return
	}
	s.pending.WriteString(text)
	s.poke()
}

func (s *screen) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// full tells whether a line has to be left out, and counts it.
func (s *screen) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := maxPlain
	if s.fixed {
		most = maxTerminal
	}
	if s.pending.Len() < most {
		return false
	}
	s.left++
	return true
}

// unpin removes the ledger from the bottom. A terminal that has become narrower has wrapped it.
func (s *screen) unpin(b *bytes.Buffer) {
	if !s.shown {
		return
	}
	s.shown = false
	rows, width := 0, s.size()
	for _, line := range s.foot {
		rows++
		if n := visible(line); width > 0 && n > width {
			rows += (n - 1) / width
		}
	}
	fmt.Fprint(b, "\r")
	if rows > 1 {
		fmt.Fprintf(b, "\x1b[%dA", rows-1)
	}
	fmt.Fprint(b, "\x1b[J")
}

// pin puts it back.
func (s *screen) pin(b *bytes.Buffer) {
	if !s.fixed || s.bottom.state == "" {
		return
	}
	s.foot = s.footLines(s.size())
	fmt.Fprint(b, strings.Join(s.foot, "\n"))
	s.shown = true
}

// footLines are the lines at the bottom, none wider than the terminal.
func (s *screen) footLines(width int) []string {
	b := s.bottom
	balance, tint := "in flight", yellow
	switch {
	case b.wrong():
		balance, tint = "SOMETHING IS WRONG", red
	case b.stale:
		balance = "Postgres does not answer: figures of " + b.at.Format("15:04:05")
	case b.balanced():
		balance, tint = "balanced", green
	}
	rule := "── " + balance + " "
	if width > 0 {
		rule += strings.Repeat("─", max(0, min(width, 100)-1-utf8.RuneCountInString(rule)))
	}
	lines := []struct{ tint, text string }{
		{tint, rule},
		{bold, b.equation()},
		{"", fmt.Sprintf("duplicates %d  out of order %d  %s", b.Duplicates, b.OutOfOrder, b.state)},
		{bold, "orders " + strings.TrimPrefix(b.Orders.String(), "placed ")}, // thousands fit 80 columns
	}
	if b.keys != "" {
		lines = append(lines, struct{ tint, text string }{dim, b.keys})
	}
	var foot []string
	for _, line := range lines {
		// Sums that cannot be read to their ends say nothing.
		for text := range strings.SplitSeq(wrap(line.text, width, "\n"), "\n") {
			text = fit(text, width)
			if line.tint != "" {
				text = s.colour(line.tint, text)
			}
			foot = append(foot, text)
		}
	}
	return foot
}

// fit cuts text to less than width columns: a line in the last column wraps on some terminals.
func fit(text string, width int) string {
	if width < 2 || utf8.RuneCountInString(text) < width {
		return text
	}
	return string([]rune(text)[:width-2]) + "…"
}

// visible is how many columns a line takes.
func visible(line string) int {
	n, escape := 0, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n++
		}
	}
	return n
}

// What stands before the news, and before the detail of an order's line.
const (
	newsHead = len("15:04:05 x ")
	lineHead = newsHead + 12 + 22
	// lineWidth is what a line with columns needs. On a narrower terminal it has none.
	lineWidth = 80
)

// line prints a line about one order. It is left out where nobody keeps up with reading.
func (s *screen) line(sign, key, event, detail string) {
	if s.quiet || s.full() {
		return
	}
	tint := map[string]string{"✓": green, "✗": red}[sign]
	if tint == "" {
		tint = dim
	}
	text := fmt.Sprintf("%-11s %-21s ", key, event)
	if width := s.size(); width > 0 && width < lineWidth {
		text = key + " " + event + " "
		detail = fit(strings.Join(strings.Fields(detail), " "), width-newsHead-utf8.RuneCountInString(text))
	}
	s.say(fmt.Sprintf("%s %s %s%s\n", s.colour(dim, s.now().Format("15:04:05")), s.colour(tint, sign),
		s.colour(orderColour(key), text), detail))
}

// oneLine makes one line of text that stands behind so many columns.
func (s *screen) oneLine(behind int, text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if width := s.size(); width > 0 {
		return fit(text, max(20, width-behind))
	}
	return text
}

// hop prints where an event arrived, and after how long where that is known.
func (s *screen) hop(sign, key, event, where, latency string) {
	s.line(sign, key, event, strings.TrimRight(fmt.Sprintf("%-18s %9s", where, latency), " "))
}

// news prints what happened to the demo itself, in as many lines as it takes. tint may be empty.
func (s *screen) news(sign, tint, format string, args ...any) {
	if s.quiet {
		return
	}
	text := wrap(fmt.Sprintf(format, args...), s.size()-newsHead, "\n"+strings.Repeat(" ", newsHead))
	s.say(fmt.Sprintf("%s %s %s\n", s.colour(dim, s.now().Format("15:04:05")), s.colour(tint, sign), s.colour(tint, text)))
}

// wrap breaks text between words so that no line has width columns or more.
func wrap(text string, width int, breakLine string) string {
	if width < 20 || utf8.RuneCountInString(text) < width {
		return text
	}
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n < width:
			b.WriteByte(' ')
			column++
		default:
			b.WriteString(breakLine)
			column = 0
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// show takes what stands at the bottom: in place on a terminal, elsewhere as lines once in a
// while.
func (s *screen) show(b bottom) {
	if s.quiet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bottom = b
	if s.fixed {
		s.changed = !s.shown || !slices.Equal(s.footLines(s.size()), s.foot)
		s.poke()
		return
	}
	if s.now().Sub(s.at) < plainInterval {
		return
	}
	if text := b.summary(); text != s.last {
		s.last, s.at = text, s.now()
		s.print(text)
	}
}

func (b bottom) summary() string {
	return "ledger: " + b.Ledger.String() + "\norders: " + b.Orders.String() + "\n"
}

// finish prints the last ledger for good.
func (s *screen) finish(b bottom) {
	if s.quiet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bottom = bottom{}
	text := b.summary()
	if s.fixed { // which may be no wider than 80 columns
		text = fmt.Sprintf("%s\nduplicates %d  out of order %d\norders: %s\n", b.equation(), b.Duplicates, b.OutOfOrder, b.Orders)
	}
	for _, violation := range b.Orders.Violations {
		text += "  " + violation + "\n"
	}
	s.print(s.colour(bold, strings.TrimSuffix(text, "\n")) + "\n")
}
