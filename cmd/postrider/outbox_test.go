package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/postrider/postrider/internal/testserver"
)

// run runs `postrider …` in this process and returns what it printed and its exit code.
func run(t *testing.T, args ...string) (stdout string, code int, err error) {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(&out)
	err = root.ExecuteContext(t.Context())
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		code = coded.code
	case err != nil:
		code = exitNo
	}
	return out.String(), code, err
}

func runOutbox(t *testing.T, args ...string) (stdout string, code int, err error) {
	t.Helper()
	return run(t, append([]string{"outbox"}, args...)...)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func execSQL(t *testing.T, conn *pgx.Conn, script string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), script, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%.200s: %v", script, err)
	}
}

// publicObjects are the tables and functions in the schema public, without partitions.
func publicObjects(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
		UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var outboxObjects = []string{
	"outbox", "outbox_confirmed_xid", "outbox_create_partitions", "outbox_drop_partitions", "outbox_emit",
	"outbox_schema", "outbox_trim_default",
}

func TestOutboxSQL_AppliesAndRevertsWithGoose(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	conn := connect(t, url)
	name := testserver.UniqueName(t)
	dir := t.TempDir()
	if out, _, err := runOutbox(t, "sql", "--tool", "goose", "--part", "all", "--name", name, "--out", dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	db := stdlib.OpenDB(*conn.Config())
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	results, err := provider.Up(t.Context())
	if err != nil || len(results) != 2 {
		t.Fatalf("goose applied %d migrations: %v", len(results), err)
	}
	if got := publicObjects(t, conn); !cmp.Equal(got, slices.Insert(slices.Clone(outboxObjects), 0, "goose_db_version")) {
		t.Errorf("after up: %v", got)
	}
	execSQL(t, conn, "SELECT outbox_emit('order', 'o-1', 'order.paid', '{}')")
	if _, err := provider.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got := publicObjects(t, conn); !cmp.Equal(got, []string{"goose_db_version"}) {
		t.Errorf("after down: %v", got)
	}
}

func TestOutboxSQL_AppliesAndRevertsTheInbox(t *testing.T) {
	t.Parallel()
	conn := connect(t, testserver.Postgres(t))
	dir := t.TempDir()
	if out, _, err := runOutbox(t, "sql", "--tool", "goose", "--part", "inbox", "--out", dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := listFiles(t, dir), []string{"00001_postrider_inbox.sql"}; !cmp.Equal(got, want) {
		t.Errorf("files: %v, want %v", got, want)
	}
	db := stdlib.OpenDB(*conn.Config())
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	execSQL(t, conn, "SELECT inbox_once('shipping', 'order-1')")
	if _, err := provider.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got := publicObjects(t, conn); !cmp.Equal(got, []string{"goose_db_version"}) {
		t.Errorf("after down: %v", got)
	}

	out, _, err := runOutbox(t, "sql", "--part", "inbox", "--table", "shop.handled")
	if err != nil || !strings.Contains(out, `CREATE TABLE "shop"."handled" (`) {
		t.Errorf("--table: %v\n%.300s", err, out)
	}
	if _, _, err := runOutbox(t, "sql", "--part", "inbox", "--table", "handled"); err == nil {
		t.Error("a table without a schema was taken")
	}
}

// The other tools send the parts of these files to the server as they are.
func TestOutboxSQL_AppliesAndRevertsInTheFormatOfEachTool(t *testing.T) {
	t.Parallel()
	for tool, files := range map[string][]string{
		"raw":            {"postrider_outbox.sql"},
		"tern":           {"001_postrider_outbox.sql"},
		"golang-migrate": {"000001_postrider_outbox.down.sql", "000001_postrider_outbox.up.sql"},
		"flyway":         {"V1__postrider_outbox.sql"},
	} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testserver.Postgres(t))
			dir := t.TempDir()
			if _, _, err := runOutbox(t, "sql", "--tool", tool, "--part", "application", "--out", dir); err != nil {
				t.Fatal(err)
			}
			if got := listFiles(t, dir); !cmp.Equal(got, files) {
				t.Fatalf("files: %v, want %v", got, files)
			}
			up := readFile(t, filepath.Join(dir, files[len(files)-1]))
			down := ""
			switch tool {
			case "tern":
				if strings.Contains(up, "{{") {
					t.Error("tern would take {{ for a template")
				}
				up, down, _ = strings.Cut(up, "\n---- create above / drop below ----\n")
			case "golang-migrate":
				down = readFile(t, filepath.Join(dir, files[0]))
			case "flyway":
				if strings.Contains(up, "${") {
					t.Error("Flyway would take ${ for a placeholder")
				}
			}
			execSQL(t, conn, up)
			if got := publicObjects(t, conn); !cmp.Equal(got, outboxObjects) {
				t.Errorf("after up: %v", got)
			}
			if down == "" {
				return
			}
			execSQL(t, conn, down)
			if got := publicObjects(t, conn); len(got) != 0 {
				t.Errorf("after down: %v", got)
			}
		})
	}
}

func listFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestOutboxSQL_PrintsBothPartsRaw(t *testing.T) {
	t.Parallel()
	out, _, err := runOutbox(t, "sql", "--table", "billing.events", "--name", "billing")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"-- file: postrider_outbox.sql\n", `CREATE TABLE "billing"."events" (`, `CREATE FUNCTION "billing"."events_emit"(`,
		"-- file: postrider_relay_billing.sql\n", "CREATE ROLE postrider_billing LOGIN REPLICATION;",
		`CREATE PUBLICATION postrider_billing FOR TABLE "billing"."events"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	if strings.Contains(out, "public.") || strings.Contains(out, "<name>") {
		t.Error("output still has default names in it")
	}
}

func TestOutboxSQL_TakesTheNextVersionOfTheDirectory(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, tool string
		present    []string
		want       string
	}{
		{"goose, empty", "goose", nil, `^00001_postrider_outbox\.sql$`},
		{"goose, numbered", "goose", []string{"00001_a.sql", "00041_b.sql", "README.md"}, `^00042_postrider_outbox\.sql$`},
		{"goose, timestamps", "goose", []string{"20240102030405_a.sql"}, `^20[0-9]{12}_postrider_outbox\.sql$`},
		{"goose, timestamp of the future", "goose", []string{"29990102030405_a.sql"}, `^29990102030406_postrider_outbox\.sql$`},
		{"tern", "tern", []string{"009_a.sql"}, `^010_postrider_outbox\.sql$`},
		{"golang-migrate", "golang-migrate", []string{"000007_a.up.sql", "000007_a.down.sql"}, `^000008_postrider_outbox\.(down|up)\.sql$`},
		{"goose, a migration in Go", "goose", []string{"00001_a.sql", "00002_b.go"}, `^00003_postrider_outbox\.sql$`},
		{"flyway", "flyway", []string{"V12__a.sql"}, `^V13__postrider_outbox\.sql$`},
		{"flyway, versions with a point", "flyway", []string{"V2.1__a.sql"}, `^V3__postrider_outbox\.sql$`},
		{"raw, without versions", "raw", []string{"a.sql"}, `^postrider_(outbox|relay_orders)\.sql$`},
		{"raw, numbered", "raw", []string{"07_a.sql"}, `^(08_postrider_outbox|09_postrider_relay_orders)\.sql$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, name := range test.present {
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			out, _, err := runOutbox(t, "sql", "--tool", test.tool, "--out", dir)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out) {
				if name := filepath.Base(strings.TrimSpace(line)); !regexp.MustCompile(test.want).MatchString(name) {
					t.Errorf("wrote %s, want %s", name, test.want)
				}
			}
			before := listFiles(t, dir)
			_, code, err := runOutbox(t, "sql", "--tool", test.tool, "--out", dir)
			if code != exitNo || err == nil || !strings.Contains(err.Error(), "is there already") {
				t.Errorf("second time: exit %d, %v; want 1 and a hint", code, err)
			}
			if after := listFiles(t, dir); !cmp.Equal(before, after) {
				t.Errorf("second time wrote %v", after)
			}
		})
	}
}

func TestOutbox_ExitsWith2OnWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"drop"},
		{"sql", "now"},
		{"sql", "--tool", "liquibase"},
		{"sql", "--part", "both"},
		{"sql", "--table", "outbox"},
		{"sql", "--name", "Orders"},
		{"sql", "--out", "no/such/directory"},
		{"sql", "--bogus"},
		{"init"},
		{"init", "--postgres-url", "postgres://%zz"},
		{"init", "--postgres-url", "postgres://127.0.0.1:1/x", "--name", "a-b"},
		{"init", "--postgres-url", "postgres://127.0.0.1:1/x", "--table", "x"},
	} {
		t.Setenv("POSTRIDER_POSTGRES_URL", "")
		if _, code, err := runOutbox(t, args...); code != exitUsage {
			t.Errorf("outbox %s: exit %d (%v), want 2", strings.Join(args, " "), code, err)
		}
	}
}

func TestOutboxInit_ExitsWith3WithoutServer(t *testing.T) {
	t.Parallel()
	// Port 1 of the loopback device: nobody listens there.
	_, code, err := runOutbox(t, "init", "--postgres-url", "postgres://u:hidden@127.0.0.1:1/x")
	if code != exitUnreachable {
		t.Errorf("exit %d (%v), want 3", code, err)
	}
	if strings.Contains(err.Error(), "hidden") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func initReport(t *testing.T, url string, args ...string) outboxReport {
	t.Helper()
	out, _, err := runOutbox(t, append([]string{"init", "--json", "--postgres-url", url}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var report outboxReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return report
}

func TestOutboxInit_CreatesWhatIsMissingAndNothingTwice(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	conn := connect(t, url)

	for _, step := range []struct {
		args  []string
		state string
	}{
		{[]string{"--dry-run"}, "missing"},
		{[]string{"--dry-run"}, "missing"},
		{nil, "created"},
		{nil, "present"},
		{[]string{"--dry-run"}, "present"},
	} {
		report := initReport(t, url, append(step.args, "--name", "shop")...)
		if report.Table != (outboxObject{"public.outbox", step.state}) || report.Publication != (outboxObject{"postrider_shop", step.state}) {
			t.Fatalf("init %v: %+v, want both %s", step.args, report, step.state)
		}
		if report.WALLevel != "logical" || len(report.Next) == 0 {
			t.Errorf("init %v: %+v", step.args, report)
		}
	}
	if got := publicObjects(t, conn); !cmp.Equal(got, outboxObjects) {
		t.Errorf("objects: %v", got)
	}
	var slots int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()").Scan(&slots); err != nil || slots != 0 {
		t.Errorf("%d slots, %v: the slot is the relay's to make", slots, err)
	}
	out, _, err := runOutbox(t, "init", "--postgres-url", url, "--name", "shop")
	if err != nil || !strings.Contains(out, "postrider_shop           present\nnext:\n") {
		t.Errorf("for people: %v\n%s", err, out)
	}
}

func TestOutboxInit_TakesAnotherTable(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	conn := connect(t, url)
	_, code, err := runOutbox(t, "init", "--postgres-url", url, "--table", "Billing.Events")
	if code != exitNo || !strings.Contains(err.Error(), "create the schema first") {
		t.Errorf("without the schema: exit %d, %v", code, err)
	}
	execSQL(t, conn, `CREATE SCHEMA "Billing"`)
	for _, state := range []string{"created", "present"} {
		if report := initReport(t, url, "--table", "Billing.Events", "--name", "billing"); report.Table.State != state || report.Publication.State != state {
			t.Errorf("%+v, want both %s", report, state)
		}
	}
}

func TestOutboxInit_RefusesWhatDoesNotFitAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, before, want string }{
		{
			"table with other columns", "CREATE TABLE outbox (id uuid, payload jsonb)",
			"payload is jsonb, want json",
		},
		{
			"publication without the table", "CREATE TABLE other (id int); CREATE PUBLICATION postrider_shop FOR TABLE other",
			"is there, but without public.outbox",
		},
		{
			"publication with other settings", "CREATE PUBLICATION postrider_shop FOR ALL TABLES WITH (publish_via_partition_root = true)",
			"ALTER PUBLICATION postrider_shop SET (publish = 'insert', publish_via_partition_root = true)",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := testserver.Postgres(t)
			execSQL(t, connect(t, url), test.before)
			_, code, err := runOutbox(t, "init", "--postgres-url", url, "--name", "shop")
			if code != exitNo || !strings.Contains(err.Error(), test.want) {
				t.Errorf("exit %d, %v; want 1 and %q", code, err, test.want)
			}
		})
	}
}

func TestOutboxInit_RefusesPublicationYoungerThanItsSlot(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	conn := connect(t, url)
	name := testserver.UniqueName(t)
	execSQL(t, conn, "SELECT pg_create_logical_replication_slot('postrider_"+name+"', 'pgoutput')")
	_, code, err := runOutbox(t, "init", "--postgres-url", url, "--name", name)
	if want := "SELECT pg_drop_replication_slot('postrider_" + name + "')"; code != exitNo || !strings.Contains(err.Error(), want) {
		t.Errorf("exit %d, %v; want 1 and %q", code, err, want)
	}
}

func TestOutboxInit_LeavesTheTableToWhoMayNotPublish(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	conn := connect(t, url)
	role := testserver.UniqueName(t)
	execSQL(t, conn, "CREATE ROLE "+role+" LOGIN PASSWORD 'secret'; GRANT CREATE ON SCHEMA public TO "+role)
	t.Cleanup(func() {
		if _, err := conn.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Error(err)
		}
	})
	asRole := regexp.MustCompile(`//[^@]*@`).ReplaceAllString(url, "//"+role+":secret@")
	_, code, err := runOutbox(t, "init", "--postgres-url", asRole)
	if code != exitNo || !strings.Contains(err.Error(), "hand the DDL to a DBA: postrider outbox sql --part dba") {
		t.Errorf("exit %d, %v; want 1 and what to hand to a DBA", code, err)
	}
	if got := publicObjects(t, conn); !cmp.Equal(got, outboxObjects) {
		t.Errorf("objects: %v", got)
	}
}
