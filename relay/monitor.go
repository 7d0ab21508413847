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
	var rate walRate
	var looked time.Time
	for sleep(stop, inspectInterval) == nil {
		look := time.Since(looked) >= monitorInterval
		if !look && !p.keeper.toInspect() {
			continue
		}
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = p.relay.cfg.Postgres.connect(stop); err != nil {
				conn = nil
				p.relay.unknownLag()
				if shuttingDown(err) {
					// The server waits until everything is confirmed, and we may stand in a halt.
					return err
				}
				continue
			}
		}
		if err := p.inspect(stop, conn); err != nil {
			return err
		}
		if !look {
			continue
		}
		looked = time.Now()
		lag, err := readLag(stop, conn, p.relay.cfg.Postgres.Slot, &rate)
		if err != nil {
			p.relay.unknownLag()
			continue
		}
		if oldest, ok := p.checkpoint.Oldest(); ok {
			lag.Seconds = max(0, time.Since(oldest).Seconds())
		}
		p.relay.status.setLag(&lag)
		p.relay.metrics.setLag(lag)
	}
	return nil
}

// inspect returns a named halt if publication or table are not those that streaming began
// with, for rows may pass the slot unseen then. Otherwise what was written before it looked
// may be confirmed. A database that does not answer is no error.
func (p *pipeline) inspect(ctx context.Context, conn *pgx.Conn) error {
	var text string
	if err := conn.QueryRow(ctx, `SELECT `+walEnd+`::text`).Scan(&text); err != nil {
		return nil //nolint:nilerr // as above
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return err
	}
	now, err := readCatalog(ctx, conn, &p.relay.cfg)
	if err != nil || !now.Slot.Exists {
		return nil //nolint:nilerr // as above; and before the slot is made there is nothing to lose
	}
	if err := p.facts.drift(&now, &p.relay.cfg); err != nil {
		return err
	}
	p.keeper.inspected.Store(uint64(end))
	return nil
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
	return p.inspect(ctx, conn)
}

// walEnd is the end of the server's WAL.
const walEnd = `CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END`

// readLag asks the server where its WAL ends and what the slot holds back.
func readLag(ctx context.Context, conn *pgx.Conn, slot string, rate *walRate) (Lag, error) {
	var lag Lag
	var end string
	var behind, retained, safe *int64
	err := conn.QueryRow(ctx, `
		WITH wal AS (SELECT `+walEnd+` AS lsn)
		SELECT wal.lsn::text, wal.lsn - s.confirmed_flush_lsn, wal.lsn - s.restart_lsn, s.safe_wal_size,
		       coalesce((SELECT extract(epoch FROM now() - min(xact_start)) FROM pg_stat_activity
		                 WHERE backend_xid IS NOT NULL AND datname = current_database()), 0)::float8
		FROM wal LEFT JOIN pg_replication_slots s ON s.slot_name = $1`, slot).
		Scan(&end, &behind, &retained, &safe, &lag.OldestXactSecs)
	if err != nil {
		return lag, fmt.Errorf("read lag: %w", err)
	}
	lsn, err := pglogrepl.ParseLSN(end)
	if err != nil {
		return lag, err
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
	return lag, nil
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
