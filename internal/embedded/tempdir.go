package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// TempDir is a temporary directory that is removed in any case: by Remove or, when this
// process is killed before, by the next MakeTempDir with the same prefix. Other users can
// enter it, but not list it.
type TempDir struct {
	path string
	lock *os.File // the directory itself, locked until this process ends
}

// MakeTempDir makes a directory for temporary files whose name begins with prefix, and
// removes those of processes that no longer live.
func MakeTempDir(prefix string) (*TempDir, error) {
	if locks {
		removeStale(prefix)
	}
	for {
		path, err := os.MkdirTemp("", prefix)
		if err != nil {
			return nil, err
		}
		// Another process may take it for a stale one before it is locked.
		lock, err := lockDir(path)
		if errors.Is(err, ErrLocked) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.Chmod(path, 0o711) //nolint:gosec // Postgres of root runs as another user
			if errors.Is(err, os.ErrNotExist) {
				_ = lock.Close()
				continue
			}
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make a temporary directory: %w", err), os.RemoveAll(path))
		}
		return &TempDir{path, lock}, nil
	}
}

func removeStale(prefix string) {
	stale, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, path := range stale {
		if lock, err := lockDir(path); err == nil {
			_ = os.RemoveAll(path) // what cannot be removed now is left to the next
			_ = lock.Close()
		}
	}
}

// ErrLocked says that a living process holds a directory.
var ErrLocked = errors.New("the directory is in use by another process")

// Path of the directory.
func (d *TempDir) Path() string { return d.path }

// Remove removes the directory with all that is in it.
func (d *TempDir) Remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Close())
}

// LockDir claims a directory for this process until the returned function is called or the
// process ends. It fails while another process has it.
func LockDir(path string) (unlock func(), err error) {
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil
}
