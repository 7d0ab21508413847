package torture

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/outbox"
)

const (
	partitions     = 4
	cleanupTimeout = time.Minute
	// deadLetterBytes is what a record of the dead-letter topic may have: what is too large
	// elsewhere must fit there.
	deadLetterBytes = "16777216"
	// topicBytes is what a record of the other topics may have.
	topicBytes = "9437184"
	// walSenderTimeout is short, so that links that died are found while a test waits.
	walSenderTimeout = 10 * time.Second
)

// Arena is everything that one run takes place on: servers, a database, topics, a registry,
// the relays, and what is known of all of them. Faults get it to work with.
type Arena struct {
	cfg     Config
	log     *slog.Logger
	rng     *mathrand.Rand // the nemesis's
	servers *Servers
	name    string
	runID   [4]byte
	dir     string
	binary  string
	bug     string // that relays are started with

	serverVersion string

	url         string // of the database
	brokers     []string
	admin       *kadm.Client
	topics      []string
	deadLetters string
	registry    *registry
	proxies     *proxies
	relays      []*instance

	ledger   *ledger
	writer   *writer // of the nemesis
	beside   *writer // of the nemesis, for what is written at the same time
	writing  sync.RWMutex
	slots    *slotWatcher
	watcher  *watcher
	consumer *consumer

	mu         sync.Mutex
	violations []violation
	notices    map[string][]time.Duration
	extra      []string // topics that faults have made
	until      time.Time
	faults     int
	phase      string // as in Progress
	now        string // what is being done while faults are injected
}

// violation is an invariant seen broken while the run lasted.
type violation struct {
	invariant string
	what      string
}

// violate records a broken invariant.
func (a *Arena) violate(invariant, format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := violation{invariant, fmt.Sprintf(format, args...)}
	a.violations = append(a.violations, v)
	a.log.Error("violation", "invariant", invariant, "what", v.what)
}

// notice records how long something took that the report shows: a drain, a takeover.
func (a *Arena) notice(what string, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notices[what] = append(a.notices[what], took)
}

// newArena prepares a run on servers. The relays are configured and not started.
func newArena(ctx context.Context, cfg Config, servers *Servers, binary string) (_ *Arena, err error) {
	a := &Arena{
		cfg: cfg, log: cfg.Logger, servers: servers, binary: binary, brokers: servers.Brokers,
		rng:    mathrand.New(mathrand.NewPCG(cfg.Seed, 1)),
		ledger: newLedger(), notices: make(map[string][]time.Duration),
	}
	if _, err := rand.Read(a.runID[:]); err != nil {
		return nil, err
	}
	a.name = "torture_" + hex.EncodeToString(a.runID[:])
	a.slots = &slotWatcher{arena: a}
	a.watcher = newWatcher(a)
	defer func() {
		if err != nil {
			a.close(false)
		}
	}()
	if a.dir, err = a.makeDir(); err != nil {
		return nil, err
	}
	if a.registry, err = startRegistry(); err != nil {
		return nil, err
	}
	if err := a.registry.register(ctx, "json"); err != nil {
		return nil, err
	}
	if err := a.makeTopics(ctx); err != nil {
		return nil, fmt.Errorf("make topics: %w", err)
	}
	if err := a.makeDatabase(ctx); err != nil {
		return nil, fmt.Errorf("make the database: %w", err)
	}
	if a.proxies, err = startProxies(a); err != nil {
		return nil, err
	}
	a.writer, a.beside = newWriter(a, 0), newWriter(a, cfg.Writers+1)
	for number := range cfg.Relays {
		i, err := newInstance(a, number+1)
		if err != nil {
			return nil, err
		}
		a.relays = append(a.relays, i)
	}
	return a, nil
}

func (a *Arena) makeDir() (string, error) {
	if a.cfg.Dir == "" {
		return os.MkdirTemp("", "postrider-torture-logs-")
	}
	dir := filepath.Join(a.cfg.Dir, a.name)
	return dir, os.MkdirAll(dir, 0o755)
}

// makeTopics creates the topics. Their records carry the time of the append, by which
// duplicates are attributed to faults.
func (a *Arena) makeTopics(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(a.brokers...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	a.admin = kadm.NewClient(client)
	a.topics = []string{a.name + ".a", a.name + ".b"}
	a.deadLetters = a.name + ".dead"
	for _, topic := range a.topics {
		if err := a.makeTopic(ctx, topic, map[string]*string{"max.message.bytes": kadm.StringPtr(topicBytes)}); err != nil {
			return err
		}
	}
	return a.makeTopic(ctx, a.deadLetters, map[string]*string{"max.message.bytes": kadm.StringPtr(deadLetterBytes)})
}

func (a *Arena) makeTopic(ctx context.Context, topic string, config map[string]*string) error {
	all := map[string]*string{"message.timestamp.type": kadm.StringPtr("LogAppendTime")}
	for key, value := range config {
		all[key] = value
	}
	response, err := a.admin.CreateTopics(ctx, partitions, -1, all, topic)
	if err != nil {
		return err
	}
	return response[topic].Err
}

// allTopics returns every topic that events can be in.
func (a *Arena) allTopics() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	topics := append([]string(nil), a.topics...)
	topics = append(topics, a.deadLetters)
	return append(topics, a.extra...)
}

// makeDatabase creates a database with the outbox. Large transactions are spilled early in
// it, so that the run meets that path of the server too.
func (a *Arena) makeDatabase(ctx context.Context) error {
	u, err := url.Parse(a.servers.PostgresURL)
	if err != nil || u.Scheme == "" {
		return errors.New("the Postgres URL is not like postgres://user@host:5432/database")
	}
	conn, err := pgx.Connect(ctx, a.servers.PostgresURL)
	if err != nil {
		return err
	}
	for _, statement := range []string{
		"CREATE DATABASE %s",
		"ALTER DATABASE %s SET logical_decoding_work_mem = '64kB'",
		fmt.Sprintf("ALTER DATABASE %%s SET wal_sender_timeout = '%ds'", int(walSenderTimeout.Seconds())),
	} {
		if _, err = conn.Exec(ctx, fmt.Sprintf(statement, a.name)); err != nil {
			break
		}
	}
	closeConn(conn)
	if err != nil {
		return err
	}
	u.Path = "/" + a.name
	a.url = u.String()
	if conn, err = a.connect(ctx, "postrider torture"); err != nil {
		return err
	}
	defer closeConn(conn)
	ddl, err := outbox.TableDDL(outbox.DefaultTable)
	if err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, `SHOW server_version`).Scan(&a.serverVersion); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, ddl.Up+writerTables); err != nil {
		return err
	}
	return outbox.RegisterSchemas(ctx, conn, avroSchema)
}

// connect connects to the run's database, past the proxies.
func (a *Arena) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(a.url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = name
	config.ConnectTimeout = 5 * time.Second
	return pgx.ConnectConfig(ctx, config)
}

// exec runs statements in the run's database.
func (a *Arena) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := a.connect(ctx, "postrider torture")
	if err != nil {
		return err
	}
	defer closeConn(conn)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// slot and publication are the names that the relay gives them.
func (a *Arena) slot() string        { return "postrider_" + a.name }
func (a *Arena) publication() string { return "postrider_" + a.name }

// relayURL is the database as the relay reaches it.
func (a *Arena) relayURL() string { return a.proxies.postgresURL(a.url) }

// relayBrokers are the brokers as the relay reaches them.
func (a *Arena) relayBrokers() []string { return a.proxies.kafkaBrokers(a.brokers) }

// close stops the relays and removes everything that the run has made. The logs stay where
// keepLogs says so.
func (a *Arena) close(keepLogs bool) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	for _, i := range a.relays {
		i.kill()
		i.client.CloseIdleConnections()
	}
	for _, w := range []*writer{a.writer, a.beside} {
		if w != nil {
			w.close()
		}
	}
	a.proxies.close()
	if a.registry != nil {
		a.registry.close()
	}
	if a.admin != nil {
		_, _ = a.admin.DeleteTopics(ctx, a.allTopics()...)
		_, _ = a.admin.DeleteGroups(ctx, a.slot()) // the relay's, of the same name
		a.admin.Close()
	}
	if a.url != "" {
		a.dropDatabase(ctx)
	}
	if a.dir != "" && !keepLogs {
		_ = os.RemoveAll(a.dir)
	}
}

// dropDatabase drops the database with the slots in it. The server lets go of a slot some
// time after its relay was killed.
func (a *Arena) dropDatabase(ctx context.Context) {
	conn, err := pgx.Connect(ctx, a.servers.PostgresURL)
	if err != nil {
		a.log.Warn("the database stays", "database", a.name, "error", err)
		return
	}
	defer closeConn(conn)
	for {
		_, _ = conn.Exec(ctx, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1`, a.name)
		_, _ = conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active`, a.name)
		_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+a.name)
		if err == nil {
			return
		}
		if !pause(ctx, 200*time.Millisecond) {
			a.log.Warn("the database stays", "database", a.name, "error", err)
			return
		}
	}
}
