package outbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/hamba/avro/v2"
	"github.com/jackc/pgx/v5"
)

// ErrNotRegistered means that an event's Schema was not put into the database before the
// event: without it nobody could read the event.
var ErrNotRegistered = errors.New("not registered in this process: call RegisterSchemas once at start-up, before the first Insert")

// Schema is a writer schema: an Avro record and its text. It is safe for concurrent use.
type Schema struct {
	text        string
	name        string
	fingerprint [sha256.Size]byte
	encoders    encoders
}

// ParseSchema parses the text of an .avsc file, which must be a record and complete in
// itself. The text is kept as it is, with its defaults and docs: it is what the registry
// will hold.
func ParseSchema(text string) (*Schema, error) {
	if err := checkText(text); err != nil {
		return nil, fmt.Errorf("outbox: schema: %w", err)
	}
	// A cache of its own keeps the types of one schema from resolving names in another.
	root, err := avro.ParseBytesWithCache([]byte(text), "", &avro.SchemaCache{})
	if err != nil {
		return nil, fmt.Errorf("outbox: schema: %w", err)
	}
	record, ok := root.(*avro.RecordSchema)
	if !ok {
		return nil, fmt.Errorf("outbox: schema: an event is a record, not %s", root.Type())
	}
	return &Schema{
		text:        text,
		name:        record.FullName(),
		fingerprint: sha256.Sum256([]byte(text)),
		encoders:    encoders{schema: root},
	}, nil
}

// MustParseSchema is ParseSchema for texts that are part of the program. It panics on error.
func MustParseSchema(text string) *Schema {
	s, err := ParseSchema(text)
	if err != nil {
		panic(err)
	}
	return s
}

// Name is the full name of the record, which is the type of its events.
func (s *Schema) Name() string { return s.name }

// Text is the text that was parsed.
func (s *Schema) Text() string { return s.text }

// Fingerprint is the SHA-256 of Text.
func (s *Schema) Fingerprint() [sha256.Size]byte { return s.fingerprint }

// Encode returns v in Avro's binary encoding, or an error that names the field which the
// schema refuses, such as
//
//	field lines[2].quantity: 3000000000 is out of range for int
//
// v is a struct or a pointer to one. Each field of the schema has its field in the struct,
// by the tag `avro:"name"` or by the same name. Numbers are checked for range, strings for
// UTF-8, decimals for scale and precision, enums for their symbols. Times are cut to the
// precision of their logical type. A date is the one that the time.Time shows in its own
// location, a local timestamp what its clock shows there.
func (s *Schema) Encode(v any) ([]byte, error) {
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	if !rv.IsValid() || rv.Kind() == reflect.Pointer {
		return nil, errors.New("is nil")
	}
	encode, err := s.encoders.get(rv.Type())
	if err != nil {
		return nil, err
	}
	w := writer{b: make([]byte, 0, 256)}
	if err := encode(&w, rv); err != nil {
		return nil, err
	}
	return w.b, nil
}

// PgxDB is a *pgxpool.Pool or a *pgx.Conn that is in no transaction. A pgx.Tx is not one:
// the schemas must stay when a transaction is rolled back.
type PgxDB interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// RegisterSchemas puts writer schemas into public.outbox_schema; see [Outbox.RegisterSchemas].
func RegisterSchemas(ctx context.Context, db PgxDB, schemas ...*Schema) error {
	return std.RegisterSchemas(ctx, db, schemas...)
}

// RegisterSchemasSQL is RegisterSchemas for database/sql.
func RegisterSchemasSQL(ctx context.Context, db *sql.DB, schemas ...*Schema) error {
	return std.RegisterSchemasSQL(ctx, db, schemas...)
}

// RegisterSchemas puts writer schemas where the relay finds them, in a transaction of its
// own. Call it once at start-up with all schemas of the service; doing it again changes
// nothing, also from many processes at once.
func (o *Outbox) RegisterSchemas(ctx context.Context, db PgxDB, schemas ...*Schema) error {
	schemas = inFingerprintOrder(schemas)
	tx, err := db.BeginTx(ctx, pgx.TxOptions{})
	if err != nil {
		return fmt.Errorf("outbox: register schemas: %w", err)
	}
	defer tx.Rollback(ctx) // does nothing after Commit
	for _, s := range schemas {
		if _, err := tx.Exec(ctx, o.register, s.fingerprint[:], s.text); err != nil {
			return registerError(s, err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("outbox: register schemas: %w", err)
	}
	o.remember(schemas)
	return nil
}

// RegisterSchemasSQL is RegisterSchemas for database/sql.
func (o *Outbox) RegisterSchemasSQL(ctx context.Context, db *sql.DB, schemas ...*Schema) error {
	schemas = inFingerprintOrder(schemas)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("outbox: register schemas: %w", err)
	}
	defer tx.Rollback() // does nothing after Commit
	for _, s := range schemas {
		if _, err := tx.ExecContext(ctx, o.register, s.fingerprint[:], s.text); err != nil {
			return registerError(s, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("outbox: register schemas: %w", err)
	}
	o.remember(schemas)
	return nil
}

// inFingerprintOrder keeps two services that start together from waiting for each other.
func inFingerprintOrder(schemas []*Schema) []*Schema {
	return slices.SortedFunc(slices.Values(schemas), func(a, b *Schema) int {
		return bytes.Compare(a.fingerprint[:], b.fingerprint[:])
	})
}

func registerError(s *Schema, err error) error {
	return fmt.Errorf("outbox: register schema %s: %w%s", s.name, err, missingTableHint(err))
}

func (o *Outbox) remember(schemas []*Schema) {
	for _, s := range schemas {
		o.registered.Store(s.fingerprint, struct{}{})
	}
}
