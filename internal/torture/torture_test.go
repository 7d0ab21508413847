package torture

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testserver"
)

// seed makes the tests inject the same faults every time.
const seed = 4

// proxying is held by the one test that stands in the place of the shared broker's proxy.
var proxying sync.Mutex

// sharedServers returns the servers of `make test`, or nil.
func sharedServers() *Servers {
	url, brokers := os.Getenv("POSTGRES_URL"), os.Getenv("KAFKA_BROKERS")
	if url == "" || brokers == "" {
		return nil
	}
	s := &Servers{PostgresURL: url, Brokers: strings.Split(brokers, ",")}
	if proxy := os.Getenv("KAFKA_PROXY"); proxy != "" {
		s.Proxy, s.Proxied = strings.Split(proxy, ","), strings.Split(os.Getenv("KAFKA_PROXIED"), ",")
	}
	return s
}

// torture runs cfg on the shared servers.
func torture(t *testing.T, cfg Config) *Report {
	t.Helper()
	return tortureOn(t, cfg, serversFor(t, cfg))
}

// serversFor returns the shared servers, which must have what cfg needs.
func serversFor(t *testing.T, cfg Config) *Servers {
	t.Helper()
	if servers == nil {
		testserver.Absent(t, "POSTGRES_URL or KAFKA_BROKERS is not set; `make test` starts the servers and sets both")
	}
	for _, name := range cfg.Script {
		if lacks := FaultNamed(name).Needs.missing(servers); lacks != "" {
			testserver.Absent(t, "fault "+name+" needs "+lacks)
		}
	}
	return servers
}

func tortureOn(t *testing.T, cfg Config, servers *Servers) *Report {
	t.Helper()
	cfg.Seed, cfg.Dir = seed, t.TempDir()
	cfg.Writers, cfg.Rate, cfg.Large = 2, 100, 500
	cfg.Slack = 15 * time.Second // other tests run beside
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	report, err := RunOn(t.Context(), cfg, servers)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	report.Print(&text)
	t.Logf("seed %d\n%s", seed, &text)
	return report
}

func TestRelay_StandsAtEveryCrashPoint(t *testing.T) {
	t.Parallel()
	report := torture(t, Config{Script: []string{
		"crash-read", "crash-decoded", "crash-encoded", "crash-enqueued", "crash-appended", "crash-acked", "crash-confirmed",
	}})
	if !report.OK() {
		t.Errorf("broken: %v", report.Failed())
	}
}

func TestRelay_StandsWhatHappensToIt(t *testing.T) {
	t.Parallel()
	proxying.Lock()
	defer proxying.Unlock()
	report := torture(t, Config{Script: []string{
		"kill", "kill-waiting", "kill-stalled", "term", "term-waiting", "walsender", "kafka-reset", "kill",
		"postgres-cut-answer", "kafka-cut-request", "registry-5xx", "poison",
	}})
	if !report.OK() {
		t.Errorf("broken: %v", report.Failed())
	}
}

func TestRelay_StandsFaultsOfChance(t *testing.T) {
	t.Parallel()
	report := torture(t, Config{Duration: 12 * time.Second, Relays: 2, Faults: []string{"kill", "takeover-kill", "takeover-term", "walsender", "rows-changed"}})
	if !report.OK() {
		t.Errorf("broken: %v", report.Failed())
	}
}

// The first crash hands the slot to the standby: the second must strike all the same.
func TestRelay_StandsCrashPointsBesideAStandby(t *testing.T) {
	t.Parallel()
	report := torture(t, Config{Relays: 2, Script: []string{"kill", "crash-appended", "kill", "term"}})
	if !report.OK() {
		t.Errorf("broken: %v", report.Failed())
	}
}

func TestRelay_StandsCrashesOfItsServers(t *testing.T) {
	t.Parallel()
	testserver.Kafka(t) // where the shared one cannot be had, a private one cannot either
	private, err := OpenServers(t.Context(), Config{Nodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(private.Close)
	report := tortureOn(t, Config{Script: []string{"pg-crash", "broker-kill"}}, private)
	if !report.OK() {
		t.Errorf("broken: %v", report.Failed())
	}
}

// A checker that cannot fail proves nothing: each bug must be seen, by a script that a relay
// without it passes above.
func TestChecker_SeesEveryBug(t *testing.T) {
	t.Parallel()
	for _, bug := range []struct {
		name   string
		script string
		broken string // an invariant that must be among the broken ones
	}{
		{"confirm-on-receive", "kill-waiting", "I4"},
		{"confirm-keepalive", "kafka-latency", "I4"},
		{"confirm-commit-lsn", "term-waiting", "I3"},
		{"skip-failed-batch", "kafka-reset", "I1"},
		{"lose-relation", "walsender", "I7"},
		{"publish-uncommitted", "rolled-back", "I5"},
	} {
		t.Run(bug.name+" breaks "+bug.broken, func(t *testing.T) {
			t.Parallel()
			if FaultNamed(bug.script).Needs&KafkaProxy != 0 {
				proxying.Lock()
				defer proxying.Unlock()
			}
			cfg := Config{Script: []string{bug.script, bug.script}, Bug: bug.name, Patience: 8 * time.Second}
			on := *serversFor(t, cfg)
			if bug.name == "confirm-commit-lsn" {
				// What another database writes right behind a commit brings a keepalive, whose
				// position mends what the bug confirmed.
				on.PostgresURL = testserver.NewPostgresCluster(t).URL()
			}
			report := tortureOn(t, cfg, &on)
			if !slices.Contains(report.Failed(), bug.broken) {
				t.Errorf("with the bug %v is broken, want %s among them", report.Failed(), bug.broken)
			}
		})
	}
}
