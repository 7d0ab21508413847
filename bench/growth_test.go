package bench_test

import (
	"fmt"
	"slices"
	"testing"
)

// The benchmarks of growth show whether a drain gets slower with more of something. Each
// repetition drains every size in turn. x_base@N is the rate beside that of the first size,
// x_worst the lowest of them.

// BenchmarkGrowthEventTypes has ever more subjects with a schema each.
func BenchmarkGrowthEventTypes(b *testing.B) {
	var points []point
	for _, types := range []int{1, 10, 100, 1000} {
		points = append(points, point{types, partitions, func(r *rig, events int) { r.loadTyped(events, 100, types) }})
	}
	benchmarkGrowth(b, points)
}

// BenchmarkGrowthPartitions has topics of ever more partitions.
func BenchmarkGrowthPartitions(b *testing.B) {
	points := []point{{1, 1, func(r *rig, events int) { r.loadJSON(events, 100) }}}
	for _, n := range []int{8, 50, 500} {
		points = append(points, point{n, n, nil})
	}
	benchmarkGrowth(b, points)
}

// BenchmarkGrowthTransaction has ever larger transactions, which Postgres sends ever faster.
func BenchmarkGrowthTransaction(b *testing.B) {
	var points []point
	for _, rows := range []int{1, 10, 100, 1000} {
		points = append(points, point{rows, partitions, func(r *rig, events int) { r.loadJSON(events, rows) }})
	}
	benchmarkGrowth(b, points)
}

// point is a size at which the rate is measured.
type point struct {
	size, partitions int
	load             func(r *rig, events int) // nil leaves what the point before has loaded
}

func benchmarkGrowth(b *testing.B, points []point) {
	events := setting(b, "BENCH_EVENTS", defaultEvents)
	// A database for each backlog: all of them are read in every repetition.
	rigs := make([]*rig, len(points))
	for i, p := range points {
		if p.load == nil {
			rigs[i] = rigs[i-1]
			continue
		}
		rigs[i] = newRig(b)
		p.load(rigs[i], events)
	}
	measured := newFigures()
	for b.Loop() {
		var ratios []float64
		base := 0.0
		for i, p := range points {
			one := newFigures()
			perSecond := rigs[i].drain(events, p.partitions, one)
			if i == 0 {
				base = perSecond
			}
			ratios = append(ratios, perSecond/base)
			measured.add(fmt.Sprintf("events/s@%d", p.size), perSecond)
			measured.add(fmt.Sprintf("x_base@%d", p.size), perSecond/base)
			measured.add(fmt.Sprintf("relay_cpu_s/1M@%d", p.size), one.of("relay_cpu_s/1M").median)
			measured.add(fmt.Sprintf("peak_rss_MB@%d", p.size), one.of("peak_rss_MB").median)
		}
		measured.add("x_worst", slices.Min(ratios))
	}
	measured.report(b)
}
