package schemaregistry

import (
	"context"
	"errors"
)

// Store keeps what a Registry knows: MemoryStore or PostgresStore. It knows nothing of Avro
// or of compatibility. Its methods may be called from several goroutines, and several
// registries may share what a store keeps. What a method has done is durable when it returns.
type Store interface {
	// Subjects returns the names of all subjects that have a version, soft-deleted ones
	// included, in no order. Versions' texts may be left out.
	Subjects(ctx context.Context) (map[string][]Version, error)
	// Versions returns all versions of a subject, soft-deleted ones included, rising.
	Versions(ctx context.Context, subject string) ([]Version, error)
	// SchemaByID returns a schema's text; errNoSchema if no version of any subject has it.
	SchemaByID(ctx context.Context, id int) (string, error)

	// AddVersion adds the version after+1 to a subject whose highest version, soft-deleted
	// ones included, is after; 0 stands for none. The schema keeps the ID it has in another
	// version, or gets the next one: IDs rise from 1 without gaps and are never given again.
	// Where another has added a version since, the error is errConflict.
	AddVersion(ctx context.Context, subject, schema string, after int) (Version, error)
	// DeleteVersions marks versions of a subject as deleted, or forgets them for ever; with
	// the last one the subject's level goes too.
	DeleteVersions(ctx context.Context, subject string, versions []int, permanent bool) error

	// Level returns the level of a subject, or the global one for the subject ""; it is ""
	// where none was set. SetLevel sets it, and removes it with "".
	Level(ctx context.Context, subject string) (Level, error)
	SetLevel(ctx context.Context, subject string, level Level) error

	// Ping tells whether the store can be used now.
	Ping(ctx context.Context) error
}

var (
	errNoSchema = errors.New("no such schema")
	errConflict = errors.New("another version was added at the same time")
)

// Version is one version of a subject.
type Version struct {
	Version int // from 1
	ID      int
	Schema  string // canonical text
	Deleted bool   // softly: not in use any more, but still readable by its ID
}
