package demo

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// newTestScreen is a terminal of a width, 0 for something else than a terminal.
func newTestScreen(out *bytes.Buffer, width int, paint bool) *screen {
	s := newScreen(out, false, func(string) string { return "" })
	s.now = func() time.Time { return time.Date(2026, 11, 21, 15, 4, 5, 0, time.UTC) }
	s.fixed, s.paint, s.size = width > 0, paint, func() int { return width }
	s.at = time.Time{}
	return s
}

var someBottom = bottom{
	figures: figures{Report: Report{
		Ledger: Ledger{Committed: 12345, Delivered: 12340, InFlight: 5},
		Orders: Orders{Placed: 2000, Paid: 1500, Shipped: 1499, Cancelled: 500, Open: 1},
	}},
	state: "relay 12345 waits, broker STOPPED, orders paused",
	keys:  "k kill relay  b start broker  p restart Postgres  x poison  d decline  ? help",
}

func TestScreen_FitsEveryWidth(t *testing.T) {
	t.Parallel()
	for _, width := range []int{20, 79, 80, 200} {
		var out bytes.Buffer
		s := newTestScreen(&out, width, true)
		s.show(someBottom)
		s.hop("✓", "order-12345", "order.shipment_ready", "shipment[3]@12345", "1234.5 ms")
		s.flush()
		for _, line := range s.footLines(width) {
			if n := visible(line); n >= width {
				t.Errorf("at %d columns %d are used: %q", width, n, line)
			}
		}
		if width < 80 {
			continue
		}
		if got := s.footLines(width)[4]; strings.Contains(got, "…") {
			t.Errorf("at %d columns the keys are cut: %q", width, got)
		}
		for _, line := range strings.Split(out.String(), "\n") {
			if strings.Contains(line, "order-12345") && visible(line[strings.LastIndex(line, "\x1b[J")+1:]) > 80 {
				t.Errorf("a hop takes more than 80 columns: %q", line)
			}
		}
	}
}

func TestScreen_RemovesTheBottomBeforeEachLineAndPutsItBack(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newTestScreen(&out, 80, false)
	s.show(someBottom)
	s.flush()
	shown := out.String()
	if n := strings.Count(shown, "\n"); n != 4 || strings.HasSuffix(shown, "\n") {
		t.Fatalf("the bottom is not five lines without an end: %q", shown)
	}
	out.Reset()
	s.show(someBottom)
	s.flush()
	if out.Len() > 0 {
		t.Errorf("the same bottom was drawn again: %q", out.String())
	}
	s.say("a line\n")
	s.say("another\n")
	s.flush()
	if want := "\r\x1b[4A\x1b[J" + "a line\nanother\n" + shown; out.String() != want {
		t.Errorf("drawn was %q, want %q", out.String(), want)
	}
	// A terminal that became narrower has wrapped all of the lines.
	out.Reset()
	s.size = func() int { return 60 }
	s.say("a line\n")
	s.flush()
	if !strings.HasPrefix(out.String(), "\r\x1b[9A\x1b[J") {
		t.Errorf("after the terminal was made narrower: %.20q", out.String())
	}
	out.Reset()
	s.finish(someBottom)
	s.flush()
	if text := out.String(); !strings.HasSuffix(text, "violations 0\n") {
		t.Errorf("the end is %q", text)
	}
}

func TestScreen_IsPlainElsewhereThanOnATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newTestScreen(&out, 0, false)
	now := s.now()
	s.now = func() time.Time { return now }
	s.show(someBottom)
	s.hop("✗", "order-7", "payment.declined", "payment[1]@2", "3.1 ms")
	someOther := someBottom
	someOther.Delivered++
	s.show(someOther) // too soon
	now = now.Add(plainInterval)
	s.show(someOther)
	s.show(someOther)
	s.flush()
	want := `ledger: committed 12345 = delivered 12340 + in flight 5 + dead-lettered 0 + expired 0    duplicates 0  out of order 0
orders: placed 2000 = shipped 1499 + cancelled 500 + open 1  paid 1500  violations 0
15:04:05 ✗ order-7     payment.declined      payment[1]@2          3.1 ms
ledger: committed 12345 = delivered 12341 + in flight 5 + dead-lettered 0 + expired 0    duplicates 0  out of order 0
orders: placed 2000 = shipped 1499 + cancelled 500 + open 1  paid 1500  violations 0
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestScreen_SaysNothingWhenQuiet(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newScreen(&out, true, func(string) string { return "" })
	s.say("x")
	s.news("●", "", "x")
	s.hop("✓", "x", "x", "x", "x")
	s.show(someBottom)
	s.finish(someBottom)
	s.flush()
	if out.Len() > 0 {
		t.Errorf("it said %q", out.String())
	}
}

func TestScreen_ColoursOrdersApartFromSigns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newTestScreen(&out, 200, true)
	s.hop("✓", "order-1", "order.created", "order[0]@0", "1.0 ms")
	s.flush()
	if got := out.String(); !strings.Contains(got, "\x1b[32m✓\x1b[0m") || !strings.Contains(got, "\x1b["+orderColour("order-1")+"morder-1") {
		t.Errorf("%q", got)
	}
	used := map[string]bool{}
	for n := range 100 {
		colour := orderColour(fmt.Sprintf("order-%d", n))
		used[colour] = true
		if colour == red || colour == green {
			t.Errorf("order %d has the colour of a sign", n)
		}
	}
	if len(used) < len(orderColours)/2 {
		t.Errorf("a hundred orders have only %d colours", len(used))
	}
}

func TestWrap_BreaksBetweenWords(t *testing.T) {
	t.Parallel()
	text := "the broker is stopped: its port is closed and every connection cut; what it has stays"
	got := wrap(text, 40, "\n  ")
	for _, line := range strings.Split(got, "\n  ") {
		if utf8.RuneCountInString(line) >= 40 {
			t.Errorf("a line is too long: %q", line)
		}
	}
	if strings.ReplaceAll(got, "\n  ", " ") != text {
		t.Errorf("got %q", got)
	}
}

// stuck is a terminal that does not take what is written to it.
type stuck struct{ taken chan []byte }

func (w stuck) Write(p []byte) (int, error) {
	w.taken <- p
	return len(p), nil
}

func TestScreen_HoldsNobodyUpWhenItsTerminalIsSlow(t *testing.T) {
	t.Parallel()
	terminal := stuck{make(chan []byte)}
	s := newTestScreen(new(bytes.Buffer), 80, false)
	s.out = terminal
	go s.run()
	const lines = 10_000
	for n := range lines {
		s.line("✓", fmt.Sprintf("order-%d", n), "order.created", "")
	}
	s.news("●", "", "the relay is dead") // what matters is never left out
	closed := make(chan struct{})
	go func() { s.close(t.Context()); close(closed) }()
	var got []byte
	for open := true; open; {
		select {
		case p := <-terminal.taken:
			got = append(got, p...)
		case <-closed:
			open = false
		}
	}
	shown := bytes.Count(got, []byte("order.created"))
	left := 0 // in all that was written at a time
	for _, found := range regexp.MustCompile(`… (\d+) lines are left out`).FindAllSubmatch(got, -1) {
		n, err := strconv.Atoi(string(found[1]))
		if err != nil {
			t.Fatal(err)
		}
		left += n
	}
	if left == 0 || shown+left != lines {
		t.Errorf("of %d lines %d were shown, and it says that %d are left out", lines, shown, left)
	}
	if !bytes.Contains(got, []byte("the relay is dead")) {
		t.Error("the news was left out")
	}
}

// pendingText is what is still to be written.
func (s *screen) pendingText() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending.String()
}

func TestScreen_SaysBalancedOnlyOfWhatWasReadAtOnce(t *testing.T) {
	t.Parallel()
	read := time.Date(2026, 11, 21, 15, 4, 1, 0, time.UTC)
	all := Ledger{Committed: 6, Delivered: 6}
	for _, test := range []struct {
		name string
		now  figures
		want string
	}{
		{"all arrived", figures{Report: Report{Ledger: all}, at: read}, "── balanced ─"},
		{"some on their way", figures{Report: Report{Ledger: all.of(7)}, at: read}, "── in flight ─"},
		{"Postgres is down", figures{Report: Report{Ledger: all}, at: read, stale: true}, "── Postgres does not answer: figures of 15:04:01 ─"},
		{"a violation", figures{Report: Report{all, Orders{Violations: []string{"shipped twice: order-1"}}}, at: read}, "── SOMETHING IS WRONG ─"},
		{"a dead letter of a service", figures{Report: Report{all, Orders{DeadLetters: 1}}, at: read, stale: true}, "── SOMETHING IS WRONG ─"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newTestScreen(new(bytes.Buffer), 80, false)
			s.show(bottom{figures: test.now, state: "relay 1 streaming"})
			if got := s.footLines(80)[0]; !strings.HasPrefix(got, test.want) {
				t.Errorf("the heading is %q, want %q", got, test.want)
			}
		})
	}
}

func TestScreen_ShowsEverythingOnANarrowTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newTestScreen(&out, 60, false)
	s.show(someBottom)
	for _, want := range []string{"expired 0", "violations 0", "orders paused", "? help"} {
		if foot := strings.Join(s.footLines(60), "\n"); !strings.Contains(foot, want) {
			t.Errorf("%q is not in the bottom:\n%s", want, foot)
		}
	}
	s.hop("✓", "order-12", "order.created", "order[3]@123", "4.0 ms")
	s.line("-", "draft-10", "order.created", "rolled back: nobody will see it")
	want := "15:04:05 ✓ order-12 order.created order[3]@123 4.0 ms\n15:04:05 - draft-10 order.created rolled back: nobody will…\n"
	if got := s.pendingText(); got != want {
		t.Errorf("lines are\n%s, want\n%s", got, want)
	}
}
