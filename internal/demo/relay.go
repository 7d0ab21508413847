package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/postrider/postrider/internal/subprocess"
	"github.com/postrider/postrider/relay"
)

const (
	pollInterval = 20 * time.Millisecond
	// relayPause is how long the supervisor waits before it starts a relay again, as systemd
	// does by default.
	relayPause = 100 * time.Millisecond
	// relayStarts is how often in a row a relay may end before it streams.
	relayStarts = 3
)

// relayConfig is what the relay is told; all else is default.
type relayConfig struct {
	program     string // a postrider
	dir         string // for its configuration
	postgresURL string
	brokers     []string
	prefix      string // of topics
	registryURL string
	listen      string // for its status
}

// envPostgres takes the URL, in which there may be a password, to the relay: so that it is in
// no file and on no command line.
const envPostgres = "DEMO_POSTGRES_URL"

func (c relayConfig) yaml() ([]byte, error) {
	return yaml.Marshal(map[string]any{
		"name":      ownName[len("postrider_"):], // which the relay puts before it again
		"postgres":  map[string]any{"url": "${" + envPostgres + "}"},
		"outbox":    map[string]any{"topic": c.prefix + "{aggregate_type}", "retention": "0s"},
		"kafka":     map[string]any{"brokers": c.brokers, "dead_letter_topic": relayDeadLetters},
		"registry":  map[string]any{"url": c.registryURL, "latest_ttl": "1s"},
		"http":      map[string]any{"listen": c.listen},
		"on_poison": "dead-letter",
	})
}

// supervisor keeps a relay running, in a process of its own so that it can be killed.
type supervisor struct {
	cfg    relayConfig
	file   string
	screen *screen
	client *http.Client

	mu      sync.Mutex
	listen  string              // where the next is told to serve its status
	serving string              // where the one that runs does; empty before it has said so
	process *subprocess.Process // nil while none runs
	killed  bool                // the last one, by kill
	starts  int
}

func newSupervisor(cfg relayConfig, screen *screen) *supervisor {
	return &supervisor{
		cfg: cfg, screen: screen, file: filepath.Join(cfg.dir, "postrider.yaml"), listen: cfg.listen,
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second},
	}
}

// configure writes the configuration of the next relay.
func (s *supervisor) configure() error {
	cfg := s.cfg
	cfg.listen = s.listen
	text, err := cfg.yaml()
	if err != nil {
		return err
	}
	return os.WriteFile(s.file, text, 0o600)
}

// run starts the relay, and again whenever it ends, until ctx ends. Then it stops the relay:
// in order, or at once when leave ends. The relay is gone when run returns.
func (s *supervisor) run(ctx, leave context.Context) error {
	for failures := 0; ; {
		process, err := s.start()
		if err != nil {
			return fmt.Errorf("start the relay: %w", err)
		}
		streamed := s.awaitStreaming(ctx, process)
		select {
		case <-process.Done():
		case <-ctx.Done():
			stop(leave, process)
			return nil
		}
		s.mu.Lock()
		s.process, s.serving = nil, ""
		s.mu.Unlock()
		switch {
		case streamed:
			failures = 0
		case !s.wasKilled():
			failures++
		}
		if strings.Contains(process.LastLines(), cannotListen) {
			s.moveOn()
		}
		if failures == relayStarts {
			return fmt.Errorf("the relay ended %d times before it streamed: %w\n%s", failures, process.Err(), process.LastLines())
		}
		if !sleep(ctx, relayPause) {
			return nil
		}
	}
}

func (s *supervisor) start() (*subprocess.Process, error) {
	cmd := exec.Command(s.cfg.program, "relay", "-c", s.file, "--log-format", "json") //nolint:gosec // ourselves
	for _, variable := range os.Environ() {
		// None that would change the relay's configuration.
		if !strings.HasPrefix(variable, "POSTRIDER_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, envPostgres+"="+s.cfg.postgresURL)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.configure(); err != nil {
		return nil, err
	}
	process, err := subprocess.Start(cmd, syscall.SIGKILL, s.log) // its first line waits for the lock
	if err == nil {
		s.process, s.killed, s.serving = process, false, ""
		s.starts++
	}
	return process, err
}

// stop ends a relay when what is on its way has arrived, or when leave ends.
func stop(leave context.Context, process *subprocess.Process) {
	process.Signal(syscall.SIGTERM)
	select {
	case <-process.Done():
	case <-leave.Done():
		process.Kill()
	}
}

// kill ends the relay as kill -9 does, and returns its process id, 0 if none runs.
func (s *supervisor) kill() int {
	s.mu.Lock()
	process := s.process
	s.killed = s.killed || process != nil
	s.mu.Unlock()
	if process == nil {
		return 0
	}
	pid := process.PID()
	process.Kill()
	return pid
}

// cannotListen is what the relay says before its status address when it cannot have it.
const cannotListen = "http.listen: "

// moveOn has the next relay choose a free port: while none runs, somebody else may take the one
// of the last.
func (s *supervisor) moveOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listen = "127.0.0.1:0"
}

// serves takes the address at which the relay has said to serve its status. The next one keeps it.
func (s *supervisor) serves(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = address
	if address == s.listen {
		return
	}
	s.screen.news("●", yellow, "another program has taken the address of the relay's status: it is at http://%s/status now", address)
	s.listen = address
}

// url of the relay's status and metrics.
func (s *supervisor) url() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "http://" + s.listen
}

// wasKilled tells whether the relay that ended last did so by kill, which is no failure of its own.
func (s *supervisor) wasKilled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killed
}

// pid of the relay, 0 while none runs.
func (s *supervisor) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.PID()
}

// started is how many relays there have been.
func (s *supervisor) started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

// errNoStatus says that there is no relay to be asked, or not yet.
var errNoStatus = errors.New("the relay does not serve its status yet")

// status asks the relay, and nobody else who may listen at the address of the last one. It is an
// error while there is none that answers.
func (s *supervisor) status(ctx context.Context) (report relay.StatusReport, err error) {
	s.mu.Lock()
	serving := s.serving
	s.mu.Unlock()
	if serving == "" {
		return report, errNoStatus
	}
	return relay.FetchStatus(ctx, s.client, "http://"+serving)
}

// healthy tells whether the relay reads the stream and misses nothing.
func (s *supervisor) healthy(ctx context.Context) bool {
	report, err := s.status(ctx)
	return err == nil && report.Phase == relay.PhaseStreaming && report.Ready
}

// awaitStreaming returns true when the relay streams, false when it or ctx has ended before.
func (s *supervisor) awaitStreaming(ctx context.Context, process *subprocess.Process) bool {
	for {
		if report, err := s.status(ctx); err == nil && report.Phase == relay.PhaseStreaming {
			return true
		}
		select {
		case <-process.Done():
			return false
		case <-ctx.Done():
			return false
		case <-time.After(pollInterval):
		}
	}
}

// log passes on what the relay says of what it waits for.
func (s *supervisor) log(line string) {
	var entry struct {
		Level, Msg, Component, Code, Error, Hint, After, Address string
	}
	if json.Unmarshal([]byte(line), &entry) != nil {
		return
	}
	var text string
	switch {
	case entry.Address != "": // of its status
		s.serves(entry.Address)
		return
	case entry.Code != "":
		text = fmt.Sprintf("relay: %s: %s %s", entry.Code, entry.Error, entry.Hint)
	case entry.Msg == "relay waits":
		text = fmt.Sprintf("relay waits for %s: %s", entry.Component, strings.TrimPrefix(entry.Error, entry.Component+": "))
	case entry.Level == "ERROR", entry.Level == "WARN":
		text = entry.Msg + " " + entry.Error
	case entry.Msg == "relay goes on":
		text = fmt.Sprintf("relay goes on: %s is back after %s", entry.Component, entry.After)
	default:
		return
	}
	s.screen.news("●", dim, "%s", s.screen.oneLine(newsHead, text))
}

// sleep waits, and returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
