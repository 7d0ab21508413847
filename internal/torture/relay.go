package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/postrider/postrider/internal/subprocess"
	"github.com/postrider/postrider/relay"
)

// instance is one of the relays that share the slot. At most one process of it lives at a
// time. Its methods are for the goroutine that injects the faults, but for status and pid.
type instance struct {
	arena  *Arena
	name   string
	config string
	log    string
	client *http.Client

	mu      sync.Mutex
	process *subprocess.Process
	exited  chan struct{} // closed when the process has ended and that was judged
	err     error         // why, valid after exited
	url     string        // of its HTTP server; empty until it has said so
	dying   bool          // its end is expected
	starts  int
}

// newInstance writes the configuration of a relay.
func newInstance(a *Arena, number int) (*instance, error) {
	i := &instance{
		arena: a, name: fmt.Sprintf("relay%d", number),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second},
	}
	i.config = filepath.Join(a.dir, i.name+".yaml")
	i.log = filepath.Join(a.dir, i.name+".log")
	return i, i.configure(nil)
}

// configure writes the configuration, with change made to it. It holds from the next start.
func (i *instance) configure(change func(map[string]any)) error {
	a := i.arena
	config := map[string]any{
		"name":             a.name,
		"postgres":         map[string]any{"url": a.relayURL()},
		"kafka":            map[string]any{"brokers": a.relayBrokers(), "dead_letter_topic": a.deadLetters},
		"registry":         map[string]any{"url": a.registry.url, "latest_ttl": "1s"},
		"http":             map[string]any{"listen": "127.0.0.1:0"},
		"on_poison":        a.cfg.OnPoison,
		"shutdown_timeout": "8s",
	}
	if change != nil {
		change(config)
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(i.config, text, 0o600)
}

// start runs the relay.
func (i *instance) start() error { return i.launch(false) }

// startDoomed runs the relay with a further variable that makes it die some time.
func (i *instance) startDoomed(variable string) error { return i.launch(true, variable) }

func (i *instance) launch(doomed bool, env ...string) error {
	log, err := os.OpenFile(i.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(i.arena.binary, "relay", "-c", i.config, "--log-format", "json")
	cmd.Env = append(os.Environ(), env...)
	if i.arena.bug != "" {
		cmd.Env = append(cmd.Env, "POSTRIDER_BUG="+i.arena.bug)
	}
	fmt.Fprintf(log, "=== start %d of %s %s\n", i.starts+1, i.name, strings.Join(env, " "))
	exited := make(chan struct{})
	i.mu.Lock()
	i.process, i.exited, i.dying, i.url, i.starts = nil, exited, doomed, "", i.starts+1
	i.mu.Unlock()
	process, err := subprocess.Start(cmd, syscall.SIGKILL, func(line string) {
		fmt.Fprintln(log, line)
		i.noteAddress(line, exited)
	})
	if err != nil {
		log.Close()
		return err
	}
	i.mu.Lock()
	i.process = process
	i.mu.Unlock()
	go func() {
		<-process.Done()
		log.Close()
		i.mu.Lock()
		defer i.mu.Unlock()
		i.err = process.Err()
		if !i.dying {
			i.arena.violate("I7", "%s ended by itself: %v; see %s", i.name, i.err, i.log)
		}
		close(exited)
	}()
	return nil
}

// noteAddress finds the address of the HTTP server in a line of the log of the process that
// closes exited.
func (i *instance) noteAddress(line string, exited chan struct{}) {
	var entry struct{ Address string }
	if json.Unmarshal([]byte(line), &entry) != nil || entry.Address == "" {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.exited == exited && i.url == "" {
		i.url = "http://" + entry.Address
	}
}

// command returns a run of another subcommand of the relay's binary.
func (a *Arena) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, a.binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	return cmd
}

// pid returns the running process, or 0.
func (i *instance) pid() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.process == nil {
		return 0
	}
	select {
	case <-i.exited:
		return 0
	default:
		return i.process.PID()
	}
}

// expectEnd says that the process may end from here on, and returns what is closed then.
func (i *instance) expectEnd() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.dying = true
	return i.exited
}

// signal sends a signal to the process.
func (i *instance) signal(s syscall.Signal) {
	if pid := i.pid(); pid != 0 {
		_ = syscall.Kill(pid, s)
	}
}

// kill ends the process by SIGKILL and returns when it is gone.
func (i *instance) kill() {
	if i.pid() == 0 {
		return
	}
	exited := i.expectEnd()
	i.signal(syscall.SIGKILL)
	<-exited
}

// stopBound is how long a relay may take from SIGTERM to its end.
const stopBound = 10 * time.Second

// stop ends the process by SIGTERM. It is a violation if that takes too long or fails.
func (i *instance) stop() {
	if i.pid() == 0 {
		return
	}
	exited, began := i.expectEnd(), time.Now()
	i.signal(syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(stopBound + 2*time.Second):
		i.kill()
		i.arena.violate("I7", "%s did not end within %v of SIGTERM; see %s", i.name, stopBound+2*time.Second, i.log)
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err != nil {
		i.arena.violate("I7", "%s ended with %v after SIGTERM; see %s", i.name, i.err, i.log)
	}
	i.arena.notice("drain", time.Since(began))
}

var errDown = errors.New("the relay does not run")

// status asks the relay for its status.
func (i *instance) status(ctx context.Context) (report relay.StatusReport, err error) {
	i.mu.Lock()
	url := i.url
	i.mu.Unlock()
	if url == "" {
		return report, errDown
	}
	return relay.FetchStatus(ctx, i.client, url)
}

// await polls the status until ok is satisfied with it.
func (i *instance) await(ctx context.Context, what string, ok func(relay.StatusReport) bool) error {
	ctx, cancel := context.WithTimeout(ctx, i.arena.cfg.Patience)
	defer cancel()
	var last relay.StatusReport
	for {
		if s, err := i.status(ctx); err == nil {
			if ok(s) {
				return nil
			}
			last = s
		}
		if !pause(ctx, 10*time.Millisecond) {
			return fmt.Errorf("%s: not within %v: %s; the status was %q", i.name, i.arena.cfg.Patience, what, last.Reason)
		}
	}
}

func (i *instance) awaitStreaming(ctx context.Context) error {
	return i.await(ctx, "streaming", func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStreaming })
}

// halted reports whether s shows a halt with that code.
func halted(s relay.StatusReport, code relay.HaltCode) bool {
	for _, t := range s.Troubles {
		if t.Code == code {
			return true
		}
	}
	return false
}

// peakMemory returns what a process has had resident at most, in bytes; 0 where the system
// does not tell.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if kB, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kB), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}
