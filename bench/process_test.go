package bench_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const stopTimeout = 15 * time.Second

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
		if err := results.write(code == 0); err != nil {
			fmt.Fprintln(os.Stderr, "write the results:", err)
			code = 1
		}
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

// process is a running program.
type process struct {
	b       *testing.B
	cmd     *exec.Cmd
	logFile string
	exited  chan struct{} // closed when the process has ended
	stopped bool
}

// start runs cmd until stop is called or the benchmark ends. Its first line on standard
// output is sent to firstLine, unless that is nil.
func start(b *testing.B, cmd *exec.Cmd, firstLine chan<- string) *process {
	b.Helper()
	log, err := os.CreateTemp(b.TempDir(), "log")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	p := &process{b: b, cmd: cmd, logFile: log.Name(), exited: make(chan struct{})}
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatalf("start %s: %v", cmd, err)
	}
	b.Cleanup(p.stop)
	go func() {
		defer close(p.exited)
		lines := bufio.NewReader(stdout)
		line, _ := lines.ReadString('\n')
		if firstLine != nil {
			firstLine <- line
		}
		_, _ = lines.WriteTo(io.Discard)
		_ = cmd.Wait() // the log says why it ended
	}()
	return p
}

// startPostrider runs a subcommand of the binary, with env beside our own environment.
func startPostrider(b *testing.B, env []string, firstLine chan<- string, args ...string) *process {
	b.Helper()
	binary, err := postrider()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), env...)
	return start(b, cmd, firstLine)
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

// log returns the end of what the process wrote to standard error.
func (p *process) log() string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return string(text[max(len(text)-10_000, 0):])
}

// await asks look every interval until it is done. It loses patience when the mark stays the
// same for too long, and when the process ends.
func (p *process) await(what string, interval time.Duration, look func() (done bool, mark int64)) {
	p.b.Helper()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	moved, before := time.Now(), int64(0)
	for {
		done, mark := look()
		if done {
			return
		}
		if mark != before {
			moved, before = time.Now(), mark
		}
		if time.Since(moved) > patience {
			p.b.Fatalf("%s stood still for %v before %s\n%s", p.cmd.Path, patience, what, p.log())
		}
		select {
		case <-tick.C:
		case <-p.exited:
			p.b.Fatalf("%s ended before %s\n%s", p.cmd.Path, what, p.log())
		case <-p.b.Context().Done():
			p.b.Fatal(p.b.Context().Err())
		}
	}
}

// registryProcess is a running registry.
type registryProcess struct {
	*process
	url string
}

// startRegistry runs a registry, with env beside our own environment. Unless that says
// otherwise it forgets everything on exit.
func startRegistry(b *testing.B, env []string) *registryProcess {
	b.Helper()
	firstLine := make(chan string, 1)
	p := startPostrider(b, env, firstLine, "registry", "--listen", "127.0.0.1:0")
	line := <-firstLine
	_, address, ok := strings.Cut(strings.TrimSpace(line), "http://")
	if !ok {
		b.Fatalf("the registry said %q, want its address\n%s", line, p.log())
	}
	return &registryProcess{process: p, url: "http://" + address}
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
