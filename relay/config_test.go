package relay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// minimalConfig has what has no default.
func minimalConfig() Config {
	return Config{
		Name:     "orders",
		Postgres: PostgresConfig{URL: "postgres://app@127.0.0.1/shop?sslmode=disable"},
		Kafka:    KafkaConfig{Brokers: []string{"127.0.0.1:9092"}},
		Registry: RegistryConfig{URL: "http://127.0.0.1:8081"},
	}
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postrider.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func loadConfig(t *testing.T, text string, environ, set []string) Config {
	t.Helper()
	c, err := LoadConfig(configFile(t, text), environ, set)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConfig_DefaultsComeFromTheName(t *testing.T) {
	t.Parallel()
	c := minimalConfig()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	yes := true
	want := Config{
		Name: "orders",
		Postgres: PostgresConfig{
			URL: "postgres://app@127.0.0.1/shop?sslmode=disable", Slot: "postrider_orders", Publication: "postrider_orders",
			Snapshot: "initial", CreatePublication: &yes, CreateSlot: &yes,
		},
		Outbox: OutboxConfig{
			Table: "public.outbox", SchemaTable: "public.outbox_schema", Topic: "{aggregate_type}", Subject: "{event_type}",
			Source: "/orders", Headers: "cloudevents", Retention: new(168 * time.Hour), PartitionsAhead: new(7),
			Columns: ColumnsConfig{
				Preset: "postrider", ID: "id", AggregateType: "aggregate_type", AggregateID: "aggregate_id", EventType: "event_type",
				Payload: "payload", PayloadAvro: "payload_avro", SchemaFingerprint: "schema_fingerprint",
				Headers: "headers", Topic: "topic", ExpiresAt: "expires_at", CreatedAt: "created_at",
			},
		},
		Kafka: KafkaConfig{
			Brokers: []string{"127.0.0.1:9092"}, ClientID: "postrider_orders", GroupID: "postrider_orders", Compression: "lz4",
			DeadLetterTopic: "postrider_orders_dead_letter", MaxInFlightBytes: 8 << 20,
		},
		Registry:        RegistryConfig{URL: "http://127.0.0.1:8081", LatestTTL: 30 * time.Second},
		HTTP:            HTTPConfig{Listen: "127.0.0.1:8080"},
		OnPoison:        "halt",
		ShutdownTimeout: 8 * time.Second,
	}
	if diff := cmp.Diff(want, c.withDefaults()); diff != "" {
		t.Errorf("effective configuration (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(minimalConfig(), c); diff != "" {
		t.Errorf("the configuration itself was changed:\n%s", diff)
	}
}

func TestConfig_DefaultsGiveWayAndFollow(t *testing.T) {
	t.Parallel()
	no := false
	c := minimalConfig()
	c.Postgres.CreateSlot = &no
	c.Outbox.Table = "sales.events"
	c.Outbox.Columns = ColumnsConfig{Preset: "debezium", CreatedAt: "ts"}
	c.Kafka.CreateTopics.Partitions = 8
	c = c.withDefaults()
	if *c.Postgres.CreateSlot {
		t.Error("postgres.create_slot: false was overridden by the default")
	}
	if c.Outbox.SchemaTable != "sales.events_schema" {
		t.Errorf("outbox.schema_table is %s, want it named after the table", c.Outbox.SchemaTable)
	}
	if c.Kafka.CreateTopics.ReplicationFactor != -1 {
		t.Errorf("replication factor is %d, want the broker's default", c.Kafka.CreateTopics.ReplicationFactor)
	}
	want := ColumnsConfig{
		Preset: "debezium", ID: "id", AggregateType: "aggregatetype", AggregateID: "aggregateid", EventType: "type",
		Payload: "payload", PayloadAvro: "-", SchemaFingerprint: "-", Headers: "-", Topic: "-", ExpiresAt: "-", CreatedAt: "ts",
	}
	if diff := cmp.Diff(want, c.Outbox.Columns); diff != "" {
		t.Errorf("columns of the debezium preset (-want +got):\n%s", diff)
	}
}

func TestConfig_ReportsEveryProblemAtOnceByItsKey(t *testing.T) {
	t.Parallel()
	c := Config{
		Name: "Orders!",
		Postgres: PostgresConfig{
			URL: "postgres://app@db:port/shop", Slot: "Slot", Snapshot: "sometimes",
		},
		Outbox: OutboxConfig{
			Table: "a.b.c", Topic: "{topic}", Subject: "{", Headers: "many", Retention: new(-time.Hour), PartitionsAhead: new(367),
			Columns: ColumnsConfig{
				Preset: "other", ID: "-", AggregateType: "-", AggregateID: "-", EventType: "-", Payload: "-", PayloadAvro: "-",
			},
		},
		Kafka: KafkaConfig{
			Brokers: []string{"localhost"}, Compression: "rar", DeadLetterTopic: "dead letters", MaxInFlightBytes: 1,
			TLS:  TLSConfig{CAFile: filepath.Join(t.TempDir(), "none.pem")},
			SASL: SASLConfig{Mechanism: "PLAIN"}, CreateTopics: CreateTopicsConfig{Partitions: -1},
		},
		Registry: RegistryConfig{
			URL: "registry", LatestTTL: -1, TLS: TLSConfig{CertFile: "cert.pem"},
			Auth: RegistryAuthConfig{Username: "app", Token: "t"},
		},
		HTTP:            HTTPConfig{Listen: "8080"},
		OnPoison:        "drop",
		ShutdownTimeout: -1,
	}
	err := c.Validate()
	if err == nil {
		t.Fatal("nothing was reported")
	}
	var got []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		key, _, _ := strings.Cut(line, ": ")
		got = append(got, key)
	}
	slices.Sort(got)
	want := []string{
		"http.listen", "kafka.brokers", "kafka.compression", "kafka.create_topics.partitions", "kafka.dead_letter_topic", "kafka.max_in_flight_bytes",
		"kafka.sasl", "kafka.tls", "name", "on_poison", "outbox.columns.aggregate_id", "outbox.columns.aggregate_type",
		"outbox.columns.event_type", "outbox.columns.id", "outbox.columns.payload", "outbox.columns.payload_avro",
		"outbox.columns.preset", "outbox.headers", "outbox.partitions_ahead", "outbox.retention", "outbox.subject", "outbox.table", "outbox.topic",
		"postgres.slot", "postgres.snapshot", "postgres.url", "registry.auth", "registry.latest_ttl", "registry.tls", "registry.url",
		"shutdown_timeout",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys with a problem (-want +got):\n%s\n%v", diff, err)
	}
	missing := (Config{}).Validate().Error()
	for _, key := range []string{"name", "postgres.url", "kafka.brokers", "registry.url"} {
		if !strings.Contains(missing, key+": ") {
			t.Errorf("%s is required, and not reported as missing:\n%s", key, missing)
		}
	}
}

func TestLoadConfig_ReadsTheFile(t *testing.T) {
	t.Parallel()
	c := loadConfig(t, `
name: orders
postgres:
  url: postgres://app@127.0.0.1/shop
  create_slot: false
  tls: {enabled: true, ca_file: ca.pem}
outbox: {columns: {preset: debezium}, retention: 36h}
kafka:
  brokers: ["a:9092", "b:9092"]
  create_topics: {partitions: 8, replication_factor: 3}
  max_in_flight_bytes: 33554432
shutdown_timeout: 1m30s
`, nil, nil)
	no := false
	want := Config{
		Name:            "orders",
		Postgres:        PostgresConfig{URL: "postgres://app@127.0.0.1/shop", CreateSlot: &no, TLS: TLSConfig{Enabled: true, CAFile: "ca.pem"}},
		Outbox:          OutboxConfig{Columns: ColumnsConfig{Preset: "debezium"}, Retention: new(36 * time.Hour)},
		Kafka:           KafkaConfig{Brokers: []string{"a:9092", "b:9092"}, CreateTopics: CreateTopicsConfig{8, 3}, MaxInFlightBytes: 32 << 20},
		ShutdownTimeout: 90 * time.Second,
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if c := loadConfig(t, "", nil, nil); !cmp.Equal(c, Config{}) {
		t.Errorf("an empty file gives %+v", c)
	}
}

func TestLoadConfig_TakesFlagsOverEnvironmentOverFile(t *testing.T) {
	t.Parallel()
	file := `
name: file
outbox: {table: file, topic: file, subject: file, retention: 1h}
kafka: {brokers: [file:1], compression: gzip}
`
	env := []string{
		"POSTRIDER_OUTBOX_TOPIC=env", "POSTRIDER_OUTBOX_SUBJECT=env", "POSTRIDER_OUTBOX_RETENTION=2h30m",
		"POSTRIDER_KAFKA_BROKERS=a:9092, b:9092", "POSTRIDER_KAFKA_CREATE_TOPICS_PARTITIONS=8",
		"POSTRIDER_KAFKA_TLS_ENABLED=true", "POSTRIDER_POSTGRES_CREATE_SLOT=false",
		"POSTRIDER_REGISTRY_AUTH_PASSWORD=a=b", "KAFKA_BROKERS=other", "HOME=/root",
	}
	c := loadConfig(t, file, env, []string{"outbox.subject=flag", "registry.latest_ttl=5s", "postgres.create_publication=false"})
	no := false
	want := Config{
		Name:     "file",
		Postgres: PostgresConfig{CreateSlot: &no, CreatePublication: &no},
		Outbox:   OutboxConfig{Table: "file", Topic: "env", Subject: "flag", Retention: new(150 * time.Minute)},
		Kafka: KafkaConfig{
			Brokers: []string{"a:9092", "b:9092"}, Compression: "gzip", CreateTopics: CreateTopicsConfig{Partitions: 8},
			TLS: TLSConfig{Enabled: true},
		},
		Registry: RegistryConfig{LatestTTL: 5 * time.Second, Auth: RegistryAuthConfig{Password: "a=b"}},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	c, err := LoadConfig("", []string{`POSTRIDER_KAFKA_BROKERS=["c:1", "d:2"]`}, nil)
	if err != nil || !slices.Equal(c.Kafka.Brokers, []string{"c:1", "d:2"}) {
		t.Errorf("a list as YAML without a file: %v, %v", c.Kafka.Brokers, err)
	}
}

func TestLoadConfig_TakesSecretsFromEnvironmentAndFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("from a file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := loadConfig(t, `
postgres: {url: "postgres://${DB_USER}:${DB_PASSWORD}@db/shop"}
kafka:
  brokers: ["${HOST}:9092"]
  sasl: {password: "file:`+path+`"}
registry: {auth: {token: "${TOKEN}", password: "cost: $5 {x}"}}
`, []string{"DB_USER=app", "DB_PASSWORD=a=b", "HOST=broker", "TOKEN="}, nil)
	want := Config{
		Postgres: PostgresConfig{URL: "postgres://app:a=b@db/shop"},
		Kafka:    KafkaConfig{Brokers: []string{"broker:9092"}, SASL: SASLConfig{Password: "from a file"}},
		Registry: RegistryConfig{Auth: RegistryAuthConfig{Password: "cost: $5 {x}"}},
	}
	// Secrets are compared as strings, for a difference would be masked.
	if got, want := fmt.Sprintf("%v", reveal(c)), fmt.Sprintf("%v", reveal(want)); got != want {
		t.Errorf("secrets are\n%s, want\n%s", got, want)
	}
	if diff := cmp.Diff(want.Kafka.Brokers, c.Kafka.Brokers); diff != "" {
		t.Errorf("brokers (-want +got):\n%s", diff)
	}
}

// reveal returns the secrets of c by their key.
func reveal(c Config) map[string]string {
	secrets := make(map[string]string)
	eachSecret(reflect.ValueOf(&c).Elem(), "", func(key string, v reflect.Value) { secrets[key] = v.String() })
	return secrets
}

// eachSecret calls f for every Secret and SecretURL of a struct.
func eachSecret(v reflect.Value, prefix string, f func(key string, v reflect.Value)) {
	for i := range v.NumField() {
		field := v.Field(i)
		key := prefix + v.Type().Field(i).Name
		switch {
		case field.Type() == reflect.TypeFor[Secret](), field.Type() == reflect.TypeFor[SecretURL]():
			f(key, field)
		case field.Kind() == reflect.Struct:
			eachSecret(field, key+".", f)
		}
	}
}

func TestLoadConfig_RefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, file string
		env, set   []string
		want       []string
	}{
		{name: "unknown key", file: "name: orders\nkafka: {broker: a}\n", want: []string{"postrider.yaml:2: kafka.broker: there is no such key; is kafka.brokers meant?"}},
		{name: "key in another place", file: "brokers: [a]\n", want: []string{"postrider.yaml:1: brokers: there is no such key; is kafka.brokers meant?"}},
		{name: "section", file: "postgress: {url: x}\n", want: []string{":1: postgress: there is no such key; is postgres meant?"}},
		{name: "key like no other", file: "zookeeper: x\n", want: []string{":1: zookeeper: there is no such key"}},
		{name: "number", file: "kafka:\n  max_in_flight_bytes: lots\n", want: []string{`:2: kafka.max_in_flight_bytes: want a whole number, not "lots"`}},
		{name: "number too large", file: "kafka: {create_topics: {replication_factor: 70000}}\n",
			want: []string{`kafka.create_topics.replication_factor: want a whole number, not "70000"`}},
		{name: "duration", file: "shutdown_timeout: soon\n", want: []string{`:1: shutdown_timeout: want a duration such as 30s or 168h, not "soon"`}},
		{name: "boolean", file: "postgres: {create_slot: maybe}\n", want: []string{`postgres.create_slot: want true or false, not "maybe"`}},
		{name: "list", file: "kafka: {brokers: 'a:9092'}\n", want: []string{`kafka.brokers: want a list such as [a, b], not "a:9092"`}},
		{name: "text", file: "registry: {url: {host: secret-1}}\n", want: []string{"registry.url: want one text, not keys with values"}},
		{name: "keys", file: "postgres: postgres://app:secret-1@db/shop\n", want: []string{":1: postgres: want keys with values, not a single value"}},
		{name: "a list of all", file: "- name: orders\n", want: []string{"postrider.yaml:1: the file: want keys with values, not a list"}},
		{name: "twice", file: "name: a\nname: b\n", want: []string{":2: name: is in line 1 already"}},
		{name: "merged", file: "kafka: &k {<<: *k, broker: a}\n", want: []string{":1: kafka.broker: there is no such key"}},
		{name: "all at once", file: "nam: x\nkafka: {tls: {enabled: 1}, compressions: lz4}\n",
			want: []string{":1: nam: there", ":2: kafka.tls.enabled: want true or false", ":2: kafka.compressions: there is no such key; is kafka.compression meant?"}},
		{name: "no YAML", file: "a: b: c\n", want: []string{"postrider.yaml: this is no YAML: mapping values are not allowed"}},
		{name: "unset variable", file: "registry: {auth: {token: '${NO_TOKEN}'}}\n", want: []string{"registry.auth.token", "NO_TOKEN is not set"}},
		{name: "missing file", file: "registry: {auth: {token: 'file:/nonexistent/token'}}\n", want: []string{"registry.auth.token", "/nonexistent/token"}},
		{name: "wrong type in the environment", env: []string{"POSTRIDER_KAFKA_MAX_IN_FLIGHT_BYTES=lots"}, want: []string{`POSTRIDER_KAFKA_MAX_IN_FLIGHT_BYTES: want a whole number, not "lots"`}},
		{name: "several at once", set: []string{"no.such.key=1", "kafka.broker=a", "name", "registry.latest_ttl=soon"},
			want: []string{
				"--set no.such.key: there is no such key", "--set kafka.broker: there is no such key; is kafka.brokers meant?",
				"--set name: not of the form key=value", `--set registry.latest_ttl: want a duration such as 30s or 168h, not "soon"`,
			}},
	} {
		_, err := LoadConfig(configFile(t, tc.file), tc.env, tc.set)
		if err == nil {
			t.Errorf("%s: no error", tc.name)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not name %q", tc.name, err, want)
			}
		}
		for _, never := range []string{"relay.", "!!", "into ", "secret-1"} {
			if strings.Contains(err.Error(), never) {
				t.Errorf("%s: error %q has %q in it", tc.name, err, never)
			}
		}
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml"), nil, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
}

// Whatever a file has in it, it is read or refused in words, with its name.
func FuzzDecodeConfig(f *testing.F) {
	for _, text := range []string{
		"name: orders\nkafka: {brokers: [a]}\n", "kafka: &k {<<: [*k, *k]}\n", "a: &a [*a]\nkafka: *a\n", "---\n...\n---\n", "- &x\n- *x\n",
		"? {a: b}\n: c\n", "outbox: {retention: 1h, columns: ~}\n", "postgres: {create_slot: !!str true}\n", "<<: {name: x}\n", "name: !!binary aGk=\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c Config
		err := decodeConfig("f.yaml", strings.NewReader(text), &c)
		if err == nil {
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "f.yaml:") && !strings.HasPrefix(line, "configuration f.yaml: ") || strings.Contains(line, "relay.") && !strings.Contains(text, "relay.") {
				t.Errorf("%q is refused with %q", text, err)
			}
		}
	})
}

func TestVariables_AreThoseThatLoadConfigTakes(t *testing.T) {
	t.Parallel()
	known := Variables()
	for _, name := range []string{"POSTRIDER_NAME", "POSTRIDER_KAFKA_BROKERS", "POSTRIDER_OUTBOX_COLUMNS_PAYLOAD_AVRO"} {
		if !slices.Contains(known, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range known {
		_, err := LoadConfig("", []string{name + "=file:/nonexistent"}, nil)
		if err == nil && name != "POSTRIDER_KAFKA_BROKERS" {
			t.Errorf("%s is not read", name)
		}
	}
}

// secretConfig has a secret in every place that can hold one, whatever fields are added.
func secretConfig(secret string) Config {
	c := minimalConfig()
	eachSecret(reflect.ValueOf(&c).Elem(), "", func(_ string, v reflect.Value) {
		if v.Type() == reflect.TypeFor[SecretURL]() {
			v.SetString("https://app:" + secret + "@host/x")
			return
		}
		v.SetString(secret)
	})
	return c
}

func TestConfig_NeverShowsItsSecrets(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	c := secretConfig(secret)
	if n := len(reveal(c)); n < 5 {
		t.Fatalf("the test fills only %d secrets", n)
	}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{string(text), printed(t, c), printed(t, &c), fmt.Sprint(c.Validate())} {
		if strings.Contains(shown, secret) || strings.Contains(shown, fmt.Sprintf("%x", secret)) {
			t.Errorf("a secret is shown:\n%s", shown)
		}
	}
	if !strings.Contains(string(text), masked) {
		t.Errorf("the effective configuration does not show that there are secrets:\n%s", text)
	}
}

func TestConfig_YAMLIsTheEffectiveConfigurationAndReadsBack(t *testing.T) {
	t.Parallel()
	c := minimalConfig()
	c.Kafka.CreateTopics.Partitions = 3
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.withDefaults(), loadConfig(t, string(text), nil, nil)); diff != "" {
		t.Errorf("read back (-effective +read):\n%s", diff)
	}
}

func TestConfig_ErrorsHoldNoPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []SecretURL{
		"postgres://app:hunter2@db:port/shop", "postgres://app:hunter2@db/shop?sslmode=maybe", "host=db password=hunter2 sslmode=maybe",
		"postgres://db/shop?password=hunter2&sslmode=maybe", `host=db password='hunter2 x' sslmode=maybe`,
	} {
		c := minimalConfig()
		c.Postgres.URL, c.Registry.URL = url, url
		err := c.Validate()
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
