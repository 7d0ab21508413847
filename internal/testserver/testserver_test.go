package testserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUniqueName_FitsSlotDatabaseAndTopic(t *testing.T) {
	t.Parallel()
	t.Run("Ünusual / and very long name of a case, with spaces", func(t *testing.T) {
		t.Parallel()
		valid := regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
		seen := map[string]bool{}
		for range 100 {
			name := UniqueName(t)
			if !valid.MatchString(name) {
				t.Fatalf("name %q does not match %s", name, valid)
			}
			if seen[name] {
				t.Fatalf("name %q came twice", name)
			}
			seen[name] = true
		}
	})
}

func TestExports_ReadsWhatTheScriptsPrint(t *testing.T) {
	t.Parallel()
	got := exports("export A='x=1&y'\n\nnot a variable\nexport B='127.0.0.1:1,127.0.0.1:2'\n")
	want := map[string]string{"A": "x=1&y", "B": "127.0.0.1:1,127.0.0.1:2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPostgres_DropsDatabaseWithActiveSlot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, err := pgx.Connect(ctx, lookup(t, "POSTGRES_URL"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(ctx)
	slot := UniqueName(t)
	count := func(sql, name string) (n int) {
		t.Helper()
		if err := server.QueryRow(ctx, sql, name).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active"
	const databases = "SELECT count(*) FROM pg_database WHERE datname = $1"

	var database string
	var walsender *pgconn.PgConn
	t.Run("user", func(t *testing.T) {
		url := Postgres(t)
		config, err := pgconn.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		database = config.Database
		config.RuntimeParams["replication"] = "database"
		walsender, err = pgconn.ConnectConfig(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		// A temporary slot is active for as long as its session lives.
		_, err = walsender.Exec(ctx, "CREATE_REPLICATION_SLOT "+slot+" TEMPORARY LOGICAL pgoutput").ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if count(slots, slot) != 1 || count(databases, database) != 1 {
			t.Fatal("the slot is not active before the end of the test that uses it")
		}
	})
	if count(slots, slot) != 0 || count(databases, database) != 0 {
		t.Error("the database or its slot is still there after the test that used it")
	}
	// What the server answers now is that it ended the session; the connection is only closed.
	_ = walsender.Close(context.WithoutCancel(ctx))
}

func TestPostgres_DropsDatabaseOfClientThatReconnects(t *testing.T) {
	t.Parallel()
	reconnects := make(chan struct{})
	t.Run("user", func(t *testing.T) {
		url := Postgres(t)
		connected := make(chan struct{})
		go func() {
			defer close(reconnects)
			for first := true; ; first = false {
				conn, err := pgx.Connect(context.Background(), url)
				if err != nil {
					return // shut out
				}
				if first {
					close(connected)
				}
				_ = conn.QueryRow(context.Background(), "SELECT pg_sleep(60)").Scan(nil)
			}
		}()
		<-connected
	})
	<-reconnects
}

func TestPostgres_DropsInactiveSlot(t *testing.T) {
	t.Parallel()
	slot := UniqueName(t)
	t.Run("user", func(t *testing.T) {
		err := onServer(t.Context(), Postgres(t), func(conn *pgx.Conn) error {
			_, err := conn.Exec(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	err := onServer(t.Context(), lookup(t, "POSTGRES_URL"), func(conn *pgx.Conn) error {
		var left int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&left)
		if left != 0 {
			t.Errorf("slot %s is still there after the test that made it", slot)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTopic_TakesRecordsAndDisappears(t *testing.T) {
	t.Parallel()
	var topic string
	t.Run("user", func(t *testing.T) {
		topic = Topic(t, 3)
		produce(t, Kafka(t), topic)
	})
	client := newClient(t, kgo.SeedBrokers(Kafka(t)...))
	err := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic}).FirstErr()
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("producing after the test that used the topic: got %v, want %v", err, kerr.UnknownTopicOrPartition)
	}
}

func TestKafkaSecurity_OpensToPasswordAndCertificateOnly(t *testing.T) {
	t.Parallel()
	kafka := KafkaSecurity(t)
	ca, err := os.ReadFile(kafka.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	certificate, err := tls.LoadX509KeyPair(kafka.Cert, kafka.Key)
	if err != nil {
		t.Fatal(err)
	}
	anonymous := &tls.Config{RootCAs: pool}
	known := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{certificate}}
	right := scram.Auth{User: kafka.Username, Pass: kafka.Password}
	wrong := scram.Auth{User: kafka.Username, Pass: "not " + kafka.Password}

	tests := []struct {
		name      string
		brokers   []string
		tls       *tls.Config
		mechanism sasl.Mechanism
		refused   bool
	}{
		{name: "PLAIN", brokers: kafka.SASLBrokers, tls: anonymous, mechanism: plain.Auth{User: right.User, Pass: right.Pass}.AsMechanism()},
		{name: "SCRAM-SHA-256", brokers: kafka.SASLBrokers, tls: anonymous, mechanism: right.AsSha256Mechanism()},
		{name: "SCRAM-SHA-512", brokers: kafka.SASLBrokers, tls: anonymous, mechanism: right.AsSha512Mechanism()},
		{name: "wrong password", brokers: kafka.SASLBrokers, tls: anonymous, mechanism: wrong.AsSha256Mechanism(), refused: true},
		{name: "certificate", brokers: kafka.MTLSBrokers, tls: known},
		{name: "no certificate", brokers: kafka.MTLSBrokers, tls: anonymous, refused: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			options := []kgo.Opt{kgo.SeedBrokers(test.brokers...), kgo.DialTLSConfig(test.tls), kgo.RequestRetries(1)}
			if test.mechanism != nil {
				options = append(options, kgo.SASL(test.mechanism))
			}
			if err := newClient(t, options...).Ping(t.Context()); (err != nil) != test.refused {
				t.Errorf("ping: %v, refused should be %t", err, test.refused)
			}
		})
	}
}

func TestPostgresCluster_KeepsDataOverCrash(t *testing.T) {
	t.Parallel()
	postgres := NewPostgresCluster(t)
	url := postgres.URL()
	query := func(sql string) (value string) {
		t.Helper()
		err := onServer(t.Context(), url, func(conn *pgx.Conn) error {
			return conn.QueryRow(t.Context(), sql).Scan(&value)
		})
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return value
	}
	if level := query("SHOW wal_level"); level != "logical" {
		t.Errorf("wal_level is %s", level)
	}
	query("WITH made AS (SELECT pg_create_logical_replication_slot('survivor', 'pgoutput')) SELECT 'ok' FROM made")

	postgres.Crash()
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Error("the server answers after its crash")
	}
	postgres.Start()
	if postgres.URL() != url {
		t.Errorf("the address changed from %s to %s", url, postgres.URL())
	}
	postgres.Restart()
	if slot := query("SELECT slot_name FROM pg_replication_slots"); slot != "survivor" {
		t.Errorf("slot is %q", slot)
	}
}

func TestKafkaCluster_ServesWithOneNodeDown(t *testing.T) {
	t.Parallel()
	lookup(t, "KAFKA_BROKERS") // where the shared one is absent, so is what the private one needs
	kafka := NewKafkaCluster(t, 3)
	topic := TopicOn(t, kafka.Brokers(), 3, 3)
	kafka.StopNode(1)
	produce(t, kafka.Brokers(), topic)
	kafka.Start()
	produce(t, kafka.Brokers()[:1], topic)
	kafka.KillNode(2)
	produce(t, kafka.Brokers()[2:], topic)
}

func newClient(t *testing.T, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// produce writes a record to each of three partitions.
func produce(t *testing.T, brokers []string, topic string) {
	t.Helper()
	client := newClient(t, kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for partition := range int32(3) {
		record := &kgo.Record{Topic: topic, Partition: partition, Value: []byte("value")}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatalf("produce to partition %d at %s: %v", partition, strings.Join(brokers, ","), err)
		}
	}
}
