package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

// RawReader reads a slot as the relay does, values in binary, and throws everything away: how fast it reads is
// how fast Postgres can send, the upper bound for any relay on that slot. It confirms
// nothing, so that the slot can be read again and again.
//
// It is for one goroutine.
type RawReader struct {
	source *Source
}

// RawRead is what a RawReader has read.
type RawRead struct {
	Rows  int           // inserted rows
	Bytes int64         // of pgoutput
	Took  time.Duration // from the first message to the last commit
}

// OpenRawReader starts to stream the slot and the publication of cfg, both of which must
// exist. A greedy reader reads whenever there is something, as most clients of logical
// replication do; any other reads at the pace of the relay.
func OpenRawReader(ctx context.Context, cfg PostgresConfig, greedy bool) (*RawReader, error) {
	confirmed, err := slotConfirmed(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ended, cancel := context.WithTimeout(ctx, slotEndTimeout)
	defer cancel()
	for {
		r, err := openRawReader(ctx, cfg, confirmed, greedy)
		if !slotActive(err) {
			return r, err
		}
		select { // the walsender of a reader that has just been closed
		case <-time.After(slotEndRetry):
		case <-ended.Done():
			return nil, err
		}
	}
}

const (
	// slotEndTimeout is how long a server may take to see that the last reader has gone.
	slotEndTimeout = 10 * time.Second
	slotEndRetry   = 100 * time.Millisecond
)

func openRawReader(ctx context.Context, cfg PostgresConfig, confirmed LSN, greedy bool) (*RawReader, error) {
	s, err := openSource(ctx, &Config{Postgres: cfg}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	s.paced.greedy, s.binary = greedy, true
	// Nothing is flushed, ever: every status repeats where the slot stands.
	err = s.start(ctx, confirmed, minLiveness, func() LSN { return 0 })
	if err != nil {
		s.close()
		return nil, err
	}
	return &RawReader{source: s}, nil
}

func slotConfirmed(ctx context.Context, cfg PostgresConfig) (LSN, error) {
	conn, err := cfg.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer closeConn(conn)
	var confirmed LSN
	err = conn.QueryRow(ctx, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1", cfg.Slot).Scan(&confirmed)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, halt(SlotMissing, hintSlotMissing, "slot %q does not exist", cfg.Slot)
	}
	if err != nil {
		return 0, fmt.Errorf("slot %q: %w", cfg.Slot, postgresError(err))
	}
	return confirmed, nil
}

// ServerPID returns the id of the walsender's process, which lives until Close.
func (r *RawReader) ServerPID() uint32 { return r.source.conn.PID() }

// Read reads until so many rows and the commit of the last have come, or until ctx ends.
// Now and then it tells progress, unless that is nil, how many rows there are so far.
func (r *RawReader) Read(ctx context.Context, rows int, progress func(rows int)) (RawRead, error) {
	s := r.source
	defer context.AfterFunc(ctx, func() { _ = s.paced.SetReadDeadline(time.Unix(1, 0)) })()
	var (
		read  RawRead
		first time.Time
		c     chunk
	)
	for n := 0; ; n++ {
		if n&1023 == 0 {
			now := time.Now()
			if err := s.statusIfDue(now); err != nil {
				return read, err
			}
			wake := s.wakeAt(now)
			if soon := now.Add(time.Second); wake.After(soon) {
				wake = soon // to tell progress
			}
			if err := s.paced.SetReadDeadline(wake); err != nil {
				return read, fmt.Errorf("replication connection: %w", err)
			}
			if progress != nil && read.Rows > 0 {
				progress(read.Rows)
			}
		}
		if ctx.Err() != nil {
			return read, context.Cause(ctx)
		}
		msg, err := s.conn.Frontend().Receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if silent := s.silence(time.Now()); silent > s.liveness {
				return read, fmt.Errorf("replication connection: silent for %v: %w", silent.Round(time.Second), errLinkDead)
			}
			n = -1 // look at the clock at once
			continue
		}
		if err != nil {
			return read, fmt.Errorf("replication connection: %w", err)
		}
		c.reset()
		if err := s.take(msg, &c); err != nil {
			return read, err
		}
		if c.messages == 0 {
			continue
		}
		tag, change, _ := nextMessage(c.buf)
		if tag != tagWAL {
			continue
		}
		if first.IsZero() {
			first = time.Now()
		}
		read.Bytes += int64(len(change))
		switch ChangeKind(change[0]) {
		case ChangeInsert:
			read.Rows++
		case ChangeCommit:
			if read.Rows >= rows {
				read.Took = time.Since(first)
				return read, nil
			}
		}
	}
}

// Close ends the connection. The slot stays where it was.
func (r *RawReader) Close() { r.source.close() }
