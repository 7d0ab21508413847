package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

// small are the flags of a benchmark that is over soon.
var small = []string{"--events", "3000", "--latency-rate", "200", "--latency-seconds", "1", "--partitions", "3"}

// nothingLeft checks that a database has nothing of a benchmark. It may be called while
// others run elsewhere.
func nothingLeft(t *testing.T, url string) {
	t.Helper()
	var left []string
	err := connect(t, url).QueryRow(t.Context(), `
		SELECT array(SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE 'postrider_bench_%'
		   UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'postrider_bench_%'
		   UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname LIKE 'postrider_bench_%')`).Scan(&left)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %s", strings.Join(left, ", "))
	}
}

// nothingLeftInKafka checks that there is no topic and no group of the benchmark of that name.
func nothingLeftInKafka(t *testing.T, name string) {
	t.Helper()
	if name == "" {
		t.Error("the benchmark has no name")
		return
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(testserver.Kafka(t)...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	groups, err := admin.ListGroups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range append(topics.Names(), groups.Groups()...) {
		if strings.HasPrefix(n, name) {
			t.Errorf("left behind in Kafka: %s", n)
		}
	}
}

func TestBench_MeasuresEverythingAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	stdout, stderr, code := runPostrider(t, append([]string{"bench", "-c", w.config, "--json"}, small...)...)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var r benchmark.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in\n%s", err, stdout)
	}
	if r.Registry != "configured" || r.Events != 3000 || r.Partitions != 3 || r.PayloadBytes != 300 || r.Server == "" || r.PostgresRoundTrip <= 0 || r.KafkaRoundTrip <= 0 {
		t.Errorf("report: %+v", r)
	}
	if len(r.Drains) != 2 || r.Drains[0].RowsPerTransaction != 1 || r.Drains[1].RowsPerTransaction != 100 {
		t.Fatalf("drains: %+v", r.Drains)
	}
	for _, d := range r.Drains {
		if d.Greedy.RowsPerSecond <= 0 || d.Paced.RowsPerSecond <= 0 || d.Verdict.Limit == "" || d.Verdict.Why == "" {
			t.Errorf("drain: %+v", d)
		}
		if _, err := os.Stat("/proc/self/stat"); err == nil && d.PeakMemory == nil {
			t.Error("the relay's memory is not known, though there is /proc")
		}
	}
	if l := r.Latency; l == nil || l.Events != 200 || l.Missing+l.Duplicate != 0 || l.P50 <= 0 || l.P99 < l.P50 || l.Max < l.P99 {
		t.Errorf("latency: %+v", l)
	}
	nothingLeft(t, w.url)
	nothingLeftInKafka(t, r.Name)
	if subjects := w.subjects(); len(subjects) != 1 || subjects[0] != "order.created" {
		t.Errorf("subjects in the registry: %v", subjects)
	}
}

func TestBench_NeedsNoMoreThanTwoServers(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	args := []string{"bench", "--postgres-url", url, "--kafka", strings.Join(testserver.Kafka(t), ","), "--latency-rate", "0", "--rows-per-transaction", "10", "--events", "2500"}
	stdout, stderr, code := runPostrider(t, args...)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{"2,500 events of 300 bytes", "in-process registry", "raw read, greedy", "raw read, paced", "to raw, paced", "its memory, peak", "what limits\n  10 rows a transaction: "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("output lacks %q:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "latency") {
		t.Errorf("latency was not asked for:\n%s", stdout)
	}
	nothingLeft(t, url)
}

func TestBench_TakesPasswordsAndCertificatesToItsRelay(t *testing.T) {
	t.Parallel()
	secure, url := testserver.KafkaSecurity(t), testserver.Postgres(t)
	config := writeConfig(t, fmt.Sprintf(`
postgres: {url: %q}
kafka:
  brokers: [%q]
  tls: {ca_file: %s}
  sasl: {mechanism: SCRAM-SHA-512, username: %s, password: %q}
`, url, strings.Join(secure.SASLBrokers, ","), secure.CA, secure.Username, secure.Password))
	stdout, stderr, code := runPostrider(t, append([]string{"bench", "-c", config, "--rows-per-transaction", "100"}, small...)...)
	if code != 0 || !strings.Contains(stdout, "latency from commit to consumer") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if strings.Contains(stdout+stderr, secure.Password) {
		t.Errorf("the password is shown:\n%s%s", stdout, stderr)
	}
	nothingLeft(t, url)
	_, stderr, code = runPostrider(t, append([]string{"bench", "-c", config, "--set", "kafka.sasl.password=wrong"}, small...)...)
	if code != exitNo || !strings.Contains(stderr, "check kafka.sasl") {
		t.Errorf("with a wrong password: exit %d, %s", code, stderr)
	}
}

func TestBench_RefusesWithoutRightsAndSaysWhatIsNeeded(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	db := connect(t, server)
	role := testserver.UniqueName(t)
	execSQL(t, db, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		if _, err := db.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	_, stderr, code := runPostrider(t, "bench", "--postgres-url", u.String(), "--kafka", testserver.Kafka(t)[0])
	if code != exitNo {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{fmt.Sprintf("ALTER ROLE %q REPLICATION", role), "GRANT CREATE ON DATABASE", fmt.Sprintf("TO %q", role)} {
		if !strings.Contains(stderr, want) {
			t.Errorf("message lacks %q:\n%s", want, stderr)
		}
	}
	nothingLeft(t, server)

	execSQL(t, db, fmt.Sprintf("ALTER ROLE %[1]q REPLICATION; GRANT CREATE ON DATABASE %[2]q TO %[1]q", role, strings.TrimPrefix(u.Path, "/")))
	_, stderr, code = runPostrider(t, append([]string{"bench", "--postgres-url", u.String(), "--kafka", testserver.Kafka(t)[0]}, small...)...)
	if code != 0 {
		t.Errorf("with what was asked for: exit %d, %s", code, stderr)
	}
	nothingLeft(t, server)
}

func TestBench_ExitCodesTellWhatIsToDo(t *testing.T) {
	t.Parallel()
	url, kafka := testserver.Postgres(t), testserver.Kafka(t)[0]
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no servers":        {nil, exitUsage, "--postgres-url and --kafka"},
		"no Kafka":          {[]string{"--postgres-url", url}, exitUsage, "--kafka"},
		"wrong numbers":     {[]string{"--postgres-url", url, "--kafka", kafka, "--events", "0", "--payload-bytes", "9", "--rows-per-transaction", "1,0"}, exitUsage, "--rows-per-transaction: 0 is less than 1"},
		"twice the same":    {[]string{"--postgres-url", url, "--kafka", kafka, "--rows-per-transaction", "5,5"}, exitUsage, "--rows-per-transaction: 5 is there twice"},
		"huge payload":      {[]string{"--postgres-url", url, "--kafka", kafka, "--payload-bytes", "9999999"}, exitUsage, "is more than"},
		"malformed URL":     {[]string{"--postgres-url", "postgres://h:port/", "--kafka", kafka}, exitUsage, "postgres.url"},
		"unknown key":       {[]string{"--set", "kafka.broker=x:1"}, exitUsage, "no such key"},
		"Postgres is away":  {[]string{"--postgres-url", "postgres://127.0.0.1:1/x", "--kafka", kafka}, exitUnreachable, "Postgres could not be reached"},
		"registry is away":  {[]string{"--postgres-url", url, "--kafka", kafka, "--set", "registry.url=http://127.0.0.1:1"}, exitUnreachable, "registry could not be reached"},
		"no such database":  {[]string{"--postgres-url", strings.Replace(url, "?", "_none?", 1), "--kafka", kafka}, exitNo, "check the database in postgres.url"},
		"unexpected words ": {[]string{"postrider.yaml"}, exitUsage, "postrider.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, stderr, code := runPostrider(t, append([]string{"bench"}, tc.args...)...)
			if code != tc.code || !strings.Contains(stderr, tc.want) {
				t.Errorf("exit %d, want %d with %q: %s", code, tc.code, tc.want, stderr)
			}
			nothingLeft(t, url)
		})
	}
}

func TestBench_InterruptedAtAnyTimeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sign string // that it has got so far: a query that becomes true
		args []string
	}{
		"while it loads": {
			`SELECT exists(SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CALL load_events%')`,
			[]string{"--events", "500000"}},
		"while it reads": {
			`SELECT exists(SELECT FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid WHERE database = current_database())`,
			[]string{"--events", "50000"}},
		"while its relay streams": {
			`SELECT exists(SELECT FROM pg_replication_slots WHERE database = current_database() AND active AND slot_name LIKE '%\_latency')`,
			[]string{"--events", "100", "--rows-per-transaction", "100", "--latency-seconds", "600"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testserver.Postgres(t)
			p := startProcess(t, append([]string{"bench", "--postgres-url", url, "--kafka", testserver.Kafka(t)[0]}, tc.args...)...)
			p.awaitTrue(connect(t, url), tc.sign)
			if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if code := p.wait(); code != exitNo || !strings.Contains(p.log.String(), "interrupted") {
				t.Errorf("exit %d", code)
			}
			if strings.Contains(p.log.String(), "left behind") {
				t.Errorf("output: %s", p.log.String())
			}
			nothingLeft(t, url)
		})
	}
}

func TestBench_ThatFailsHalfwayLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	p := startProcess(t, "bench", "-c", w.config, "--events", "40000", "--rows-per-transaction", "1")
	p.awaitTrue(connect(t, w.url), `SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid WHERE database = current_database()`)
	if code := p.wait(); code != exitNo || !strings.Contains(p.log.String(), "read slot postrider_bench_") {
		t.Errorf("exit %d: %s", code, p.log.String())
	}
	nothingLeft(t, w.url)
	if subjects := w.subjects(); len(subjects) != 1 {
		t.Errorf("subjects in the registry: %v", subjects)
	}
}

// awaitTrue returns when the query answers true.
func (p *process) awaitTrue(db *pgx.Conn, query string) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		var yes bool
		if err := db.QueryRow(p.t.Context(), query).Scan(&yes); err != nil {
			p.t.Fatal(err)
		}
		if yes {
			return
		}
		select {
		case <-tick.C:
		case <-p.exited:
			p.t.Fatalf("it ended before: %s", query)
		case <-deadline:
			p.t.Fatalf("not within %v: %s", patience, query)
		}
	}
}

// subjects returns those of the workplace's registry.
func (w *workplace) subjects() []string {
	w.t.Helper()
	cfg, err := relay.LoadConfig(w.config, nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := cfg.Registry.Client()
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	subjects, err := client.Subjects(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return subjects
}

func TestPrintBench_SaysWhatIsNotKnownAndWhatDisturbed(t *testing.T) {
	t.Parallel()
	figure := func(v float64) *float64 { return &v }
	var out bytes.Buffer
	printBench(&out, benchmark.Report{
		Server: "17.1 (Debian 17.1-1.pgdg120+1)", Registry: "configured", Cores: 2, Background: figure(1.5), Events: 1_000_000, PayloadBytes: 300, Partitions: 8,
		Drains: []benchmark.Drain{{
			RowsPerTransaction: 1, Greedy: benchmark.Read{RowsPerSecond: 44_120}, Paced: benchmark.Read{RowsPerSecond: 133_000, WalsenderCPU: figure(7.25)},
			EventsPerSecond: figure(121_700.4), Ratio: figure(.915), PeakMemory: figure(78e6),
			Verdict: benchmark.Verdict{Limit: benchmark.LimitWalsender, Why: "because" + strings.Repeat(" of something", 20)},
		}},
		Latency: &benchmark.Latency{Rate: 312, WantRate: 500, Events: 3120, P50: .84, P99: 3.1, Max: 19},
	})
	for _, want := range []string{
		"1,000,000 events of 300 bytes, 8 partitions, configured registry\nPostgres 17.1, round trip",
		"raw read, greedy      rows/s                  44,120\n",
		"  its walsender       CPU s per million    not known\n",
		"  its walsender       CPU s per million          7.2\n",
		"relay                 events/s               121,700\n",
		"  its memory, peak    MB                          78\n",
		"1 row a transaction: WALSENDER: because",
		"Something else kept 1.5 of the 2 cores",
		"latency from commit to consumer, 312 events/s (3,120 events)\n  p50 0.8 ms, p99 3.1 ms, at most 19.0 ms\n  Postgres committed no more than that; 500 were asked for\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"0": thousands(0, 0), "999": thousands(999, 0), "1,000": thousands(999.6, 0), "1,234,567.8": thousands(1234567.81, 1), "0.92": thousands(.915001, 2),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
