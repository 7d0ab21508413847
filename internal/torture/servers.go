package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is one that the harness started itself, by a script of testdata/servers, and may
// therefore stop and crash. A nil server is somebody else's.
type server struct {
	script string
	dir    string
	env    map[string]string
}

// startServer runs the script's start action in a new directory.
func startServer(ctx context.Context, name string, options ...string) (*server, error) {
	root, err := checkout()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "postrider-torture-")
	if err != nil {
		return nil, err
	}
	// Started by root, the server runs as another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	s := &server{script: filepath.Join(root, "testdata", "servers", name), dir: dir, env: map[string]string{}}
	if err := s.do(ctx, "start", options...); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// do calls the script and keeps the variables that it exports.
func (s *server) do(ctx context.Context, action string, options ...string) error {
	cmd := exec.CommandContext(ctx, s.script, append([]string{action, s.dir}, options...)...)
	// Ctrl-C is for us: a fault that has begun is carried through. When ctx ends, the script
	// ends what it has half started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(s.script), action, err, strings.TrimSpace(stderr.String()))
	}
	env := map[string]string{}
	for line := range strings.Lines(stdout.String()) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "="); ok {
			env[name] = strings.Trim(value, "'")
		}
	}
	maps.Copy(s.env, env)
	return nil
}

// list returns a variable that holds addresses.
func (s *server) list(name string) []string { return strings.Split(s.env[name], ",") }

// close ends the server and removes its files.
func (s *server) close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = s.do(ctx, "stop", "--immediate")
	_ = os.RemoveAll(s.dir)
}

// checkout returns the root of the module's checkout, which has the scripts and the relay's
// source.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "testdata", "servers", "lib.sh")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("not inside a checkout of postrider: start it there, it needs testdata/servers and the source")
		}
		dir = filepath.Dir(dir)
	}
}

// buildRelay builds the relay with its failpoints into dir and returns the binary's path.
func buildRelay(ctx context.Context, dir string) (string, error) {
	root, err := checkout()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "postrider")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "failpoints", "-o", binary, "./cmd/postrider")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the relay: %w\n%s", err, out)
	}
	return binary, nil
}

// Servers are a Postgres and a Kafka for any number of runs, and the harness's own where
// they are not nil.
type Servers struct {
	PostgresURL string
	Brokers     []string
	// Proxy are addresses that the brokers advertise on a listener of its own, at Proxied:
	// who listens there stands between them and the relay. None allows no faults of that
	// network. One run at a time can use them.
	Proxy, Proxied []string

	postgres *server
	kafka    *server
	nodes    int

	building sync.Mutex
	built    string // the directory with the relay that was built
}

// OpenServers starts what cfg names no address of.
func OpenServers(ctx context.Context, cfg Config) (*Servers, error) {
	cfg = cfg.withDefaults()
	s := &Servers{PostgresURL: cfg.PostgresURL, Brokers: cfg.Brokers, nodes: cfg.Nodes}
	var err error
	if s.PostgresURL == "" {
		cfg.phase("starting Postgres")
		if s.postgres, err = startServer(ctx, "postgres.sh"); err != nil {
			return nil, err
		}
		s.PostgresURL = s.postgres.env["POSTGRES_URL"]
	}
	if len(s.Brokers) == 0 {
		cfg.phase("starting Kafka")
		if s.kafka, err = startServer(ctx, "kafka.sh", "--nodes", fmt.Sprint(cfg.Nodes)); err != nil {
			s.Close()
			return nil, err
		}
		s.Brokers = s.kafka.list("KAFKA_BROKERS")
		s.Proxy, s.Proxied = s.kafka.list("KAFKA_PROXY"), s.kafka.list("KAFKA_PROXIED")
	}
	return s, nil
}

// binary returns the relay to run, which it builds once.
func (s *Servers) binary(ctx context.Context, cfg Config) (string, error) {
	if cfg.Binary != "" {
		return cfg.Binary, nil
	}
	s.building.Lock()
	defer s.building.Unlock()
	if s.built == "" {
		cfg.phase("building the relay")
		dir, err := os.MkdirTemp("", "postrider-torture-bin-")
		if err != nil {
			return "", err
		}
		if _, err := buildRelay(ctx, dir); err != nil {
			_ = os.RemoveAll(dir)
			return "", err
		}
		s.built = dir
	}
	return filepath.Join(s.built, "postrider"), nil
}

// Close ends the servers that OpenServers started.
func (s *Servers) Close() {
	if s.built != "" {
		_ = os.RemoveAll(s.built)
	}
	s.kafka.close()
	s.postgres.close()
}
