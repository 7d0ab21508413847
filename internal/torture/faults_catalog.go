package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay"
)

// repaired says what may be broken where the slot had to be made anew.
var repaired = map[string]string{
	"I2": "what was missed is published behind what Kafka has, and says so by a header",
}

// moved adds that it was no relay that moved the slot.
var moved = map[string]string{"I2": repaired["I2"], "I4": "a person moved the slot"}

// hidden adds what happens to rows that the server hides from the stream without a word.
var hidden = map[string]string{
	"I2": repaired["I2"],
	"I4": "until the monitor sees the change, within seconds, the stream passes rows that the server hides from it; repair brings them",
}

// catalogFaults are what people do to the slot, the publication and the table. The relay
// must not pass over a row in silence: it tolerates what does no harm and halts at the rest.
var catalogFaults = []Fault{
	{
		Name: "slot-dropped", Row: 4, What: "the slot dropped under the running relay", Operator: true, Forgives: repaired,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, []relay.HaltCode{relay.SlotMissing}, func() error {
				return a.onSlot(ctx, `SELECT pg_drop_replication_slot($1)`)
			}, func() error { return a.repair(ctx) })
		},
	},
	{
		Name: "slot-ahead", Row: 4, What: "the slot moved on by hand, or made again further on", Operator: true,
		Forgives: moved,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, []relay.HaltCode{relay.SlotAhead}, func() error {
				return a.onSlot(ctx, `SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`)
			}, func() error { return a.repair(ctx) })
		},
	},
	{
		Name: "slot-recreated", Row: 4, What: "the slot dropped and made again by hand while no relay runs", Operator: true, Forgives: moved,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, []relay.HaltCode{relay.SlotAhead}, func() error {
				return a.whileDown(func() error {
					return errors.Join(
						a.onSlot(ctx, `SELECT pg_drop_replication_slot($1)`),
						a.emit(a.single("missed")),
						a.exec(ctx, `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, a.slot()))
				})
			}, func() error { return a.repair(ctx) })
		},
	},
	{
		Name: "slot-lost", Row: 4, What: "the slot invalidated by max_slot_wal_keep_size", Operator: true, Needs: OwnPostgres, Forgives: repaired,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, []relay.HaltCode{relay.SlotLost}, func() error { return a.loseSlot(ctx) },
				func() error { return a.repair(ctx) })
		},
	},
	{
		Name: "publication-dropped", Row: 5, What: "the publication dropped", Operator: true, Forgives: repaired,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, publicationHalts, func() error { return a.exec(ctx, `DROP PUBLICATION `+a.publication()) },
				func() error { return a.repair(ctx) })
		},
	},
	{
		Name: "publication-recreated", Row: 5, What: "the publication dropped and made again", Operator: true, Forgives: repaired,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, publicationHalts, func() error {
				return a.exec(ctx, fmt.Sprintf(`DROP PUBLICATION %[1]s; CREATE PUBLICATION %[1]s FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true)`, a.publication()))
			}, func() error { return a.repair(ctx) })
		},
	},
	{
		Name: "publication-after-slot", Row: 5, What: "a slot made by hand before its publication, while no relay runs", Operator: true, Forgives: hidden,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, append(publicationHalts, relay.SlotAhead), func() error {
				return a.whileDown(func() error {
					return errors.Join(
						a.onSlot(ctx, `SELECT pg_drop_replication_slot($1)`),
						a.exec(ctx, `DROP PUBLICATION `+a.publication()),
						a.exec(ctx, `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, a.slot()),
						a.emit(a.single("missed")),
						a.exec(ctx, `CREATE PUBLICATION `+a.publication()+` FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true)`))
				})
			}, func() error { return a.repair(ctx) })
		},
	},
	{
		Name: "publication-altered", Row: 5, What: "the publication publishes inserts no longer", Operator: true, Forgives: repaired,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, publicationHalts, func() error {
				return a.exec(ctx, `ALTER PUBLICATION `+a.publication()+` SET (publish = 'delete')`)
			}, func() error {
				return errors.Join(a.exec(ctx, `ALTER PUBLICATION `+a.publication()+` SET (publish = 'insert')`), a.repair(ctx))
			})
		},
	},
	{
		Name: "publication-filtered", Row: 5, What: "a row filter put on the publication", Operator: true, Forgives: repaired,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, publicationHalts, func() error {
				return a.exec(ctx, `ALTER PUBLICATION `+a.publication()+` SET TABLE outbox WHERE (aggregate_id <> 'key-1')`)
			}, func() error {
				return errors.Join(a.exec(ctx, `ALTER PUBLICATION `+a.publication()+` SET TABLE outbox`), a.repair(ctx))
			})
		},
	},
	{
		Name: "table-unpublished", Row: 6, What: "the table taken out of the publication and put back", Operator: true, Forgives: repaired,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, publicationHalts, func() error {
				if err := a.exec(ctx, `ALTER PUBLICATION `+a.publication()+` DROP TABLE outbox`); err != nil {
					return err
				}
				a.chance(ctx, time.Second)
				return a.exec(ctx, `ALTER PUBLICATION `+a.publication()+` ADD TABLE outbox`)
			}, func() error { return a.repair(ctx) })
		},
	},
	{
		Name: "table-replaced", Row: 6, What: "the table renamed and another made in its place", Operator: true, Forgives: repaired,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, publicationHalts, func() error {
				return a.exec(ctx, `BEGIN; ALTER TABLE outbox RENAME TO outbox_old;
					CREATE TABLE outbox (LIKE outbox_old INCLUDING ALL); COMMIT`)
			}, func() error {
				return errors.Join(a.exec(ctx, copyReplaced), a.exec(ctx, `DROP PUBLICATION `+a.publication()), a.repair(ctx))
			})
		},
	},
	{
		Name: "table-replaced-unseen", Row: 6, What: "the same while no relay runs", Operator: true, Forgives: hidden,
		Run: func(ctx context.Context, a *Arena) error {
			return a.halts(ctx, publicationHalts, func() error {
				return a.whileDown(func() error {
					return a.exec(ctx, `BEGIN; ALTER TABLE outbox RENAME TO outbox_old;
						CREATE TABLE outbox (LIKE outbox_old INCLUDING ALL);
						ALTER PUBLICATION `+a.publication()+` SET TABLE outbox; COMMIT`)
				})
			}, func() error {
				return errors.Join(a.exec(ctx, copyReplaced), a.repair(ctx))
			})
		},
	},
	{
		Name: "column-renamed", Row: 6, What: "a column that the relay needs renamed; then the configuration follows", Operator: true,
		Run: func(ctx context.Context, a *Arena) error {
			a.writing.Lock() // they would only fail
			defer a.writing.Unlock()
			r := a.relays[0]
			return a.halts(ctx, []relay.HaltCode{relay.TableMismatch}, func() error {
				if err := a.exec(ctx, `ALTER TABLE outbox RENAME COLUMN aggregate_id TO entity`); err != nil {
					return err
				}
				e := event{id: formatID(a.writer.id(0)), topic: a.topics[0], key: "renamed", version: 1}
				return a.writer.emitRaw(ctx, e, `INSERT INTO outbox (id, aggregate_type, entity, event_type, payload, headers)
					VALUES ($1::text::uuid, $2, $3, $4, '{"key": "renamed", "version": 1, "tx": 0, "filler": ""}', '{"torture-tx": "0"}')`,
					e.id, e.topic, e.key, jsonType)
			}, func() error {
				err := r.configure(func(config map[string]any) {
					config["outbox"] = map[string]any{"columns": map[string]any{"aggregate_id": "entity"}}
				})
				if err == nil {
					err = r.restart(ctx)
				}
				if err != nil {
					return err
				}
				if _, ok := a.recover(ctx); !ok {
					return errors.New("the event with the renamed column does not arrive")
				}
				r.stop()
				err = errors.Join(a.exec(ctx, `ALTER TABLE outbox RENAME COLUMN entity TO aggregate_id`), r.configure(nil))
				if err != nil {
					return err
				}
				return r.comeBack(ctx)
			})
		},
	},
	{
		Name: "column-added", Row: 6, What: "a column added, filled and dropped",
		Run: func(ctx context.Context, a *Arena) error {
			if err := a.exec(ctx, `ALTER TABLE outbox ADD COLUMN region text DEFAULT 'north'`); err != nil {
				return err
			}
			a.chance(ctx, 2*time.Second)
			return a.exec(ctx, `ALTER TABLE outbox DROP COLUMN region`)
		},
	},
	{
		Name: "rows-changed", Row: 6, What: "rows updated and deleted",
		Run: func(ctx context.Context, a *Arena) error {
			return a.exec(ctx, `UPDATE outbox SET headers = '{"changed": "yes"}' WHERE aggregate_id = 'key-1'; DELETE FROM outbox WHERE aggregate_id = 'key-2'`)
		},
	},
	{
		Name: "truncate", Row: 6, What: "the table truncated",
		Run: func(ctx context.Context, a *Arena) error { return a.exec(ctx, `TRUNCATE outbox`) },
	},
	{
		Name: "partition-detached", Row: 6, What: "a partition detached and dropped, others made",
		Run: func(ctx context.Context, a *Arena) error {
			return a.exec(ctx, `CREATE TABLE outbox_past PARTITION OF outbox FOR VALUES FROM ('2001-01-01') TO ('2001-01-02');
				ALTER TABLE outbox DETACH PARTITION outbox_past; DROP TABLE outbox_past; SELECT outbox_create_partitions(9)`)
		},
	},
}

// copyReplaced does what the halt's hint says. What the relay had not read of the old table
// when it halted is nowhere else.
const copyReplaced = `INSERT INTO outbox SELECT * FROM outbox_old`

var publicationHalts = []relay.HaltCode{relay.PublicationMissing, relay.PublicationDrift}

// holdTime is for how long a halt is watched: the slot must not move.
const holdTime = 2 * time.Second

// confirmTime is how long what was acknowledged before a halt may take to be confirmed: the
// relay looks at the catalog once a second.
const confirmTime = 3 * time.Second

// halts injects what must lead to one of the halts, watches that it holds the slot, mends
// what was done, and waits for its end.
func (a *Arena) halts(ctx context.Context, codes []relay.HaltCode, inject, mend func() error) error {
	if err := inject(); err != nil {
		return err
	}
	r, began := a.relays[0], time.Now()
	in := func(s relay.StatusReport) bool {
		for _, code := range codes {
			if halted(s, code) {
				return true
			}
		}
		return false
	}
	if err := r.await(ctx, fmt.Sprintf("one of the halts %v", codes), in); err != nil {
		return errors.Join(err, mend())
	}
	a.notice("halt shown after", time.Since(began))
	// What was on its way when the relay halted may still be acknowledged and confirmed.
	_ = r.await(ctx, "nothing on its way", func(s relay.StatusReport) bool { return s.InFlight == 0 || !in(s) })
	pause(ctx, confirmTime)
	before, lsn := a.slots.last()
	for began := time.Now(); time.Since(began) < holdTime && pause(ctx, slotInterval); {
		if exists, confirmed := a.slots.last(); exists != before || confirmed != lsn {
			a.violate("I8", "in a halt the slot went from %s (exists: %t) to %s (exists: %t)", lsn, before, confirmed, exists)
			break
		}
	}
	a.watcher.hold(holdTime)
	if err := mend(); err != nil {
		return err
	}
	return r.await(ctx, "the halt's end", func(s relay.StatusReport) bool { return s.Phase == relay.PhaseStreaming && !in(s) })
}

// whileDown does something while no relay runs.
func (a *Arena) whileDown(do func() error) error {
	r := a.relays[0]
	r.kill()
	return errors.Join(do(), r.start())
}

// onSlot ends the walsender and runs a statement that takes the slot's name before the
// relay is back at it.
func (a *Arena) onSlot(ctx context.Context, statement string) error {
	conn, err := a.connect(ctx, "postrider torture")
	if err != nil {
		return err
	}
	defer closeConn(conn)
	waiting, cancel := context.WithTimeout(ctx, a.cfg.Patience)
	defer cancel()
	for {
		_, err := conn.Exec(waiting, `SELECT pg_terminate_backend(active_pid, 1000) FROM pg_replication_slots WHERE slot_name = $1 AND active`, a.slot())
		if err == nil {
			_, err = conn.Exec(waiting, statement, a.slot())
		}
		if err == nil || !pause(waiting, 5*time.Millisecond) {
			return err
		}
	}
}

// loseSlot writes more WAL than the slot may hold while the relay is down.
func (a *Arena) loseSlot(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, a.servers.PostgresURL)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	set := func(value string) error {
		if _, err := conn.Exec(ctx, `ALTER SYSTEM SET max_slot_wal_keep_size = '`+value+`'`); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `SELECT pg_reload_conf()`)
		return err
	}
	if err := set("1MB"); err != nil {
		return err
	}
	defer func() { _ = set("-1") }()
	a.relays[0].kill()
	waiting, cancel := context.WithTimeout(ctx, a.cfg.Patience)
	defer cancel()
	for lost := false; !lost; {
		_, err := conn.Exec(waiting, `SELECT pg_logical_emit_message(false, 'torture', repeat('x', 1000000)) FROM generate_series(1, 20)`)
		if err == nil {
			_, err = conn.Exec(waiting, `SELECT pg_switch_wal()`)
		}
		if err == nil {
			_, err = conn.Exec(waiting, `CHECKPOINT`)
		}
		if err == nil {
			err = conn.QueryRow(waiting, `SELECT coalesce(max(wal_status) = 'lost', false) FROM pg_replication_slots WHERE slot_name = $1`, a.slot()).Scan(&lost)
		}
		if err != nil {
			return fmt.Errorf("lose the slot: %w", err)
		}
	}
	return a.relays[0].start()
}

// repair does what the halts' hints say.
func (a *Arena) repair(ctx context.Context) error {
	began := time.Now()
	// It reaches the servers as the relay does, with the relay's configuration.
	cmd := a.command(ctx, "repair", "-c", a.relays[0].config, "--yes", "--log-format", "json", "--log-level", "info")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("postrider repair: %w\n%s", err, out)
	}
	a.log.Info("repaired", "output", string(out))
	a.notice("repair", time.Since(began))
	return nil
}

// restart stops the relay and starts it again.
func (i *instance) restart(ctx context.Context) error {
	i.stop()
	return i.comeBack(ctx)
}
