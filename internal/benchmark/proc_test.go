package benchmark

import (
	"os"
	"runtime"
	"testing"
	"time"
)

func TestParseStat_TakesAnyCommandName(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stat string
		want time.Duration
		ok   bool
	}{
		"ordinary":    {"42 (postgres) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 5 6 7", 2 * time.Second, true},
		"parentheses": {"42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 1 2 0 0 20", 30 * time.Millisecond, true},
		"cut":         {"42 (postgres) S 1 42", 0, false},
		"no number":   {"42 (postgres) S 1 42 42 0 -1 4194560 1 2 3 4 x 50 0", 0, false},
		"empty":       {"", 0, false},
	} {
		got, ok := parseStat([]byte(tc.stat))
		if ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: %v, %v, want %v, %v", name, got, ok, tc.want, tc.ok)
		}
	}
}

func TestParseMachineStat_LeavesIdlenessOut(t *testing.T) {
	t.Parallel()
	got, ok := parseMachineStat([]byte("cpu  100 1 50 9000 800 2 3 44 5 6\ncpu0 1 2 3\n"))
	if want := 2 * time.Second; got != want || !ok {
		t.Errorf("%v, %v, want %v", got, ok, want)
	}
	for _, wrong := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu a 1 1 1 1 1 1 1"} {
		if _, ok := parseMachineStat([]byte(wrong)); ok {
			t.Errorf("%q was taken", wrong)
		}
	}
}

func TestProc_KnowsThisProcessAndNoOther(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		if _, ok := CPUTime(os.Getpid()); ok {
			t.Error("CPU times are known where there is no /proc")
		}
		return
	}
	if bytes, ok := PeakMemory(os.Getpid()); !ok || bytes < 1<<20 {
		t.Errorf("peak memory %d, %v", bytes, ok)
	}
	if _, ok := CPUTime(os.Getpid()); !ok {
		t.Error("own CPU time is not known")
	}
	if busy, ok := machineTime(); !ok || busy <= 0 {
		t.Errorf("the machine was busy for %v, %v", busy, ok)
	}
	if IsWalsender(os.Getpid()) {
		t.Error("this process is taken for a walsender")
	}
	if _, ok := CPUTime(0); ok {
		t.Error("there is a process 0")
	}
}
