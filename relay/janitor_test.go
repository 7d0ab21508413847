package relay

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/outbox"
)

// household is a janitor with a database to look after: an outbox with the partition of the
// 1st of September 2026, long ago for every test, and a slot.
type household struct {
	*janitor
	t       *testing.T
	db      *pgx.Conn
	slot    string
	log     bytes.Buffer
	metrics *prometheus.Registry
}

func newHousehold(t *testing.T) *household {
	t.Helper()
	h := &household{t: t, slot: testserver.UniqueName(t), metrics: prometheus.NewRegistry()}
	url := testserver.Postgres(t)
	var err error
	if h.db, err = pgx.Connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.db.Close(context.Background()) })
	ddl, err := outbox.TableDDL(DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	h.exec(ddl.Up)
	h.exec(`CREATE TABLE outbox_p20260901 PARTITION OF outbox FOR VALUES FROM ('2026-09-01 00:00:00+00') TO ('2026-09-02 00:00:00+00')`)
	h.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, h.slot)
	cfg := minimalConfig()
	cfg.Postgres.URL = SecretURL(url)
	cfg = cfg.withDefaults()
	h.janitor = newJanitor(&cfg, slog.New(slog.NewTextHandler(&h.log, nil)), newMetrics(h.metrics, "test"))
	return h
}

func (h *household) exec(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.db.Exec(context.Background(), sql, args...); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
}

func (h *household) ask(sql string, args ...any) (n int) {
	h.t.Helper()
	if err := h.db.QueryRow(h.t.Context(), sql, args...).Scan(&n); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// insert puts an event of that day into the outbox.
func (h *household) insert(created string) {
	h.t.Helper()
	h.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at) VALUES ('order', 'a', 'order.gone', $1::timestamptz)`, created)
}

// confirm moves the slot beyond what is committed.
func (h *household) confirm() {
	h.t.Helper()
	next := h.ask(`SELECT pg_current_xact_id()::text::bigint`)
	for deadline := time.Now().Add(time.Minute); h.ask(`SELECT outbox_confirmed_xid()::text::bigint`) < next; {
		if time.Now().After(deadline) {
			h.t.Fatal("the slot does not move")
		}
		h.exec(`CHECKPOINT`)
		h.exec(`SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, h.slot)
	}
}

// mustRound makes a round and returns when the next is due, and what the log says of it.
func (h *household) mustRound() (next time.Duration, log string) {
	h.t.Helper()
	h.log.Reset()
	next, err := h.round(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return next, h.log.String()
}

func (h *household) wantPartitions(created, dropped, missing float64) {
	h.t.Helper()
	for name, want := range map[string]float64{
		"postrider_partitions_created_total": created,
		"postrider_partitions_dropped_total": dropped,
		"postrider_partitions_missing":       missing,
	} {
		if got := h.metric(name); got != want {
			h.t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func (h *household) metric(name string) float64 {
	h.t.Helper()
	families, err := h.metrics.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is nil
		}
	}
	h.t.Fatalf("there is no metric %s", name)
	return 0
}

func wantLog(t *testing.T, log string, lines ...string) {
	t.Helper()
	if n := strings.Count(log, "\n"); n != len(lines) {
		t.Errorf("%d lines in the log, want %d:\n%s", n, len(lines), log)
	}
	for _, line := range lines {
		if !strings.Contains(log, line) {
			t.Errorf("the log lacks %q:\n%s", line, log)
		}
	}
}

func TestJanitor_MakesPartitionsAheadAndDropsTheConfirmedPastRetention(t *testing.T) {
	t.Parallel()
	h := newHousehold(t)
	h.exec(`DROP TABLE ` + time.Now().UTC().AddDate(0, 0, 1).Format("outbox_p20060102"))
	h.insert("2026-09-01 12:00:00+00")
	next, log := h.mustRound()
	wantLog(t, log, "partition created") // the slot may know in a moment
	h.wantPartitions(1, 0, 0)
	if next != janitorRetry {
		t.Errorf("next round in %v", next)
	}
	next, log = h.mustRound()
	wantLog(t, log, `reason="outbox_p20260901: unconfirmed"`)
	if next != janitorInterval {
		t.Errorf("next round in %v", next)
	}
	h.confirm()
	_, log = h.mustRound()
	wantLog(t, log, "partition=outbox_p20260901")
	h.wantPartitions(1, 1, 0)
	_, log = h.mustRound()
	wantLog(t, log)
	if n := h.ask(`SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox'::regclass`); n != 1+8 {
		t.Errorf("%d partitions, want the default, today and seven days ahead", n)
	}
}

func TestJanitor_DoesOnlyWhatItIsToldTo(t *testing.T) {
	t.Parallel()
	h := newHousehold(t)
	tomorrow := time.Now().UTC().AddDate(0, 0, 1).Format("outbox_p20060102")
	h.exec(`DROP TABLE ` + tomorrow)
	h.insert("2026-09-01 12:00:00+00")
	h.confirm()
	h.cfg.Outbox.PartitionsAhead, h.cfg.Outbox.Retention = new(0), new(time.Duration(0))
	_, log := h.mustRound()
	wantLog(t, log)
	h.wantPartitions(0, 0, 1)
	h.cfg.Outbox.Retention = new(time.Since(time.Date(2026, 9, 1, 23, 59, 0, 0, time.UTC)))
	_, log = h.mustRound()
	wantLog(t, log)
	h.cfg.Outbox.Retention = new(time.Since(time.Date(2026, 9, 2, 0, 0, 1, 0, time.UTC)))
	_, log = h.mustRound()
	wantLog(t, log, "partition dropped")
}

func TestJanitor_LeavesThePartitionOfAnEventThatIsToBeKept(t *testing.T) {
	t.Parallel()
	h := newHousehold(t)
	h.insert("2026-09-01 12:00:00+00")
	h.confirm()
	var id string
	if err := h.db.QueryRow(t.Context(), `SELECT id::text FROM outbox`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	for name, keep := range map[string]func() ([]string, bool){
		"known":   func() ([]string, bool) { return []string{"odd", id}, true },
		"unknown": func() ([]string, bool) { return nil, false },
	} {
		h.keep = keep
		if _, log := h.mustRound(); strings.Contains(log, "dropped") && !strings.Contains(log, "outbox_p20260901:kept") {
			t.Errorf("%s: %s", name, log)
		}
	}
	h.keep = func() ([]string, bool) { return nil, true }
	_, log := h.mustRound()
	wantLog(t, log, "partition dropped")
}

// The worst case: somebody always has a transaction open that has written, and others write
// all the time.
func TestJanitor_HoldsUpNoWriterOfABusyTable(t *testing.T) {
	t.Parallel()
	h := newHousehold(t)
	h.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at)
		SELECT 'order', 'a', 'order.gone', '2026-09-01 12:00:00+00' FROM generate_series(1, 20000)`)
	h.insert("2026-08-01 12:00:00+00")
	h.confirm()
	h.exec(`BEGIN`)
	h.insert("now")

	var slowest time.Duration
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		conn, err := pgx.Connect(context.Background(), string(h.cfg.Postgres.URL))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			started := time.Now()
			created := []string{"now", "2026-08-01 12:00:00+00"}[n%2] // the second goes to the default partition
			_, err := conn.Exec(context.Background(), `INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at)
				VALUES ('order', 'a', 'order.gone', $1::timestamptz)`, created)
			if err != nil {
				t.Errorf("an insert failed: %v", err)
				return
			}
			slowest = max(slowest, time.Since(started))
		}
	})
	started := time.Now()
	next, log := h.mustRound()
	wantLog(t, log, "partition emptied", "rows deleted from the default partition", "the default partition has rows")
	if next != janitorRetry {
		t.Errorf("next round in %v", next)
	}
	for range 20 {
		h.mustRound()
	}
	took := time.Since(started)
	close(stop)
	writer.Wait()
	t.Logf("21 rounds in %v, the slowest insert beside them took %v", took, slowest)
	if slowest > 500*time.Millisecond {
		t.Errorf("an insert took %v", slowest)
	}
	h.wantPartitions(0, 0, 0)
	h.exec(`COMMIT`)
	next, log = h.mustRound()
	wantLog(t, log, "partition dropped")
	h.wantPartitions(0, 1, 0)
	if next != janitorInterval {
		t.Errorf("next round in %v", next)
	}
}

func TestJanitor_SaysOnceWhichDaysTheDefaultPartitionHolds(t *testing.T) {
	t.Parallel()
	h := newHousehold(t)
	tomorrow := time.Now().UTC().AddDate(0, 0, 1)
	h.exec(`DROP TABLE ` + tomorrow.Format("outbox_p20060102"))
	h.insert(tomorrow.Format(time.DateOnly) + " 12:00:00+00")
	_, log := h.mustRound()
	wantLog(t, log, tomorrow.Format("outbox_p20060102")+": default_has_rows", "today or tomorrow has no partition", "the default partition has rows", "partition dropped")
	h.wantPartitions(0, 1, 1)
	if h.metric("postrider_default_partition_bytes") == 0 {
		t.Error("the metric says the default partition is empty")
	}
	_, log = h.mustRound()
	wantLog(t, log)
	h.insert(tomorrow.Format(time.DateOnly) + " 13:00:00+00")
	if n := h.ask(`SELECT count(*) FROM outbox`); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func TestJanitor_JudgesTheDefaultPartitionByItsRowsNotItsSize(t *testing.T) {
	t.Parallel()
	h := newHousehold(t)
	for name, created := range map[string]string{"before all others": "2025-01-01 00:00:00+00", "between others": "2026-09-02 00:00:00+00",
		"behind all others": "2099-01-01 00:00:00+00", "at the end of time": "infinity"} {
		h.insert(created)
		got, err := readPartitions(t.Context(), h.db, h.cfg)
		if err != nil || got.defaultBytes != 8192 {
			t.Errorf("a row %s: %d bytes, %v", name, got.defaultBytes, err)
		}
		h.exec(`DELETE FROM outbox_default`)
	}
	h.insert("now")
	if n := h.ask(`SELECT pg_relation_size('outbox_default')`); n == 0 {
		t.Fatal("the file is empty")
	}
	h.exec(`CREATE ROLE ` + h.slot + `; GRANT SELECT ON outbox TO ` + h.slot + `; SET ROLE ` + h.slot) // no right on partitions
	t.Cleanup(func() { h.exec(`RESET ROLE; DROP OWNED BY ` + h.slot + `; DROP ROLE ` + h.slot) })
	if got, err := readPartitions(t.Context(), h.db, h.cfg); err != nil || got.defaultBytes != 0 {
		t.Errorf("no row: %d bytes, %v", got.defaultBytes, err)
	}
	_, log := h.mustRound()
	wantLog(t, log, "partition dropped")
	if bytes := h.metric("postrider_default_partition_bytes"); bytes != 0 {
		t.Errorf("the metric says %v bytes", bytes)
	}
}

func TestJanitor_SaysOnceWhichPartitionsItLeavesAlone(t *testing.T) {
	t.Parallel()
	h := newHousehold(t)
	h.exec(`ALTER TABLE outbox_p20260901 RENAME TO outbox_2026_09_01;
		CREATE TABLE outbox_p20260803 PARTITION OF outbox FOR VALUES FROM ('2026-08-03 00:00:00+00') TO ('2026-08-10 00:00:00+00');
		CREATE TABLE outbox_old PARTITION OF outbox FOR VALUES FROM (MINVALUE) TO ('2026-01-01 00:00:00+00')`)
	_, log := h.mustRound()
	wantLog(t, log, `partitions="outbox_2026_09_01, outbox_old, outbox_p20260803"`)
	_, log = h.mustRound()
	wantLog(t, log)
}

func TestJanitor_SaysOnceWhatItIsMissing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change string
		want   []string
	}{
		"plain table": {`DROP TABLE outbox; CREATE TABLE outbox (id uuid)`, []string{"it is not a partitioned table"}},
		"no functions": {`DROP FUNCTION outbox_create_partitions, outbox_drop_partitions, outbox_trim_default`,
			[]string{"public.outbox_create_partitions(int, boolean): apply what", "public.outbox_drop_partitions(interval, uuid[], xid8, int): apply what"}},
		"no rights": {"",
			[]string{"GRANT EXECUTE ON FUNCTION public.outbox_create_partitions", "GRANT EXECUTE ON FUNCTION public.outbox_drop_partitions"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHousehold(t)
			h.exec(tc.change)
			if name == "no rights" { // it connects as somebody else
				h.cfg.Postgres.URL += "&options=-c%20role%3Dpg_read_all_data"
			}
			_, log := h.mustRound()
			wantLog(t, log, tc.want...)
			_, log = h.mustRound()
			wantLog(t, log)
		})
	}
}

func TestJanitor_RestsWhileTheRelayDoesNotStream(t *testing.T) {
	t.Parallel()
	h := newHousehold(t)
	h.exec(`DROP TABLE ` + time.Now().UTC().AddDate(0, 0, 1).Format("outbox_p20060102"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	asked := 0
	h.run(ctx, func() bool {
		if asked++; asked == 2 {
			stop()
		}
		return false
	})
	h.wantPartitions(0, 0, -1)
	ctx, stop = context.WithCancel(t.Context())
	defer stop()
	asked = 0
	h.run(ctx, func() bool {
		if asked++; asked == 3 {
			stop()
		}
		return true
	})
	h.wantPartitions(1, 1, 0)
	if left := time.Until(h.next); left < janitorInterval/2 || left > janitorInterval {
		t.Errorf("the next round is in %v", left)
	}
	h.rest()
	h.wantPartitions(1, 1, -1)
	if !h.next.IsZero() {
		t.Error("on taking over again it would not look at once")
	}
}
