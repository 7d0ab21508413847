package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	progressInterval = 200 * time.Millisecond
	// repairRequested is the reason of a repair that no halt asked for.
	repairRequested = "REQUESTED"
)

// headerRepair marks a record that a repair published, with the halt that it mends.
const headerRepair = "postrider-repair"

// scanSlack is how much older than the oldest kept row a record may be that is looked at:
// clocks differ.
const scanSlack = 24 * time.Hour

// ErrRelayActive means that a relay streams from the slot: there is nothing that a repair
// could mend.
var ErrRelayActive = errors.New("a relay streams from the slot")

// ErrNoIDs means that records carry no event ids, so that Kafka cannot be compared with the
// table.
var ErrNoIDs = errors.New("outbox.headers is \"none\": records carry no event id, so that kept rows cannot be compared with Kafka")

// RepairOptions are what Repair needs beside the configuration. Nil fields are allowed but
// for Confirm.
type RepairOptions struct {
	Logger   *slog.Logger
	Registry Registry
	// Confirm is shown the plan and says whether to go on.
	Confirm func(RepairPlan) (bool, error)
	// Progress hears of the work: what is done, how much of it, of how much (0: not known).
	Progress func(step string, done, total int)
	// Since leaves out rows that were created before. The zero time leaves out none.
	Since time.Time
	// All publishes every kept row again without a comparison.
	All bool
}

// RepairPlan is what a repair will do.
type RepairPlan struct {
	// Reason is the named halt that the repair ends, empty where there is none.
	Reason HaltCode `json:"reason"`
	Detail string   `json:"detail"`

	Slot     string `json:"slot"`
	Replaces bool   `json:"replaces_slot"` // the slot exists and is dropped

	Compared bool       `json:"compared"` // with the topics; false with RepairOptions.All
	Kept     int        `json:"kept_rows"`
	InKafka  int        `json:"in_kafka"`
	Older    int        `json:"older"` // than RepairOptions.Since, and left out
	Missing  int        `json:"missing"`
	Oldest   *time.Time `json:"oldest_missing"` // null where none is missing, or rows carry no time
	Newest   *time.Time `json:"newest_missing"`
	Topics   []string   `json:"topics"` // that were read

	// LateKeys counts the keys of which Kafka has a later event than one that is missing:
	// consumers see those events out of order. LateExamples names a few of the keys.
	LateKeys     int      `json:"late_keys"`
	LateExamples []string `json:"late_examples"`
}

// RepairResult is what a repair did.
type RepairResult struct {
	RepairPlan
	Repaired     bool   `json:"repaired"` // false: it was not confirmed
	Published    int    `json:"published"`
	DeadLettered int    `json:"dead_lettered"`
	LSN          string `json:"lsn"` // where the new slot begins
	// Remembered says that the new place was written down in Kafka. It is false where there is
	// no topic yet: a relay that stands in the halt must be restarted then.
	Remembered bool `json:"remembered"`
}

// Repair replaces the slot by a new one and publishes the kept rows that Kafka does not
// have, each with the header postrider-repair. It is the remedy for a slot that is gone,
// lost or moved, for publications and tables that changed, and for another server. Rows
// that are not in the table any more cannot be brought back.
//
// Nothing is changed before Confirm has agreed. A repair that is interrupted is begun again:
// what it published is in Kafka by then.
func Repair(ctx context.Context, cfg Config, opts RepairOptions) (RepairResult, error) {
	r, err := New(cfg, Options{Logger: opts.Logger, Registry: opts.Registry})
	if err != nil {
		return RepairResult{}, err
	}
	if opts.Progress == nil {
		opts.Progress = func(string, int, int) {}
	}
	if r.cfg.Outbox.Headers == headersNone && !opts.All {
		return RepairResult{}, ErrNoIDs
	}
	repair := &repair{Relay: r, opts: opts}
	return repair.run(ctx)
}

type repair struct {
	*Relay
	opts RepairOptions
	plan RepairPlan
}

func (r *repair) run(ctx context.Context) (RepairResult, error) {
	conn, err := r.cfg.Postgres.connect(ctx)
	if err != nil {
		return RepairResult{}, err
	}
	defer closeConn(conn)
	facts, err := readCatalog(ctx, conn, &r.cfg)
	if err != nil {
		return RepairResult{}, err
	}
	if facts.Slot.ActivePID != 0 {
		return RepairResult{}, fmt.Errorf("slot %q: %w", r.cfg.Postgres.Slot, ErrRelayActive)
	}
	if err := r.diagnose(ctx, conn, &facts); err != nil {
		return RepairResult{}, err
	}
	kept, err := r.survey(ctx, conn)
	if err != nil {
		return RepairResult{}, err
	}
	agreed, err := r.opts.Confirm(r.plan)
	if err != nil || !agreed {
		return RepairResult{RepairPlan: r.plan}, err
	}
	if facts.Slot.Exists {
		if _, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot($1)`, r.cfg.Postgres.Slot); err != nil {
			return RepairResult{RepairPlan: r.plan}, fmt.Errorf("drop slot %q: %w", r.cfg.Postgres.Slot, postgresError(err))
		}
		r.log.Info("slot dropped", "slot", r.cfg.Postgres.Slot)
	}
	return r.publishMissing(ctx, kept)
}

// diagnose finds the halt that a relay would stand in, and refuses what must be mended by
// hand first. It recalls what the relay remembers.
func (r *repair) diagnose(ctx context.Context, conn *pgx.Conn, facts *catalog) error {
	kafka, err := openCluster(r.cfg.Kafka, nil, r.log)
	if err != nil {
		return from(componentKafka, err)
	}
	defer kafka.close()
	defer context.AfterFunc(ctx, kafka.cut)()
	if r.memory, err = kafka.recall(); err != nil {
		return from(componentKafka, err)
	}
	// What Kafka would refuse must not come up between the old slot and the new one.
	if _, _, err := kafka.producer(); err != nil {
		return from(componentKafka, err)
	}
	r.plan.Slot, r.plan.Replaces = r.cfg.Postgres.Slot, facts.Slot.Exists

	why := facts.check(&r.cfg, conn.Config().Database)
	if why == nil && r.memory != nil {
		source, err := openSource(ctx, &r.cfg, r.log)
		if err != nil {
			return err
		}
		defer source.close()
		_, why = r.judge(ctx, source, facts)
	}
	if h := asHalt(why); h != nil {
		r.plan.Reason, r.plan.Detail = h.Code, h.Err.Error()
	} else if why != nil {
		return why
	}
	// With the slot out of the way, is anything left that the repair does not mend itself?
	without := *facts
	without.Slot = slotFacts{}
	return without.check(&r.cfg, conn.Config().Database)
}

// survey compares the kept rows with what Kafka has, and completes the plan.
func (r *repair) survey(ctx context.Context, conn *pgx.Conn) (*survey, error) {
	s, err := surveyTable(ctx, &r.cfg, func(rows int) { r.opts.Progress("reading the kept rows", rows, 0) })
	if err != nil {
		return nil, err
	}
	s.since(r.opts.Since)
	r.plan.Kept = len(s.rows)
	if r.opts.All {
		r.plan.count(s.shortage(), len(s.rows))
		return s, nil
	}
	r.plan.Compared = true
	if err := r.compare(ctx, s); err != nil {
		return nil, err
	}
	short := s.shortage()
	r.plan.count(short, len(s.rows))
	r.plan.LateExamples, err = r.aggregates(ctx, conn, short.lateIDs)
	return s, err
}

// compare finds out which rows Kafka has.
func (r *repair) compare(ctx context.Context, s *survey) error {
	if r.opts.All {
		return nil
	}
	kafka, err := openCluster(r.cfg.Kafka, nil, r.log)
	if err != nil {
		return from(componentKafka, err)
	}
	defer kafka.close()
	defer context.AfterFunc(ctx, kafka.cut)()
	var since time.Time
	if !s.oldest.IsZero() {
		since = s.oldest.Add(-scanSlack)
	}
	s.topics[r.cfg.Kafka.DeadLetterTopic] = struct{}{}
	read := 0
	r.plan.Topics = slices.Sorted(maps.Keys(s.topics))
	for _, topic := range r.plan.Topics {
		err := kafka.scanIDs(topic, since, func(id []byte) {
			s.mark(id)
			if read++; read%1000 == 0 {
				r.opts.Progress("reading the topics", read, 0)
			}
		})
		if err != nil {
			return from(componentKafka, err)
		}
	}
	r.opts.Progress("reading the topics", read, read)
	return nil
}

func (p *RepairPlan) count(short shortage, kept int) {
	p.Missing, p.Older, p.InKafka = short.rows, short.old, kept-short.rows-short.old
	if !short.oldest.IsZero() {
		p.Oldest, p.Newest = &short.oldest, &short.newest
	}
	p.LateKeys = short.lateKeys
}

// aggregates names the keys of events.
func (r *repair) aggregates(ctx context.Context, conn *pgx.Conn, ids []eventKey) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = formatUUID(id)
	}
	columns := r.cfg.Outbox.Columns
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT DISTINCT %s::text FROM %s WHERE %s::text = ANY($1) ORDER BY 1`,
		pgx.Identifier{columns.AggregateID}.Sanitize(), quoteTable(r.cfg.Outbox.Table), pgx.Identifier{columns.ID}.Sanitize()), texts)
	if err != nil {
		return nil, postgresError(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return keys, postgresError(err)
}

// publishMissing makes the slot as a first start does, and passes over the rows that Kafka
// has.
func (r *repair) publishMissing(ctx context.Context, kept *survey) (RepairResult, error) {
	result := RepairResult{RepairPlan: r.plan}
	began := time.Now()
	for {
		err := r.attempt(ctx, kept, began.Unix(), &result)
		var refused *refusal
		if errors.As(err, &refused) && r.cfg.OnPoison != onPoisonHalt && !refused.err.final {
			// As in a relay: the encoder treats the record as on_poison says when it meets it again.
			r.verdicts[refused.id] = refused.err
			if err = r.compare(ctx, kept); err == nil {
				continue
			}
		}
		if err != nil {
			return result, fmt.Errorf("%w; run the repair again", err)
		}
		return result, nil
	}
}

// attempt makes the slot and publishes what kept does not pass over.
func (r *repair) attempt(ctx context.Context, kept *survey, number int64, result *RepairResult) error {
	p := &pipeline{relay: r.Relay, once: true}
	defer p.close()
	if err := r.connectAnew(ctx, p, number); err != nil {
		return err
	}
	reason := string(r.plan.Reason)
	if reason == "" {
		reason = repairRequested
	}
	p.encoder.repair = &repairing{
		reason: reason,
		skip:   kept.passesOver,
	}
	finished, done := make(chan error, 1), make(chan struct{})
	go func() { finished <- p.run(ctx); close(done) }()
	r.watch(done)
	err := <-finished
	result.Published, result.DeadLettered = int(r.metrics.publishedTotal.Load()), int(r.metrics.deadTotal.Load()+r.metrics.expiredTotal.Load())
	if err == nil && !p.slotMade {
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	result.Repaired, result.LSN = true, p.checkpoint.Flushed().String()
	result.Remembered = len(p.kafka.group.listPlaces()) > 0
	return nil
}

// connectAnew is Relay.connect for a slot that is made now, whatever is remembered.
func (r *repair) connectAnew(ctx context.Context, p *pipeline, number int64) error {
	var err error
	if p.conn, err = r.cfg.Postgres.connect(ctx); err != nil {
		return err
	}
	if p.facts, err = r.look(ctx, p.conn); err != nil {
		return err
	}
	if err := r.ensurePublication(ctx, p.conn, p.facts); err != nil {
		return err
	}
	if p.source, err = openSource(ctx, &r.cfg, r.log); err != nil {
		return err
	}
	r.memory = nil
	if p.now, err = r.judge(ctx, p.source, p.facts); err != nil {
		return err
	}
	p.now.watch(p.facts)
	p.now.Repair = number
	if p.kafka, err = openCluster(r.cfg.Kafka, nil, r.log); err != nil {
		return from(componentKafka, err)
	}
	p.kafka.compared = true
	defer context.AfterFunc(ctx, p.kafka.cut)()
	if _, err := p.kafka.recall(); err != nil { // for the places where the memory is kept
		return from(componentKafka, err)
	}
	return r.assemble(p)
}

// watch tells of the progress until done is closed.
func (r *repair) watch(done <-chan struct{}) {
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		published := int(r.metrics.publishedTotal.Load() + r.metrics.deadTotal.Load() + r.metrics.expiredTotal.Load())
		r.opts.Progress("publishing what is missing", published, max(r.plan.Missing, published))
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}
