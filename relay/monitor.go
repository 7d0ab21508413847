package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	monitorInterval = 5 * time.Second
	// inspectInterval is how soon what was published is inspected, and with that confirmed.
	inspectInterval = time.Second
	// inspectPatience is how long something may wait for its inspection before that is told.
	inspectPatience = 10 * time.Second
	// lossWindow is over how long the rate of WAL is measured that predicts the slot's loss.
	lossWindow = 5 * time.Minute
)

// monitor watches from outside what the stream itself does not tell: how much WAL the slot
// retains, and whether publication and table are still the ones that streaming began with.
// It returns a named halt, or nil when stop is done. A database that does not answer is
// the source's to report.
func (p *pipeline) monitor(stop context.Context) error {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			closeConn(conn)
		}
	}()
	var looked time.Time
	inspected := time.Now() // or nothing was to inspect
	for sleep(stop, inspectInterval) == nil {
		look := time.Since(looked) >= monitorInterval
		if !p.keeper.toInspect() {
			inspected = time.Now()
			if !look {
				continue
			}
		}
		err := p.round(stop, &conn, look)
		switch {
		case err == nil:
			inspected = time.Now()
			p.relay.status.clear(componentCatalog)
			if look {
				looked = time.Now()
			}
		case asHalt(err) != nil, shuttingDown(err):
			// A server that shuts down waits until everything is confirmed, and we may stand in a halt.
			return err
		case stop.Err() == nil:
			p.relay.unknownLag()
			if conn != nil {
				closeConn(conn)
				conn = nil
			}
			if time.Since(inspected) > inspectPatience {
				p.relay.status.trouble(componentCatalog, fmt.Errorf("what is published cannot be confirmed until the catalog was looked at: %w", err))
			}
		}
	}
	return nil
}

// round inspects, and looks at the lag where it is asked to, on a connection that it keeps
// in conn.
func (p *pipeline) round(stop context.Context, conn **pgx.Conn, look bool) error {
	ctx, cancel := context.WithTimeout(stop, monitorInterval)
	defer cancel()
	if *conn == nil || (*conn).IsClosed() {
		*conn = nil
		c, err := p.relay.cfg.Postgres.connect(ctx)
		if err != nil {
			return err
		}
		*conn = c
	}
	if err := p.inspect(ctx, *conn); err != nil || !look {
		return err
	}
	lag, found, err := readLag(ctx, *conn, p.relay.cfg.Postgres.Slot, &p.relay.rate)
	if err != nil || !found {
		p.relay.unknownLag()
		return err
	}
	if oldest, ok := p.checkpoint.Oldest(); ok {
		lag.Seconds = max(0, time.Since(oldest).Seconds())
	}
	p.relay.showLag(lag)
	return nil
}

// inspect returns a named halt if publication or table are not those that streaming began
// with, for rows may pass the slot unseen then. Otherwise what was written before it looked
// may be confirmed.
func (p *pipeline) inspect(ctx context.Context, conn *pgx.Conn) error {
	var recovering bool
	var text string
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), `+walEnd+`::text`).Scan(&recovering, &text); err != nil {
		return err
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return err
	}
	now, err := readCatalog(ctx, conn, &p.relay.cfg)
	switch {
	case err != nil:
		return err
	case !p.slotReadyNow():
		return nil // before the slot is made there is nothing to lose
	case recovering != p.facts.InRecovery || !now.Slot.Exists:
		return fmt.Errorf("%s has no slot %q: it is not the server that is streamed from", conn.Config().Host, p.relay.cfg.Postgres.Slot)
	}
	if err := p.facts.drift(&now, &p.relay.cfg); err != nil {
		return err
	}
	p.keeper.inspected.Store(uint64(end))
	return nil
}

// slotReadyNow reports whether the slot exists under its name.
func (p *pipeline) slotReadyNow() bool {
	select {
	case <-p.slotReady:
		return true
	default:
		return false
	}
}

// inspectLast inspects at a stop, when the monitor has ended.
func (p *pipeline) inspectLast() error {
	if !p.keeper.toInspect() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepTimeout)
	defer cancel()
	conn, err := p.relay.cfg.Postgres.connect(ctx)
	if err != nil {
		return nil // what is not confirmed is read again, and known to be in Kafka
	}
	defer closeConn(conn)
	if err := p.inspect(ctx, conn); asHalt(err) != nil {
		return from(componentPostgres, err)
	}
	return nil
}

// walEnd is the end of the server's WAL.
const walEnd = `CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END`

// readLag asks the server where its WAL ends and what the slot holds back; found says that
// there is such a slot.
func readLag(ctx context.Context, conn *pgx.Conn, slot string, rate *walRate) (lag Lag, found bool, err error) {
	var end string
	var behind, retained, safe *int64
	err = conn.QueryRow(ctx, `
		WITH wal AS (SELECT `+walEnd+` AS lsn)
		SELECT wal.lsn::text, wal.lsn - s.confirmed_flush_lsn, wal.lsn - s.restart_lsn, s.safe_wal_size,
		       coalesce((SELECT extract(epoch FROM now() - min(xact_start)) FROM pg_stat_activity
		                 WHERE backend_xid IS NOT NULL AND datname = current_database()), 0)::float8
		FROM wal LEFT JOIN pg_replication_slots s ON s.slot_name = $1`, slot).
		Scan(&end, &behind, &retained, &safe, &lag.OldestXactSecs)
	if err != nil {
		return lag, false, fmt.Errorf("read lag: %w", err)
	}
	lsn, err := pglogrepl.ParseLSN(end)
	if err != nil {
		return lag, false, err
	}
	if behind != nil {
		lag.Bytes = *behind
	}
	if retained != nil {
		lag.RetainedBytes = *retained
	}
	if safe != nil {
		lag.SafeBytes = safe
		if perSecond := rate.add(lsn, time.Now()); perSecond > 0 {
			left := int64(float64(*safe) / perSecond)
			lag.SecondsToLoss = &left
		}
	}
	return lag, behind != nil, nil
}

// walRate measures how fast the server writes WAL.
type walRate struct {
	since time.Time
	from  LSN
}

// add returns bytes a second since the start of the window; 0 while it is not known.
func (w *walRate) add(lsn LSN, now time.Time) float64 {
	if w.since.IsZero() || lsn < w.from {
		w.since, w.from = now, lsn
		return 0
	}
	elapsed := now.Sub(w.since)
	perSecond := float64(lsn-w.from) / elapsed.Seconds()
	if elapsed > lossWindow {
		w.since, w.from = now.Add(-elapsed/2), lsn-(lsn-w.from)/2
	}
	return perSecond
}

// showLag shows the lag in status and metrics.
func (r *Relay) showLag(lag Lag) {
	r.status.setLag(&lag)
	r.metrics.setLag(lag)
}

// measure shows the lag while nothing is streamed: in a halt the slot holds back WAL too.
func (r *Relay) measure(ctx context.Context, conn *pgx.Conn) {
	lag, found, err := readLag(ctx, conn, r.cfg.Postgres.Slot, &r.rate)
	if err != nil || !found {
		r.unknownLag()
		return
	}
	lag.Seconds = -1 // what waits in the log is not known by its time
	r.showLag(lag)
}

// unknownLag says that the lag cannot be read now: 0 would look healthy.
func (r *Relay) unknownLag() {
	r.status.setLag(nil)
	r.metrics.unknownLag()
}

func (m *metrics) unknownLag() {
	for _, g := range []prometheus.Gauge{m.lagBytes, m.lagSeconds, m.retained, m.safe, m.toLoss} {
		g.Set(-1)
	}
}

func (m *metrics) setLag(l Lag) {
	m.lagBytes.Set(float64(l.Bytes))
	m.lagSeconds.Set(l.Seconds)
	m.retained.Set(float64(l.RetainedBytes))
	m.safe.Set(-1)
	m.toLoss.Set(-1)
	if l.SafeBytes != nil {
		m.safe.Set(float64(*l.SafeBytes))
	}
	if l.SecondsToLoss != nil {
		m.toLoss.Set(float64(*l.SecondsToLoss))
	}
}
