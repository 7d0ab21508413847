package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay"
)

// eventFaults are in what the services write.
var eventFaults = []Fault{
	{
		Name: "idle", Row: 7, What: "nothing for the outbox while the database is busy",
		Run: func(ctx context.Context, a *Arena) error {
			a.writing.Lock() // the writers stand still
			defer a.writing.Unlock()
			conn, err := a.connect(ctx, "postrider torture")
			if err != nil {
				return err
			}
			defer closeConn(conn)
			var end string
			err = conn.QueryRow(ctx, `WITH busy AS (INSERT INTO torture_business SELECT -n, repeat('x', 1000)
				FROM generate_series((SELECT coalesce(-min(tx), 0) + 1 FROM torture_business WHERE tx < 0),
				                     (SELECT coalesce(-min(tx), 0) + 5000 FROM torture_business WHERE tx < 0)) n)
				SELECT pg_current_wal_insert_lsn()::text`).Scan(&end)
			if err != nil {
				return err
			}
			return a.awaitSlot(ctx, conn, end)
		},
	},
	{
		Name: "long-transaction", Row: 7, What: "a transaction open for seconds while others commit",
		Run: func(ctx context.Context, a *Arena) error {
			return a.writer.commit(plan{segments: [][]draft{{a.single("long"), a.single("long")}}, hold: 5 * time.Second})
		},
	},
	{
		Name: "huge-transaction", Row: 8, What: "one transaction with very many events",
		Run: func(ctx context.Context, a *Arena) error {
			var p plan
			for left := a.cfg.Huge; left > 0; left -= 5000 {
				p.segments = append(p.segments, a.writer.drafts(min(left, 5000), left/5000%2 == 0))
			}
			return a.writer.commit(p)
		},
	},
	{
		Name: "rolled-back", Row: 8, What: "large transactions rolled back after a while",
		Run: func(ctx context.Context, a *Arena) error {
			for range 3 {
				err := a.writer.commit(plan{
					segments: [][]draft{a.writer.drafts(a.cfg.Large, false), a.writer.drafts(a.cfg.Large, true)},
					rollback: true, hold: 300 * time.Millisecond,
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		Name: "interleaved", Row: 8, What: "two large transactions at once, with many savepoints, one of them rolled back",
		Run: func(ctx context.Context, a *Arena) error {
			kept, undone := a.interleaved("one"), a.interleaved("other")
			undone.rollback = a.rng.IntN(2) == 0
			done := make(chan error, 1)
			go func() { done <- a.beside.commit(undone) }()
			return errors.Join(a.writer.commit(kept), <-done)
		},
	},
	{
		Name: "large-row", Row: 8, What: "a row of 8 MB",
		Run: func(ctx context.Context, a *Arena) error { return a.emit(a.random("large-row", 8_000_000)) },
	},
	{
		Name: "too-large", Row: 10, What: "a record that is too large for its topic",
		Run: func(ctx context.Context, a *Arena) error {
			d := a.random("too-large", 11_000_000)
			d.fate = toDeadLetter
			return a.emit(d)
		},
	},
	{
		Name: "poison", Row: 13, What: "events that their schema refuses, of unknown types, deeply nested",
		Run: func(ctx context.Context, a *Arena) error {
			deep := strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000)
			for _, raw := range []string{
				`{"key": 7}`, `{"key": "k", "version": 1.5, "tx": 1, "filler": ""}`, `{"key": "k", "version": 99999999999999999999, "tx": 1, "filler": ""}`,
				`{}`, `[]`, `"text"`, `null`, deep,
			} {
				d := a.single("poison")
				d.raw, d.fate = json.RawMessage(raw), toDeadLetter
				if err := a.emit(d, a.single("poison")); err != nil {
					return err
				}
			}
			d := a.single("poison")
			d.kind, d.fate = "torture.nobody_registered_this", toDeadLetter
			return a.emit(d)
		},
	},
	{
		Name: "expired", Row: 17, What: "events past their time, and before",
		Run: func(ctx context.Context, a *Arena) error {
			late, early := a.single("expired"), a.single("expired")
			late.expires, late.fate = time.Now().Add(-time.Hour), toDeadLetter
			early.expires = time.Now().Add(time.Hour)
			return a.emit(late, early)
		},
	},
	{
		Name: "poison-halt", Row: 13, What: "on_poison: halt, an event that its schema refuses until that is mended", Needs: Halting, Operator: true,
		Run: func(ctx context.Context, a *Arena) error {
			name := a.freshName()
			strict := strings.Replace(schemaText(name), `{"name": "note"`, `{"name": "extra", "type": "string"}, {"name": "note"`, 1)
			if _, err := a.registry.client.Register(ctx, "torture."+name, strict); err != nil {
				return err
			}
			return a.halts(ctx, []relay.HaltCode{relay.PoisonEvent}, func() error {
				d := a.single("halt")
				d.kind = "torture." + name
				return a.emit(d, a.single("halt"))
			}, func() error {
				_, err := a.registry.client.Register(ctx, "torture."+name, strings.Replace(strict, `"extra", "type": "string"`, `"extra", "type": "string", "default": ""`, 1))
				return err
			})
		},
	},
	{
		Name: "park", Row: 13, What: "on_poison: halt-key, a key parked over a kill -9, released after its schema is mended", Needs: Parking, Operator: true,
		Run: func(ctx context.Context, a *Arena) error {
			name := a.freshName()
			strict := strings.Replace(schemaText(name), `{"name": "note"`, `{"name": "extra", "type": "string"}, {"name": "note"`, 1)
			if _, err := a.registry.client.Register(ctx, "torture."+name, strict); err != nil {
				return err
			}
			d, r := a.single("parked"), a.relays[0]
			d.kind = "torture." + name
			if err := a.emit(d, a.single("parked"), a.single("free"), a.single("parked")); err != nil {
				return err
			}
			parked := func(events int) error {
				return r.await(ctx, fmt.Sprintf("%d events parked", events), func(s relay.StatusReport) bool { return s.Parked != nil && s.Parked.Events == events })
			}
			if err := parked(3); err != nil {
				return err
			}
			r.kill()
			if err := r.comeBack(ctx); err != nil {
				return err
			}
			if err := errors.Join(a.emit(a.single("parked")), parked(4)); err != nil {
				return err
			}
			if _, err := a.registry.client.Register(ctx, "torture."+name, strings.Replace(strict, `"extra", "type": "string"`, `"extra", "type": "string", "default": ""`, 1)); err != nil {
				return err
			}
			out, err := a.command(ctx, "replay", "-c", r.config, "--key", d.key, "--yes").CombinedOutput()
			if err != nil {
				return fmt.Errorf("postrider replay: %w\n%s", err, out)
			}
			return errors.Join(a.emit(a.single("parked")), parked(0))
		},
	},
	{
		Name: "schema-missing-halt", Row: 13, What: "on_poison: halt, an event whose schema is missing until it is registered", Needs: Halting, Operator: true,
		Run: func(ctx context.Context, a *Arena) error {
			name := a.freshName()
			return a.halts(ctx, []relay.HaltCode{relay.SchemaMissing}, func() error {
				d := a.single("halt")
				d.kind = "torture." + name
				return a.emit(d)
			}, func() error { return a.registry.register(ctx, name) })
		},
	},
}

// single returns an ordinary event of a key that only the nemesis writes.
func (a *Arena) single(key string) draft {
	return draft{topic: a.topics[0], key: "nemesis-" + key, filler: "x"}
}

// random returns an event of so many bytes that do not compress.
func (a *Arena) random(key string, size int) draft {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	b := make([]byte, size)
	for i := 0; i < size; i += 8 {
		for j, bits := i, a.rng.Uint64(); j < min(i+8, size); j, bits = j+1, bits>>6 {
			b[j] = letters[bits&63]
		}
	}
	d := a.single(key)
	d.filler = string(b)
	return d
}

// emit commits events in one transaction, in their order.
func (a *Arena) emit(drafts ...draft) error {
	var p plan
	for _, d := range drafts {
		p.segments = append(p.segments, []draft{d})
	}
	return a.writer.commit(p)
}

// interleaved plans a large transaction in small steps, each in a savepoint of its own.
func (a *Arena) interleaved(key string) plan {
	p := plan{nested: true}
	for range a.cfg.Large / 20 {
		drafts := make([]draft, 20)
		for i := range drafts {
			drafts[i] = a.single(fmt.Sprintf("%s-%d", key, i%5))
			drafts[i].filler = strings.Repeat("y", 200)
		}
		p.segments = append(p.segments, drafts)
	}
	return p
}

// freshName returns the name of a schema that nobody has asked for yet.
func (a *Arena) freshName() string { return fmt.Sprintf("fresh_%d", a.rng.Uint32()) }

// unknownType returns an event of a type that the relay does not know yet, and that the
// registry does.
func (a *Arena) unknownType(ctx context.Context) (draft, error) {
	d := a.single("fresh")
	name := a.freshName()
	d.kind = "torture." + name
	return d, a.registry.registerBehind(ctx, name)
}

// emitUnknown commits an event of unknownType.
func (a *Arena) emitUnknown(ctx context.Context) error {
	d, err := a.unknownType(ctx)
	if err != nil {
		return err
	}
	return a.emit(d)
}

// awaitSlot returns when the slot has passed lsn.
func (a *Arena) awaitSlot(ctx context.Context, conn *pgx.Conn, lsn string) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Patience)
	defer cancel()
	for {
		var passed bool
		err := conn.QueryRow(ctx, `SELECT coalesce(max(confirmed_flush_lsn) >= $1::pg_lsn, false) FROM pg_replication_slots WHERE slot_name = $2`,
			lsn, a.slot()).Scan(&passed)
		if err != nil {
			return fmt.Errorf("the slot did not pass %s: %w", lsn, err)
		}
		if passed {
			return nil
		}
		pause(ctx, 50*time.Millisecond)
	}
}
