package benchmark

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
	// patience is how long a relay may stand still.
	patience    = 2 * time.Minute
	stopTimeout = 15 * time.Second
)

// child is a relay in a process of its own, so that what it costs can be told from what the
// benchmark costs.
type child struct {
	process *subprocess.Process
	dir     string
	log     childLog
	client  *http.Client
}

// childConfig is what the relay is told; all else is default.
type childConfig struct {
	name, slot, topic, subject, table string
	postgres                          relay.PostgresConfig
	kafka                             relay.KafkaConfig
	registry                          relay.RegistryConfig
	headers                           string
}

// The variables that take secrets to the relay, so that they are in no file and on no
// command line.
const (
	envPostgres         = "BENCH_POSTGRES_URL"
	envKafkaPassword    = "BENCH_KAFKA_PASSWORD"
	envRegistry         = "BENCH_REGISTRY_URL"
	envRegistryPassword = "BENCH_REGISTRY_PASSWORD"
	envRegistryToken    = "BENCH_REGISTRY_TOKEN"
)

func (c childConfig) yaml() ([]byte, error) {
	return yaml.Marshal(map[string]any{
		"name": c.name,
		"postgres": map[string]any{
			"url": "${" + envPostgres + "}", "tls": c.postgres.TLS,
			"slot": c.slot, "publication": c.postgres.Publication, "create_slot": false, "create_publication": false,
		},
		"outbox": map[string]any{
			"table": c.table, "topic": c.topic, "subject": c.subject, "headers": c.headers,
			"retention": "0s", "partitions_ahead": 0,
		},
		"kafka": map[string]any{
			"brokers": c.kafka.Brokers, "tls": c.kafka.TLS, "compression": c.kafka.Compression, "max_in_flight_bytes": c.kafka.MaxInFlightBytes,
			"sasl": map[string]any{
				"mechanism": c.kafka.SASL.Mechanism, "username": c.kafka.SASL.Username, "password": "${" + envKafkaPassword + "}",
			},
		},
		"registry": map[string]any{
			"url": "${" + envRegistry + "}", "tls": c.registry.TLS,
			"auth": map[string]any{
				"username": c.registry.Auth.Username, "password": "${" + envRegistryPassword + "}", "token": "${" + envRegistryToken + "}",
			},
		},
		"http": map[string]any{"listen": "127.0.0.1:0"},
	})
}

// environ is our own environment without the variables that would change the relay's
// configuration, and with the secrets.
func (c childConfig) environ() []string {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "POSTRIDER_") {
			env = append(env, variable)
		}
	}
	return append(env,
		envPostgres+"="+string(c.postgres.URL),
		envKafkaPassword+"="+string(c.kafka.SASL.Password),
		envRegistry+"="+string(c.registry.URL),
		envRegistryPassword+"="+string(c.registry.Auth.Password),
		envRegistryToken+"="+string(c.registry.Auth.Token))
}

// startChild runs program as a relay until stop is called.
func startChild(program string, c childConfig) (*child, error) {
	text, err := c.yaml()
	if err != nil {
		return nil, err
	}
	p := &child{
		client: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second},
	}
	if p.dir, err = os.MkdirTemp("", namePrefix); err != nil {
		return nil, err
	}
	file := filepath.Join(p.dir, "postrider.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	cmd := exec.Command(program, "relay", "-c", file, "--log-format", "json")
	cmd.Env = c.environ()
	if p.process, err = subprocess.Start(cmd, syscall.SIGKILL, p.log.take); err != nil {
		return nil, errors.Join(fmt.Errorf("start the relay: %w", err), os.RemoveAll(p.dir))
	}
	return p, nil
}

// stop ends the process and returns when it is gone. It may be called again.
func (p *child) stop() error {
	p.client.CloseIdleConnections()
	if !p.process.End(syscall.SIGTERM, stopTimeout) {
		p.process.Kill()
	}
	return os.RemoveAll(p.dir)
}

// await asks for the relay's status until look is done with it, which says how soon to ask
// again, 0 for not at all. It gives up when the relay ends, when it stands in a named halt,
// and when the mark that look returns stays the same for too long.
func (p *child) await(ctx context.Context, what string, look func(relay.StatusReport) (again time.Duration, mark uint64)) error {
	moved, before := time.Now(), uint64(0)
	for {
		again := pollInterval
		report, err := p.status(ctx)
		if err == nil {
			var mark uint64
			if again, mark = look(report); again == 0 {
				return nil
			}
			if mark != before {
				moved, before = time.Now(), mark
			}
			for _, t := range report.Troubles {
				if t.Code != "" {
					return fmt.Errorf("the relay halts before %s: %s: %s; %s", what, t.Code, t.Message, t.Hint)
				}
			}
		}
		if time.Since(moved) > patience {
			return fmt.Errorf("the relay stood still for %v before %s: %s%s", patience, what, report.Reason, p.lastLines())
		}
		select {
		case <-time.After(again):
		case <-p.process.Done():
			return fmt.Errorf("the relay ended before %s%s", what, p.lastLines())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *child) awaitStreaming(ctx context.Context) error {
	return p.await(ctx, "it streamed", func(s relay.StatusReport) (again time.Duration, mark uint64) {
		if s.Phase == relay.PhaseStreaming {
			return 0, 0
		}
		return pollInterval, 0
	})
}

func (p *child) status(ctx context.Context) (report relay.StatusReport, err error) {
	address := p.log.address()
	if address == "" {
		return report, errors.New("the relay has not said its address yet")
	}
	return relay.FetchStatus(ctx, p.client, "http://"+address)
}

// lastLines returns the last lines of the relay's log, to end an error with.
func (p *child) lastLines() string {
	if lines := p.process.LastLines(); lines != "" {
		return "; its log ends with\n  " + strings.ReplaceAll(lines, "\n", "\n  ")
	}
	return ""
}

// childLog finds the address of the HTTP server in the relay's log.
type childLog struct {
	mu      sync.Mutex
	serving string
}

func (l *childLog) take(line string) {
	var entry struct {
		Address string `json:"address"`
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.serving == "" && json.Unmarshal([]byte(line), &entry) == nil {
		l.serving = entry.Address
	}
}

func (l *childLog) address() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.serving
}
