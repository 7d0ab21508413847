package access

import (
	"log/slog"
	"sync"
	"sync/atomic"
)

// Keeper has the policy of a file, and a newer one when it is told to load it. Its methods
// may be called from several goroutines.
type Keeper struct {
	path   string
	log    *slog.Logger
	policy atomic.Pointer[Policy]

	mu    sync.Mutex
	files fileSet // what the last load looked at
}

// OpenKeeper reads the policy of a file; see LoadPolicy. logger may be nil.
func OpenKeeper(path string, logger *slog.Logger) (*Keeper, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{path: path, log: logger}
	return k, k.Load()
}

// Policy returns the policy that holds.
func (k *Keeper) Policy() *Policy { return k.policy.Load() }

// Load reads the file again. If that fails, the policy that held goes on to hold.
func (k *Keeper) Load() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	policy, files, err := loadPolicy(k.path)
	k.files = files
	if err != nil {
		return err
	}
	k.policy.Store(policy)
	k.log.Info("access file loaded", "path", k.path,
		"users", len(policy.passwords), "tokens", len(policy.tokens))
	return nil
}

func (k *Keeper) name() string { return "access" }

func (k *Keeper) changed() (digest [digestSize]byte, differs bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.files.changed()
}
