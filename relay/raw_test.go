package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

// rawSlot makes a publication and a slot before the events that are to be read.
func rawSlot(f *fixture) relay.PostgresConfig {
	f.t.Helper()
	cfg := f.cfg.Postgres
	cfg.Slot, cfg.Publication = testserver.UniqueName(f.t), testserver.UniqueName(f.t)
	f.exec("CREATE PUBLICATION " + cfg.Publication + " FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true)")
	f.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", cfg.Slot)
	return cfg
}

func TestRawReader_ReadsTheSameAgainAndAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := rawSlot(f)
	const rows = 2500
	for seq := 0; seq < rows; seq += 500 {
		f.emit("a", seq, 500)
	}
	place := func() (lsn string) {
		t.Helper()
		if err := f.db.QueryRow(t.Context(), "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1", cfg.Slot).Scan(&lsn); err != nil {
			t.Fatal(err)
		}
		return lsn
	}
	before := place()
	var bytes int64
	for _, greedy := range []bool{true, false} {
		r, err := relay.OpenRawReader(t.Context(), cfg, greedy)
		if err != nil {
			t.Fatal(err)
		}
		if r.ServerPID() == 0 {
			t.Error("the walsender has no process")
		}
		told := 0
		soon, cancelRead := context.WithTimeout(t.Context(), patience)
		read, err := r.Read(soon, rows, func(rows int) { told = rows })
		cancelRead()
		// It answers the server while it waits for a row that never comes.
		waiting, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if _, err := r.Read(waiting, 1, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for another row ended with %v", err)
		}
		cancel()
		r.Close()
		if err != nil || read.Rows != rows || read.Took <= 0 || read.Bytes < 50*rows || told < 1 || told > rows {
			t.Errorf("greedy %v: %+v, told of %d, %v", greedy, read, told, err)
		}
		if bytes != 0 && bytes != read.Bytes {
			t.Errorf("read %d bytes, and then %d", bytes, read.Bytes)
		}
		bytes = read.Bytes
		f.exec("SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = $1 AND active", cfg.Slot)
	}
	if after := place(); after != before {
		t.Errorf("the slot moved from %s to %s", before, after)
	}
}

func TestRawReader_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := rawSlot(f)
	f.emit("a", 0, 1)
	r, err := relay.OpenRawReader(t.Context(), cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	read, err := r.Read(ctx, 2, func(int) { cancel(enough) })
	if !errors.Is(err, enough) || read.Rows != 1 {
		t.Errorf("%+v, %v", read, err)
	}
}

func TestRawReader_NeedsASlotAndAPublication(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := rawSlot(f)
	var halt *relay.HaltError
	none := cfg
	none.Slot = "none_" + cfg.Slot[:20]
	if _, err := relay.OpenRawReader(t.Context(), none, false); !errors.As(err, &halt) || halt.Code != relay.SlotMissing {
		t.Errorf("without the slot: %v", err)
	}
	f.exec("DROP PUBLICATION " + cfg.Publication)
	f.emit("a", 0, 1)
	r, err := relay.OpenRawReader(t.Context(), cfg, false)
	if err == nil {
		soon, cancel := context.WithTimeout(t.Context(), patience)
		_, err = r.Read(soon, 1, nil)
		cancel()
		r.Close()
	}
	if !errors.As(err, &halt) || halt.Code != relay.PublicationMissing {
		t.Errorf("without the publication: %v", err)
	}
}
