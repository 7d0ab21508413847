package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// statusInterval is the longest silence towards the server; a shorter
	// wal_sender_timeout shortens it.
	statusInterval = 10 * time.Second
	// confirmInterval is how soon an acknowledgement is confirmed to the server.
	confirmInterval = 100 * time.Millisecond
	// minLiveness is the least time without a word from the server before the link counts
	// as dead.
	minLiveness  = 30 * time.Second
	writeTimeout = 10 * time.Second
	// farewellTimeout is how long the server may take to end the stream.
	farewellTimeout = time.Second
)

// errLinkDead is returned when the server has not even answered a request for a reply.
var errLinkDead = errors.New("no word from the server, not even an answer to a keepalive")

// errGivenUp is returned when the server has not heard of us for longer than it waits: this
// process stood still, and another relay may have the slot. What the sockets still hold is not
// ours to publish any more.
var errGivenUp = errors.New("the server has given this connection up")

// Source reads the replication stream into chunks. The goroutine that calls its methods is
// the only user of the connection.
type Source struct {
	conn    *pgconn.PgConn
	paced   *pacedConn
	log     *slog.Logger
	flushed func() LSN
	// received is told of the signs of life: of each one where the stream is quiet, and now and
	// then where it is busy.
	received func(walEnd LSN)

	slot        string
	publication string
	binary      bool   // values come in binary, where their type has such a form
	notice      error  // what a WARNING on the connection means
	waiting     string // for which standby, as the server says it

	statusEvery  time.Duration
	patience     time.Duration // how long the server waits for a word from us; 0 for ever
	liveness     time.Duration
	lastStatus   time.Time
	lastReceived time.Time
	walEnd, told LSN  // where the server's WAL ends, and what received has heard of it
	confirmed    LSN  // what the last status said
	handed       LSN  // the end of what was handed over
	open         bool // a transaction has begun and not ended
	begun        bool // a keepalive has come
}

// openSource connects for replication. flushed is asked for the LSN to confirm.
func openSource(ctx context.Context, cfg *Config, log *slog.Logger) (*Source, error) {
	s := &Source{log: log, slot: cfg.Postgres.Slot, publication: cfg.Postgres.Publication, received: func(LSN) {}}
	var err error
	s.conn, s.paced, err = cfg.Postgres.connectReplication(ctx, func(_ *pgconn.PgConn, n *pgconn.Notice) { s.onNotice(n) })
	if err != nil {
		return nil, fmt.Errorf("connect for replication: %w", err)
	}
	return s, nil
}

// onNotice remembers a warning. Postgres 18 only warns when it skips a publication that did
// not exist at the place the slot stands, and then skips its rows: a warning is never
// passed over.
func (s *Source) onNotice(n *pgconn.Notice) {
	if n.SeverityUnlocalized != "WARNING" {
		s.log.Info("notice on the replication connection", "severity", n.Severity, "message", n.Message)
		return
	}
	if waitsForStandby(n) {
		if s.waiting != n.Message { // it comes again and again
			s.log.Warn("Postgres holds the stream back until a standby has the same", "message", n.Message)
		}
		s.waiting = n.Message
		return
	}
	code := PublicationDrift
	if strings.Contains(n.Message, "does not exist") || strings.Contains(n.Message, "skipped loading publication") {
		code = PublicationMissing
	}
	s.notice = halt(code, hintPublicationLost, "Postgres warns: %s", n.Message)
}

// start begins streaming from where the slot stands. confirmed is that place, timeout the
// server's wal_sender_timeout (0: none).
func (s *Source) start(ctx context.Context, confirmed LSN, timeout time.Duration, flushed func() LSN) error {
	s.flushed = flushed
	s.confirmed, s.handed = confirmed, confirmed
	s.statusEvery, s.liveness, s.patience = statusInterval, minLiveness, timeout
	if timeout > 0 {
		s.statusEvery = min(s.statusEvery, timeout/3)
		s.liveness = max(s.liveness, timeout)
	} else {
		s.liveness = 2 * time.Minute
	}
	// Warnings from before, of a collation perhaps, do not concern the stream.
	if s.notice != nil {
		s.log.Warn("warning while connecting", "message", s.notice)
		s.notice = nil
	}
	// Start at 0: the slot is the checkpoint, and a start beyond it would be obeyed silently.
	args := []string{
		"proto_version '1'",
		fmt.Sprintf("publication_names '%s'", quotePublication(s.publication)),
		"messages 'true'",
		fmt.Sprintf("binary '%t'", s.binary),
	}
	if bug(bugPublishUncommitted) {
		args[0] = "proto_version '2', streaming 'on'"
	}
	if err := s.paced.begin(); err != nil {
		return fmt.Errorf("replication connection: %w", err)
	}
	err := pglogrepl.StartReplication(ctx, s.conn, s.slot, 0, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication, PluginArgs: args,
	})
	if err != nil {
		return fmt.Errorf("start replication on slot %q: %w", s.slot, err)
	}
	s.lastReceived = time.Now()
	return s.sendStatus(true) // the answer shows that the stream works
}

// quotePublication writes a name as pgoutput reads its list: an identifier in double
// quotes, inside a string literal.
func quotePublication(name string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(name, `"`, `""`), `'`, `''`) + `"`
}

// stream reads until stop is done and no transaction is open, until finish is done (nil), or
// until the connection fails. While no chunk is free it goes on answering the server,
// however long Kafka takes.
func (s *Source) stream(stop, finish context.Context, ch *chunks) error {
	for _, ctx := range []context.Context{stop, finish} { // wake a read that is waiting for the server
		defer context.AfterFunc(ctx, func() { _ = s.paced.SetReadDeadline(time.Unix(1, 0)) })()
	}
	leaving := func() bool { return stop.Err() != nil && (!s.open || finish.Err() != nil) }

	frontend := s.conn.Frontend()
	var cur *chunk
	rearm := true
	for n := 0; ; n++ {
		idle := frontend.ReadBufferLen() == 0 && s.paced.buffered() == 0
		if idle && s.walEnd > s.told {
			s.alive(time.Now())
		}
		if cur != nil && cur.messages > 0 && (idle || cur.full()) {
			ch.handOver(cur)
			cur = nil
		}
		if leaving() {
			if cur != nil && cur.messages > 0 {
				ch.handOver(cur)
			}
			return nil
		}
		if cur == nil {
			var err error
			until := stop
			if s.open {
				until = finish
			}
			if cur, err = s.freeChunk(until, ch); err != nil || cur == nil {
				return err
			}
		}
		if idle || rearm || n&1023 == 0 {
			now := time.Now()
			if !rearm && !idle {
				s.alive(now)
			}
			rearm = false
			if err := s.statusIfDue(now); err != nil {
				return err
			}
			if err := s.paced.SetReadDeadline(s.wakeAt(now)); err != nil {
				return fmt.Errorf("replication connection: %w", err)
			}
			if leaving() {
				continue // the deadline above may have hidden the one that wakes us
			}
		}
		msg, err := frontend.Receive()
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("replication connection: %w", err)
			}
			if silent := s.silence(time.Now()); silent > s.liveness {
				return fmt.Errorf("replication connection: silent for %v: %w", silent.Round(time.Second), errLinkDead)
			}
			rearm = true
			if cur.messages > 0 { // a large row takes its time behind them
				ch.handOver(cur)
				cur = nil
			}
			continue
		}
		if err := s.take(msg, cur); err != nil {
			return err
		}
		if idle {
			s.alive(time.Now())
		}
	}
}

// alive records that something came from the server.
func (s *Source) alive(now time.Time) {
	s.lastReceived, s.told = now, s.walEnd
	s.received(s.walEnd)
}

// silence returns for how long nothing has come from the server, not even a part of a
// message: a large row can take minutes on a slow link.
func (s *Source) silence(now time.Time) time.Duration {
	return min(now.Sub(s.lastReceived), now.Sub(s.paced.lastRead))
}

// wakeAt returns when a waiting read must return: soon where acknowledgements are awaited,
// else when the next status is due.
func (s *Source) wakeAt(now time.Time) time.Time {
	wait := s.statusEvery - now.Sub(s.lastStatus)
	if s.confirmed < s.handed {
		wait = min(wait, confirmInterval)
	}
	return now.Add(max(wait, time.Millisecond))
}

// freeChunk waits for a chunk that the encoder has given back. It returns nil when stop is
// done first.
func (s *Source) freeChunk(stop context.Context, ch *chunks) (*chunk, error) {
	if c := ch.take(); c != nil {
		return c, nil
	}
	tick := time.NewTicker(confirmInterval)
	defer tick.Stop()
	for {
		select {
		case c := <-ch.free:
			ch.keep(c)
			if c := ch.take(); c != nil {
				s.lastReceived = time.Now() // the silence was ours
				return c, nil
			}
		case now := <-tick.C:
			if err := s.statusIfDue(now); err != nil {
				return nil, err
			}
		case <-stop.Done():
			return nil, nil
		}
	}
}

// take puts one message of the server into cur.
func (s *Source) take(msg pgproto3.BackendMessage, cur *chunk) error {
	switch msg := msg.(type) {
	case *pgproto3.CopyData:
		return s.copyData(msg.Data, cur)
	case *pgproto3.ErrorResponse:
		err := postgresError(pgconn.ErrorResponseToPgError(msg))
		if s.binary && maybeOfBinary(err) {
			err = fmt.Errorf("%w: %w", errNeedsText, err)
		}
		return fmt.Errorf("replication stream: %w", err)
	case *pgproto3.NoticeResponse:
		n := pgconn.Notice(*pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(msg)))
		s.onNotice(&n)
		return s.notice
	case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
		return errors.New("replication stream: the server ended it")
	case *pgproto3.ParameterStatus:
		return nil
	default:
		return fmt.Errorf("replication stream: unexpected %T", msg)
	}
}

// maybeOfBinary reports whether an error of the server may come from sending values in binary:
// an array whose elements have no such form, or a type of an extension that makes a mistake.
// What is certain to have another cause is a halt, or of the classes of connections,
// resources, objects in use, operators and the system (PostgreSQL manual, "PostgreSQL Error
// Codes").
func maybeOfBinary(err error) bool {
	var pg *pgconn.PgError
	if asHalt(err) != nil || !errors.As(err, &pg) || len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "08", "53", "55", "57", "58":
		return false
	}
	return true
}

// copyData reads the two messages of the streaming replication protocol (PostgreSQL manual,
// "Streaming Replication Protocol"): XLogData and primary keepalive.
func (s *Source) copyData(data []byte, cur *chunk) error {
	if s.notice != nil {
		return s.notice
	}
	switch {
	case len(data) > 25 && data[0] == pglogrepl.XLogDataByteID:
		cur.serverTime = int64(binary.BigEndian.Uint64(data[17:]))
		payload := data[25:]
		switch ChangeKind(payload[0]) {
		case ChangeBegin:
			s.open = true
		case ChangeCommit:
			s.open = false
		}
		if payload[0] == byte(ChangeCommit) && len(payload) >= 18 {
			s.handed = max(s.handed, LSN(binary.BigEndian.Uint64(payload[10:])))
			s.walEnd = max(s.walEnd, LSN(binary.BigEndian.Uint64(data[9:])))
		}
		failpoint(pointRead)
		if bug(bugPublishUncommitted) {
			for _, msg := range uncommitted(payload, LSN(binary.BigEndian.Uint64(data[1:]))) {
				cur.appendWAL(msg)
			}
			return nil
		}
		cur.appendWAL(payload)
		return nil
	case len(data) == 18 && data[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
		walEnd := LSN(binary.BigEndian.Uint64(data[1:]))
		cur.serverTime = int64(binary.BigEndian.Uint64(data[9:]))
		s.walEnd = max(s.walEnd, walEnd)
		if walEnd > s.handed || !s.begun {
			s.begun = true // the first one tells the encoder that the stream works
			s.handed = max(s.handed, walEnd)
			cur.appendProgress(walEnd)
		}
		if data[17] == 1 {
			return s.sendStatus(false)
		}
		return nil
	}
	return fmt.Errorf("replication stream: malformed message of %d bytes", len(data))
}

// statusIfDue confirms what has been flushed since the last status, and breaks the silence
// before the server takes us for dead. After half the liveness it asks for an answer.
func (s *Source) statusIfDue(now time.Time) error {
	since := now.Sub(s.lastStatus)
	if s.patience > 0 && since > s.patience {
		return fmt.Errorf("replication connection: the relay stood still for %v, and wal_sender_timeout is %v: %w",
			since.Round(time.Second), s.patience, errGivenUp)
	}
	if since >= s.statusEvery || since >= confirmInterval && s.flushed() > s.confirmed {
		return s.sendStatus(s.silence(now) > s.liveness/2)
	}
	return nil
}

// sendStatus confirms the flushed LSN.
func (s *Source) sendStatus(reply bool) error {
	lsn := max(s.flushed(), s.confirmed) // never back, and never 0, which the library would replace
	if bug(bugConfirmOnReceive) {
		lsn = max(lsn, s.handed)
	}
	if err := s.paced.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("replication connection: %w", err)
	}
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), s.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: lsn, WALFlushPosition: lsn, WALApplyPosition: lsn, ReplyRequested: reply,
	})
	if err != nil {
		return fmt.Errorf("replication connection: confirm %s: %w", lsn, err)
	}
	if lsn > s.confirmed {
		failpoint(pointConfirmed)
	}
	s.confirmed, s.lastStatus = lsn, time.Now()
	return nil
}

// drain keeps the connection alive until done is closed or ctx ends, and confirms what was
// acknowledged meanwhile.
func (s *Source) drain(ctx context.Context, done <-chan struct{}) error {
	tick := time.NewTicker(confirmInterval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return s.farewell()
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), s.farewell())
		case now := <-tick.C:
			if err := s.statusIfDue(now); err != nil {
				return err
			}
		}
	}
}

// farewell confirms for the last time and ends the stream as the protocol asks: CopyDone,
// then what the server still sends, up to its answer. A socket that is closed with bytes
// unread is reset, and the reset could overtake the confirmation.
func (s *Source) farewell() error {
	if err := s.sendStatus(false); err != nil {
		return err
	}
	s.paced.paced = false
	deadline := time.Now().Add(farewellTimeout)
	if err := s.paced.SetDeadline(deadline); err != nil {
		return nil //nolint:nilerr // the confirmation was sent; this is only politeness
	}
	frontend := s.conn.Frontend()
	frontend.Send(&pgproto3.CopyDone{})
	if err := frontend.Flush(); err != nil {
		return nil //nolint:nilerr // as above
	}
	for {
		msg, err := frontend.Receive()
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		switch msg.(type) {
		case *pgproto3.ReadyForQuery, *pgproto3.ErrorResponse:
			return nil
		}
	}
}

// close ends the connection. The server frees the slot when it reads the farewell; a
// walsender with a full send queue reads nothing, so the socket is closed in any case.
func (s *Source) close() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}
