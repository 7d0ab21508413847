package bench_test

import (
	"embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/internal/testserver"
)

//go:embed debezium/*.properties
var debeziumFiles embed.FS

const debeziumScript = "debezium/debezium.sh"

// fetchDebezium has everything fetched that Debezium needs, or says once why it cannot be had.
var fetchDebezium = sync.OnceValue(func() error {
	if os.Getenv("BENCH_DEBEZIUM") == "off" {
		return errors.New("BENCH_DEBEZIUM=off")
	}
	out, err := exec.Command(debeziumScript, "fetch").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		fmt.Fprintln(os.Stderr, "no Debezium, all else goes on:", err)
		return err
	}
	results.note("Debezium", strings.TrimSpace(string(out)))
	return nil
})

func debeziumAvailable() bool { return fetchDebezium() == nil }

// BenchmarkDebezium measures the latency of Debezium as BenchmarkLatency does that of the
// relay. Its rate is measured by BenchmarkDrain, beside the relay's.
func BenchmarkDebezium(b *testing.B) {
	for _, settings := range []string{"default", "latency"} {
		b.Run("500-per-second/"+settings, func(b *testing.B) {
			if !debeziumAvailable() {
				for b.Loop() { // else it would be run again and again
				}
				return
			}
			r := newRig(b)
			measured := newFigures()
			for b.Loop() {
				run := func(topic, slot string) *process { return r.startDebezium(settings, topic, slot) }
				r.latency(run, timetable{rate: 500, perTransaction: 1}, measured)
			}
			measured.report(b)
		})
	}
}

// drainByDebezium lets Debezium publish the loaded events as fast as it can, and returns how
// many it published in a second.
func (r *rig) drainByDebezium(events int, measured *figures) float64 {
	r.b.Helper()
	topic, before := r.usedTopic(partitions)
	slot := r.loadedSlot()
	started := time.Now()
	run := r.startDebezium("throughput", topic, slot)
	var (
		first, last progress
		starting    time.Duration // the CPU time that the start of Java takes
	)
	run.await(fmt.Sprintf("%d events were published", events), 5*pollInterval, func() (bool, int64) { // the broker has other things to do
		_, records := r.ends(topic)
		last = progress{time.Now(), records - before}
		if first.events == 0 {
			first = last
			starting, _ = benchmark.CPUTime(run.pid())
		}
		return last.events >= int64(events), records
	})
	if last.at.Equal(first.at) {
		r.b.Fatalf("Debezium published all %d events between two looks: raise BENCH_EVENTS", events)
	}
	perSecond := rate(first, last)
	measured.add("debezium_events/s", perSecond)
	if after, ok := benchmark.CPUTime(run.pid()); ok {
		measured.add("debezium_cpu_s/1M", (after-starting).Seconds()*1e6/float64(last.events-first.events))
	}
	measured.cost(r.b, "debezium_walsender_cpu_s/1M", r.walsender(slot), events)
	measured.memory(r.b, "debezium_peak_rss_MB", run.pid())
	run.stop()
	r.dropSlot(slot)
	r.b.Logf("Debezium: %d events in %v, the first after %v; load average %s", events,
		last.at.Sub(first.at).Round(time.Millisecond), first.at.Sub(started).Round(time.Millisecond), loadAverage())
	if last.events != int64(events) {
		r.b.Fatalf("topic has %d records more of Debezium, want %d\n%s", last.events, events, run.log())
	}
	return perSecond
}

// startDebezium runs Debezium with the settings of that name.
func (r *rig) startDebezium(settings, topic, slot string) *process {
	r.b.Helper()
	dir := r.b.TempDir()
	u, err := url.Parse(r.url)
	if err != nil {
		r.b.Fatal(err)
	}
	password, _ := u.User.Password()
	port := u.Port()
	if port == "" {
		port = "5432"
	}
	values := map[string]string{
		"BROKERS": strings.Join(testserver.Kafka(r.b), ","), "LISTEN": freeAddress(r.b), "DIR": dir,
		"HOST": u.Hostname(), "PORT": port, "USER": u.User.Username(), "PASSWORD": password,
		"DATABASE": strings.TrimPrefix(u.Path, "/"), "SLOT": slot, "PUBLICATION": r.name, "TOPIC": topic,
	}
	write := func(to string, names ...string) string {
		var text string
		for _, name := range names {
			part, err := debeziumFiles.ReadFile("debezium/" + name + ".properties")
			if err != nil {
				r.b.Fatal(err)
			}
			text += string(part)
		}
		file := filepath.Join(dir, to)
		text = os.Expand(text, func(name string) string { return values[name] })
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			r.b.Fatal(err)
		}
		return file
	}
	cmd := exec.Command(debeziumScript, "run", write("worker.properties", "worker"), write("connector.properties", "connector", settings))
	return start(r.b, cmd, nil)
}
