package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// stopTimeout is how long a server may take to shut down before it is killed.
const stopTimeout = 10 * time.Second

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

	// Progress gets the progress of a download. Defaults to nil: none is shown.
	Progress io.Writer
}

// Postgres is a running server with wal_level=logical. Its superuser postgres needs no
// password.
type Postgres struct {
	dir       string
	temporary bool
	port      int
	binary    string
	process   *process
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
	p := &Postgres{port: options.Port, binary: filepath.Join(bin, "postgres")}
	err = p.makeDir(options.Dir, owner)
	if err == nil {
		err = p.initialize(ctx, filepath.Join(bin, "initdb"), owner)
	}
	if err == nil {
		err = p.start(ctx, owner)
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

// Done is closed when the server has ended, by Stop or by itself.
func (p *Postgres) Done() <-chan struct{} { return p.process.done }

// Err says why the server ended by itself. It is nil before Done is closed, and where the
// server shut down in order.
func (p *Postgres) Err() error {
	select {
	case <-p.process.done:
		return p.process.err
	default:
		return nil
	}
}

// Stop disconnects all clients, ends the server and removes its data if they are temporary.
// A second Stop does nothing.
func (p *Postgres) Stop() error {
	p.process.stop(stopTimeout)
	return p.clean()
}

func (p *Postgres) clean() error {
	if !p.temporary {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// makeDir makes the data directory of the server.
func (p *Postgres) makeDir(dir string, owner *owner) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "postrider-postgres-")
		if err != nil {
			return err
		}
		p.dir, p.temporary = temporary, true
		return owner.give(p.dir)
	}
	p.dir = dir
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	p.dir = absolute
	if _, err := os.Stat(p.dir); err == nil {
		return nil // whoever made it decided whose it is
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	return owner.give(p.dir)
}

// initialize makes the cluster, unless an earlier run has left one.
func (p *Postgres) initialize(ctx context.Context, initdb string, owner *owner) error {
	if _, err := os.Stat(filepath.Join(p.dir, "PG_VERSION")); err == nil {
		return nil
	}
	cmd := command(owner, initdb, "--pgdata", p.dir, "--username", "postgres", "--auth", "trust",
		"--no-locale", "--encoding", "UTF8", "--no-sync")
	output, err := run(ctx, cmd)
	if err != nil {
		return fmt.Errorf("initdb: %w", hint(err, output))
	}
	return nil
}

func (p *Postgres) start(ctx context.Context, owner *owner) error {
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
		err = p.launch(ctx, owner)
		if !errors.Is(err, ErrPortInUse) || wanted != 0 {
			return err
		}
	}
	return err
}

func (p *Postgres) launch(ctx context.Context, owner *owner) error {
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
	if p.temporary {
		settings = append(settings, "fsync=off", "full_page_writes=off")
	}
	args := []string{"-D", p.dir}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	process, err := startProcess(ctx, command(owner, p.binary, args...), "database system is ready to accept connections")
	if errors.Is(err, ErrPortInUse) {
		return errPort("Postgres", p.port)
	}
	p.process = process
	return err
}
