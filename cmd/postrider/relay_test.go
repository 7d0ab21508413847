package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/postrider/postrider/internal/ledger"
	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// asCommand makes the test binary behave as postrider, so that tests can send signals to a
// process of its own; it has the race detector where the tests have it.
const asCommand = "TEST_AS_POSTRIDER"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"postrider": main})
}

// patience is how long a test waits for what must happen. It is only reached by failures.
const patience = 60 * time.Second

// process is a postrider of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    logBuffer
	exited chan struct{}
}

// logBuffer is what a process has written so far.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// postriderCommand is the command, not started.
func postriderCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	return startCommand(t, postriderCommand(t, args...))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the state says it all
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("output of process %d:\n%s", p.cmd.Process.Pid, p.log.String())
		}
	})
	return p
}

// awaitLog returns when the process has written text.
func (p *process) awaitLog(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(p.log.String(), text); time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // bounded polling of what the other process shows
		if time.Now().After(deadline) {
			p.t.Fatalf("%q is not in the log after %v", text, patience)
		}
	}
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("the process still runs after %v", patience)
		return -1
	}
}

func (p *process) terminate() (code int, took time.Duration) {
	p.t.Helper()
	started := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.wait(), time.Since(started)
}

func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	p.wait()
}

// workplace is all that a relay needs, and the file that tells it so.
type workplace struct {
	t       *testing.T
	url     string
	brokers []string
	topic   string
	config  string
}

func newWorkplace(t *testing.T) *workplace {
	t.Helper()
	w := &workplace{t: t, url: testserver.Postgres(t), brokers: testserver.Kafka(t), topic: testserver.Topic(t, 4)}
	ddl, err := outbox.TableDDL(outbox.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	execSQL(t, connect(t, w.url), ddl.Up)
	registry := schemaregistry.New(schemaregistry.NewMemoryStore())
	server := httptest.NewServer(schemaregistry.NewHandler(registry, schemaregistry.HandlerConfig{}))
	t.Cleanup(server.Close)
	client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	_, err = client.Register(t.Context(), "order.created",
		`{"type":"record","name":"created","namespace":"order","fields":[{"name":"seq","type":"long"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	name := testserver.UniqueName(t)
	w.config = writeConfig(t, fmt.Sprintf(`
name: %s
postgres: {url: %q}
outbox: {topic: %s}
kafka: {brokers: [%q]}
registry: {url: %q}
http: {listen: "-"}
`, name[max(0, len(name)-40):], w.url, w.topic, strings.Join(w.brokers, ","), server.URL))
	return w
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postrider.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// relay starts a relay.
func (w *workplace) relay() *process {
	w.t.Helper()
	return startProcess(w.t, "relay", "-c", w.config)
}

const (
	streaming = `"msg":"relay is streaming"`
	standby   = `"msg":"relay stands by: another relay reads the slot"`
)

// settle waits until every committed event is in the topic, stops the relay and checks the
// balance. It returns the number of duplicates.
func (w *workplace) settle(writer *ledger.Writer, relay *process) int {
	w.t.Helper()
	writer.Stop()
	l := ledger.Open(w.t, w.url, w.brokers, w.topic)
	l.Await()
	if code, took := relay.terminate(); code != 0 || took > 10*time.Second {
		w.t.Errorf("exit code %d after %v", code, took)
	}
	b := l.Balance()
	w.t.Log(b)
	if b.Lost+b.Phantoms+b.OutOfOrder+b.Changed > 0 {
		w.t.Errorf("the ledger does not balance: %s", b)
	}
	return b.Duplicates
}

func TestRelay_SIGTERMUnderLoadEndsCleanlyAndNothingComesTwice(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	writer := ledger.Write(t, w.url)
	for range 3 {
		p := w.relay()
		p.awaitLog(streaming)
		writer.AwaitMore(200)
		code, took := p.terminate()
		if code != 0 || took > 10*time.Second {
			t.Errorf("exit code %d after %v", code, took)
		}
		t.Logf("the stop took %v", took)
	}
	p := w.relay()
	if n := w.settle(writer, p); n > 0 {
		t.Errorf("%d events were published twice", n)
	}
}

func TestRelay_KilledAtRandomMomentsLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	writer := ledger.Write(t, w.url)
	for range 5 {
		p := w.relay()
		p.awaitLog(streaming)
		writer.AwaitMore(1 + rand.IntN(300))
		p.kill()
	}
	p := w.relay()
	t.Logf("five kills: %d duplicates", w.settle(writer, p))
}

func TestRelay_StandbyTakesOverFromOneThatIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	active := w.relay()
	active.awaitLog(streaming)
	second := w.relay()
	second.awaitLog(standby)
	writer := ledger.Write(t, w.url)
	writer.AwaitMore(200)
	killed := time.Now()
	active.kill()
	second.awaitLog(streaming)
	took := time.Since(killed)
	t.Logf("takeover took %v", took)
	if took > 5*time.Second {
		t.Errorf("takeover took %v", took)
	}
	writer.AwaitMore(100)
	t.Logf("takeover: %d duplicates", w.settle(writer, second))
}

// runRelay runs `postrider relay …` to its end.
func runRelay(t *testing.T, args ...string) (output string, code int) {
	t.Helper()
	p := startProcess(t, append([]string{"relay"}, args...)...)
	code = p.wait()
	return p.log.String(), code
}

func TestRelay_CheckConfigShowsWhatIsInForceButNoSecret(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, `
name: orders
postgres: {url: "postgres://relay:secret-1@db/app"}
kafka: {brokers: ["k:9092"], sasl: {mechanism: PLAIN, username: relay, password: secret-2}}
registry: {url: "http://user:secret-3@registry", auth: {token: secret-4}}
`)
	output, code := runRelay(t, "-c", path, "--check-config", "--set", "kafka.compression=zstd")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"slot: postrider_orders", "compression: zstd", "relay:********@db", "configuration is valid"} {
		if !strings.Contains(output, want) {
			t.Errorf("%q is missing in\n%s", want, output)
		}
	}
	if strings.Contains(output, "secret-") {
		t.Errorf("a secret is shown:\n%s", output)
	}
}

func TestRelay_CheckConfigSaysEveryProblem(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, `
name: Bad-Name
postgres: {url: "postgres://relay:secret-1@db:no-port/app"}
kafka: {compression: brotli}
on_poison: ignore
`)
	output, code := runRelay(t, "-c", path, "--check-config")
	if code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	for _, key := range []string{"name:", "postgres.url:", "kafka.brokers:", "kafka.compression:", "registry.url:", "on_poison:"} {
		if !strings.Contains(output, "\n  "+key) {
			t.Errorf("nothing about %s in\n%s", key, output)
		}
	}
	if strings.Contains(output, "secret-1") {
		t.Errorf("a secret is shown:\n%s", output)
	}
}

func TestRelay_ExitsWith2OnWrongUsage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, config, want string
		args               []string
	}{
		{name: "unknown key", config: "kafka: {broker: [a:1]}", want: "postrider.yaml:1: kafka.broker: there is no such key; is kafka.brokers meant?"},
		{name: "not YAML", config: "a: b: c", want: "postrider.yaml"},
		{name: "variable not set", config: "name: ${POSTRIDER_NO_SUCH_VARIABLE}", want: "POSTRIDER_NO_SUCH_VARIABLE is not set"},
		{name: "nothing at all", want: "postgres.url: is required"},
		{name: "unknown key in --set", args: []string{"--set", "kafka.broker=a:1"}, want: "kafka.broker: there is no such key; is kafka.brokers meant?"},
		{name: "unknown flag", args: []string{"--brokers", "a:1"}, want: "--brokers"},
		{name: "argument", args: []string{"postrider.yaml"}, want: "postrider.yaml"},
		{name: "unknown log level", config: "name: a\npostgres: {url: 'postgres://a@b/c'}\nkafka: {brokers: ['a:1']}\nregistry: {url: 'http://a'}",
			args: []string{"--log-level", "loud"}, want: "--log-level"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			args := test.args
			if test.config != "" {
				args = append(args, "-c", writeConfig(t, test.config))
			}
			output, code := runRelay(t, args...)
			if code != exitUsage || !strings.Contains(output, test.want) {
				t.Errorf("exit code %d, output %s", code, output)
			}
		})
	}
}

func TestRelay_PortInUseIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	w := newWorkplace(t)
	address := listener.Addr().String()
	output, code := runRelay(t, "-c", w.config, "--set", "http.listen="+address)
	if code == 0 || !strings.Contains(output, "http.listen") || !strings.Contains(output, address) ||
		!strings.Contains(output, syscall.EADDRINUSE.Error()) {
		t.Errorf("exit code %d, output %s", code, output)
	}
}
