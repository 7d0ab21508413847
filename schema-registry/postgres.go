package schemaregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PostgresStore keeps all in a Postgres database, in the schema postrider_registry. Several
// registries may use one database at the same time: they lock one row for each change, and
// tell each other by NOTIFY.
type PostgresStore struct {
	pool  *pgxpool.Pool
	apply func([]Record) error
	stop  context.CancelFunc // ends listen
	ended chan struct{}      // closed when listen has ended

	mu  sync.Mutex // held while a change or news are under way
	seq int64      // of the last record that apply was given

	// A refresh that began after it was asked for is good for all who asked.
	asked, answered atomic.Int64
	connected       atomic.Bool // to the news
}

// The channel of NOTIFY, and how long to wait: for news that NOTIFY may have failed to tell,
// for the answer to a question, and before the next try to connect.
const (
	newsChannel     = "postrider_registry"
	newsInterval    = 5 * time.Second
	refreshTimeout  = 2 * time.Second
	reconnectPause  = 200 * time.Millisecond
	postgresConns   = 4
	applicationName = "postrider registry"
)

// OpenPostgres connects to a database and brings its tables up to date, which takes the right
// to create a schema in it, or one named postrider_registry that belongs to the role. Close
// it after use.
func OpenPostgres(ctx context.Context, url string) (*PostgresStore, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("registry store: %w", err) // pgx masks the password
	}
	cfg.ConnConfig.RuntimeParams["application_name"] = applicationName
	cfg.MaxConns = postgresConns
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("registry store: %w", err)
	}
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return migrate(ctx, conn.Conn()) })
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("registry store: prepare tables: %w", err)
	}
	return &PostgresStore{pool: pool}, nil
}

// Close closes the connections.
func (s *PostgresStore) Close() {
	if s.stop != nil {
		s.stop()
		<-s.ended
	}
	s.pool.Close()
}

// Load implements Store.
func (s *PostgresStore) Load(ctx context.Context, apply func([]Record) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply = apply
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, snapshot, func(tx pgx.Tx) error { return s.catchUp(ctx, tx) })
	if err != nil || s.stop != nil {
		return err
	}
	listening, stop := context.WithCancel(context.Background())
	s.stop, s.ended = stop, make(chan struct{})
	s.connected.Store(true)
	go s.listen(listening) // ends at Close
	return nil
}

// querier is a connection, in a transaction or not.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// catchUp gives apply what it was not given yet. s.mu is held.
func (s *PostgresStore) catchUp(ctx context.Context, tx querier) error {
	// A record that was removed before anything was loaded is nothing to learn of.
	rows, err := tx.Query(ctx, "SELECT key, value, seq FROM postrider_registry.records WHERE seq > $1 AND (value IS NOT NULL OR $1 > 0) ORDER BY seq", s.seq)
	if err != nil {
		return err
	}
	var records []Record
	var r Record
	seq := s.seq
	flush := func() error {
		if err := s.apply(records); err != nil {
			return err
		}
		s.seq, records = seq, nil
		return nil
	}
	_, err = pgx.ForEachRow(rows, []any{&r.Key, &r.Value, &seq}, func() error {
		records = append(records, Record{r.Key, slices.Clone(r.Value)})
		if len(records) == loadedAtOnce {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// Update implements Store.
func (s *PostgresStore) Update(ctx context.Context, change func() ([]Record, error), done func(error)) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	defer func() {
		if changed {
			done(err)
		}
	}()
	var seq int64
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, "SELECT last_seq FROM postrider_registry.state FOR UPDATE").Scan(&seq); err != nil {
			return err
		}
		switch {
		case seq < s.seq:
			return errors.New("the database is older than what was read from it: restart the registry")
		case seq > s.seq:
			if err := s.catchUp(ctx, tx); err != nil {
				return err
			}
			s.seq = seq
		}
		changed = true
		records, err := change()
		if err != nil || len(records) == 0 {
			return err
		}
		seq, err = write(ctx, tx, seq, records)
		return err
	})
	if err == nil {
		s.seq = seq
	}
	return err
}

// write writes records behind seq and returns the last one's.
func write(ctx context.Context, tx pgx.Tx, seq int64, records []Record) (int64, error) {
	var keys []string
	var values []*string
	last := make(map[string]int, len(records))
	for i, r := range records {
		last[r.Key] = i
	}
	for i, r := range records {
		if last[r.Key] != i {
			continue // changed again
		}
		keys = append(keys, r.Key)
		var value *string
		if r.Value != nil {
			text := string(r.Value)
			value = &text
		}
		values = append(values, value)
	}
	statements := &pgx.Batch{}
	statements.Queue(`
		INSERT INTO postrider_registry.records (key, value, seq)
		SELECT key, value::json, $3 + position FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS r (key, value, position)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, seq = excluded.seq`, keys, values, seq)
	seq += int64(len(keys))
	statements.Queue("UPDATE postrider_registry.state SET last_seq = $1", seq)
	statements.Queue("SELECT pg_notify($1, $2::text)", newsChannel, fmt.Sprint(seq))
	return seq, tx.SendBatch(ctx, statements).Close()
}

// Refresh implements Store. While there is no connection it fails at once.
func (s *PostgresStore) Refresh(ctx context.Context) error {
	if !s.connected.Load() {
		return errors.New("not connected")
	}
	turn := s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answered.Load() >= turn {
		return nil
	}
	s.answered.Store(s.asked.Load())
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	return s.catchUp(ctx, s.pool)
}

// Ping implements Store.
func (s *PostgresStore) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }

// listen takes in what others write, until ctx ends.
func (s *PostgresStore) listen(ctx context.Context) {
	defer close(s.ended)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		_ = s.receiveNews(ctx) // it is tried again; requests say what is wrong
		s.connected.Store(false)
		pause.Reset(reconnectPause)
	}
}

// receiveNews does so on one connection, and returns when it breaks.
func (s *PostgresStore) receiveNews(ctx context.Context) error {
	cfg := s.pool.Config().ConnConfig
	cfg.ConnectTimeout = refreshTimeout
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+newsChannel); err != nil {
		return err
	}
	for {
		// Whatever woke us: what was written before LISTEN is news too.
		s.connected.Store(true)
		if err := s.Refresh(ctx); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, newsInterval)
		_, err := conn.WaitForNotification(wait)
		cancel()
		if err != nil && (ctx.Err() != nil || wait.Err() == nil) {
			return err
		}
	}
}
