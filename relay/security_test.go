package relay_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/relay"
)

// wantSecret checks that none of the secrets is in anything that the relay shows.
func (r *running) wantSecret(cfg relay.Config, secrets ...string) {
	r.t.Helper()
	status, err := json.Marshal(r.Status())
	if err != nil {
		r.t.Fatal(err)
	}
	yaml, err := cfg.YAML()
	if err != nil {
		r.t.Fatal(err)
	}
	shown := map[string]string{
		"log": r.logs.String(), "status": string(status), "metrics": r.metrics(), "configuration": string(yaml),
		"printed configuration": fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg),
	}
	for _, path := range []string{"/status", "/readyz"} {
		rec := httptest.NewRecorder()
		r.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		shown[path] = rec.Body.String()
	}
	for where, text := range shown {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				r.t.Errorf("%s shows the secret %q:\n%s", where, secret, text)
			}
		}
	}
}

// wantNoHotLoop checks that a relay that has just halted takes its time to the next attempt.
func (r *running) wantNoHotLoop(class string) {
	r.t.Helper()
	series := fmt.Sprintf(`postrider_errors_total{class=%q`, class)
	before, started := r.metric(series), time.Now()
	r.until("another attempt", func(relay.StatusReport) bool { return r.metric(series) > before })
	if took := time.Since(started); took < 3*time.Second {
		r.t.Errorf("the next attempt came after %v", took)
	}
}

func TestSecurity_PublishesToKafkaBy(t *testing.T) {
	t.Parallel()
	server := testserver.KafkaSecurity(t)
	sasl := func(mechanism string) relay.KafkaConfig {
		return relay.KafkaConfig{
			Brokers: server.SASLBrokers,
			TLS:     relay.TLSConfig{CAFile: server.CA},
			SASL:    relay.SASLConfig{Mechanism: mechanism, Username: server.Username, Password: relay.Secret(server.Password)},
		}
	}
	tests := []struct {
		name  string
		kafka relay.KafkaConfig
	}{
		{"PLAIN", sasl("PLAIN")},
		{"SCRAM-SHA-256", sasl("SCRAM-SHA-256")},
		{"SCRAM-SHA-512", sasl("SCRAM-SHA-512")},
		{"certificate", relay.KafkaConfig{
			Brokers: server.MTLSBrokers,
			TLS:     relay.TLSConfig{CAFile: server.CA, CertFile: server.Cert, KeyFile: server.Key},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			r := f.start(func(c *relay.Config) { c.Kafka = test.kafka })
			r.untilStreaming()
			f.emit("a", 0, 10)
			f.consume(f.topic, 10)
			cfg := f.cfg
			cfg.Kafka = test.kafka
			r.wantSecret(cfg, server.Password)
		})
	}
}

func TestSecurity_KafkaThatCannotBeTrustedOrDoesNotTrustHalts(t *testing.T) {
	t.Parallel()
	server := testserver.KafkaSecurity(t)
	tests := []struct {
		name  string
		kafka relay.KafkaConfig
	}{
		{"authority unknown", relay.KafkaConfig{Brokers: server.MTLSBrokers, TLS: relay.TLSConfig{Enabled: true, CertFile: server.Cert, KeyFile: server.Key}}},
		{"no certificate", relay.KafkaConfig{Brokers: server.MTLSBrokers, TLS: relay.TLSConfig{CAFile: server.CA}}},
		{"other server name", relay.KafkaConfig{Brokers: server.MTLSBrokers, TLS: relay.TLSConfig{
			CAFile: server.CA, CertFile: server.Cert, KeyFile: server.Key, ServerName: "kafka.example",
		}}},
		{"unknown user", relay.KafkaConfig{Brokers: server.SASLBrokers, TLS: relay.TLSConfig{CAFile: server.CA}, SASL: relay.SASLConfig{
			Mechanism: "PLAIN", Username: "nobody", Password: "not-the-password",
		}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			r := f.start(func(c *relay.Config) { c.Kafka = test.kafka })
			s := r.untilHalted(relay.AuthKafka)
			if s.Ready || s.Troubles[0].Hint == "" {
				t.Errorf("status %+v", s)
			}
			r.wantSecret(f.cfg, "not-the-password")
		})
	}
}

func TestSecurity_WrongKafkaPasswordHaltsUntilMended(t *testing.T) {
	t.Parallel()
	server := testserver.KafkaSecurity(t)
	f := newFixture(t)
	user, right := testserver.UniqueName(t), "right-secret-of-kafka"
	f.setKafkaPassword(user, "another-secret-of-kafka")
	f.cfg.Kafka.TLS.CAFile = server.CA
	f.cfg.Kafka.SASL = relay.SASLConfig{Mechanism: "SCRAM-SHA-256", Username: user, Password: relay.Secret(right)}
	r := f.start(func(c *relay.Config) { c.Kafka.Brokers = server.SASLBrokers })
	r.untilHalted(relay.AuthKafka)
	r.wantNoHotLoop("kafka")
	f.emit("a", 0, 1)
	f.setKafkaPassword(user, right)
	r.untilStreaming()
	r.until("no trouble", func(s relay.StatusReport) bool { return s.Ready && len(s.Troubles) == 0 })
	f.consume(f.topic, 1)
	if n := strings.Count(r.logs.String(), "relay halts"); n != 1 {
		t.Errorf("the halt is logged %d times", n)
	}
	r.wantSecret(f.cfg, right)
}

// setKafkaPassword makes a SCRAM-SHA-256 user of the broker, or changes its password.
func (f *fixture) setKafkaPassword(user, password string) {
	f.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cfg.Kafka.Brokers...))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	const sha256Mechanism, iterations = 1, 4096
	salt := []byte("salt of the test")
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		f.t.Fatal(err)
	}
	upsert := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
	upsert.Name, upsert.Mechanism, upsert.Iterations = user, sha256Mechanism, iterations
	upsert.Salt, upsert.SaltedPassword = salt, salted
	request := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	request.Upsertions = append(request.Upsertions, upsert)
	response, err := request.RequestWith(f.t.Context(), client)
	if err == nil {
		err = kerr.ErrorForCode(response.Results[0].ErrorCode)
	}
	if err != nil {
		f.t.Fatalf("set the password of %s: %v", user, err)
	}
}

// relayRole makes a role with a password that may do what the DBA's part of the DDL grants,
// and no more, and returns its URL.
func (f *fixture) relayRole(password string) (role, connection string) {
	f.t.Helper()
	ddl, err := outbox.RelayDDL(relay.DefaultTable, f.cfg.Name)
	if err != nil {
		f.t.Fatal(err)
	}
	f.exec(`DO $$ BEGIN CREATE ROLE with_password; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$`)
	f.exec(ddl.Up)
	role = "postrider_" + f.cfg.Name
	f.t.Cleanup(func() {
		f.exec(`DROP OWNED BY ` + role)
		f.exec(`DROP ROLE ` + role)
	})
	f.exec(`GRANT with_password TO ` + role)
	f.exec(fmt.Sprintf(`ALTER ROLE %s PASSWORD '%s'`, role, password))
	u, err := url.Parse(f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	u.User = url.UserPassword(role, password)
	return role, u.String()
}

func TestSecurity_PlainRoleWithTheGrantsOfTheDBAIsEnough(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	role, connection := f.relayRole("secret-of-the-role")
	if ask[bool](f, `SELECT rolsuper FROM pg_roles WHERE rolname = $1`, role) {
		t.Fatalf("role %s is a superuser", role)
	}
	no := false
	f.cfg.Postgres.URL, f.cfg.Postgres.CreatePublication = relay.SecretURL(connection), &no
	f.emit("a", 0, 5) // for the snapshot
	r := f.start()
	r.untilStreaming()
	f.emit("a", 5, 5)
	f.consume(f.topic, 10)
	var users []string
	rows, err := f.db.Query(t.Context(), `SELECT DISTINCT usename::text FROM pg_stat_activity WHERE application_name = 'postrider' AND datname = current_database()`)
	if err == nil {
		users, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(users) != 1 || users[0] != role {
		t.Errorf("the relay works as %v, want %s alone", users, role)
	}
	r.wantSecret(f.cfg, "secret-of-the-role")
}

func TestSecurity_WrongPostgresPasswordHaltsUntilMended(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const right = "right-secret-of-postgres"
	role, connection := f.relayRole(right)
	f.exec(`ALTER ROLE ` + role + ` PASSWORD 'another-secret'`)
	f.emit("a", 0, 1)
	f.cfg.Postgres.URL = relay.SecretURL(connection)
	r := f.start()
	r.untilHalted(relay.AuthPostgres)
	r.wantNoHotLoop("postgres")
	f.exec(fmt.Sprintf(`ALTER ROLE %s PASSWORD '%s'`, role, right))
	r.untilStreaming()
	r.until("no trouble", func(s relay.StatusReport) bool { return s.Ready && len(s.Troubles) == 0 })
	f.consume(f.topic, 1)
	r.wantSecret(f.cfg, right)
}

func TestSecurity_PostgresOverTLS(t *testing.T) {
	t.Parallel()
	postgres := testserver.NewPostgresCluster(t)
	secure := strings.Replace(postgres.URL(), "sslmode=disable", "sslmode=verify-full", 1)
	tests := []struct {
		name    string
		change  func(*relay.Config)
		refused bool
	}{
		{"authority in the URL", func(c *relay.Config) {
			c.Postgres.URL = relay.SecretURL(secure + "&sslrootcert=" + url.QueryEscape(postgres.CA()))
		}, false},
		{"authority in postgres.tls", func(c *relay.Config) { c.Postgres.TLS.CAFile = postgres.CA() }, false},
		{"authority unknown", func(c *relay.Config) { c.Postgres.URL = relay.SecretURL(secure) }, true},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := strings.Replace(postgres.URL(), "/postgres?", fmt.Sprintf("/tls%d?", i), 1)
			onPostgres(t, postgres.URL(), fmt.Sprintf("CREATE DATABASE tls%d", i))
			f := newFixtureOn(t, url)
			r := f.start(func(c *relay.Config) {
				test.change(c)
				c.Postgres.URL = relay.SecretURL(strings.Replace(string(c.Postgres.URL), "/postgres?", fmt.Sprintf("/tls%d?", i), 1))
			})
			if test.refused {
				r.until("the server is not trusted", func(s relay.StatusReport) bool {
					return len(s.Troubles) == 1 && strings.Contains(s.Troubles[0].Message, "x509") && s.Troubles[0].Code == relay.AuthPostgres
				})
				return
			}
			r.untilStreaming()
			f.emit("a", 0, 1)
			f.consume(f.topic, 1)
			if n := ask[int](f, `SELECT count(*)::int FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
				WHERE a.application_name = 'postrider' AND a.datname = current_database() AND NOT s.ssl`); n > 0 {
				t.Errorf("%d connections of the relay are not encrypted", n)
			}
		})
	}
}

func onPostgres(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestSecurity_WrongRegistryCredentialsHaltUntilMended(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		auth   relay.RegistryAuthConfig
		header string // that the registry demands
		secret string
	}{
		{"basic", relay.RegistryAuthConfig{Username: "relay", Password: "secret-of-basic"}, "Basic cmVsYXk6c2VjcmV0LW9mLWJhc2lj", "secret-of-basic"},
		{"bearer", relay.RegistryAuthConfig{Token: "secret-of-bearer"}, "Bearer secret-of-bearer", "secret-of-bearer"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			var mended atomic.Bool
			guarded := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if !mended.Load() || req.Header.Get("Authorization") != test.header {
					http.Error(w, `{"error_code":40101,"message":"Unauthorized"}`, http.StatusUnauthorized)
					return
				}
				f.registry.server.Config.Handler.ServeHTTP(w, req)
			}))
			t.Cleanup(guarded.Close)
			f.cfg.Registry.URL, f.cfg.Registry.Auth = relay.SecretURL(guarded.URL), test.auth
			r := f.start()
			r.untilStreaming()
			f.emit("a", 0, 1)
			r.untilHalted(relay.AuthRegistry)
			r.wantNoHotLoop("event")
			halted := f.confirmed()
			mended.Store(true)
			position := header(f.consume(f.topic, 1)[0], "postrider-position")
			commit := position[:strings.LastIndexByte(position, '/')]
			if ask[bool](f, `SELECT $1::pg_lsn > $2::pg_lsn`, halted, commit) {
				t.Errorf("under the halt the slot stood at %s, beyond the event that commits at %s", halted, commit)
			}
			r.until("no trouble", func(s relay.StatusReport) bool { return s.Ready && len(s.Troubles) == 0 })
			r.wantSecret(f.cfg, test.secret, test.header)
		})
	}
}

// A stream that breaks while the relay stands at an event must not leave the halt behind
// when the next session gets past that event at once.
func TestSecurity_HaltIsOverThoughTheStreamBrokeMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.registry.status.Store(http.StatusUnauthorized)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 0, 1)
	r.untilHalted(relay.AuthRegistry)
	f.registry.status.Store(0)
	f.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, f.slot())
	f.consume(f.topic, 1)
	r.until("no trouble", func(s relay.StatusReport) bool { return s.Ready && len(s.Troubles) == 0 })
}
