package schemaregistry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// FileStore keeps all in one file, which one process at a time may use. What was written
// survives a crash of the process or the machine.
type FileStore struct{ db *bbolt.DB }

var recordsBucket = []byte("records")

// fileLockTimeout bounds the wait for another process to let the file go.
const fileLockTimeout = 2 * time.Second

// OpenFile opens the file that a URL like file:///var/lib/postrider/registry.db names, and
// makes it where it does not exist. Close it after use.
func OpenFile(fileURL string) (*FileStore, error) {
	path, err := filePath(fileURL)
	if err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: fileLockTimeout})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("registry store: %s is in use by another process: stop it, or use Postgres for several registries", path)
	}
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(recordsBucket)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("registry store: open %s: %w", path, err)
	}
	return &FileStore{db}, nil
}

// filePath returns the path in a URL: file:///absolute or file:relative.
func filePath(fileURL string) (string, error) {
	u, err := url.Parse(fileURL)
	if err != nil || u.Scheme != "file" || u.Host != "" && u.Host != "localhost" || u.Path == "" && u.Opaque == "" {
		return "", fmt.Errorf("registry store: %w; want one like file:///var/lib/postrider/registry.db", ErrStoreURL)
	}
	if u.Opaque != "" {
		return url.PathUnescape(u.Opaque)
	}
	return u.Path, nil
}

// Load implements Store.
func (s *FileStore) Load(_ context.Context, apply func([]Record) error) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		// A version is of a schema that is known.
		for _, schemas := range []bool{true, false} {
			var records []Record
			err := tx.Bucket(recordsBucket).ForEach(func(key, value []byte) error {
				if isSchemaKey(string(key)) != schemas {
					return nil
				}
				records = append(records, Record{string(key), value})
				if len(records) < loadedAtOnce {
					return nil
				}
				err := apply(records)
				records = records[:0]
				return err
			})
			if err == nil {
				err = apply(records)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Update implements Store.
func (s *FileStore) Update(_ context.Context, change func() ([]Record, error), done func(error)) error {
	records, err := change()
	if err == nil && len(records) > 0 {
		err = s.db.Update(func(tx *bbolt.Tx) error { return put(tx.Bucket(recordsBucket), records) })
	}
	done(err)
	return err
}

func put(bucket *bbolt.Bucket, records []Record) error {
	for _, r := range records {
		var err error
		if r.Value == nil {
			err = bucket.Delete([]byte(r.Key))
		} else {
			err = bucket.Put([]byte(r.Key), r.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Refresh implements Store: nobody else writes.
func (*FileStore) Refresh(context.Context) error { return nil }

// Ping implements Store.
func (s *FileStore) Ping(context.Context) error {
	return s.db.View(func(*bbolt.Tx) error { return nil })
}

// Close closes the file.
func (s *FileStore) Close() { _ = s.db.Close() }
