package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// janitorInterval is the time between two rounds, janitorRetry where a lock was not had.
	janitorInterval = time.Hour
	janitorRetry    = time.Minute
	// janitorTick is how often it looks whether it is time and whether the relay streams.
	janitorTick = time.Second

	// The longest statements. They hold locks for which somebody may wait: who writes to the
	// default partition, while one is attached; who writes to a partition past its retention.
	createTimeout = 2 * time.Second
	dropTimeout   = 5 * time.Minute

	// trimBatch rows of the default partition are deleted in one transaction, and at most
	// trimBatches of these in one round.
	trimBatch   = 1000
	trimBatches = 1000
)

// janitor makes the daily partitions of the outbox ahead of time and drops those whose rows
// are past their retention and confirmed. It does so by functions that the outbox's
// migration brings, with their owner's rights; where they are missing, or the table is
// another's, it says so once and leaves the table alone.
//
// Nothing depends on it: without a partition a row goes to the default one, and what it
// cannot do now it tries again later. So it fails no session and holds nothing up.
type janitor struct {
	cfg     *Config
	log     *slog.Logger
	metrics *metrics
	// keep returns the ids of confirmed events whose rows are still needed, or false while
	// nobody knows them. A nil function keeps none.
	keep func() (ids []string, known bool)

	next time.Time         // of the next round
	kept map[string]string // by partition past its retention, why the last round did not drop it
	said map[string]string // by subject, what the log was told last
}

func newJanitor(cfg *Config, log *slog.Logger, m *metrics) *janitor {
	return &janitor{cfg: cfg, log: log, metrics: m, said: make(map[string]string)}
}

// run makes its rounds, on a connection of its own, while streaming says that this relay
// is the active one; until stop is done.
func (j *janitor) run(stop context.Context, streaming func() bool) {
	for sleep(stop, janitorTick) == nil {
		if !streaming() || time.Now().Before(j.next) {
			continue
		}
		wait, err := j.round(stop)
		if stop.Err() != nil {
			return
		}
		if err != nil {
			j.metrics.failed("janitor")
		}
		j.say("error", slog.LevelWarn, err, "the outbox's partitions could not be looked after; it is tried again")
		j.next = time.Now().Add(backoff(0, wait, wait)) // relays of many services do not meet
	}
}

// rest forgets what it knew: another relay looks after the partitions now.
func (j *janitor) rest() {
	j.next, j.kept = time.Time{}, nil
	j.metrics.setPartitions(partitions{})
}

// say logs a message about a subject when it is another than the last time. A nil detail
// says that there is nothing to say any more.
func (j *janitor) say(subject string, level slog.Level, detail error, message string, attrs ...any) {
	if detail == nil {
		delete(j.said, subject)
		return
	}
	if j.said[subject] == detail.Error() {
		return
	}
	j.said[subject] = detail.Error()
	j.log.Log(context.Background(), level, message, append(attrs, "reason", detail)...)
}

// round does what there is to do, and returns how long to wait for the next.
func (j *janitor) round(ctx context.Context) (time.Duration, error) {
	conn, err := j.cfg.Postgres.connect(ctx)
	if err != nil {
		return janitorRetry, err
	}
	defer closeConn(conn)
	t, err := readPartitions(ctx, conn, j.cfg)
	if err != nil {
		return janitorRetry, err
	}
	j.metrics.setPartitions(t)
	if !t.partitioned {
		j.say("table", slog.LevelInfo, errors.New("it is not a partitioned table"),
			"the relay drops no rows of the outbox: do it by other means", "table", j.cfg.Outbox.Table)
		return janitorInterval, nil
	}
	busyCreating, err := j.create(ctx, conn, t)
	if err != nil {
		return janitorRetry, err
	}
	busyDropping, err := j.drop(ctx, conn, t)
	if err != nil {
		return janitorRetry, err
	}
	if t, err = readPartitions(ctx, conn, j.cfg); err != nil {
		return janitorRetry, err
	}
	j.metrics.setPartitions(t)
	j.sayWhatIsMissing(t)
	if busyCreating || busyDropping {
		return janitorRetry, nil
	}
	return janitorInterval, nil
}

// create makes the partitions of the coming days. Each is a statement and a transaction of
// its own, so that no lock outlives it. It reports whether a lock was in the way.
func (j *janitor) create(ctx context.Context, conn *pgx.Conn, t partitions) (busy bool, err error) {
	days := *j.cfg.Outbox.PartitionsAhead
	if days == 0 {
		return false, nil
	}
	if !j.may("create", t.mayCreate, "_create_partitions(int, boolean)", "makes no partitions of the outbox") {
		return false, nil
	}
	if err := limitStatements(ctx, conn, createTimeout); err != nil {
		return false, err
	}
	query := fmt.Sprintf("SELECT partition_name, outcome FROM %s($1)", t.function("_create_partitions"))
	left := make(map[string]string)
	for ahead := 1; ahead <= days && !busy; ahead++ {
		rows, err := conn.Query(ctx, query, ahead)
		if err != nil {
			return false, fmt.Errorf("create partitions: %w", err)
		}
		var name, outcome string
		_, err = pgx.ForEachRow(rows, []any{&name, &outcome}, func() error {
			switch outcome {
			case "created":
				j.metrics.partitionsCreated.Inc()
				j.log.Info("partition created", "partition", name)
			case "locked":
				busy = true
			case "present":
			default:
				left[name] = outcome
			}
			return nil
		})
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "57014" { // it took too long, and somebody may have waited
			j.say("slow", slog.LevelWarn, err, "the default partition is too large to make a partition beside it without holding up writers: "+
				"at a quiet hour, call the function by hand", "function", t.function("_create_partitions"))
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("create partitions: %w", err)
		}
	}
	j.say("slow", slog.LevelWarn, nil, "")
	j.sayWhatIsLeft(left)
	return busy, nil
}

func (j *janitor) sayWhatIsLeft(left map[string]string) {
	var err error
	if len(left) > 0 {
		err = errors.New(outcomes(left))
	}
	j.say("left", slog.LevelWarn, err, "days without a partition of their own: rows of theirs are in the default partition, "+
		"or another table has the partition's name; such rows go on to the default partition")
}

// rowsToDrop are the first arguments of the functions that drop rows: retention, ids to keep
// (what is no uuid is no event of this table) and the limit of what is confirmed.
const rowsToDrop = `make_interval(secs => $1), ARRAY(SELECT k::uuid FROM unnest($2::text[]) k WHERE k ~* '^[0-9a-f-]{36}$'), $3::text::xid8`

// drop drops what is past its retention, one partition a transaction, and deletes such rows
// from the default partition. It reports whether a lock was in the way.
func (j *janitor) drop(ctx context.Context, conn *pgx.Conn, t partitions) (busy bool, err error) {
	retention := *j.cfg.Outbox.Retention
	if retention == 0 {
		return false, nil
	}
	if !j.may("drop", t.mayDrop, "_drop_partitions(interval, uuid[], xid8, int)", "drops no partitions of the outbox") {
		return false, nil
	}
	if err := limitStatements(ctx, conn, dropTimeout); err != nil {
		return false, err
	}
	// In this order: what is confirmed by now and to be kept, is among those to keep.
	var confirmed string
	err = conn.QueryRow(ctx, fmt.Sprintf("SELECT %s()::text", t.function("_confirmed_xid"))).Scan(&confirmed)
	if err != nil {
		return false, fmt.Errorf("what is confirmed: %w", err)
	}
	var keep []string
	if j.keep != nil {
		var known bool
		if keep, known = j.keep(); !known {
			return true, nil
		}
	}
	query := fmt.Sprintf("SELECT partition_name, outcome FROM %s(%s, 1)", t.function("_drop_partitions"), rowsToDrop)
	kept := make(map[string]string)
	for again := true; again; {
		again, busy = false, false // those that were emptied are empty at the next look
		rows, err := conn.Query(ctx, query, retention.Seconds(), keep, confirmed)
		if err != nil {
			return false, fmt.Errorf("drop partitions: %w", err)
		}
		var name, outcome string
		_, err = pgx.ForEachRow(rows, []any{&name, &outcome}, func() error {
			switch outcome {
			case "dropped":
				again = true
				j.metrics.partitionsDropped.Inc()
				j.log.Info("partition dropped: past its retention and confirmed", "partition", name)
			case "emptied":
				again = true
				j.log.Info("partition emptied: past its retention and confirmed; it is dropped when the table is less busy", "partition", name)
			case "locked", "empty":
				busy = true
			default:
				kept[name] = outcome
			}
			return nil
		})
		if err != nil {
			return false, fmt.Errorf("drop partitions: %w", err)
		}
	}
	if j.sayWhatIsKept(kept) {
		busy = true
	}
	j.sayWhatIsForeign(t)
	return busy, j.trim(ctx, conn, t, retention, keep, confirmed)
}

// sayWhatIsKept says which partitions were kept for the second time for the same reason. A
// slot learns only after a while that it has passed a row, so the first time is not worth
// a word but another look soon, which it reports.
func (j *janitor) sayWhatIsKept(kept map[string]string) (again bool) {
	before := j.kept
	j.kept = kept
	lasting := maps.Clone(kept)
	maps.DeleteFunc(lasting, func(name, outcome string) bool { return before[name] != outcome })
	var err error
	if len(lasting) > 0 {
		err = errors.New(outcomes(lasting))
	}
	j.say("kept", slog.LevelWarn, err, "partitions past their retention are not dropped: some logical slot of the database has not confirmed "+
		"their rows (pg_replication_slots), or they hold parked events")
	return len(lasting) < len(kept)
}

func (j *janitor) sayWhatIsForeign(t partitions) {
	var err error
	if len(t.foreign) > 0 {
		err = errors.New("they are not one day each, or not named as the relay names them")
	}
	j.say("foreign", slog.LevelInfo, err, "partitions that the relay leaves alone: drop them by other means", "partitions", list(t.foreign))
}

// outcomes prints what became of partitions, by their names.
func outcomes(of map[string]string) string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(of)) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(name + ": " + of[name])
	}
	return b.String()
}

// trim deletes what is past its retention from the default partition.
func (j *janitor) trim(ctx context.Context, conn *pgx.Conn, t partitions, retention time.Duration, keep []string, confirmed string) error {
	if t.defaultBytes == 0 || !j.may("trim", t.mayTrim, "_trim_default(interval, uuid[], xid8, int)", "deletes no rows of the default partition") {
		return nil
	}
	query := fmt.Sprintf("SELECT %s(%s, $4)", t.function("_trim_default"), rowsToDrop)
	var all int64
	for range trimBatches {
		var n int64
		if err := conn.QueryRow(ctx, query, retention.Seconds(), keep, confirmed, trimBatch).Scan(&n); err != nil {
			return fmt.Errorf("trim the default partition: %w", err)
		}
		all += n
		if n < trimBatch {
			break
		}
	}
	if all > 0 {
		j.log.Info("rows deleted from the default partition: past their retention and confirmed", "rows", all)
	}
	return nil
}

// may reports whether a function can be called, and says once what is missing.
func (j *janitor) may(subject string, state functionState, function, without string) bool {
	var err error
	function = j.cfg.Outbox.Table + function
	switch state {
	case functionMissing:
		err = fmt.Errorf("there is no function %s: apply what `postrider outbox sql` prints of it", function)
	case functionForbidden:
		err = fmt.Errorf("the relay's role may not call it: GRANT EXECUTE ON FUNCTION %s TO its role", function)
	}
	j.say(subject, slog.LevelWarn, err, "the relay "+without)
	return err == nil
}

func (j *janitor) sayWhatIsMissing(t partitions) {
	var err error
	if t.missing > 0 && *j.cfg.Outbox.PartitionsAhead > 0 {
		err = errors.New("today or tomorrow has no partition of its own; its rows go to the default partition, where dropping them is slow")
	}
	j.say("missing", slog.LevelWarn, err, "a partition is missing", "table", j.cfg.Outbox.Table)
	err = nil
	if t.defaultBytes > 0 {
		err = errors.New("it takes the days that have no partition of their own")
	}
	j.say("default", slog.LevelWarn, err, "the default partition has rows", "bytes", t.defaultBytes)
}

func limitStatements(ctx context.Context, conn *pgx.Conn, limit time.Duration) error {
	_, err := conn.Exec(ctx, "SELECT set_config('statement_timeout', $1, false)", fmt.Sprint(limit.Milliseconds()))
	return err
}
