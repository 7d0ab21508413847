package bench_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

const (
	// patience is how long a relay may stand still. Postgres decodes a large transaction for
	// long before it sends anything.
	patience     = 3 * time.Minute
	pollInterval = 20 * time.Millisecond
	stopTimeout  = 15 * time.Second
)

// programs is the directory that the binary is built into.
var programs string

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "postrider-bench-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(programs)
		os.Exit(code)
	}))
}

// postrider builds the binary as `make build` does and returns its path.
var postrider = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programs, "postrider")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/postrider/postrider/cmd/postrider")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(build.Args, " "), err, out)
	}
	return path, nil
})

// process is a running subcommand of postrider.
type process struct {
	b       *testing.B
	cmd     *exec.Cmd
	logFile string
	exited  chan struct{} // closed when the process has ended
	stopped bool
}

// start runs postrider until stop is called or the benchmark ends. Its first line on
// standard output is sent to firstLine, unless that is nil.
func (r *rig) start(firstLine chan<- string, args ...string) *process {
	r.b.Helper()
	binary, err := postrider()
	if err != nil {
		r.b.Fatal(err)
	}
	log, err := os.CreateTemp(r.b.TempDir(), args[0])
	if err != nil {
		r.b.Fatal(err)
	}
	defer log.Close()
	p := &process{b: r.b, cmd: exec.Command(binary, args...), logFile: log.Name(), exited: make(chan struct{})}
	p.cmd.Stderr = log
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		r.b.Fatalf("start %s: %v", p.cmd, err)
	}
	r.b.Cleanup(p.stop)
	go func() {
		defer close(p.exited)
		lines := bufio.NewReader(stdout)
		line, _ := lines.ReadString('\n')
		if firstLine != nil {
			firstLine <- line
		}
		_, _ = lines.WriteTo(io.Discard)
		_ = p.cmd.Wait() // the log says why it ended
	}()
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process, and returns when it is gone.
func (p *process) stop() {
	p.b.Helper()
	if p.stopped {
		return
	}
	p.stopped = true
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.exited
		p.b.Errorf("%s did not end within %v of SIGTERM\n%s", p.cmd, stopTimeout, p.log())
	}
}

// log returns what the process wrote to standard error.
func (p *process) log() string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// startRegistry runs a registry that forgets everything on exit, and returns its URL.
func (r *rig) startRegistry() string {
	r.b.Helper()
	firstLine := make(chan string, 1)
	p := r.start(firstLine, "registry", "--listen", "127.0.0.1:0")
	line := <-firstLine
	_, address, ok := strings.Cut(strings.TrimSpace(line), "http://")
	if !ok {
		r.b.Fatalf("the registry said %q, want its address\n%s", line, p.log())
	}
	return "http://" + address
}

// relayProcess is a running relay.
type relayProcess struct {
	*process
	statusURL string
}

// startRelay runs a relay with default settings that publishes to topic what slot holds.
func (r *rig) startRelay(topic, slot string) *relayProcess {
	r.b.Helper()
	listen := freeAddress(r.b)
	config, err := yaml.Marshal(map[string]any{
		"name":     "bench",
		"postgres": map[string]any{"url": r.url, "slot": slot, "publication": r.name},
		"outbox":   map[string]any{"topic": topic},
		"kafka":    map[string]any{"brokers": testserver.Kafka(r.b)},
		"registry": map[string]any{"url": r.registryURL},
		"http":     map[string]any{"listen": listen},
	})
	if err != nil {
		r.b.Fatal(err)
	}
	file := filepath.Join(r.b.TempDir(), "postrider.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		r.b.Fatal(err)
	}
	return &relayProcess{process: r.start(nil, "relay", "-c", file), statusURL: "http://" + listen + "/status"}
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// progress is how many events were acknowledged when.
type progress struct {
	at        time.Time
	published uint64
}

// awaitPublished returns when the relay has published so many events, with the first
// progress that was seen and the last.
func (p *relayProcess) awaitPublished(events int) (first, last progress) {
	p.b.Helper()
	p.await(fmt.Sprintf("%d events published", events), func(s relay.StatusReport) (done bool, mark uint64) {
		last = progress{time.Now(), s.Published}
		if first.published == 0 {
			first = last
		}
		return s.Published >= uint64(events), s.Published
	})
	return first, last
}

func (p *relayProcess) awaitStreaming() {
	p.b.Helper()
	p.await("streaming", func(s relay.StatusReport) (done bool, mark uint64) {
		return s.Phase == relay.PhaseStreaming, 0
	})
}

// await polls the relay's status until look is done with it. It loses patience when the
// mark stays the same for too long.
func (p *relayProcess) await(what string, look func(relay.StatusReport) (done bool, mark uint64)) {
	p.b.Helper()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	moved, before := time.Now(), uint64(0)
	for {
		report, err := p.status(p.b.Context(), client)
		if err == nil {
			done, mark := look(report)
			if done {
				return
			}
			if mark != before {
				moved, before = time.Now(), mark
			}
		}
		if time.Since(moved) > patience {
			p.b.Fatalf("relay stood still for %v before %s: %v, status %+v\n%s", patience, what, err, report, p.log())
		}
		select {
		case <-tick.C:
		case <-p.exited:
			p.b.Fatalf("relay ended before %s\n%s", what, p.log())
		case <-p.b.Context().Done():
			p.b.Fatal(p.b.Context().Err())
		}
	}
}

func (p *relayProcess) status(ctx context.Context, client *http.Client) (report relay.StatusReport, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.statusURL, nil)
	if err != nil {
		return report, err
	}
	response, err := client.Do(request)
	if err != nil {
		return report, err
	}
	defer response.Body.Close()
	return report, json.NewDecoder(response.Body).Decode(&report)
}

// cpuOf returns the CPU time that a process has used since its start.
func (r *rig) cpuOf(pid int) (time.Duration, bool) {
	r.b.Helper()
	cpu, err := cpuTime(pid)
	if err != nil {
		r.b.Logf("no figures of CPU: %v", err)
	}
	return cpu, err == nil
}

// cpuTime reads /proc/PID/stat, whose unit is 10 ms on every Linux that Go runs on.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the command in parentheses, which may itself hold some, and spaces.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	user, userErr := strconv.Atoi(fields[11])
	system, systemErr := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(userErr, systemErr)
}

// peakMemoryOf returns the bytes that a process had resident at most.
func (r *rig) peakMemoryOf(pid int) (float64, bool) {
	r.b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		r.b.Logf("no figures of memory: %v", err)
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if kB, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kB), " kB"))
			return float64(n) * 1024, err == nil
		}
	}
	return 0, false
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
