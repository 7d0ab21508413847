package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/testserver"
)

// startsAndWaits makes the test binary a program that starts a server and never stops it.
const startsAndWaits = "POSTRIDER_TEST_START_AND_WAIT"

func TestMain(m *testing.M) {
	if os.Getenv(startsAndWaits) != "" {
		postgres, err := StartPostgres(context.Background(), PostgresOptions{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(postgres.URL(), postgres.dir)
		<-postgres.Done()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// start starts a server that is installed; that one can be downloaded is another test.
func start(t *testing.T, options PostgresOptions) (*Postgres, error) {
	t.Helper()
	if _, ok := installedBinaries(debianBinaries); !ok {
		testserver.Absent(t, "Postgres is not installed; on Debian: apt-get install -y postgresql")
	}
	postgres, err := StartPostgres(t.Context(), options)
	if err == nil {
		t.Cleanup(func() {
			if err := postgres.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	return postgres, err
}

func mustStart(t *testing.T, options PostgresOptions) *Postgres {
	t.Helper()
	postgres, err := start(t, options)
	if err != nil {
		t.Fatal(err)
	}
	return postgres
}

func query(t *testing.T, url, sql string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// serverDir is a directory that the server can enter also when it runs as another user.
func serverDir(t *testing.T) string {
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

func TestStartPostgres_IsReadyForLogicalReplication(t *testing.T) {
	t.Parallel()
	postgres := mustStart(t, PostgresOptions{})
	if level := query(t, postgres.URL(), "SHOW wal_level"); level != "logical" {
		t.Errorf("wal_level is %s", level)
	}
	if slot := query(t, postgres.URL(), "SELECT slot_name FROM pg_create_logical_replication_slot('s', 'pgoutput')"); slot != "s" {
		t.Errorf("slot is %q", slot)
	}
	if address := query(t, postgres.URL(), "SHOW listen_addresses"); address != "127.0.0.1" {
		t.Errorf("the server listens on %s", address)
	}
}

func TestPostgres_StopRemovesTemporaryData(t *testing.T) {
	t.Parallel()
	postgres := mustStart(t, PostgresOptions{})
	client, err := pgx.Connect(t.Context(), postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context()) // still connected at Stop
	for range 2 {
		if err := postgres.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if exists(postgres.dir) {
		t.Errorf("%s is still there", postgres.dir)
	}
	if err := postgres.Err(); err != nil {
		t.Errorf("Err after Stop: %v", err)
	}
}

func TestStartPostgres_KeepsGivenDirectoryOverRuns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(serverDir(t), "data")
	first := mustStart(t, PostgresOptions{Dir: dir})
	if fsync := query(t, first.URL(), "SHOW fsync"); fsync != "on" {
		t.Errorf("fsync of data to keep is %s", fsync)
	}
	query(t, first.URL(), "SELECT slot_name FROM pg_create_logical_replication_slot('kept', 'pgoutput')")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := mustStart(t, PostgresOptions{Dir: dir})
	if slot := query(t, second.URL(), "SELECT slot_name FROM pg_replication_slots"); slot != "kept" {
		t.Errorf("slot is %q", slot)
	}
}

func TestStartPostgres_LeavesForeignDirectoryAlone(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, PostgresOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that names %s", err, dir)
	}
	if !exists(precious) {
		t.Error("the file is gone")
	}
}

func TestStartPostgres_SaysThatPortIsInUse(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	_, err = start(t, PostgresOptions{Port: port})
	if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Errorf("got %v, want %v with the port %d", err, ErrPortInUse, port)
	}
}

func TestStartPostgres_StopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := installedBinaries(debianBinaries); !ok {
		testserver.Absent(t, "Postgres is not installed; on Debian: apt-get install -y postgresql")
	}
	if _, err := StartPostgres(ctx, PostgresOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestPostgres_ReportsThatServerEndedByItself(t *testing.T) {
	t.Parallel()
	postgres := mustStart(t, PostgresOptions{})
	if err := postgres.Err(); err != nil {
		t.Errorf("Err of a running server: %v", err)
	}
	postgres.process.Signal(syscall.SIGKILL)
	<-postgres.Done()
	if err := postgres.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err is %v", err)
	}
}

func TestPostgres_EndsWhenItsParentIsKilled(t *testing.T) {
	t.Parallel()
	if _, ok := installedBinaries(debianBinaries); !ok {
		testserver.Absent(t, "Postgres is not installed; on Debian: apt-get install -y postgresql")
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), startsAndWaits+"=1")
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
	if !ok {
		t.Fatalf("the server did not start: %s", line)
	}
	defer os.RemoveAll(dir)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	if _, err := conn.WaitForNotification(t.Context()); err == nil || t.Context().Err() != nil {
		t.Errorf("waiting for the server's end: %v", err)
	}
}

func TestHint_SaysWhatToDo(t *testing.T) {
	t.Parallel()
	failed := errors.New("exit status 1")
	tests := []struct {
		output string
		want   string
	}{
		{"FATAL: could not write: No space left on device", "free about 100 MB"},
		{"initdb: could not access directory: Permission denied", "choose one such as below /tmp"},
		{"FATAL: something else", "FATAL: something else"},
		{"", "exit status 1"},
	}
	for _, test := range tests {
		err := hint(failed, test.output)
		if !errors.Is(err, failed) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("hint(%q) is %q, want %q in it", test.output, err, test.want)
		}
	}
}

func TestPostgres_RestartKeepsPortAndData(t *testing.T) {
	t.Parallel()
	postgres := mustStart(t, PostgresOptions{})
	query(t, postgres.URL(), "SELECT slot_name FROM pg_create_logical_replication_slot('kept', 'pgoutput')")
	before := postgres.Done()
	if err := postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-before
	if slot := query(t, postgres.URL(), "SELECT slot_name FROM pg_replication_slots"); slot != "kept" {
		t.Errorf("slot is %q", slot)
	}
	if err := postgres.Err(); err != nil {
		t.Errorf("Err of a running server: %v", err)
	}
}

func TestStartPostgres_LeavesNoHalfMadeDirectory(t *testing.T) {
	t.Parallel()
	if _, ok := installedBinaries(debianBinaries); !ok {
		testserver.Absent(t, "Postgres is not installed; on Debian: apt-get install -y postgresql")
	}
	parent := serverDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := StartPostgres(ctx, PostgresOptions{Dir: filepath.Join(parent, "data")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}
