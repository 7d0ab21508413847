package bench_test

import (
	"testing"
	"time"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/internal/testserver"
)

// BenchmarkIdle measures what the relay costs when nothing happens in the database.
func BenchmarkIdle(b *testing.B) {
	period := time.Duration(setting(b, "BENCH_SECONDS", defaultSeconds)) * time.Second
	r := newRig(b)
	measured := newFigures()
	for b.Loop() {
		slot := r.newSlot()
		run := r.startRelay(testserver.Topic(b, partitions), slot)
		run.awaitStreaming()
		r.pause(settle)
		before, ok := benchmark.CPUTime(run.pid())
		r.pause(period)
		if after, still := benchmark.CPUTime(run.pid()); ok && still {
			measured.add("cpu_%", 100*(after-before).Seconds()/period.Seconds())
		}
		measured.memory(b, "peak_rss_MB", run.pid())
		run.stop()
		r.dropSlot(slot)
	}
	measured.report(b)
}
