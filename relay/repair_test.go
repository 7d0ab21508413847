package relay_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay"
)

// repair runs a repair that agrees to every plan.
func (f *fixture) repair(change ...func(*relay.RepairOptions)) relay.RepairResult {
	f.t.Helper()
	opts := relay.RepairOptions{Confirm: func(relay.RepairPlan) (bool, error) { return true, nil }}
	for _, c := range change {
		c(&opts)
	}
	result, err := relay.Repair(context.Background(), f.cfg, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	return result
}

func (f *fixture) publication() string { return pgx.Identifier{f.slot()}.Sanitize() }

func TestRepair_PublishesWhatPassedTheSlotAndTheRelayGoesOn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code relay.HaltCode
		lose func(f *fixture) // commits events 2 and 3 of key a so that the stream never shows them
	}{
		"drift": {relay.PublicationDrift, func(f *fixture) {
			f.exec(`ALTER PUBLICATION ` + f.publication() + ` DROP TABLE outbox`)
			f.emit("a", 2, 2)
			f.exec(`ALTER PUBLICATION ` + f.publication() + ` ADD TABLE outbox`)
		}},
		"slot dropped": {relay.SlotMissing, func(f *fixture) {
			f.exec(`SELECT pg_drop_replication_slot($1)`, f.slot())
			f.emit("a", 2, 2)
		}},
		"slot made anew further on": {relay.SlotAhead, func(f *fixture) {
			f.exec(`SELECT pg_drop_replication_slot($1)`, f.slot())
			f.emit("a", 2, 2)
			f.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, f.slot())
		}},
		"publication dropped": {relay.PublicationMissing, func(f *fixture) {
			f.exec(`DROP PUBLICATION ` + f.publication())
			f.emit("a", 2, 2)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			r := f.start()
			r.untilStreaming()
			f.emit("a", 1, 1)
			f.emit("b", 1, 1)
			f.consume(f.topic, 2)
			r.halt()
			tc.lose(f)
			r = f.start()
			r.untilHalted(tc.code)
			result := f.repair()
			if result.Reason != tc.code || result.Kept != 4 || result.InKafka != 2 || result.Missing != 2 || result.Published != 2 {
				t.Errorf("repair: %+v", result)
			}
			f.emit("a", 4, 1)
			records := f.consume(f.topic, 5)
			var got []int64
			for _, rec := range records {
				if string(rec.Key) != "a" {
					continue
				}
				_, seq := decodeSeq(t, rec.Value)
				got = append(got, seq)
				want := ""
				if seq == 2 || seq == 3 {
					want = string(tc.code)
				}
				if mark := header(rec, "postrider-repair"); mark != want {
					t.Errorf("event %d: postrider-repair %q, want %q", seq, mark, want)
				}
			}
			wantSeqs(t, got, 1, 2, 3, 4)
			r.until("ready", func(s relay.StatusReport) bool { return s.Ready && s.Phase == relay.PhaseStreaming })
		})
	}
}

func TestRepair_NamesTheKeysThatArriveLate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("early", 1, 1)
	f.exec(`ALTER PUBLICATION ` + f.publication() + ` DROP TABLE outbox`)
	f.emit("late", 1, 1)
	f.exec(`ALTER PUBLICATION ` + f.publication() + ` ADD TABLE outbox`)
	f.emit("late", 2, 1)
	f.consume(f.topic, 2)
	r.halt()
	f.start().untilHalted(relay.PublicationDrift)
	result := f.repair()
	if result.Missing != 1 || result.LateKeys != 1 || strings.Join(result.LateExamples, ",") != "late" {
		t.Errorf("repair: %+v", result)
	}
	if result.Oldest == nil || result.Newest == nil || !result.Oldest.Equal(*result.Newest) {
		t.Errorf("the missing row is from %v to %v", result.Oldest, result.Newest)
	}
	f.consume(f.topic, 3)
}

func TestRepair_ChangesNothingUntilItIsConfirmed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	r.halt()
	before := f.confirmed()
	result := f.repair(func(o *relay.RepairOptions) {
		o.Confirm = func(relay.RepairPlan) (bool, error) { return false, nil }
	})
	if result.Repaired || result.Reason != "" || result.Missing != 0 {
		t.Errorf("repair: %+v", result)
	}
	if after := f.confirmed(); after != before {
		t.Errorf("the slot moved: %s → %s", before, after)
	}
}

func TestRepair_LeavesOutOlderRowsThanItIsAskedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	r.halt()
	f.exec(`SELECT pg_drop_replication_slot($1)`, f.slot())
	f.emit("a", 2, 1)
	since := ask[time.Time](f, `SELECT clock_timestamp()`)
	f.emit("a", 3, 1)
	result := f.repair(func(o *relay.RepairOptions) { o.Since = since })
	if result.Kept != 3 || result.Older != 2 || result.Missing != 1 || result.Published != 1 {
		t.Errorf("repair: %+v", result)
	}
	wantSeqs(t, seqs(t, f, f.topic, 2), 1, 3)
}

func TestRepair_RefusesWhileARelayStreams(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start().untilStreaming()
	_, err := relay.Repair(t.Context(), f.cfg, relay.RepairOptions{})
	if !errors.Is(err, relay.ErrRelayActive) {
		t.Errorf("error %v", err)
	}
}

func TestRepair_WhatIsToBeMendedByHandIsNamedFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	r.halt()
	f.exec(`ALTER PUBLICATION ` + f.publication() + ` SET TABLE outbox WHERE (aggregate_type = 'order')`)
	_, err := relay.Repair(t.Context(), f.cfg, relay.RepairOptions{})
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Code != relay.PublicationDrift {
		t.Errorf("error %v", err)
	}
	if !ask[bool](f, `SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, f.slot()) {
		t.Error("the slot was dropped")
	}
}

func TestRepair_InterruptedByAPoisonRowIsBegunAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	r.halt()
	f.exec(`SELECT pg_drop_replication_slot($1)`, f.slot())
	f.emit("a", 2, 1)
	f.exec(`INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', 'b', 'order.created', '{"no":"seq"}')`)
	agree := relay.RepairOptions{Confirm: func(relay.RepairPlan) (bool, error) { return true, nil }}
	_, err := relay.Repair(t.Context(), f.cfg, agree)
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Code != relay.PoisonEvent {
		t.Fatalf("error %v", err)
	}
	f.exec(`UPDATE outbox SET payload = '{"seq":1}' WHERE aggregate_id = 'b'`)
	if result := f.repair(); !result.Repaired {
		t.Errorf("repair: %+v", result)
	}
	f.start().untilStreaming()
	f.consume(f.topic, 3)
}

// The stream says nothing of rows that a publication leaves out, and keepalives go on: the
// slot must not follow them before somebody has looked.
func TestHalt_TheSlotStaysInFrontOfWhatAPublicationLeftOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start()
	r.untilStreaming()
	f.emit("a", 1, 1)
	f.consume(f.topic, 1)
	f.exec(`ALTER PUBLICATION ` + f.publication() + ` SET (publish = 'update')`)
	altered := ask[string](f, `SELECT pg_current_wal_insert_lsn()::text`)
	f.emit("a", 2, 1)
	f.exec(`ALTER PUBLICATION ` + f.publication() + ` SET (publish = 'insert')`)
	f.emit("a", 3, 1)
	f.consume(f.topic, 2)
	r.untilHalted(relay.PublicationDrift)
	if ask[bool](f, `SELECT confirmed_flush_lsn > $1::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`, altered, f.slot()) {
		t.Error("the slot passed a committed event that no topic has")
	}
	if result := f.repair(); result.Missing != 1 || result.Published != 1 || result.LateKeys != 1 {
		t.Errorf("repair: %+v", result)
	}
	r.until("ready", func(s relay.StatusReport) bool { return s.Ready && s.Phase == relay.PhaseStreaming })
}
