package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A failover slot (Postgres 17 and later) is copied to standbys, so that the relay goes on
// from it when one of them is promoted. Making the slot so is one command; the rest are
// settings of the servers, of which each missing one loses events or the slot on the day of
// the promotion. They are read and said here.

const (
	failoverVersion = 170000
	// alterTimeout is how long the server may wait for another relay that has just taken the slot.
	alterTimeout = 5 * time.Second
	// standbyParameter is the setting that makes the stream wait for standbys.
	standbyParameter = "synchronized_standby_slots"
)

// errInRecovery is returned while the server is a standby, where the relay cannot work.
var errInRecovery = errors.New("the server is a standby: the relay reads from the primary; " +
	"with several hosts in postgres.url, add target_session_attrs=primary")

// checkFailover returns the named halt for a server that has no failover slots.
func checkFailover(version int, cfg *Config) error {
	if version >= failoverVersion || cfg.Postgres.Failover == nil || !*cfg.Postgres.Failover {
		return nil
	}
	return halt(SlotMissing, "take postgres.failover out of the configuration, or upgrade Postgres",
		"postgres.failover needs Postgres 17, and the server is %d", version/10000)
}

// setFailover gives the slot the property that the configuration asks for, if it asks for any.
// A slot made by copying another does not inherit it.
func (s *Source) setFailover(ctx context.Context, cfg *Config, is bool) error {
	if cfg.Postgres.Failover == nil || *cfg.Postgres.Failover == is {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	command := fmt.Sprintf("ALTER_REPLICATION_SLOT %s (FAILOVER %t)", pgx.Identifier{s.slot}.Sanitize(), !is)
	if _, err := s.conn.Exec(ctx, command).ReadAll(); err != nil {
		return fmt.Errorf("set failover of slot %q: %w", s.slot, err)
	}
	s.log.Info("slot altered", "slot", s.slot, "failover", !is)
	return nil
}

// waitsForStandby reports whether a warning of the walsender says only that the stream waits
// for a standby. Nothing is lost by that, and it passes when the standby is back.
func waitsForStandby(n *pgconn.Notice) bool { return strings.Contains(n.Message, standbyParameter) }

// finding is something that is not as it should be, with what to do.
type finding struct{ problem, hint string }

// readPrimaryFailover returns what is missing on the primary for a promotion without loss.
func readPrimaryFailover(ctx context.Context, conn *pgx.Conn) ([]finding, error) {
	var setting string
	if err := conn.QueryRow(ctx, `SELECT current_setting($1)`, standbyParameter).Scan(&setting); err != nil {
		return nil, fmt.Errorf("read %s: %w", standbyParameter, err)
	}
	var names []string
	for name := range strings.SplitSeq(setting, ",") {
		if name = strings.Trim(name, ` "`); name != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return []finding{{standbyParameter + " is empty: a standby can be behind the slot, and events can be in Kafka that it does not have when it is promoted",
			"name the standby's physical slot in it on the primary, and reload"}}, nil
	}
	var found []finding
	for _, name := range names {
		var kind string
		var active, lost bool
		err := conn.QueryRow(ctx, `SELECT slot_type, active, coalesce(wal_status = 'lost', false) FROM pg_replication_slots WHERE slot_name = $1`, name).
			Scan(&kind, &active, &lost)
		problem := ""
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			problem = "there is no such slot"
		case err != nil:
			return nil, fmt.Errorf("look up slot %q: %w", name, err)
		case kind != "physical":
			problem = "it is not a physical slot"
		case lost:
			problem = "the server removed WAL that it needed"
		case !active:
			problem = "no standby reads it"
		}
		if problem != "" {
			found = append(found, finding{fmt.Sprintf("%s names slot %q, but %s: nothing is published until it is otherwise", standbyParameter, name, problem),
				"start or mend the standby, or take the slot out of " + standbyParameter})
		}
	}
	return found, nil
}

// adviseFailover logs what is missing on the primary, once.
func (r *Relay) adviseFailover(ctx context.Context, conn *pgx.Conn) {
	if r.cfg.Postgres.Failover == nil || !*r.cfg.Postgres.Failover {
		return
	}
	found, err := readPrimaryFailover(ctx, conn)
	if err != nil || fmt.Sprint(found) == r.advised {
		return // the same was said before, or the connection is gone, which the stream will tell
	}
	r.advised = fmt.Sprint(found)
	for _, f := range found {
		r.log.Warn("the slot is copied to standbys, but not everything is set for it", "problem", f.problem, "hint", f.hint)
	}
}

// readStandbyFailover returns what is missing on a standby for the slot to be there, and not
// behind, when it is promoted.
func readStandbyFailover(ctx context.Context, conn *pgx.Conn, slot string) ([]finding, error) {
	var walLevel, feedback, primarySlot, sync string
	var conninfo *string
	var synced, temporary *bool
	err := conn.QueryRow(ctx, `
		SELECT current_setting('wal_level'), current_setting('hot_standby_feedback'), current_setting('primary_slot_name'),
		       current_setting('sync_replication_slots'), (SELECT setting FROM pg_settings WHERE name = 'primary_conninfo'),
		       s.synced, s.temporary
		FROM (VALUES (1)) one LEFT JOIN pg_replication_slots s ON s.slot_name = $1`, slot).
		Scan(&walLevel, &feedback, &primarySlot, &sync, &conninfo, &synced, &temporary)
	if err != nil {
		return nil, fmt.Errorf("read the standby's settings: %w", err)
	}
	var found []finding
	want := func(ok bool, problem, hint string) {
		if !ok {
			found = append(found, finding{problem, hint})
		}
	}
	want(sync == "on", "sync_replication_slots is off: the slot is not copied to the standby", "set it to on and reload")
	want(feedback == "on", "hot_standby_feedback is off: the slot cannot be copied", "set it to on and reload")
	want(primarySlot != "", "primary_slot_name is empty: the slot cannot be copied", "make a physical slot on the primary and name it there")
	want(walLevel == "logical", "wal_level is "+walLevel+": the slot cannot be copied", "set it to logical and restart the standby")
	if conninfo != nil { // it may be hidden from the role
		conf, err := pgconn.ParseConfig(*conninfo)
		want(err != nil || strings.Contains(*conninfo, "dbname=") && conf.Database != "", "primary_conninfo names no dbname: the slot cannot be copied",
			"add dbname=… to it and reload")
	}
	want(synced != nil && *synced && !*temporary, fmt.Sprintf("slot %q is not there yet", slot),
		"when the settings are right, wait for the slot synchronization worker, and look into the standby's log")
	return found, nil
}
