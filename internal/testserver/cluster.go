package testserver

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// exitMissing is how the scripts end when a program that they need is not installed.
const exitMissing = 3

// cluster is a private server, run by one of the scripts in testdata/servers.
type cluster struct {
	t      testing.TB
	script string
	dir    string
	env    map[string]string
}

func newCluster(t testing.TB, name string, options ...string) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "postrider-test-") //nolint:usetesting // only we may enter t.TempDir; as root the server is another user
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, script: script(t, name), dir: dir, env: map[string]string{}}
	t.Cleanup(func() {
		c.run("stop", "--immediate")
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the cluster's files: %v", err)
		}
	})
	c.run("start", options...)
	return c
}

// run calls the script and keeps the variables that it exports.
func (c *cluster) run(action string, options ...string) {
	c.t.Helper()
	cmd := exec.Command(c.script, append([]string{action, c.dir}, options...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		why := strings.TrimSpace(stderr.String())
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == exitMissing {
			Absent(c.t, why)
		}
		c.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, why)
	}
	maps.Copy(c.env, exports(stdout.String()))
}

// exports reads the lines `export NAME='value'`.
func exports(output string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(output) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if ok {
			env[name] = strings.Trim(value, "'")
		}
	}
	return env
}

// PostgresCluster is a Postgres that belongs to one test. Its methods end the test when
// they fail; they are for the test's own goroutine. It keeps its address and its data
// over stops, and disappears with the test.
type PostgresCluster struct{ cluster *cluster }

// NewPostgresCluster starts a Postgres with wal_level=logical; PGVERSION chooses among
// several installed ones.
func NewPostgresCluster(t testing.TB) *PostgresCluster {
	t.Helper()
	return &PostgresCluster{newCluster(t, "postgres.sh")}
}

// NewStandby makes a standby of p, which is restarted for it and must have the physical slot
// "standby". From Postgres 17 on it copies the failover slots of p.
func (p *PostgresCluster) NewStandby() *PostgresCluster {
	p.cluster.t.Helper()
	return &PostgresCluster{newCluster(p.cluster.t, "postgres.sh", "--standby-of", p.cluster.dir)}
}

// Promote makes a standby a primary, and returns when it is one.
func (p *PostgresCluster) Promote() {
	p.cluster.t.Helper()
	p.cluster.run("promote")
}

// URL is that of the superuser in the database postgres.
func (p *PostgresCluster) URL() string { return p.cluster.env["POSTGRES_URL"] }

// CA is the file with the authority of the server's certificate, for sslmode=verify-full.
func (p *PostgresCluster) CA() string { return p.cluster.env["POSTGRES_TLS_CA"] }

// Copy copies the data of a stopped server, as a snapshot of its volume would, for Restore.
func (p *PostgresCluster) Copy() (backup string) {
	p.cluster.t.Helper()
	backup = filepath.Join(p.cluster.dir, "backup")
	p.copy(filepath.Join(p.cluster.dir, "data"), backup)
	return backup
}

// Restore puts the data of a stopped server back to what Copy has copied.
func (p *PostgresCluster) Restore(backup string) {
	p.cluster.t.Helper()
	data := filepath.Join(p.cluster.dir, "data")
	if err := os.RemoveAll(data); err != nil {
		p.cluster.t.Fatal(err)
	}
	p.copy(backup, data)
}

func (p *PostgresCluster) copy(from, to string) {
	p.cluster.t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		p.cluster.t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

// Start starts a stopped server and returns when it accepts connections.
func (p *PostgresCluster) Start() {
	p.cluster.t.Helper()
	p.cluster.run("start")
}

// Stop disconnects everybody, writes a checkpoint and returns when the server is gone.
func (p *PostgresCluster) Stop() {
	p.cluster.t.Helper()
	p.cluster.run("stop")
}

// Crash stops the server as a crash would: nothing is written, and the next Start recovers.
func (p *PostgresCluster) Crash() {
	p.cluster.t.Helper()
	p.cluster.run("stop", "--immediate")
}

// Restart is Stop, then Start.
func (p *PostgresCluster) Restart() {
	p.cluster.t.Helper()
	p.Stop()
	p.Start()
}

// KafkaCluster is a Kafka that belongs to one test. Its methods end the test when they
// fail; they are for the test's own goroutine.
type KafkaCluster struct{ cluster *cluster }

// NewKafkaCluster starts a Kafka of that many nodes, each both broker and controller. Of
// three, one may be down.
func NewKafkaCluster(t testing.TB, nodes int) *KafkaCluster {
	t.Helper()
	return &KafkaCluster{newCluster(t, "kafka.sh", "--nodes", strconv.Itoa(nodes))}
}

// Brokers returns the plain-text addresses of all nodes, node 1 first.
func (k *KafkaCluster) Brokers() []string {
	return strings.Split(k.cluster.env["KAFKA_BROKERS"], ",")
}

// StopNode shuts one node down; the first is 1. Its partitions move to the others.
func (k *KafkaCluster) StopNode(node int) {
	k.cluster.t.Helper()
	k.cluster.run("stop", strconv.Itoa(node))
}

// KillNode ends one node by SIGKILL.
func (k *KafkaCluster) KillNode(node int) {
	k.cluster.t.Helper()
	k.cluster.run("stop", strconv.Itoa(node), "--immediate")
}

// Start starts the nodes that are down and returns when they serve.
func (k *KafkaCluster) Start() {
	k.cluster.t.Helper()
	k.cluster.run("start")
}
