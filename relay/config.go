package relay

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config is everything the relay can be told. The zero value of every field is its default
// but for Name, Postgres.URL, Kafka.Brokers and Registry.URL, which have none. The yaml
// tags are the keys of the configuration file; LoadConfig reads it.
type Config struct {
	// Name names this relay and, by default, everything it owns: the slot and the
	// publication postrider_<name>, the client id, the CloudEvents source /<name>.
	// Lower-case letters, digits and underscores, at most 50.
	Name string `yaml:"name"`

	Postgres PostgresConfig `yaml:"postgres"`
	Outbox   OutboxConfig   `yaml:"outbox"`
	Kafka    KafkaConfig    `yaml:"kafka"`
	Registry RegistryConfig `yaml:"registry"`
	HTTP     HTTPConfig     `yaml:"http"`

	// OnPoison says what happens to an event that cannot be published: its payload is
	// refused by its schema, its schema is missing or incompatible, or the record is too
	// large. "halt" stands still at the event until it can be published; "dead-letter"
	// publishes the row's bytes to the dead-letter topic and goes on; "halt-key" does that and
	// sends every later event of the same topic and key after it, until `postrider replay`
	// releases the key and all of them are published in order. For that the relay reads the
	// dead-letter topic, which must keep its records for ever. Defaults to "halt".
	OnPoison string `yaml:"on_poison"`

	// ShutdownTimeout bounds the drain after SIGTERM. Defaults to 8s, which with the
	// closing of connections stays under ten.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
}

// PostgresConfig says where the database is and what the relay may make in it.
type PostgresConfig struct {
	// URL is a connection string for a role with LOGIN and REPLICATION, as libpq takes it:
	// postgres://user:password@host:5432/db?sslmode=verify-full.
	URL SecretURL `yaml:"url"`
	// Slot is the replication slot. Defaults to postrider_<name>.
	Slot string `yaml:"slot"`
	// Publication defaults to postrider_<name>.
	Publication string `yaml:"publication"`
	// Snapshot says whether rows that were in the table before the slot existed are
	// published first: "initial" or "never". Defaults to "initial".
	Snapshot string `yaml:"snapshot"`
	// CreatePublication and CreateSlot let the relay make what is missing. Default to true.
	CreatePublication *bool `yaml:"create_publication"`
	CreateSlot        *bool `yaml:"create_slot"`
	// Failover says whether Postgres copies the slot to standbys (Postgres 17 and later), so
	// that the relay goes on where it was when one of them is promoted. It is set on an
	// existing slot too. Without it the slot stays as it is.
	Failover *bool `yaml:"failover"`
	// TLS overrides what the URL says where any of it is set.
	TLS TLSConfig `yaml:"tls"`
}

// OutboxConfig says which table holds the events and how a row becomes a record.
type OutboxConfig struct {
	// Table is schema.table. Defaults to public.outbox.
	Table string `yaml:"table"`
	// SchemaTable holds the writer schemas of payload_avro. Defaults to the table's name with
	// _schema behind it.
	SchemaTable string `yaml:"schema_table"`
	// Columns maps the columns of the contract to those of the table.
	Columns ColumnsConfig `yaml:"columns"`
	// Topic is the template of the topic; a row's own topic wins. Fields:
	// {aggregate_type} {event_type} {header:NAME}. Defaults to {aggregate_type}.
	Topic string `yaml:"topic"`
	// Subject is the template of the registry subject. Defaults to {event_type}.
	Subject string `yaml:"subject"`
	// Source is the CloudEvents source. Defaults to /<name>.
	Source string `yaml:"source"`
	// Headers chooses the headers of a record: "cloudevents" or "none", which leaves only
	// the row's own and postrider-position. Defaults to "cloudevents".
	Headers string `yaml:"headers"`
	// Retention is how long rows are kept: partitions whose whole day is older are dropped once
	// they are confirmed. 0 keeps them for ever. Defaults to 168h.
	Retention *time.Duration `yaml:"retention"`
	// PartitionsAhead is for how many coming days partitions are made; 0 makes none. Defaults
	// to 7.
	PartitionsAhead *int `yaml:"partitions_ahead"`
}

// ColumnsConfig maps the columns of the outbox contract to a table's. An empty name takes
// the preset's; "-" says the table has no such column.
type ColumnsConfig struct {
	// Preset is "postrider" or "debezium", the columns of Debezium's outbox event router:
	// id, aggregatetype, aggregateid, type, payload. Defaults to "postrider".
	Preset            string `yaml:"preset"`
	ID                string `yaml:"id"`
	AggregateType     string `yaml:"aggregate_type"`
	AggregateID       string `yaml:"aggregate_id"`
	EventType         string `yaml:"event_type"`
	Payload           string `yaml:"payload"`
	PayloadAvro       string `yaml:"payload_avro"`
	SchemaFingerprint string `yaml:"schema_fingerprint"`
	Headers           string `yaml:"headers"`
	Topic             string `yaml:"topic"`
	ExpiresAt         string `yaml:"expires_at"`
	CreatedAt         string `yaml:"created_at"`
}

// KafkaConfig says where the brokers are and how records are produced. acks=all and
// idempotence are not choices.
type KafkaConfig struct {
	Brokers []string   `yaml:"brokers"`
	TLS     TLSConfig  `yaml:"tls"`
	SASL    SASLConfig `yaml:"sasl"`
	// ClientID defaults to postrider_<name>.
	ClientID string `yaml:"client_id"`
	// GroupID is the consumer group under which the relay keeps its place: it consumes nothing,
	// but its committed offsets say how far the relay got and what it read from. The relay's
	// user needs READ on it. Defaults to postrider_<name>.
	GroupID string `yaml:"group_id"`
	// Compression is none, gzip, snappy, lz4 or zstd. Defaults to lz4.
	Compression string `yaml:"compression"`
	// DeadLetterTopic takes what on_poison and expires_at divert. Defaults to
	// postrider_<name>_dead_letter.
	DeadLetterTopic string `yaml:"dead_letter_topic"`
	// CreateTopics lets the relay create topics that are missing. It creates none by default.
	CreateTopics CreateTopicsConfig `yaml:"create_topics"`
	// MaxInFlightBytes bounds the memory of records on their way. Defaults to 8 MiB. One
	// record may be larger.
	MaxInFlightBytes int `yaml:"max_in_flight_bytes"`
}

// CreateTopicsConfig is how missing topics are made. Partitions 0 means not at all.
type CreateTopicsConfig struct {
	Partitions        int32 `yaml:"partitions"`
	ReplicationFactor int16 `yaml:"replication_factor"`
}

// SASLConfig authenticates to the brokers.
type SASLConfig struct {
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty turns SASL off.
	Mechanism string `yaml:"mechanism"`
	Username  string `yaml:"username"`
	Password  Secret `yaml:"password"`
}

// RegistryConfig says where the schema registry is.
type RegistryConfig struct {
	URL  SecretURL          `yaml:"url"`
	Auth RegistryAuthConfig `yaml:"auth"`
	TLS  TLSConfig          `yaml:"tls"`
	// LatestTTL is how old what is known of a subject's latest schema may be while the registry
	// answers. It is asked again at half of that, beside the events. Defaults to 30s. A payload
	// that the schema refuses asks at once.
	LatestTTL time.Duration `yaml:"latest_ttl"`
}

// RegistryAuthConfig is basic authentication or a bearer token.
type RegistryAuthConfig struct {
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
	Token    Secret `yaml:"token"`
}

// TLSConfig is a client's side of TLS. All files are PEM.
type TLSConfig struct {
	Enabled            bool   `yaml:"enabled"`
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// HTTPConfig is where /livez, /readyz, /metrics and /status are served.
type HTTPConfig struct {
	// Listen defaults to 127.0.0.1:8080; "-" serves nothing.
	Listen string `yaml:"listen"`
}

// The defaults that other parts name too.
const (
	DefaultTable            = "public.outbox"
	DefaultTopicTemplate    = "{aggregate_type}"
	DefaultSubjectTemplate  = "{event_type}"
	DefaultHTTPListen       = "127.0.0.1:8080"
	DefaultMaxInFlightBytes = 8 << 20

	maxPartitionsAhead = 366 // as outbox_create_partitions has it

	onPoisonHalt       = "halt"
	onPoisonDeadLetter = "dead-letter"
	onPoisonHaltKey    = "halt-key"
	snapshotInitial    = "initial"
	snapshotNever      = "never"
	headersCloudEvents = "cloudevents"
	headersNone        = "none"
)

var (
	namePattern = regexp.MustCompile(`^[a-z0-9_]{1,50}$`)
	slotPattern = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
)

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// withDefaults returns c with every empty field set to its default.
func (c Config) withDefaults() Config {
	owned := "postrider_" + c.Name
	yes, ahead, retention := true, 7, 168*time.Hour
	setDefault(&c.Postgres.Slot, owned)
	setDefault(&c.Postgres.Publication, owned)
	setDefault(&c.Postgres.Snapshot, snapshotInitial)
	setDefault(&c.Postgres.CreatePublication, &yes)
	setDefault(&c.Postgres.CreateSlot, &yes)
	setDefault(&c.Outbox.Table, DefaultTable)
	setDefault(&c.Outbox.SchemaTable, c.Outbox.Table+"_schema")
	c.Outbox.Columns = c.Outbox.Columns.withPreset()
	setDefault(&c.Outbox.Topic, DefaultTopicTemplate)
	setDefault(&c.Outbox.Subject, DefaultSubjectTemplate)
	setDefault(&c.Outbox.Source, "/"+c.Name)
	setDefault(&c.Outbox.Headers, headersCloudEvents)
	setDefault(&c.Outbox.Retention, &retention)
	setDefault(&c.Outbox.PartitionsAhead, &ahead)
	setDefault(&c.Kafka.ClientID, owned)
	setDefault(&c.Kafka.GroupID, owned)
	setDefault(&c.Kafka.Compression, "lz4")
	setDefault(&c.Kafka.DeadLetterTopic, owned+"_dead_letter")
	setDefault(&c.Kafka.MaxInFlightBytes, DefaultMaxInFlightBytes)
	if c.Kafka.CreateTopics.Partitions > 0 {
		setDefault(&c.Kafka.CreateTopics.ReplicationFactor, -1) // the broker's default
	}
	setDefault(&c.Registry.LatestTTL, 30*time.Second)
	setDefault(&c.HTTP.Listen, DefaultHTTPListen)
	setDefault(&c.OnPoison, onPoisonHalt)
	setDefault(&c.ShutdownTimeout, 8*time.Second)
	return c
}

func (c ColumnsConfig) withPreset() ColumnsConfig {
	setDefault(&c.Preset, "postrider")
	preset := ColumnsConfig{
		ID: "id", AggregateType: "aggregate_type", AggregateID: "aggregate_id", EventType: "event_type",
		Payload: "payload", PayloadAvro: "payload_avro", SchemaFingerprint: "schema_fingerprint",
		Headers: "headers", Topic: "topic", ExpiresAt: "expires_at", CreatedAt: "created_at",
	}
	if c.Preset == "debezium" {
		preset = ColumnsConfig{
			ID: "id", AggregateType: "aggregatetype", AggregateID: "aggregateid", EventType: "type",
			Payload: "payload", PayloadAvro: "-", SchemaFingerprint: "-",
			Headers: "-", Topic: "-", ExpiresAt: "-", CreatedAt: "-",
		}
	}
	for _, f := range c.fields(&preset) {
		setDefault(f.column, *f.preset)
	}
	return c
}

type columnField struct {
	name           string
	column, preset *string
}

func (c *ColumnsConfig) fields(p *ColumnsConfig) []columnField {
	return []columnField{
		{"id", &c.ID, &p.ID},
		{"aggregate_type", &c.AggregateType, &p.AggregateType},
		{"aggregate_id", &c.AggregateID, &p.AggregateID},
		{"event_type", &c.EventType, &p.EventType},
		{"payload", &c.Payload, &p.Payload},
		{"payload_avro", &c.PayloadAvro, &p.PayloadAvro},
		{"schema_fingerprint", &c.SchemaFingerprint, &p.SchemaFingerprint},
		{"headers", &c.Headers, &p.Headers},
		{"topic", &c.Topic, &p.Topic},
		{"expires_at", &c.ExpiresAt, &p.ExpiresAt},
		{"created_at", &c.CreatedAt, &p.CreatedAt},
	}
}

// names returns the columns that the table has, by their names there.
func (c ColumnsConfig) names() []string {
	var names []string
	for _, f := range c.fields(&c) {
		if *f.column != "-" {
			names = append(names, *f.column)
		}
	}
	return names
}

// splitTable splits schema.table; a bare name is in public.
func splitTable(name string) (schema, table string) {
	if s, t, ok := strings.Cut(name, "."); ok {
		return s, t
	}
	return "public", name
}

// quoteTable returns schema.table quoted for SQL.
func quoteTable(name string) string {
	schema, table := splitTable(name)
	return pgx.Identifier{schema, table}.Sanitize()
}

// problems collects what is wrong with a configuration, each by its YAML key.
type problems []error

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

func (p *problems) oneOf(key, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	p.add(key, "%q is not one of %s", value, strings.Join(allowed, ", "))
}

// Validate returns every problem of the configuration at once, joined, or nil. It reaches
// no server.
func (c Config) Validate() error {
	c = c.withDefaults()
	var p problems
	if c.Name == "" {
		p.add("name", "is required: 1 to 50 of a-z, 0-9 and _")
	} else if !namePattern.MatchString(c.Name) {
		p.add("name", "%q is not 1 to 50 of a-z, 0-9 and _", c.Name)
	}
	if c.Postgres.URL == "" {
		p.add("postgres.url", "is required")
	} else if _, err := c.Postgres.connConfig(); err != nil {
		p.add("postgres.url", "%v", err)
	}
	if !slotPattern.MatchString(c.Postgres.Slot) {
		p.add("postgres.slot", "%q is not 1 to 63 of a-z, 0-9 and _", c.Postgres.Slot)
	}
	p.oneOf("postgres.snapshot", c.Postgres.Snapshot, snapshotInitial, snapshotNever)
	if strings.Count(c.Outbox.Table, ".") > 1 {
		p.add("outbox.table", "%q is not schema.table", c.Outbox.Table)
	}
	c.Outbox.Columns.validate(&p)
	if _, err := parseTemplate(c.Outbox.Topic); err != nil {
		p.add("outbox.topic", "%v", err)
	}
	if _, err := parseTemplate(c.Outbox.Subject); err != nil {
		p.add("outbox.subject", "%v", err)
	}
	p.oneOf("outbox.headers", c.Outbox.Headers, headersCloudEvents, headersNone)
	if *c.Outbox.Retention < 0 {
		p.add("outbox.retention", "%v is negative", *c.Outbox.Retention)
	}
	if ahead := *c.Outbox.PartitionsAhead; ahead < 0 || ahead > maxPartitionsAhead {
		p.add("outbox.partitions_ahead", "%d is not 0 to %d", ahead, maxPartitionsAhead)
	}
	c.Kafka.validate(&p)
	if c.Registry.URL == "" {
		p.add("registry.url", "is required")
	} else if u, err := url.Parse(string(c.Registry.URL)); err != nil || u.Host == "" {
		p.add("registry.url", "is not a URL such as http://127.0.0.1:8081")
	}
	if c.Registry.Auth.Token != "" && c.Registry.Auth.Username != "" {
		p.add("registry.auth", "has both a token and a username")
	}
	if _, err := c.Registry.TLS.load(); err != nil {
		p.add("registry.tls", "%v", err)
	}
	if c.Registry.LatestTTL < 0 {
		p.add("registry.latest_ttl", "%v is negative", c.Registry.LatestTTL)
	}
	if _, _, err := net.SplitHostPort(c.HTTP.Listen); err != nil && c.HTTP.Listen != "-" {
		p.add("http.listen", "%q is not host:port such as %s, nor \"-\" for none", c.HTTP.Listen, DefaultHTTPListen)
	}
	p.oneOf("on_poison", c.OnPoison, onPoisonHalt, onPoisonDeadLetter, onPoisonHaltKey)
	if c.ShutdownTimeout < 0 {
		p.add("shutdown_timeout", "%v is negative", c.ShutdownTimeout)
	}
	return errors.Join(p...)
}

func (c ColumnsConfig) validate(p *problems) {
	p.oneOf("outbox.columns.preset", c.Preset, "postrider", "debezium")
	for _, required := range []struct{ key, column string }{
		{"id", c.ID}, {"aggregate_type", c.AggregateType}, {"aggregate_id", c.AggregateID}, {"event_type", c.EventType},
	} {
		if required.column == "-" {
			p.add("outbox.columns."+required.key, "cannot be left out")
		}
	}
	if c.Payload == "-" && c.PayloadAvro == "-" {
		p.add("outbox.columns.payload", "payload and payload_avro cannot both be left out")
	}
	if (c.PayloadAvro == "-") != (c.SchemaFingerprint == "-") {
		p.add("outbox.columns.payload_avro", "needs schema_fingerprint, and the other way round")
	}
}

func (c KafkaConfig) validate(p *problems) {
	if len(c.Brokers) == 0 {
		p.add("kafka.brokers", "is required")
	}
	for _, b := range c.Brokers {
		if !strings.Contains(b, ":") {
			p.add("kafka.brokers", "%q is not host:port", b)
		}
	}
	if _, ok := compressionCodecs[c.Compression]; !ok {
		p.add("kafka.compression", "%q is not one of none, gzip, snappy, lz4, zstd", c.Compression)
	}
	p.oneOf("kafka.sasl.mechanism", c.SASL.Mechanism, "", saslPlain, saslScram256, saslScram512)
	if c.SASL.Mechanism != "" && (c.SASL.Username == "" || c.SASL.Password == "") {
		p.add("kafka.sasl", "%s needs username and password", c.SASL.Mechanism)
	}
	if _, err := c.TLS.load(); err != nil {
		p.add("kafka.tls", "%v", err)
	}
	if !validTopic(c.DeadLetterTopic) {
		p.add("kafka.dead_letter_topic", "%q is not a topic name", c.DeadLetterTopic)
	}
	if c.CreateTopics.Partitions < 0 {
		p.add("kafka.create_topics.partitions", "%d is negative", c.CreateTopics.Partitions)
	}
	if c.MaxInFlightBytes < 1<<20 {
		p.add("kafka.max_in_flight_bytes", "%d is under 1 MiB", c.MaxInFlightBytes)
	}
}
