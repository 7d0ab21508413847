package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/transcode"
	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
)

// Registry is what the relay asks of a schema registry. *schemaregistry.Client is one.
type Registry interface {
	Register(ctx context.Context, subject, schema string) (id int, err error)
	Latest(ctx context.Context, subject string) (schemaregistry.SubjectVersion, error)
	Version(ctx context.Context, subject string, version int) (schemaregistry.SubjectVersion, error)
}

// schemas finds the schema of an event: by its subject's latest version for JSON, by its
// fingerprint for Avro. What it has found once it keeps, so that an outage of the registry
// stops only what is new. It belongs to the encoder's goroutine.
type schemas struct {
	registry Registry
	cfg      *Config
	log      *slog.Logger

	latest     map[string]*subjectSchema
	pinned     map[pinnedVersion]*subjectSchema
	registered map[registeredSchema]framing
	texts      map[[32]byte]string // of outbox_schema
	conn       *pgx.Conn           // for outbox_schema; nil until needed

	renewals chan struct{} // has an element for each that is under way
	away     bool          // the registry did not answer the last one

	lookAhead func(context.Context) // asks for the subjects that come next
	asked     map[string]chan firstAnswer
	asking    sync.WaitGroup
}

// subjectSchema is a version of a subject, ready to encode JSON.
type subjectSchema struct {
	framing    framing
	id         int
	version    int
	transcoder *transcode.Transcoder
	fetched    time.Time
	renewal    chan renewal // nil unless the registry is being asked for a newer one
}

type pinnedVersion struct {
	subject string
	version int
}

type registeredSchema struct {
	subject     string
	fingerprint [32]byte
}

// framing is the Confluent wire format's head: a zero byte and the schema ID.
type framing [5]byte

func newFraming(id int) (f framing) {
	binary.BigEndian.PutUint32(f[1:], uint32(id))
	return f
}

func newSchemas(registry Registry, cfg *Config, log *slog.Logger) *schemas {
	return &schemas{
		registry: registry, cfg: cfg, log: log,
		latest:     make(map[string]*subjectSchema),
		pinned:     make(map[pinnedVersion]*subjectSchema),
		registered: make(map[registeredSchema]framing),
		texts:      make(map[[32]byte]string),
		renewals:   make(chan struct{}, maxRenewals),
		lookAhead:  func(context.Context) {},
		asked:      make(map[string]chan firstAnswer),
	}
}

// close waits for the registry's last answers, so the context that was given to latestOf must
// have ended.
func (s *schemas) close() {
	s.asking.Wait()
	if s.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.conn.Close(ctx)
	}
}

// refetch asks the registry for the latest version of subject and reports whether it is
// another than known.
func (s *schemas) refetch(ctx context.Context, subject []byte, known *subjectSchema) (*subjectSchema, bool, error) {
	fresh, err := s.fetchLatest(ctx, string(subject), known)
	if err != nil {
		return nil, false, err
	}
	return fresh, fresh.id != known.id, nil
}

func (s *schemas) fetchLatest(ctx context.Context, subject string, known *subjectSchema) (*subjectSchema, error) {
	v, err := s.registry.Latest(ctx, subject)
	if err != nil {
		return nil, s.registryError(fmt.Errorf("latest schema of subject %q: %w", subject, err), subject)
	}
	return s.use(subject, known, v)
}

// use makes v the latest version of subject, of which known was the latest before, if any.
func (s *schemas) use(subject string, known *subjectSchema, v schemaregistry.SubjectVersion) (*subjectSchema, error) {
	if known != nil && known.id == v.ID {
		known.fetched = time.Now()
		return known, nil
	}
	compiled, err := s.compile(v)
	if err != nil {
		return nil, err
	}
	s.begin(subject, compiled)
	return compiled, nil
}

func (s *schemas) begin(subject string, with *subjectSchema) {
	s.log.Info("schema in use", "subject", subject, "version", with.version, "schema_id", with.id)
	s.latest[subject] = with
}

// versionOf returns the version of subject that a row pins.
func (s *schemas) versionOf(ctx context.Context, subject, version []byte) (*subjectSchema, error) {
	n, err := strconv.Atoi(string(version))
	if err != nil || n < 1 {
		return nil, poison("header %s: %q is not a version", headerSchemaVersion, version)
	}
	if known := s.pinned[pinnedVersion{string(subject), n}]; known != nil {
		return known, nil
	}
	key := pinnedVersion{string(subject), n}
	v, err := s.registry.Version(ctx, key.subject, n)
	if err != nil {
		return nil, s.registryError(fmt.Errorf("version %d of subject %q: %w", n, key.subject, err), key.subject)
	}
	compiled, err := s.compile(v)
	if err != nil {
		return nil, err
	}
	s.pinned[key] = compiled
	return compiled, nil
}

func (s *schemas) compile(v schemaregistry.SubjectVersion) (*subjectSchema, error) {
	parsed, err := avroschema.Parse(v.Schema)
	if err != nil {
		return nil, halt(SchemaIncompatible, hintPoison, "subject %q version %d: %w", v.Subject, v.Version, err)
	}
	t, err := transcode.Compile(parsed)
	if err != nil {
		return nil, halt(SchemaIncompatible, hintPoison, "subject %q version %d: %w", v.Subject, v.Version, err)
	}
	return &subjectSchema{framing: newFraming(v.ID), id: v.ID, version: v.Version, transcoder: t, fetched: time.Now()}, nil
}

// writerSchema returns the framing for Avro bytes that were written by the schema with this
// fingerprint. At first sight the schema is read from outbox_schema and registered.
func (s *schemas) writerSchema(ctx context.Context, subject, fingerprint []byte) (framing, error) {
	// Spelled out in the index, the key costs no allocation.
	if f, ok := s.registered[registeredSchema{string(subject), [32]byte(fingerprint)}]; ok {
		return f, nil
	}
	key := registeredSchema{string(subject), [32]byte(fingerprint)}
	text, err := s.text(ctx, key.fingerprint)
	if err != nil {
		return framing{}, err
	}
	id, err := s.registry.Register(ctx, key.subject, text)
	if err != nil {
		return framing{}, s.registryError(fmt.Errorf("register schema of subject %q: %w", key.subject, err), key.subject)
	}
	s.log.Info("schema registered", "subject", key.subject, "schema_id", id)
	s.registered[key] = newFraming(id)
	return s.registered[key], nil
}

// text reads a schema from outbox_schema.
func (s *schemas) text(ctx context.Context, fingerprint [32]byte) (string, error) {
	if text, ok := s.texts[fingerprint]; ok {
		return text, nil
	}
	if s.conn == nil || s.conn.IsClosed() {
		conn, err := s.cfg.Postgres.connect(ctx)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", s.cfg.Outbox.SchemaTable, err)
		}
		s.conn = conn
	}
	var text string
	err := s.conn.QueryRow(ctx, "SELECT schema FROM "+quoteTable(s.cfg.Outbox.SchemaTable)+" WHERE fingerprint = $1", fingerprint[:]).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", halt(SchemaMissing, "let the service register its schemas at start-up (outbox.RegisterSchemas)",
			"%s has no schema with fingerprint %x", s.cfg.Outbox.SchemaTable, fingerprint)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", s.cfg.Outbox.SchemaTable, postgresError(err))
	}
	s.texts[fingerprint] = text
	return text, nil
}

// registryError turns an answer of the registry that no waiting mends into its named halt.
func (s *schemas) registryError(err error, subject string) error {
	switch {
	case schemaregistry.IsNotFound(err):
		return halt(SchemaMissing, fmt.Sprintf("register a schema for subject %q: postrider schema register DIR --registry %s", subject, s.cfg.Registry.URL), "%w", err)
	case schemaregistry.IsIncompatible(err):
		return halt(SchemaIncompatible, fmt.Sprintf("the service writes a schema that readers of %q cannot read: mend it, "+
			"or change the subject's compatibility level", subject), "%w", err)
	case schemaregistry.IsUnauthorized(err):
		return halt(AuthRegistry, "check registry.auth", "%w", err)
	case schemaregistry.IsTemporary(err):
		return from(componentRegistry, err)
	}
	var answer *schemaregistry.Error
	if errors.As(err, &answer) {
		return halt(SchemaIncompatible, hintPoison, "%w", err)
	}
	return err
}
