package benchmark

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDrain_MeasuresFromTheFirstAcknowledgementToTheLast(t *testing.T) {
	t.Parallel()
	start := time.Now()
	d := Drain{Paced: Read{RowsPerSecond: 20_000}}
	d.measure([]sample{
		{at: start, published: 1000, relay: time.Second, walsender: 3 * time.Second, machine: time.Hour, inFlight: 400},
		{at: start.Add(time.Second / 2), published: 6000, relay: 2 * time.Second, walsender: 3500 * time.Millisecond, machine: time.Hour, inFlight: 800},
		{at: start.Add(2 * time.Second), published: 21_000, relay: 3 * time.Second, walsender: 4 * time.Second, machine: time.Hour + 3*time.Second, inFlight: 0},
	})
	want := Drain{
		Paced: d.Paced, EventsPerSecond: known(10_000), Ratio: known(.5),
		RelayCPU: known(100), WalsenderCPU: known(50), RelayCores: known(1), WalsenderCores: known(.5), MachineCores: known(1.5),
		InFlight: 450, AckTime: known(45), // 600 for a quarter of the time, 400 for the rest
	}
	if diff := cmp.Diff(want, d, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Error(diff)
	}
}

func TestDrain_ThatIsOverAtOnceHasNoRate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, samples := range map[string][]sample{
		"one look":  {{at: now, published: 50}},
		"two looks": {{at: now, published: 20}, {at: now.Add(20 * time.Millisecond), published: 50, relay: time.Second}},
	} {
		var d Drain
		d.measure(samples)
		if d.EventsPerSecond != nil || d.Ratio != nil || d.RelayCPU != nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestDrain_CPUThatIsNotKnownStaysSo(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var d Drain
	d.measure([]sample{{at: now, published: 1}, {at: now.Add(time.Second), published: 1001}})
	if d.EventsPerSecond == nil || d.RelayCPU != nil || d.WalsenderCPU != nil || d.MachineCores != nil || d.Ratio != nil {
		t.Errorf("%+v", d)
	}
}

func TestStopwatch_CountsWhatIsMissingAndLeavesTheWarmUpOut(t *testing.T) {
	t.Parallel()
	w := NewStopwatch(10)
	w.duplicates = 1
	for n := range w.committed {
		w.Committed(n, w.start.Add(time.Second))
		w.arrived[n] = time.Second + time.Duration(n)*time.Millisecond
	}
	w.arrived[1], w.arrived[5] = 0, 0
	// 2, 3, 4, 6, 7, 8, 9 ms
	want := &Latency{Events: 7, P50: 6, P99: 9, Max: 9, Missing: 2, Duplicate: 1}
	if diff := cmp.Diff(want, w.Result(2), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Error(diff)
	}
	if p := Percentile(nil, .5); p != 0 {
		t.Errorf("percentile of nothing is %v", p)
	}
}

func TestNextLook_LeavesADrainAloneUntilItsEndIsNear(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		took         time.Duration
		events, left uint64
		want         time.Duration
	}{
		{0, 0, 1_000_000, 20 * time.Millisecond}, // nothing is known yet
		{20 * time.Millisecond, 10, 3000, 20 * time.Millisecond},
		{time.Second, 100_000, 900_000, 250 * time.Millisecond},
		{9 * time.Second, 900_000, 20_000, 100 * time.Millisecond},
		{10 * time.Second, 999_999, 1, 20 * time.Millisecond},
	} {
		if got := NextLook(tc.took, tc.events, tc.left); got.Round(time.Millisecond) != tc.want {
			t.Errorf("%d events in %v, %d left: %v, want %v", tc.events, tc.took, tc.left, got, tc.want)
		}
	}
}
