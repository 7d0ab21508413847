package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The rows that were in the table before the slot existed are read from the snapshot that
// the slot's creation exports, and travel as one transaction in the stream's own format:
// behind the source nothing knows the difference.
//
// Until all of them are acknowledged there is only a temporary slot, which the server drops
// with the connection; then it is copied under its real name. A relay that dies in between
// finds no slot and begins again, so that no row is passed over.

// createSlot makes the slot, with the snapshot first where the configuration asks for it,
// and returns where it stands. wait returns when everything up to an LSN is acknowledged.
func (s *Source) createSlot(ctx context.Context, cfg *Config, conn *pgx.Conn, ch *chunks, wait func(LSN) error) (LSN, error) {
	if cfg.Postgres.Snapshot == snapshotNever {
		created, err := s.createReplicationSlot(ctx, s.slot, false)
		if err != nil {
			return 0, err
		}
		return pglogrepl.ParseLSN(created.ConsistentPoint)
	}
	temporary := temporarySlot(s.slot)
	created, err := s.createReplicationSlot(ctx, temporary, true)
	if err != nil {
		return 0, err
	}
	// Another relay may have made the slot since we looked. From here on none can: it would
	// need the temporary slot that is ours.
	slot, err := readSlot(ctx, conn, s.slot)
	if err != nil {
		return 0, err
	}
	if slot.Exists {
		return 0, errSlotTaken
	}
	point, err := pglogrepl.ParseLSN(created.ConsistentPoint)
	if err != nil {
		return 0, err
	}
	rows, err := copySnapshot(ctx, cfg, created.SnapshotName, point, ch)
	if err != nil {
		return 0, fmt.Errorf("snapshot of %s: %w", cfg.Outbox.Table, err)
	}
	s.log.Info("snapshot read, waiting for its acknowledgements", "rows", rows, "lsn", point.String())
	if err := wait(point); err != nil {
		return 0, err
	}
	if _, err := conn.Exec(ctx, `SELECT pg_copy_logical_replication_slot($1, $2, temporary => false)`, temporary, s.slot); err != nil {
		return 0, fmt.Errorf("copy slot %q to %q: %w", temporary, s.slot, err) // a temporary slot that is gone is no halt
	}
	if err := pglogrepl.DropReplicationSlot(ctx, s.conn, temporary, pglogrepl.DropReplicationSlotOptions{}); err != nil {
		return 0, fmt.Errorf("drop slot %q: %w", temporary, err)
	}
	return point, nil
}

// temporarySlot names the slot of a snapshot. The name is fixed: a second relay fails to
// make it and stands by.
func temporarySlot(slot string) string {
	const suffix = "_snapshot"
	return slot[:min(len(slot), 63-len(suffix))] + suffix
}

func (s *Source) createReplicationSlot(ctx context.Context, name string, export bool) (pglogrepl.CreateReplicationSlotResult, error) {
	s.log.Info("creating slot; this waits for transactions that are open now", "slot", name)
	opts := pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"}
	if export {
		opts.Temporary, opts.SnapshotAction = true, "EXPORT_SNAPSHOT"
	}
	created, err := pglogrepl.CreateReplicationSlot(ctx, s.conn, name, "pgoutput", opts)
	if err != nil {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "42710" { // duplicate object
			return created, errSlotTaken
		}
		return created, fmt.Errorf("create slot %q: %w", name, postgresError(err))
	}
	return created, nil
}

// errSlotTaken means that another relay is making the slot just now.
var errSlotTaken = errors.New("another relay is creating the slot")

// copySnapshot reads the table in the exported snapshot, or in one of its own where that is
// empty, into chunks and returns the number of rows. The commit order of those transactions is not known any more: rows come by
// created_at, where there is such a column, and by their place in the table.
func copySnapshot(ctx context.Context, cfg *Config, snapshot string, point LSN, ch *chunks) (int, error) {
	conn, err := cfg.Postgres.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	pg := conn.PgConn()
	begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	if snapshot != "" {
		begin += "; SET TRANSACTION SNAPSHOT '" + snapshot + "'"
	}
	if _, err := pg.Exec(ctx, begin).ReadAll(); err != nil {
		return 0, postgresError(err)
	}
	order := "tableoid, ctid"
	if c := cfg.Outbox.Columns.CreatedAt; c != "-" {
		order = pgx.Identifier{c}.Sanitize() + ", " + order
	}
	query := fmt.Sprintf("SELECT * FROM %s ORDER BY %s", quoteTable(cfg.Outbox.Table), order)

	out := snapshotWriter{ctx: ctx, ch: ch, read: time.Now()}
	if out.clock, err = serverClock(ctx, pg); err != nil {
		return 0, err
	}
	rows := pg.ExecParams(ctx, query, nil, nil, nil, nil)
	schema, table := splitTable(cfg.Outbox.Table)
	// The position of a row must be below that of any transaction the slot delivers.
	if err := out.begin(point-1, time.Now()); err != nil {
		return 0, err
	}
	n := 0
	for rows.NextRow() {
		if n == 0 {
			if err := out.relation(schema, table, rows.FieldDescriptions()); err != nil {
				return n, err
			}
		}
		if err := out.insert(rows.Values()); err != nil {
			return n, err
		}
		n++
	}
	if _, err := rows.Close(); err != nil {
		return n, postgresError(err)
	}
	return n, out.commit(point-1, point)
}

// snapshotWriter writes pgoutput messages into chunks.
type snapshotWriter struct {
	ctx context.Context
	ch  *chunks
	cur *chunk
	msg []byte
	oid uint32

	clock int64     // the server's, microseconds since 2000-01-01
	read  time.Time // when it was read
}

// serverClock reads the clock by which events expire, in microseconds since 2000-01-01.
func serverClock(ctx context.Context, pg *pgconn.PgConn) (int64, error) {
	const query = `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`
	result := pg.ExecParams(ctx, query, nil, nil, nil, nil).Read()
	if result.Err != nil {
		return 0, postgresError(result.Err)
	}
	us, err := strconv.ParseInt(string(result.Rows[0][0]), 10, 64)
	return us - postgresEpoch*1e6, err
}

func (w *snapshotWriter) begin(commit LSN, now time.Time) error {
	msg := append(w.msg[:0], byte(ChangeBegin))
	msg = binary.BigEndian.AppendUint64(msg, uint64(commit))
	msg = binary.BigEndian.AppendUint64(msg, uint64(now.UnixMicro()-postgresEpoch*1e6))
	msg = binary.BigEndian.AppendUint32(msg, 0)
	return w.write(msg)
}

func (w *snapshotWriter) relation(schema, table string, columns []pgconn.FieldDescription) error {
	w.oid = 1 // any number: it lives as long as this decoder
	msg := append(w.msg[:0], byte(ChangeRelation))
	msg = binary.BigEndian.AppendUint32(msg, w.oid)
	msg = append(append(msg, schema...), 0)
	msg = append(append(msg, table...), 0)
	msg = append(msg, 'd')
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(columns)))
	for _, c := range columns {
		msg = append(msg, 0)
		msg = append(append(msg, c.Name...), 0)
		msg = binary.BigEndian.AppendUint32(msg, c.DataTypeOID)
		msg = binary.BigEndian.AppendUint32(msg, uint32(c.TypeModifier))
	}
	return w.write(msg)
}

func (w *snapshotWriter) insert(values [][]byte) error {
	msg := append(w.msg[:0], byte(ChangeInsert))
	msg = binary.BigEndian.AppendUint32(msg, w.oid)
	msg = append(msg, 'N')
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			msg = append(msg, byte(ValueNull))
			continue
		}
		msg = append(msg, byte(ValueText))
		msg = binary.BigEndian.AppendUint32(msg, uint32(len(v)))
		msg = append(msg, v...)
	}
	return w.write(msg)
}

func (w *snapshotWriter) commit(commit, end LSN) error {
	msg := append(w.msg[:0], byte(ChangeCommit), 0)
	msg = binary.BigEndian.AppendUint64(msg, uint64(commit))
	msg = binary.BigEndian.AppendUint64(msg, uint64(end))
	msg = binary.BigEndian.AppendUint64(msg, 0)
	if err := w.write(msg); err != nil {
		return err
	}
	w.ch.handOver(w.cur)
	w.cur = nil
	return nil
}

// write appends a message to the current chunk and hands full ones over.
func (w *snapshotWriter) write(msg []byte) error {
	w.msg = msg
	if w.cur != nil && w.cur.full() {
		w.ch.handOver(w.cur)
		w.cur = nil
	}
	if w.cur == nil {
		w.cur = w.ch.take()
	}
	for w.cur == nil {
		select {
		case c := <-w.ch.free:
			w.ch.keep(c)
			w.cur = w.ch.take()
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		}
	}
	w.cur.serverTime = w.clock + time.Since(w.read).Microseconds()
	w.cur.appendWAL(msg)
	return nil
}
