package demo

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/postrider/postrider/internal/embedded"
)

// place is where a demo keeps its files: a temporary directory, or the one of --keep.
type place struct {
	dir       string
	temporary *embedded.TempDir // nil with --keep
	unlock    func()
	memory    memory
}

// memory is what one run with --keep leaves to the next, so that it finds again what is its own
// and touches nothing else.
type memory struct {
	ID string `json:"id"`
	// Servers are those of the user's that were named; empty stands for our own.
	Postgres string   `json:"postgres,omitempty"` // host and port
	Brokers  []string `json:"brokers,omitempty"`
	// Made says that database and topics were complete once.
	Made   bool              `json:"made"`
	Topics map[string]string `json:"topics"` // their ids, by name
}

const memoryFile = "demo.json"

// errForeignDir says that a directory has other things in it.
var errForeignDir = errors.New("it has files in it that are not a demo's; name a new or an empty directory, or that of an earlier demo")

// openPlace makes or opens the place of a demo, which no other may use meanwhile.
func openPlace(cfg Config) (*place, error) {
	p := &place{unlock: func() {}}
	p.memory = memory{ID: newID(), Postgres: cfg.postgresHost(), Brokers: cfg.Brokers}
	if cfg.Keep == "" {
		var err error
		if p.temporary, err = embedded.MakeTempDir("postrider-demo-"); err != nil {
			return nil, fmt.Errorf("make a temporary directory: %w; name another place with TMPDIR=/path", err)
		}
		p.dir = p.temporary.Path()
		return p, nil
	}
	if err := p.open(cfg); err != nil {
		p.unlock()
		var path *os.PathError
		if errors.As(err, &path) {
			err = fmt.Errorf("%w; name a directory that you may write to", err)
		}
		return nil, fmt.Errorf("--keep %s: %w", cfg.Keep, err)
	}
	return p, nil
}

func (p *place) open(cfg Config) error {
	dir, err := filepath.Abs(cfg.Keep)
	if err != nil {
		return err
	}
	p.dir = dir
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // Postgres of root runs as another user
		return err
	}
	unlock, err := embedded.LockDir(dir)
	if errors.Is(err, embedded.ErrLocked) {
		return fmt.Errorf("%w; end the other demo, or name another directory", err)
	}
	if err != nil {
		return err
	}
	p.unlock = unlock
	text, err := os.ReadFile(filepath.Join(dir, memoryFile))
	switch {
	case err == nil:
		return p.recall(text)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return errForeignDir
	}
	return p.remember()
}

// recall reads what an earlier run has left, which must have had the same servers.
func (p *place) recall(text []byte) error {
	var left memory
	if err := json.Unmarshal(text, &left); err != nil {
		return fmt.Errorf("%s: %w", memoryFile, err)
	}
	servers := func(m memory) string { return fmt.Sprint(orOwn(m.Postgres), " and ", orOwn(fmt.Sprint(m.Brokers))) }
	if servers(left) != servers(p.memory) {
		return fmt.Errorf("it was made with the servers %s, and this run has %s: give the same flags, or name another directory", servers(left), servers(p.memory))
	}
	p.memory = left
	return nil
}

func orOwn(server string) string {
	if server == "" || server == "[]" {
		return "(the demo's own)"
	}
	return server
}

// remember writes the memory down.
func (p *place) remember() error {
	if p.temporary != nil {
		return nil
	}
	text, err := json.MarshalIndent(p.memory, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(p.dir, memoryFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// kept tells whether everything stays when the demo ends.
func (p *place) kept() bool { return p.temporary == nil }

// path of a file or directory in the place.
func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// close removes the place unless it is kept.
func (p *place) close() error {
	p.unlock()
	if p.temporary == nil {
		return nil
	}
	return p.temporary.Remove()
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
