package bench_test

import (
	"crypto/sha512"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/benchmark"
)

// figures are what a benchmark has measured, by unit, one value for each repetition.
type figures struct {
	units  []string // in the order in which they were added first
	values map[string][]float64
}

func newFigures() *figures { return &figures{values: make(map[string][]float64)} }

func (f *figures) add(unit string, value float64) {
	if f.values[unit] == nil {
		f.units = append(f.units, unit)
	}
	f.values[unit] = append(f.values[unit], value)
}

// spread is a figure over all repetitions.
type spread struct {
	median, lowest, highest float64
	runs                    int
}

// of returns the spread of a unit; that of one nobody added has no runs.
func (f *figures) of(unit string) spread {
	if f == nil || len(f.values[unit]) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(f.values[unit]))
	middle := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		middle = (middle + sorted[len(sorted)/2-1]) / 2
	}
	return spread{median: middle, lowest: sorted[0], highest: sorted[len(sorted)-1], runs: len(sorted)}
}

// report reports the medians and keeps the figures for the results. The time of the whole
// loop, servers and all, says nothing and is left out.
func (f *figures) report(b *testing.B) {
	for _, unit := range f.units {
		b.ReportMetric(f.of(unit).median, unit)
	}
	b.ReportMetric(0, "ns/op")
	results.keep(b.Name(), f)
}

// cost adds what a process has used since its start, for so many events: CPU seconds for a
// million of them. The process 0 is not known.
func (f *figures) cost(b *testing.B, unit string, pid, events int) {
	b.Helper()
	if pid == 0 {
		return
	}
	cpu, ok := benchmark.CPUTime(pid)
	if !ok {
		b.Logf("no %s: the CPU time of process %d is not known", unit, pid)
		return
	}
	f.add(unit, cpu.Seconds()*1e6/float64(events))
}

// memory adds the most that a process had resident.
func (f *figures) memory(b *testing.B, unit string, pid int) {
	b.Helper()
	peak, ok := benchmark.PeakMemory(pid)
	if !ok {
		b.Logf("no %s: the memory of process %d is not known", unit, pid)
		return
	}
	f.add(unit, float64(peak)/1e6)
}

// record is what all benchmarks of a run have measured, and on what.
type record struct {
	mu      sync.Mutex
	names   []string // in the order in which the benchmarks ended
	figures map[string]*figures
	facts   [][2]string // machine and versions
	// moods are what was left of the machine before, and after each benchmark.
	moods []mood
}

var results = record{figures: make(map[string]*figures), moods: []mood{newMood()}}

func (r *record) keep(name string, f *figures) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.figures[name] == nil {
		r.names = append(r.names, name)
	}
	r.figures[name] = f
	r.moods = append(r.moods, newMood())
}

// median returns 0 for what was not measured.
func (r *record) median(name, unit string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.figures[name].of(unit).median
}

// note adds a fact, once.
func (r *record) note(what, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fact := range r.facts {
		if fact[0] == what {
			return
		}
	}
	r.facts = append(r.facts, [2]string{what, value})
}

// noteServers notes what the figures of the line depend on.
func (r *rig) noteServers() {
	r.b.Helper()
	var postgres string
	r.scan(&postgres, `SELECT format('%s, fsync %s, shared_buffers %s',
		current_setting('server_version'), current_setting('fsync'), current_setting('shared_buffers'))`)
	results.note("Postgres", postgres)
	brokers, err := r.kafka.ApiVersions(r.b.Context())
	if err != nil {
		r.b.Fatal(err)
	}
	var versions []string
	for _, broker := range brokers {
		versions = append(versions, broker.VersionGuess())
	}
	results.note("Kafka", fmt.Sprintf("%s, %d broker(s)", strings.Join(versions, ", "), len(brokers)))
}

// noteMachine notes what this machine is.
func (r *record) noteMachine() {
	model := field("/proc/cpuinfo", "model name")
	if model == "" {
		model = runtime.GOARCH
	}
	r.note("machine", fmt.Sprintf("%d cores, %s, %s of memory; servers, relay and benchmark all on it, over loopback",
		runtime.NumCPU(), model, gigabytes(field("/proc/meminfo", "MemTotal"))))
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	r.note("system", strings.TrimSpace(runtime.GOOS+" "+string(kernel)))
	r.note("Go", runtime.Version())
}

// field returns the first value of a name in a file of lines "name : value".
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func gigabytes(kilobytes string) string {
	var kB float64
	if _, err := fmt.Sscanf(kilobytes, "%f kB", &kB); err != nil {
		return "not known how much"
	}
	return fmt.Sprintf("%.0f GB", kB*1024/1e9)
}

// mood is what others leave of the machine. Where it is shared, a core can be of half the speed
// at one time, and every CPU second twice as much as at another.
type mood struct {
	load  string // the load average of the last minute
	speed string // of one core: SHA-512 of MB a second
}

func newMood() mood {
	started := time.Now()
	hash, block := sha512.New(), make([]byte, 1<<20)
	const blocks = 64
	for range blocks {
		hash.Write(block)
	}
	return mood{loadAverage(), fmt.Sprintf("%.0f", blocks*float64(len(block))/1e6/time.Since(started).Seconds())}
}

// loadAverage returns that of the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	average, _, _ := strings.Cut(string(text), " ")
	return average
}
