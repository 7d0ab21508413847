package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

const (
	reconnectFirst = 100 * time.Millisecond
	reconnectLimit = 10 * time.Second
	// standbyInterval is how often a relay that stands by looks whether the slot is free.
	standbyInterval = 100 * time.Millisecond
	httpShutdown    = time.Second
)

// errStandby means that another relay reads the slot.
var errStandby = errors.New("another relay reads the slot")

// Options are what a Relay needs beside its configuration. Nil fields are allowed.
type Options struct {
	// Logger takes one line for each change of state. Nil logs nothing.
	Logger *slog.Logger
	// Registerer takes the metrics. Nil registers none with anybody but /metrics.
	Registerer prometheus.Registerer
	// Registry overrides the client for registry.url.
	Registry Registry
}

// Relay publishes the events of one slot. Make it with New and call Run once.
type Relay struct {
	cfg      Config
	log      *slog.Logger
	registry Registry
	gatherer *prometheus.Registry
	metrics  *metrics
	status   *Status
	serving  chan struct{}
	janitor  *janitor
	advised  string // what the log was told of failover

	// What one session leaves to the next.
	memory   *memory               // how far it got, and what it read from; nil for nothing yet
	known    map[string][]Position // what is in Kafka above that, by topic and partition
	rate     walRate
	verdicts map[string]*HaltError // records that the brokers refused and that are to come again, by event id
	owed     *deadLetters          // dead letters that are not acknowledged
	parked   *parkedKeys           // nil unless on_poison is halt-key
	text     bool                  // the stream cannot be read in binary
}

// New returns a relay for cfg, which it validates. It connects to nothing.
func New(cfg Config, opts Options) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := knowsSarama(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if failpoints {
		log.Warn("this relay is built to fail on demand: it is for tests only")
	}
	gatherer := prometheus.NewRegistry()
	m := newMetrics(gatherer, cfg.Name)
	if opts.Registerer != nil {
		if err := opts.Registerer.Register(gatherer); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	r := &Relay{
		cfg: cfg, log: log, registry: opts.Registry, gatherer: gatherer, metrics: m,
		status: newStatus(log, m), verdicts: make(map[string]*HaltError), owed: new(deadLetters), serving: make(chan struct{}),
	}
	if cfg.OnPoison == onPoisonHaltKey {
		r.parked = newParkedKeys(m.setParked)
	}
	r.janitor = newJanitor(&r.cfg, log, m)
	r.janitor.keep = r.parked.ids
	if r.registry == nil {
		client, err := cfg.Registry.client()
		if err != nil {
			return nil, fmt.Errorf("registry: %w", err)
		}
		r.registry = client
	}
	return r, nil
}

// client returns the client that c describes.
func (c RegistryConfig) client() (*schemaregistry.Client, error) {
	tlsConf, err := c.TLS.load()
	if err != nil {
		return nil, err
	}
	return schemaregistry.NewClient(schemaregistry.ClientConfig{
		URL:         string(c.URL),
		Username:    c.Auth.Username,
		Password:    string(c.Auth.Password),
		BearerToken: string(c.Auth.Token),
		TLS:         tlsConf,
	})
}

// Run relays until ctx ends; then it stops reading, waits for what is on its way, confirms
// it and returns nil. Whatever else happens it reconnects, stands by or stands in a named
// halt: it returns an error only when it cannot start at all.
func (r *Relay) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if r.cfg.HTTP.Listen != "-" {
		listener, err := net.Listen("tcp", r.cfg.HTTP.Listen)
		if err != nil {
			return fmt.Errorf("http.listen: %w; choose another address, or \"-\" for none", err)
		}
		r.log.Info("serving /livez, /readyz, /metrics and /status", "address", listener.Addr().String())
		server := &http.Server{Handler: r.Handler(), ReadHeaderTimeout: 5 * time.Second}
		g.Go(func() error { // probes and metrics
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("http: %w", err)
			}
			return nil
		})
		g.Go(func() error { // ends the one above, after the last session
			<-r.serving
			ctx, cancel := context.WithTimeout(context.Background(), httpShutdown)
			defer cancel()
			if server.Shutdown(ctx) != nil {
				_ = server.Close()
			}
			return nil
		})
	}
	g.Go(func() error { // sessions, one after the other
		defer close(r.serving)
		r.sessions(ctx)
		return nil
	})
	return g.Wait()
}

// sessions runs sessions until ctx ends.
func (r *Relay) sessions(ctx context.Context) {
	failures := 0
	for {
		started, flushed := time.Now(), r.flushed()
		err := r.session(ctx)
		if ctx.Err() != nil {
			if err != nil {
				r.log.Warn("stopped before everything was acknowledged; the rest is published at the next start", "error", err)
			}
			r.status.setPhase(PhaseStopped)
			return
		}
		if r.flushed() > flushed || time.Since(started) > reconnectLimit {
			failures = 0 // it worked for a while
		}
		wait := backoff(failures, reconnectFirst, reconnectLimit)
		failures++
		var refused *refusal
		switch {
		case errors.Is(err, errStandby):
			failures = 0
			wait = standbyInterval
			r.standBy(ctx)
		case errors.Is(err, errNeedsText) && !r.text:
			r.text, wait = true, 0
			r.status.setPhase(PhaseStarting)
			r.log.Warn("the stream goes on as text, which costs more CPU and nothing else", "reason", err)
		case errors.As(err, &refused):
			r.verdicts[refused.id] = refused.err
			if r.cfg.OnPoison == onPoisonHalt || refused.err.final {
				r.status.trouble(componentEvent, refused.err)
			}
		case asHalt(err) != nil:
			wait = haltRetry
			fallthrough
		default:
			component := componentOf(err)
			r.metrics.failed(component)
			r.status.setPhase(PhaseStarting)
			r.status.trouble(component, err)
		}
		if sleep(ctx, wait) != nil {
			r.status.setPhase(PhaseStopped)
			return
		}
	}
}

// standBy waits until the slot is free, ctx ends or the database does not answer.
func (r *Relay) standBy(ctx context.Context) {
	// The other relay moves the slot and the topics' ends now: what this one remembers of them is
	// out of date, and is read anew.
	r.memory, r.known, r.owed = nil, nil, new(deadLetters)
	r.janitor.rest()
	conn, err := r.cfg.Postgres.connect(ctx)
	if err != nil {
		return
	}
	defer closeConn(conn)
	for {
		var active string // the other relay, as the server sees it
		err := conn.QueryRow(ctx, `
			SELECT coalesce(max(concat_ws(' ', 'pid ' || s.active_pid, 'from ' || host(a.client_addr), a.application_name)), '')
			FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid
			WHERE s.slot_name IN ($1, $2) AND s.active_pid IS NOT NULL`, r.cfg.Postgres.Slot, temporarySlot(r.cfg.Postgres.Slot)).Scan(&active)
		if err != nil || active == "" {
			return
		}
		r.status.clearAll()
		r.status.setPhase(PhaseStandby, "slot", r.cfg.Postgres.Slot, "active", active)
		if sleep(ctx, standbyInterval) != nil {
			return
		}
	}
}

// componentError says which server an error came from.
type componentError struct {
	component string
	err       error
}

func (e *componentError) Error() string { return e.err.Error() }
func (e *componentError) Unwrap() error { return e.err }

func from(component string, err error) error {
	if err == nil {
		return nil
	}
	return &componentError{component, err}
}

func componentOf(err error) string {
	var c *componentError
	if errors.As(err, &c) {
		return c.component
	}
	return componentPostgres
}

// flushed returns the LSN below which everything is in Kafka, as far as it is known.
func (r *Relay) flushed() LSN {
	if r.memory == nil {
		return 0
	}
	return r.memory.Flushed
}

// session connects to everything, relays until ctx ends (nil) or something fails, and
// leaves behind what the next session must know.
func (r *Relay) session(ctx context.Context) error {
	p := &pipeline{relay: r}
	defer p.close()
	err := r.connect(ctx, p)
	if ctx.Err() != nil {
		return nil // nothing is on its way yet that a stop could wait for
	}
	if err != nil {
		return err
	}
	r.status.begin(p.keeper.confirmable)
	r.metrics.reconnects.Inc()
	err = p.run(ctx)
	r.leave(p)
	return err
}

// leave takes from p, which has ended, what the next session must know, and nothing that
// would keep p itself in memory: its queues can be as large as those of the next one.
func (r *Relay) leave(p *pipeline) {
	r.status.end()
	if !p.slotMade {
		return // the snapshot begins again
	}
	now := p.now
	now.Flushed = max(now.Flushed, p.checkpoint.Flushed())
	r.memory = &now
	r.known = p.kafka.positions()
	if r.parked.uncertain() {
		r.known = nil
	}
	maps.DeleteFunc(r.verdicts, func(_ string, refused *HaltError) bool { return refused.at.LSN < now.Flushed })
}

// connect opens what p needs, judges it by what is remembered, and assembles p.
func (r *Relay) connect(ctx context.Context, p *pipeline) error {
	var err error
	if p.conn, err = r.cfg.Postgres.connect(ctx); err != nil {
		r.unknownLag()
		return from(componentPostgres, err)
	}
	r.measure(ctx, p.conn)
	if p.facts, err = r.look(ctx, p.conn); err != nil {
		return from(componentPostgres, err)
	}
	if p.kafka, err = openCluster(r.cfg.Kafka, r.known, r.log); err != nil {
		return from(componentKafka, err)
	}
	defer context.AfterFunc(ctx, p.kafka.cut)()
	recalled, err := p.kafka.recall()
	if err != nil {
		return from(componentKafka, err)
	}
	if r.recall(recalled) {
		p.kafka.known = nil
	}
	p.kafka.settled = recalled != nil && recalled.Clean
	if !p.facts.Slot.Exists && r.memory != nil { // another relay may have made it since we looked
		if p.facts, err = r.look(ctx, p.conn); err != nil {
			return from(componentPostgres, err)
		}
	}
	if p.source, err = openSource(ctx, &r.cfg, r.log); err != nil {
		return from(componentPostgres, err)
	}
	if p.now, err = r.judge(ctx, p.source, p.facts); err != nil {
		return from(componentPostgres, err)
	}
	if r.memory != nil && r.memory.Timeline != p.now.Timeline {
		p.kafka.known = nil // LSNs above the memory's may mean something else now
	}
	if err := r.ensurePublication(ctx, p.conn, p.facts); err != nil {
		return from(componentPostgres, err)
	}
	p.now.watch(p.facts)
	return r.assemble(p)
}

// assemble makes the stages of p.
func (r *Relay) assemble(p *pipeline) error {
	var err error
	p.kafka.confirmed = p.now.Flushed
	if p.now.Repair > 0 {
		p.kafka.since = time.Unix(p.now.Repair, 0)
	}
	p.checkpoint = NewCheckpoint(p.facts.Slot.Confirmed, r.metrics.observeCommit)
	p.publisher, err = newPublisher(p.kafka, &r.cfg, p.checkpoint, r.status, r.metrics)
	if err != nil {
		return from(componentKafka, err)
	}
	r.status.clear(componentKafka)
	p.publisher.owed = r.owed
	p.keeper = newKeeper(p.kafka, p.checkpoint, r.status, r.metrics, p.now, p.facts.Slot.Confirmed)

	p.source.received = r.status.alive
	p.schemas = newSchemas(r.registry, &r.cfg, r.log)
	p.encoder, err = newEncoder(&r.cfg, r.log, r.status, r.metrics)
	if err != nil {
		return err
	}
	p.encoder.schemas, p.encoder.cluster, p.encoder.publisher, p.encoder.checkpoint = p.schemas, p.kafka, p.publisher, p.checkpoint
	p.schemas.lookAhead = p.encoder.lookAhead
	p.encoder.skipBefore, p.encoder.verdicts, p.encoder.owed = p.now.Flushed, r.verdicts, r.owed
	if p.kafka.known == nil {
		r.parked.forget() // for the same reasons
	}
	if r.parked != nil {
		p.kafka.lasting = r.cfg.Kafka.DeadLetterTopic
	}
	p.encoder.parked, p.encoder.system = r.parked, p.now.System
	p.chunks = newChunks()
	p.drained, p.kept, p.slotReady = make(chan struct{}), make(chan struct{}), make(chan struct{})
	return nil
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// look reads the facts about the database and returns the named halt that they demand by
// themselves, or errStandby where another relay reads the slot.
func (r *Relay) look(ctx context.Context, conn *pgx.Conn) (*catalog, error) {
	facts, err := readCatalog(ctx, conn, &r.cfg)
	if err != nil {
		return nil, err
	}
	if err := facts.check(&r.cfg, conn.Config().Database); err != nil {
		return nil, err
	}
	if facts.Slot.ActivePID != 0 {
		return nil, errStandby
	}
	return &facts, nil
}

// recall takes what was read from Kafka, and reports whether another relay has written it
// since this one last read the slot.
func (r *Relay) recall(m *memory) (another bool) {
	if m == nil || r.memory != nil && !m.after(r.memory) {
		return false
	}
	another = r.memory != nil
	r.memory = m
	return another
}

// judge compares what it reads from with what is remembered, and returns what this session
// is to remember.
func (r *Relay) judge(ctx context.Context, source *Source, facts *catalog) (memory, error) {
	system, err := pglogrepl.IdentifySystem(ctx, source.conn)
	if err != nil {
		return memory{}, fmt.Errorf("identify system: %w", err)
	}
	now := memory{System: system.SystemID, Timeline: system.Timeline, Slot: r.cfg.Postgres.Slot}
	before := r.memory
	if before == nil {
		now.Flushed = facts.Slot.Confirmed
		return now, nil
	}
	if err := before.check(ctx, source.conn, system, facts, &r.cfg); err != nil {
		return memory{}, err
	}
	if before.Timeline != now.Timeline {
		r.log.Warn("the server was promoted and has everything that was published", "timeline", now.Timeline, "lsn", before.Flushed.String())
	}
	now.Flushed, now.Repair = before.Flushed, before.Repair
	return now, nil
}

// ensurePublication makes the publication where it is missing, and puts it into facts.
func (r *Relay) ensurePublication(ctx context.Context, conn *pgx.Conn, facts *catalog) error {
	if facts.Publication.OID != 0 {
		return nil
	}
	if err := createPublication(ctx, conn, &r.cfg); err != nil {
		return err
	}
	r.log.Info("publication created", "publication", r.cfg.Postgres.Publication)
	var err error
	facts.Publication, err = readPublication(ctx, conn, r.cfg.Postgres.Publication, facts.TableOID)
	return err
}
