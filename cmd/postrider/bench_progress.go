package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// benchBar shows how far a benchmark is: which measurement of how many, and how much of it.
type benchBar struct {
	w         io.Writer // nil shows nothing
	step      string
	begun, in int // measurements
	bar       *progressbar.ProgressBar
}

// newBenchBar expects a load and three reads for each of rows, and the latency if it is
// measured. It shows itself on a terminal only.
func newBenchBar(w io.Writer, rows []int, latency bool) *benchBar {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		w = nil
	}
	b := &benchBar{w: w, in: 4 * len(rows)}
	if latency {
		b.in++
	}
	return b
}

// show tells how much of a step is done. One with a total is a measurement.
func (b *benchBar) show(step string, done, total int) {
	if b.w == nil {
		return
	}
	if step != b.step {
		b.end()
		b.step = step
		options := []progressbar.Option{
			progressbar.OptionSetWriter(b.w), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100 * time.Millisecond),
			progressbar.OptionSetWidth(16), progressbar.OptionSetElapsedTime(false),
		}
		if total > 0 {
			b.begun++
			// The text goes before the bar, and all of it into 80 columns.
			options = append(options, progressbar.OptionSetDescription(fmt.Sprintf("%2d/%d %-38s", b.begun, b.in, step)), progressbar.OptionSetPredictTime(true))
			b.bar = progressbar.NewOptions(total, options...)
		} else {
			b.bar = progressbar.NewOptions(-1, append(options, progressbar.OptionSetDescription(step))...)
		}
	}
	if total > 0 {
		_ = b.bar.Set(min(done, total-1)) // at the end it would go before the step does
	} else {
		_ = b.bar.Add(0)
	}
}

// end removes the bar.
func (b *benchBar) end() {
	if b.bar != nil {
		_ = b.bar.Finish() // or it goes on turning, over what is written next
		b.bar, b.step = nil, ""
	}
}
