package schemaregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrStoreURL is what OpenStore returns for a URL that names no store.
var ErrStoreURL = errors.New("the URL names no store")

// Store keeps records durably: NewMemoryStore, OpenFile, OpenPostgres. It knows nothing of
// what they mean. One Registry uses a store; what a store keeps may be shared by several.
type Store interface {
	// Load gives every record to apply, and from then on those that others write, one call
	// at a time, until Close. It is called once, before Update and Refresh.
	// apply keeps nothing of a Record's Value.
	Load(ctx context.Context, apply func([]Record) error) error
	// Update calls change while nobody else can write and after apply was given all that
	// others wrote. It writes the records that change returns, all or none, and then calls
	// done, with nil when they are durable and otherwise with the error that Update returns;
	// all that before the next call of apply. After an error they may have been written all
	// the same: apply is given them then. Where change was not called, done is not either.
	Update(ctx context.Context, change func() ([]Record, error), done func(error)) error
	// Refresh gives apply what others have written until now.
	Refresh(ctx context.Context) error
	// Ping tells whether the store can be used now.
	Ping(ctx context.Context) error
	// Close releases what the store holds.
	Close()
}

// loadedAtOnce is how many records stores give to apply in one call.
const loadedAtOnce = 1000

// OpenStore opens the store that a URL names: "memory", file:///path/to/registry.db, or
// postgres://user@host/database.
func OpenStore(ctx context.Context, url string) (Store, error) {
	scheme, _, _ := strings.Cut(url, ":")
	switch {
	case url == "memory":
		return NewMemoryStore(), nil
	case scheme == "file":
		store, err := OpenFile(url)
		if err != nil {
			return nil, err // never a typed nil
		}
		return store, nil
	case scheme == "postgres" || scheme == "postgresql":
		store, err := OpenPostgres(ctx, url)
		if err != nil {
			return nil, err
		}
		return store, nil
	}
	return nil, fmt.Errorf("registry store: %w; want memory, file:///path/to/registry.db or postgres://user@host:5432/database", ErrStoreURL)
}
