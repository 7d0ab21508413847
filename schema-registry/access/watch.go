package access

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultWatchInterval is how often a Watcher looks at its files.
const DefaultWatchInterval = time.Second

// Source is something that was read from files and can be read again: a Keeper or
// Certificates.
type Source interface {
	// Load reads the files again; if that fails, what was read before stays.
	Load() error

	name() string
	changed() (digest [digestSize]byte, differs bool)
}

// WatcherConfig is what a Watcher needs beside its sources.
type WatcherConfig struct {
	// Interval is how often the files are looked at. They are loaded when they have stayed
	// the same for one interval, so that none is read half written. Defaults to
	// DefaultWatchInterval.
	Interval time.Duration
	// Now makes the sources be loaded at once, changed or not; SIGHUP, say. May be nil.
	Now <-chan os.Signal
	// Logger gets a line for each load that fails. Defaults to none.
	Logger *slog.Logger
	// Metrics gets the watcher's metrics. Defaults to none.
	Metrics prometheus.Registerer
}

// Watcher loads sources again when their files change. The content counts, not the time of
// a file, so that it works with files that are links which are moved on.
type Watcher struct {
	sources  []Source
	pending  [][digestSize]byte // what a source's files were when they were looked at last
	interval time.Duration
	now      <-chan os.Signal
	log      *slog.Logger
	loads    *prometheus.CounterVec
	stale    *prometheus.GaugeVec
}

// NewWatcher returns a watcher of sources that have been loaded.
func NewWatcher(cfg WatcherConfig, sources ...Source) *Watcher {
	w := &Watcher{
		sources: sources, pending: make([][digestSize]byte, len(sources)), interval: cfg.Interval, now: cfg.Now, log: cfg.Logger,
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_registry_reloads_total", Help: "Loads of changed files, by what they are for and how it ended.",
		}, []string{"what", "result"}),
		stale: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "postrider_registry_reload_failed", Help: "1 while the files are bad and what was loaded before holds.",
		}, []string{"what"}),
	}
	if w.interval <= 0 {
		w.interval = DefaultWatchInterval
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	for _, s := range sources {
		w.stale.WithLabelValues(s.name())
		w.loads.WithLabelValues(s.name(), "ok")
		w.loads.WithLabelValues(s.name(), "failed")
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(w.loads, w.stale)
	}
	return w
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.now:
			for _, s := range w.sources {
				w.load(s)
			}
		case <-ticker.C:
			w.look()
		}
	}
}

// look loads the sources whose files have changed and stayed the same since the last look.
func (w *Watcher) look() {
	for i, s := range w.sources {
		digest, differs := s.changed()
		if differs && digest == w.pending[i] {
			w.load(s)
		}
		w.pending[i] = digest
	}
}

func (w *Watcher) load(s Source) {
	if err := s.Load(); err != nil {
		w.loads.WithLabelValues(s.name(), "failed").Inc()
		w.stale.WithLabelValues(s.name()).Set(1)
		w.log.Error("the changed files are not used, what was loaded before still holds", "what", s.name(), "error", err)
		return
	}
	w.loads.WithLabelValues(s.name(), "ok").Inc()
	w.stale.WithLabelValues(s.name()).Set(0)
}
