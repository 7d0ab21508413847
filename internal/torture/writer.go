package torture

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox"
)

// writerTables are the writers' own beside the outbox. The row of a key is locked while a
// transaction has events of it, so that versions follow the order of commits, whoever
// writes. The row of a transaction says whether a commit without an answer took place.
const writerTables = `
	CREATE TABLE torture_key (key text PRIMARY KEY, version bigint NOT NULL);
	CREATE TABLE torture_business (tx bigint PRIMARY KEY, note text);`

// How often a transaction is of which kind, one in so many.
const (
	oneInQuiet     = 3 // without an event, as most are in a real database
	oneInRollback  = 15
	oneInSavepoint = 6
	oneInLarge     = 500
	oneInBroad     = 40 // payloads of some ten kB
)

const transactionTimeout = 30 * time.Second

// insertBusiness is the work of a transaction beside its events, by which resolve finds it.
const insertBusiness = `INSERT INTO torture_business (tx, note) VALUES ($1, 'an order')`

// transaction is what a writer wants to commit.
type transaction struct {
	number     int64
	events     []event
	rolledBack int // events of savepoints that were rolled back
}

// draft is an event before it has a version. The zero value is an ordinary one.
type draft struct {
	topic   string
	key     string
	avro    bool
	kind    string          // event type; by default that of avro or JSON
	raw     json.RawMessage // payload, instead of an ordinary one
	filler  string
	fate    fate
	expires time.Time
}

// writer is one connection that commits events. It is used by one goroutine.
type writer struct {
	number  int
	arena   *Arena
	rng     *rand.Rand
	conn    *pgx.Conn
	counter int64
}

// newWriter makes a writer. Its number is its own in the run: transactions and events are
// named by it and counted from one.
func newWriter(a *Arena, number int) *writer {
	return &writer{number: number, arena: a, rng: rand.New(rand.NewPCG(a.cfg.Seed, uint64(1000+number)))}
}

// run commits transactions of chance until ctx ends. It survives whatever happens to the
// server.
func (w *writer) run(ctx context.Context) {
	defer w.close()
	pause := time.Duration(w.arena.cfg.Writers) * time.Second / time.Duration(w.arena.cfg.Rate)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		w.arena.writing.RLock()
		if ctx.Err() == nil {
			_ = w.commit(w.plan()) // a server that is down comes back
		}
		w.arena.writing.RUnlock()
	}
}

// plan is the making of one transaction.
type plan struct {
	segments  [][]draft // each inserted by one statement, all of its drafts of one encoding
	savepoint []draft   // inserted and rolled back before the last segment
	rollback  bool
	hold      time.Duration // how long it stays open
	nested    bool          // each segment is in a savepoint, which is released
}

// patience is how long the transaction may take.
func (p *plan) patience() time.Duration {
	events := 0
	for _, drafts := range p.segments {
		events += len(drafts)
	}
	return transactionTimeout + p.hold + time.Duration(events)*time.Millisecond
}

// plan draws a transaction.
func (w *writer) plan() plan {
	var p plan
	if w.rng.IntN(oneInQuiet) == 0 {
		return p
	}
	large := w.rng.IntN(oneInLarge) == 0
	segments := 1 + w.rng.IntN(3)
	for range segments {
		n := 1 + w.rng.IntN(3)
		if large {
			n = 1 + w.arena.cfg.Large/segments
		}
		p.segments = append(p.segments, w.drafts(n, w.rng.IntN(2) == 0))
	}
	if w.rng.IntN(oneInSavepoint) == 0 {
		p.savepoint = w.drafts(1+w.rng.IntN(3), w.rng.IntN(2) == 0)
	}
	p.rollback = w.rng.IntN(oneInRollback) == 0
	return p
}

func (w *writer) drafts(n int, avro bool) []draft {
	drafts := make([]draft, n)
	for i := range drafts {
		number := w.rng.IntN(w.arena.cfg.Keys)
		size := w.rng.IntN(300)
		if n < 100 && w.rng.IntN(oneInBroad) == 0 {
			size = 10_000 + w.rng.IntN(30_000)
		}
		drafts[i] = draft{
			topic: w.arena.topics[number%len(w.arena.topics)], key: fmt.Sprintf("key-%d", number),
			avro: avro, filler: strings.Repeat(string(rune('a'+w.rng.IntN(26))), size),
		}
	}
	return drafts
}

// commit carries a plan out and records what became of it.
func (w *writer) commit(p plan) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience())
	defer cancel()
	return w.transact(ctx, p.rollback, func(tx pgx.Tx, record *transaction) error {
		err := w.fill(ctx, tx, p, record)
		if err == nil && p.hold > 0 {
			pause(ctx, p.hold)
		}
		return err
	})
}

// emitRaw commits one event by a statement of the caller's, which inserts it.
func (w *writer) emitRaw(ctx context.Context, e event, statement string, args ...any) error {
	return w.transact(ctx, false, func(tx pgx.Tx, record *transaction) error {
		record.events = append(record.events, e)
		if _, err := tx.Exec(ctx, insertBusiness, record.number); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, statement, args...)
		return err
	})
}

// transact carries out a transaction, with what write writes, and records what became of it.
// It is not tried again, whatever happens: an unanswered commit can have taken place.
func (w *writer) transact(ctx context.Context, rollback bool, write func(pgx.Tx, *transaction) error) (err error) {
	tx, err := w.begin(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.close() // also after an error of ours: a new connection knows nothing of it
		}
	}()
	w.counter++
	ledger, record := w.arena.ledger, transaction{number: int64(w.number)<<32 | w.counter}
	if err := write(tx, &record); err != nil {
		ledger.forget(record)
		return err
	}
	if rollback {
		ledger.forget(record)
		return tx.Rollback(ctx)
	}
	if err := tx.Commit(ctx); err != nil {
		ledger.doubt(record)
		return err
	}
	ledger.commit(record, w.position(ctx))
	return nil
}

// begin begins a transaction, on a new connection where a fault has ended the old one since
// it was used last. Nothing of the transaction was sent before it has begun.
func (w *writer) begin(ctx context.Context) (pgx.Tx, error) {
	if w.conn != nil {
		if tx, err := w.conn.Begin(ctx); err == nil {
			return tx, nil
		}
		w.close()
	}
	conn, err := w.arena.connect(ctx, writerName)
	if err != nil {
		return nil, err
	}
	w.conn = conn
	tx, err := conn.Begin(ctx)
	if err != nil {
		w.close()
	}
	return tx, err
}

// position returns where the log ends now. What was committed is so, too, if the server does
// not tell.
func (w *writer) position(ctx context.Context) pglogrepl.LSN {
	var end pglogrepl.LSN
	if err := w.conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&end); err != nil {
		w.close()
		return unknownLSN
	}
	return end
}

// unknownLSN is above all others.
const unknownLSN = ^pglogrepl.LSN(0)

func (w *writer) fill(ctx context.Context, tx pgx.Tx, p plan, record *transaction) error {
	versions, err := w.lock(ctx, tx, p, record.number)
	if err != nil {
		return err
	}
	for i, drafts := range p.segments {
		if i == len(p.segments)-1 && len(p.savepoint) > 0 {
			if err := w.insertAndRollBack(ctx, tx, p.savepoint, versions, record); err != nil {
				return err
			}
		}
		inner := tx
		if p.nested {
			if inner, err = tx.Begin(ctx); err != nil {
				return err
			}
		}
		events, err := w.insert(ctx, inner, drafts, versions, record.number)
		if err == nil && p.nested {
			err = inner.Commit(ctx)
		}
		if err != nil {
			return err
		}
		record.events = append(record.events, events...)
	}
	return nil
}

// lock takes the rows of all keys, always in the same order, and returns the version before
// the first event of each.
func (w *writer) lock(ctx context.Context, tx pgx.Tx, p plan, number int64) (map[string]int64, error) {
	counts := make(map[string]int64)
	for _, drafts := range p.segments {
		for _, d := range drafts {
			counts[d.key]++
		}
	}
	keys := make([]string, 0, len(counts))
	for key := range counts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	batch := &pgx.Batch{}
	batch.Queue(insertBusiness, number)
	for _, key := range keys {
		batch.Queue(`INSERT INTO torture_key AS k VALUES ($1, $2)
			ON CONFLICT (key) DO UPDATE SET version = k.version + excluded.version RETURNING version - $2`, key, counts[key])
	}
	results := tx.SendBatch(ctx, batch)
	defer results.Close()
	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	versions := make(map[string]int64, len(keys))
	for _, key := range keys {
		var version int64
		if err := results.QueryRow().Scan(&version); err != nil {
			return nil, err
		}
		versions[key] = version
	}
	return versions, results.Close()
}

func (w *writer) insertAndRollBack(ctx context.Context, tx pgx.Tx, drafts []draft, versions map[string]int64, record *transaction) error {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	scratch := make(map[string]int64, len(versions))
	for key, version := range versions {
		scratch[key] = version
	}
	if _, err := w.insert(ctx, savepoint, drafts, scratch, record.number); err != nil {
		return err
	}
	record.rolledBack += len(drafts)
	return savepoint.Rollback(ctx)
}

// payload is what an ordinary event says, in both encodings.
type payload struct {
	Key     string  `json:"key" avro:"key"`
	Version int64   `json:"version" avro:"version"`
	Tx      int64   `json:"tx" avro:"tx"`
	Filler  string  `json:"filler" avro:"filler"`
	Note    *string `json:"note" avro:"note"`
}

// insert inserts drafts of one encoding and returns the events that they have become.
// versions is moved on.
func (w *writer) insert(ctx context.Context, tx pgx.Tx, drafts []draft, versions map[string]int64, number int64) ([]event, error) {
	events := make([]event, len(drafts))
	rows := make([]outbox.Event, len(drafts))
	for i, d := range drafts {
		versions[d.key]++
		id := w.id(number)
		body := payload{Key: d.key, Version: versions[d.key], Tx: number, Filler: d.filler}
		events[i] = event{id: formatID(id), topic: d.topic, key: d.key, version: body.Version, tx: number, fate: d.fate}
		rows[i] = outbox.Event{
			ID: id, AggregateType: d.topic, AggregateID: d.key, Type: d.kind, Payload: &body,
			Headers: map[string]string{txHeader: fmt.Sprint(number)}, ExpiresAt: d.expires,
		}
		if d.avro {
			rows[i].Schema = avroSchema
		} else if d.kind == "" {
			rows[i].Type = jsonType
		}
		if d.raw != nil {
			rows[i].Payload = d.raw
		}
	}
	if drafts[0].avro {
		return events, outbox.Insert(ctx, tx, rows...)
	}
	return events, insertJSON(ctx, tx, rows)
}

// insertJSON inserts as services in other languages do.
func insertJSON(ctx context.Context, tx pgx.Tx, rows []outbox.Event) error {
	n := len(rows)
	ids, topics, keys, kinds := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	payloads, headers := make([]string, n), make([]string, n)
	expires := make([]*time.Time, n)
	for i, row := range rows {
		text, err := json.Marshal(row.Payload)
		if err != nil {
			return err
		}
		header, err := json.Marshal(row.Headers)
		if err != nil {
			return err
		}
		ids[i], topics[i], keys[i], kinds[i] = formatID(row.ID), row.AggregateType, row.AggregateID, row.Type
		payloads[i], headers[i] = string(text), string(header)
		if !row.ExpiresAt.IsZero() {
			expires[i] = &row.ExpiresAt
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload, headers, expires_at)
		SELECT id::uuid, topic, key, kind, payload::json, headers::jsonb, expires
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
			WITH ORDINALITY AS e (id, topic, key, kind, payload, headers, expires, n)
		ORDER BY n`, ids, topics, keys, kinds, payloads, headers, expires)
	return err
}

// id returns an event's id. Like everything else here it depends on the seed alone, but for
// the first bytes, which tell runs apart.
func (w *writer) id(number int64) (id [16]byte) {
	copy(id[:4], w.arena.runID[:])
	binary.BigEndian.PutUint32(id[4:], uint32(number>>32))
	binary.BigEndian.PutUint64(id[8:], w.rng.Uint64())
	return id
}

func formatID(id [16]byte) string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (w *writer) close() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx)
	w.conn = nil
}

// resolve finds out which of the unanswered commits took place. No writer may be connected
// any more: a server could still be at work on what they sent.
func (a *Arena) resolve(ctx context.Context) error {
	conn, err := a.connect(ctx, "postrider torture")
	if err != nil {
		return err
	}
	defer closeConn(conn)
	for gone := false; !gone; {
		err := conn.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database())`,
			writerName).Scan(&gone)
		if err != nil {
			return err
		}
		if !gone && !pause(ctx, 50*time.Millisecond) {
			return errors.New("the writers' connections do not end on the server")
		}
	}
	for _, tx := range a.ledger.doubtful() {
		var committed bool
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM torture_business WHERE tx = $1)`, tx.number).Scan(&committed)
		if err != nil {
			return err
		}
		if committed {
			a.ledger.commit(tx, unknownLSN)
		} else {
			a.ledger.forget(tx)
		}
	}
	return nil
}

const writerName = "postrider torture writer"
