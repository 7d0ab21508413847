package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/demo"
	"github.com/postrider/postrider/internal/embedded"
	"github.com/postrider/postrider/internal/testserver"
)

// demoProcess is a demo of its own, with a directory for its temporary files.
type demoProcess struct {
	*process
	stdin io.Writer
	temp  string
}

// openDir is a directory that the Postgres of a root's demo can enter, too.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postrider-test-") //nolint:usetesting // only we may enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startDemo starts a demo whose temporary files are in temp.
func startDemo(t *testing.T, temp string, args ...string) *demoProcess {
	t.Helper()
	cmd := postriderCommand(t, append([]string{"demo"}, args...)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+temp)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the state says it all
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("output of demo %v:\n%s", args, p.log.String())
		}
	})
	return &demoProcess{p, stdin, temp}
}

// tell gives a command and waits for what the demo says to it.
func (p *demoProcess) tell(command, answer string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.stdin, command); err != nil {
		p.t.Fatal(err)
	}
	p.awaitLog(answer)
}

// await returns when something is so, or the demo has ended.
func (p *demoProcess) await(what string, is func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) { //nolint:forbidigo // bounded polling of what another process does
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// children returns the processes that work in the demo's directory.
func (p *demoProcess) children() (found []string) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // a process may have ended meanwhile
		if line := strings.ReplaceAll(string(text), "\x00", " "); strings.Contains(line, p.temp) {
			found = append(found, line)
		}
	}
	return found
}

// leavesNothing checks that neither a process nor a file of the demo is left.
func (p *demoProcess) leavesNothing() {
	p.t.Helper()
	if children := p.children(); len(children) > 0 {
		p.t.Errorf("processes are left: %q", children)
	}
	entries, err := os.ReadDir(p.temp)
	// In a test binary a package that formats Go code makes a directory.
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == "goimports" })
	if err != nil || len(entries) > 0 {
		p.t.Errorf("files are left: %v, %v", entries, err)
	}
}

// runDemo runs a demo to its end and returns its exit code and what it said.
func runDemo(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	p := startDemo(t, openDir(t), args...)
	code = p.wait()
	p.leavesNothing()
	return code, p.log.String()
}

// reportOf reads what a demo has printed with --json.
func reportOf(t *testing.T, output string) (report demo.Report) {
	t.Helper()
	if err := json.Unmarshal([]byte(output), &report); err != nil {
		t.Fatalf("%q: %v", output, err)
	}
	return report
}

func TestDemo_PlacesOrdersUntilAllAreAtRest(t *testing.T) {
	t.Parallel()
	code, output := runDemo(t, "--orders", "30", "--exit", "--json")
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	got := reportOf(t, output)
	// Of 30 orders four are declined and three want what is not there: five events each. The
	// others have six.
	want := demo.Ledger{Committed: 173, Delivered: 173}
	if got.Ledger != want {
		t.Errorf("ledger %+v, want %+v", got.Ledger, want)
	}
	if o := got.Orders; o.Placed != 30 || o.Shipped != 23 || o.Paid != 23 || o.Cancelled != 7 || o.Open+len(o.Violations)+len(o.Pending) > 0 {
		t.Errorf("orders %+v", o)
	}
	for _, key := range []string{`"committed":`, `"delivered":`, `"in_flight":`, `"dead_lettered":`, `"expired":`, `"duplicates":`, `"out_of_order":`, `"orders":{"placed":`, `"violations":[]`} {
		if !strings.Contains(output, key) {
			t.Errorf("%s is not in %s", key, output)
		}
	}
}

func TestDemo_MakesGoodEveryFaultOnCommand(t *testing.T) {
	t.Parallel()
	p := startDemo(t, openDir(t), "--rate", "20")
	p.awaitLog("ready after")
	p.tell("help", "restart postgres")
	p.tell("kill relay", "killed: back after")
	p.tell("stop broker", "broker stopped")
	p.tell("start broker", "back after")
	p.awaitLog("broker down")
	p.tell("restart postgres", "Postgres restarted: back after")
	p.tell("poison", "poison-1: dead letter after")
	p.tell("decline", "cancelled after")
	p.tell("pause", "orders paused")
	p.tell("resume", "orders go on")
	p.tell("make coffee", `there is no command "make coffee"`)
	p.tell("stop broker", "broker stopped") // it is started again at the end
	fmt.Fprintln(p.stdin, "quit")
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.leavesNothing()
	output := p.log.String()
	for _, want := range []string{
		`✓ order-1 +order\.shipped +order\[\d\]@\d+ +\d+\.\d ms`,
		`✗ order-7 +payment\.declined`, `✗ order-9 +inventory\.rejected`, `- draft-10 +order\.created +rolled back`,
		`✗ poison-1 +order\.paid +dead letter: POISON_EVENT`,
		`ledger: committed (\d+) = delivered \d+ \+ in flight 0 \+ dead-lettered 1 \+ expired 0 .* out of order 0\n` +
			`orders: placed \d+ = shipped \d+ \+ cancelled \d+ \+ open 0  paid \d+  violations 0\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(output) {
			t.Errorf("nothing matches %s", want)
		}
	}
}

func TestDemo_InterruptedAtAnyMomentLeavesNothing(t *testing.T) {
	t.Parallel()
	moments := []struct {
		name string
		is   func(p *demoProcess) bool
	}{
		{"at once", func(*demoProcess) bool { return true }},
		{"with a directory", func(p *demoProcess) bool { return p.has("postrider-demo-*") }},
		{"initdb has begun", func(p *demoProcess) bool { return p.has("postrider-demo-*", "postgres.new", "*") }},
		{"Postgres starts", func(p *demoProcess) bool { return p.has("postrider-demo-*", "postgres", "postmaster.pid") }},
		{"the relay starts", func(p *demoProcess) bool { return strings.Contains(p.log.String(), "/status") }},
		{"orders are placed", func(p *demoProcess) bool { return strings.Contains(p.log.String(), "order.created") }},
	}
	for _, moment := range moments {
		t.Run(moment.name, func(t *testing.T) {
			p := startDemo(t, openDir(t), "--rate", "20")
			p.await(moment.name, func() bool { return moment.is(p) })
			p.signal(syscall.SIGINT)
			// A signal that comes before the process listens to it ends it as it would any other.
			if code := p.wait(); code > 0 {
				t.Errorf("exit code %d", code)
			}
			p.leavesNothing()
		})
	}
}

// signal sends a signal to the demo.
func (p *demoProcess) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// soon is less than a client of Kafka tries to reach a broker that is down.
const soon = 30 * time.Second

func TestDemo_EndsSoonWhenItFailsWhileTheBrokerIsStopped(t *testing.T) {
	t.Parallel()
	p := startDemo(t, openDir(t), "--rate", "20")
	p.awaitLog("order.shipped")
	p.tell("stop broker", "broker stopped")
	p.tell("kill relay", "the relay is dead")
	// The demo cannot mend a Postgres that ends by itself.
	files, err := filepath.Glob(filepath.Join(p.temp, "postrider-demo-*", "postgres", "postmaster.pid"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	failed := time.Now()
	code := p.wait()
	if took := time.Since(failed); code != exitUnreachable || took > soon {
		t.Errorf("exit code %d after %v", code, took)
	}
	if !strings.Contains(p.log.String(), "Postgres has ended") {
		t.Error("it does not say why")
	}
	p.leavesNothing()
}

func TestDemo_LeavesAtTheSecondSignalThoughBrokersOfTheUserAreDown(t *testing.T) {
	t.Parallel()
	kafka, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Stop)
	p := startDemo(t, openDir(t), "--rate", "20", "--kafka", kafka.Brokers()[0])
	p.awaitLog("order.shipped")
	kafka.Cut()
	p.awaitLog("relay waits for kafka")
	p.signal(syscall.SIGINT)
	p.signal(syscall.SIGTERM) // another one: the second of a kind may be merged with the first
	hurried := time.Now()
	code := p.wait()
	if took := time.Since(hurried); code != exitNo || took > settledAtMost {
		t.Errorf("exit code %d after %v", code, took)
	}
	if want := "left behind: topics and groups that begin with postrider_demo"; !strings.Contains(p.log.String(), want) {
		t.Errorf("%q is not in the output", want)
	}
	p.leavesNothing()
}

// settledAtMost is how long the demo waits for what is on its way after one signal.
const settledAtMost = 15 * time.Second

// has tells whether a file is among the demo's.
func (p *demoProcess) has(pattern ...string) bool {
	found, err := filepath.Glob(filepath.Join(append([]string{p.temp}, pattern...)...))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(found) > 0
}

func TestDemo_KilledLeavesNoProcessAndTheNextRemovesItsFiles(t *testing.T) {
	t.Parallel()
	p := startDemo(t, openDir(t), "--rate", "20")
	p.awaitLog("order.shipped")
	if len(p.children()) < 2 {
		t.Fatalf("there are no children to outlive it: %q", p.children())
	}
	p.kill()
	p.await("the children end", func() bool { return len(p.children()) == 0 })
	if !p.has("postrider-demo-*") {
		t.Fatal("there are no files to be removed")
	}
	next := startDemo(t, p.temp, "--orders", "1", "--exit")
	if code := next.wait(); code != 0 {
		t.Errorf("exit code of the next %d", code)
	}
	next.leavesNothing()
}

func TestDemo_GoesOnWithWhatWasKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "kept")
	if code, output := runDemo(t, "--keep", dir, "--orders", "4", "--exit"); code != 0 || !strings.Contains(output, "kept       "+dir) {
		t.Fatalf("exit code %d: %s", code, output)
	}
	p := startDemo(t, openDir(t), "--keep", dir, "--rate", "20")
	p.awaitLog("order-6 ")
	p.kill() // no more than a power cut that the disk survives
	p.await("the children end", func() bool {
		q := demoProcess{process: p.process, temp: dir}
		return len(q.children()) == 0
	})
	code, output := runDemo(t, "--keep", dir, "--orders", "3", "--exit", "--json")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, output)
	}
	got := reportOf(t, output)
	if got.Orders.Placed < 9 || got.InFlight != 0 || got.Committed != got.Delivered {
		t.Errorf("report %+v, want at least 9 orders of three runs, and all their events", got)
	}
}

func TestDemo_SaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	foreign := t.TempDir()
	file := filepath.Join(foreign, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--exit"}, exitUsage, "--exit needs --orders N"},
		{[]string{"--orders", "-1", "--rate", "-1"}, exitUsage, "--rate -1 is negative"},
		{[]string{"extra"}, exitUsage, "extra"},
		{[]string{"--replace"}, exitUsage, "--postgres-url or --kafka"},
		{[]string{"--postgres-url", "db.example"}, exitUsage, "postgres://me@127.0.0.1"},
		{[]string{"--kafka", "localhost"}, exitUsage, "is not host:port"},
		{[]string{"--postgres-url", "postgres://127.0.0.1:1/x"}, exitUnreachable, "check host and port"},
		{[]string{"--kafka", "127.0.0.1:1"}, exitUnreachable, "check host and port"},
		{[]string{"--keep", foreign}, exitNo, "name a new or an empty directory"},
		{[]string{"--keep", file}, exitNo, "name a directory that you may write to"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			code, output := runDemo(t, test.args...)
			if code != test.code || !strings.Contains(output, test.want) {
				t.Errorf("exit code %d, want %d with %q in: %s", code, test.code, test.want, output)
			}
		})
	}
}

// TestDemo_UsesServersOfTheUser is one test: on a server there can be one demo at a time.
func TestDemo_UsesServersOfTheUser(t *testing.T) {
	t.Parallel()
	database, brokers := testserver.Postgres(t), strings.Join(testserver.Kafka(t), ",")
	servers := []string{"--postgres-url", database, "--kafka", brokers, "--orders", "5", "--exit"}
	with := func(more ...string) []string { return append(append([]string{}, servers...), more...) }
	conn := connect(t, database)
	t.Cleanup(func() { // of a test that fails
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if c, err := pgx.Connect(ctx, database); err == nil {
			_, _ = c.Exec(ctx, "DROP DATABASE IF EXISTS postrider_demo WITH (FORCE)")
			_ = c.Close(ctx)
		}
	})

	t.Run("lacks rights", func(t *testing.T) {
		role := testserver.UniqueName(t)
		execSQL(t, conn, "CREATE ROLE "+role+" LOGIN")
		defer execSQL(t, conn, "DROP ROLE "+role)
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.User(role)
		code, output := runDemo(t, "--postgres-url", u.String())
		for _, want := range []string{"REPLICATION", "CREATEDB"} {
			if code != exitNo || !strings.Contains(output, "ALTER ROLE \""+role+"\" "+want) {
				t.Errorf("exit code %d, want %q in: %s", code, want, output)
			}
		}
	})
	t.Run("finds a database of that name", func(t *testing.T) {
		execSQL(t, conn, "CREATE DATABASE postrider_demo")
		code, output := runDemo(t, with("--replace")...)
		if code != exitNo || !strings.Contains(output, "that no demo has made") {
			t.Errorf("exit code %d: %s", code, output)
		}
		execSQL(t, conn, "DROP DATABASE postrider_demo")
	})
	t.Run("both", func(t *testing.T) {
		p := startDemo(t, openDir(t), with("--rate", "20")...)
		p.awaitLog("ready after")
		fmt.Fprintln(p.stdin, "stop broker\nrestart postgres\nkill relay")
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		p.leavesNothing()
		for _, want := range []string{"the broker is yours", "Postgres is yours", "killed: back after", "placed 5 = shipped 5"} {
			if !strings.Contains(p.log.String(), want) {
				t.Errorf("%q is not in the output", want)
			}
		}
		nothingOfDemo(t, conn)
	})
	t.Run("keeps, refuses, replaces", func(t *testing.T) {
		dir := filepath.Join(openDir(t), "kept")
		for run := 1; run <= 2; run++ {
			code, output := runDemo(t, with("--keep", dir, "--json")...)
			if code != 0 {
				t.Fatalf("run %d: exit code %d: %s", run, code, output)
			}
			if got := reportOf(t, output); got.Orders.Placed != 5*run || got.InFlight != 0 {
				t.Errorf("run %d: %+v", run, got)
			}
		}
		if code, output := runDemo(t, servers...); code != exitNo || !strings.Contains(output, "--replace") {
			t.Errorf("with what another has kept: exit code %d: %s", code, output)
		}
		if code, output := runDemo(t, with("--replace")...); code != 0 {
			t.Errorf("replacing it: exit code %d: %s", code, output)
		}
		nothingOfDemo(t, conn)
		if code, output := runDemo(t, with("--keep", dir)...); code != exitNo || !strings.Contains(output, "name a new directory") {
			t.Errorf("when it was replaced: exit code %d: %s", code, output)
		}
	})
}

// nothingOfDemo checks that a demo has left nothing on the servers.
func nothingOfDemo(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var left []string
	err := conn.QueryRow(t.Context(), `
		SELECT array(SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_name LIKE 'postrider_demo%'
		   UNION ALL SELECT 'database ' || datname FROM pg_database WHERE datname LIKE 'postrider_demo%')`).Scan(&left)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	nothingLeftInKafka(t, "postrider_demo")
}
