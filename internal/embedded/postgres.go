package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/subprocess"
)

const (
	// stopTimeout is how long a server may take to shut down before it is told to end at once,
	// quitTimeout how long that may take before it is killed.
	stopTimeout = 10 * time.Second
	quitTimeout = 5 * time.Second
	// restartTimeout is shorter: a server does not shut down while a reader of a replication
	// slot has not confirmed everything, which one that waits for Kafka does not do.
	restartTimeout = time.Second
)

// PostgresOptions configures StartPostgres. The zero value is a server on any free port
// with its data in a temporary directory.
type PostgresOptions struct {
	// Dir keeps the data over runs; it is created where missing. Defaults to a temporary
	// directory that Stop removes, with a server that does not wait for its disk.
	Dir string

	// Port on 127.0.0.1. Defaults to 0: any free one.
	Port int

	// Cache keeps a downloaded server for the next run. Defaults to postrider below the
	// user's cache directory, for root to /var/cache/postrider.
	Cache string

	// NoSync spares the disk: the data of Dir survive the end of the server, but not that of
	// the machine. A temporary directory is always served so.
	NoSync bool

	// Progress gets the progress of a download. Defaults to nil: none is shown.
	Progress io.Writer
}

// Postgres is a running server with wal_level=logical. Its superuser postgres needs no
// password.
type Postgres struct {
	dir       string
	temporary bool
	noSync    bool
	port      int
	binary    string
	owner     *owner

	mu      sync.Mutex
	process *subprocess.Process // another one after Restart
}

// StartPostgres starts a server and returns when it accepts connections. It takes an
// installed server, of PATH or else the newest below /usr/lib/postgresql, and downloads one
// where there is none. As root the server runs as user postgres or nobody. ctx bounds the
// start only; the server runs until Stop, or on Linux until this process ends, however that
// happens.
func StartPostgres(ctx context.Context, options PostgresOptions) (*Postgres, error) {
	bin, err := findBinaries(ctx, options.Cache, options.Progress)
	if err != nil {
		return nil, err
	}
	owner, err := chooseOwner()
	if err != nil {
		return nil, err
	}
	p := &Postgres{port: options.Port, noSync: options.NoSync || options.Dir == "", binary: filepath.Join(bin, "postgres"), owner: owner}
	err = p.makeDir(options.Dir)
	if err == nil {
		err = p.initialize(ctx, filepath.Join(bin, "initdb"))
	}
	if err == nil {
		err = p.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start Postgres in %s: %w", p.dir, err), p.clean())
	}
	return p, nil
}

// URL of the superuser in the database postgres.
func (p *Postgres) URL() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", p.port)
}

// Binary is the path of the program that runs.
func (p *Postgres) Binary() string { return p.binary }

// Done is closed when the server has ended, by Stop, Restart or by itself.
func (p *Postgres) Done() <-chan struct{} { return p.running().Done() }

// Err says why the server ended by itself. It is nil before Done is closed, and where the
// server shut down in order.
func (p *Postgres) Err() error {
	process := p.running()
	if err := process.Err(); err != nil {
		return hint(err, process.LastLines())
	}
	return nil
}

// Restart disconnects all clients, ends the server and starts it again, with its data and on
// its port. A server that does not shut down within a second is ended as in a crash, and
// recovers. After an error the server is gone.
func (p *Postgres) Restart(ctx context.Context) error {
	stopServer(p.running(), restartTimeout)
	if err := p.launch(ctx); err != nil {
		return fmt.Errorf("restart Postgres in %s: %w", p.dir, err)
	}
	return nil
}

// Stop disconnects all clients, ends the server and removes its data if they are temporary.
// A second Stop does nothing.
func (p *Postgres) Stop() error {
	stopServer(p.running(), stopTimeout)
	return p.clean()
}

func (p *Postgres) running() *subprocess.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process
}

func (p *Postgres) clean() error {
	if !p.temporary {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// makeDir makes the directory of temporary data; one to keep is made by initialize.
func (p *Postgres) makeDir(dir string) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "postrider-postgres-")
		if err != nil {
			return err
		}
		p.dir, p.temporary = temporary, true
		return p.owner.give(p.dir)
	}
	p.dir = dir
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	p.dir = absolute
	return nil
}

// initialize makes the cluster, unless an earlier run has left one. A directory to keep
// appears complete or not at all.
func (p *Postgres) initialize(ctx context.Context, initdb string) error {
	if p.temporary {
		return p.makeCluster(ctx, initdb, p.dir)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "PG_VERSION")); err == nil {
		return nil
	}
	if entries, _ := os.ReadDir(p.dir); len(entries) > 0 {
		return fmt.Errorf("%s has files that are not those of a Postgres: name another directory", p.dir)
	}
	unfinished := p.dir + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.MkdirAll(unfinished, 0o700); err != nil {
		return err
	}
	err := p.owner.give(unfinished)
	if err == nil {
		err = p.makeCluster(ctx, initdb, unfinished)
	}
	if err == nil {
		_ = os.Remove(p.dir) // where it is empty
		err = os.Rename(unfinished, p.dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	return nil
}

func (p *Postgres) makeCluster(ctx context.Context, initdb, dir string) error {
	err := run(ctx, command(p.owner, initdb, "--pgdata", dir, "--username", "postgres", "--auth", "trust",
		"--no-locale", "--encoding", "UTF8", "--no-sync"))
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	return nil
}

func (p *Postgres) start(ctx context.Context) error {
	// Somebody else may take a free port before the server does. Three times in a row is
	// another fault.
	const attempts = 3
	wanted := p.port
	var err error
	for range attempts {
		if wanted == 0 {
			if p.port, err = freePort(); err != nil {
				return err
			}
		}
		err = p.launch(ctx)
		if !errors.Is(err, ErrPortInUse) || wanted != 0 {
			return err
		}
	}
	return err
}

func (p *Postgres) launch(ctx context.Context) error {
	settings := []string{
		"listen_addresses=127.0.0.1",
		fmt.Sprintf("port=%d", p.port),
		"unix_socket_directories=",
		"wal_level=logical",
		"max_wal_senders=16",
		"max_replication_slots=16",
		"logging_collector=off", // its log is read here
		"log_destination=stderr",
		"lc_messages=C",
	}
	if p.noSync {
		settings = append(settings, "fsync=off", "full_page_writes=off")
	}
	args := []string{"-D", p.dir}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	process, err := startServer(ctx, command(p.owner, p.binary, args...), "database system is ready to accept connections")
	if errors.Is(err, ErrPortInUse) {
		return errPort("Postgres", p.port)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.process = process
	return nil
}
