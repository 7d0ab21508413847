package docs

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/testserver"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is the service that the page is about: a directory with its repository, a Postgres
// of its own with the roles that the page assumes, a registry and a topic.
type service struct {
	t     *testing.T
	dir   string
	env   []string
	admin *pgx.Conn // in the service's database

	registry *schemaregistry.Client
	brokers  []string
	topic    string
}

const (
	guide   = "../testdata/guide"
	clients = "../testdata/clients/clients.sh"
)

func newService(t *testing.T) *service {
	t.Helper()
	if _, err := exec.LookPath("psql"); err != nil {
		testserver.Absent(t, "psql is missing; on Debian or Ubuntu: apt-get install -y postgresql-client")
	}
	s := &service{t: t, dir: t.TempDir(), brokers: testserver.Kafka(t), topic: testserver.Topic(t, 2)}
	dead := testserver.Topic(t, 1)
	cluster := testserver.NewPostgresCluster(t)
	server, err := pgx.Connect(t.Context(), cluster.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(t.Context())
	for _, query := range []string{"CREATE ROLE orders_service LOGIN", "CREATE DATABASE orders", "CREATE DATABASE development"} {
		if _, err := server.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	if s.admin, err = pgx.Connect(t.Context(), withUser(t, cluster.URL(), "postgres", "orders")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.admin.Close(context.Background()) })
	s.adminExec("GRANT CREATE ON SCHEMA public TO orders_service")

	handler := schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{})
	registry := httptest.NewServer(handler)
	t.Cleanup(registry.Close)
	if s.registry, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: registry.URL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.registry.Close)

	database := withUser(t, cluster.URL(), "orders_service", "orders")
	address, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	s.env = append(os.Environ(),
		"PATH="+s.dir+"/bin:"+os.Getenv("PATH"),
		"DATABASE_URL="+database,
		"ADMIN_URL="+withUser(t, cluster.URL(), "postgres", "orders"),
		"RELAY_URL="+withUser(t, cluster.URL(), "postrider_orders", "orders"),
		"JDBC_URL=jdbc:postgresql://"+address.Host+"/orders?user=orders_service&sslmode=disable",
		"KAFKA_BROKERS="+strings.Join(s.brokers, ","),
		"REGISTRY_URL="+registry.URL,
		// The broker is shared with other tests.
		"POSTRIDER_OUTBOX_TOPIC="+s.topic,
		"POSTRIDER_KAFKA_GROUP_ID="+s.topic,
		"POSTRIDER_KAFKA_DEAD_LETTER_TOPIC="+dead,
		"POSTRIDER_HTTP_LISTEN=-",
	)
	s.run("..", "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", s.dir+"/bin/postrider", "./cmd/postrider")
	// A dependency of postrider's may have become newer than the one in testdata/guide/go.mod.
	s.env = append(s.env, "GOFLAGS="+os.Getenv("GOFLAGS")+" -mod=mod")
	s.copyModule()
	return s
}

func withUser(t *testing.T, server, user, database string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.Path = url.User(user), "/"+database
	return u.String()
}

// copyModule begins the repository with the module of testdata/guide.
func (s *service) copyModule() {
	s.t.Helper()
	checkout, err := filepath.Abs("..")
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "db/migrations"), 0o755); err != nil { // which a service has
		s.t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum", "ways_test.go", "main.py"} {
		s.write(name, strings.ReplaceAll(s.read(name), "=> ../..", "=> "+checkout))
	}
}

// read returns a file of testdata/guide.
func (s *service) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(guide, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func (s *service) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// run runs a command in a directory and returns what it printed. The first one that needs a
// package installs it.
func (s *service) run(dir string, command ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, s.env
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if command[0] == clients && errors.As(err, &exit) && exit.ExitCode() == 3 { // Python or Java is missing
		testserver.Absent(s.t, string(output))
	}
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, output)
	}
	return string(output)
}

// shell runs a block as a reader would type it, but stops at the first error. Variables of the
// form NAME=value go before those of the environment.
func (s *service) shell(text string, variables ...string) string {
	s.t.Helper()
	return s.run(s.dir, append(append([]string{"env"}, variables...), "bash", "-euo", "pipefail", "-c", text)...)
}

// psql runs a script for the variable's database.
func (s *service) psql(variable, script string) {
	s.t.Helper()
	s.write("script.sql", script)
	s.shell(`psql -X -q -v ON_ERROR_STOP=1 -f script.sql "$` + variable + `"`)
}

func (s *service) adminExec(query string) {
	s.t.Helper()
	if _, err := s.admin.Exec(s.t.Context(), query, pgx.QueryExecModeSimpleProtocol); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}

// startInBackground runs a block that is one command until the test ends.
func (s *service) startInBackground(command string) {
	s.t.Helper()
	command = strings.TrimSpace(command)
	cmd := exec.Command("bash", "-c", "exec "+command)
	cmd.Dir, cmd.Env = s.dir, s.env
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("%s: %v", command, err)
		}
		if s.t.Failed() {
			s.t.Logf("%s printed:\n%s", command, &output)
		}
	})
}
