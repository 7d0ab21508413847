package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

// memory is what a relay leaves to the one that comes after it: how far it got, and what it
// read from. It is kept in Kafka, apart from the database it is to judge, as the metadata of
// offsets that the group kafka.group_id commits.
//
// An LSN is written here before it is confirmed to Postgres. So a slot that stands further
// on was moved by somebody else, and what is below the LSN is in Kafka even where the slot
// has not heard of it.
type memory struct {
	Repair      int64 // when the last repair began, in Unix seconds: with another slot, perhaps elsewhere
	Flushed     LSN
	Clean       bool   // the relay has stopped, and everything it sent was acknowledged
	System      string // identifier of the Postgres cluster
	Timeline    int32
	Slot        string
	Table       uint32 // OIDs
	Publication uint32
	Relation    uint32 // the row of table and publication in pg_publication_rel
	// The transactions that altered the publication and that row last.
	PublicationVersion, RelationVersion uint32
}

// writtenMemory is a memory as text. Brokers keep up to 4096 bytes by default.
type writtenMemory struct {
	Format      int    `json:"v"`
	Repair      int64  `json:"repair"`
	Flushed     string `json:"lsn"`
	Clean       bool   `json:"clean,omitempty"`
	System      string `json:"system"`
	Timeline    int32  `json:"timeline"`
	Slot        string `json:"slot"`
	Table       uint32 `json:"table"`
	Publication uint32 `json:"publication"`
	Relation    uint32 `json:"relation"`

	PublicationVersion uint32 `json:"publication_xmin"`
	RelationVersion    uint32 `json:"relation_xmin"`
}

const memoryFormat = 1

func (m *memory) String() string {
	text, err := json.Marshal(writtenMemory{
		memoryFormat, m.Repair, m.Flushed.String(), m.Clean, m.System, m.Timeline, m.Slot, m.Table, m.Publication, m.Relation,
		m.PublicationVersion, m.RelationVersion,
	})
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(text)
}

// parseMemory reads what String wrote, and returns nil for text that is no memory: a group
// of the same name may have been a consumer's. A memory of a newer version is an error, for
// to pass over it would be to forget.
func parseMemory(text string) (*memory, error) {
	var w writtenMemory
	if err := json.Unmarshal([]byte(text), &w); err != nil || w.Format == 0 {
		return nil, nil //nolint:nilnil,nilerr // no memory, no error
	}
	if w.Format != memoryFormat {
		return nil, fmt.Errorf("format %d is unknown to this version: use one that is as new as the last that ran", w.Format)
	}
	lsn, err := pglogrepl.ParseLSN(w.Flushed)
	if err != nil {
		return nil, err
	}
	return &memory{w.Repair, lsn, w.Clean, w.System, w.Timeline, w.Slot, w.Table, w.Publication, w.Relation, w.PublicationVersion, w.RelationVersion}, nil
}

// watch takes the objects that are read from now on.
func (m *memory) watch(facts *catalog) {
	m.Table, m.Publication, m.Relation = facts.TableOID, facts.Publication.OID, facts.Publication.RelationOID
	m.PublicationVersion, m.RelationVersion = facts.Publication.Version, facts.Publication.RelVersion
}

// after reports whether m was written later than other.
func (m *memory) after(other *memory) bool {
	if m.Repair != other.Repair {
		return m.Repair > other.Repair
	}
	return m.Flushed > other.Flushed
}

// check returns the named halt that a difference between then and now demands, or nil.
func (m *memory) check(ctx context.Context, conn *pgconn.PgConn, system pglogrepl.IdentifySystemResult, now *catalog, cfg *Config) error {
	if m.System != system.SystemID {
		return halt(SystemChanged, "check postgres.url; if this server is the right one: "+hintRepair,
			"the server is system %s, but the relay has read from %s", system.SystemID, m.System)
	}
	if m.Timeline == system.Timeline && m.Flushed > system.XLogPos {
		return halt(SystemChanged, "it was restored to an earlier point; if that is meant: "+hintRepair,
			"the server's WAL ends at %s, but what was published reaches to %s", system.XLogPos, m.Flushed)
	}
	if m.Slot != cfg.Postgres.Slot {
		return halt(SlotMissing, fmt.Sprintf("set postgres.slot to %q again, or: %s", m.Slot, hintRepair),
			"the relay has read from slot %q, but postgres.slot is %q", m.Slot, cfg.Postgres.Slot)
	}
	if m.Timeline != system.Timeline {
		if err := m.checkTimeline(ctx, conn, system); err != nil {
			return err
		}
	}
	if !now.Slot.Exists {
		return halt(SlotMissing, "rows may have passed it: "+hintRepair, "slot %q is gone", cfg.Postgres.Slot)
	}
	// A change that was made and unmade while nobody looked has lost rows all the same.
	if err := m.catalog().drift(now, cfg); err != nil {
		return err
	}
	if now.Slot.Confirmed > m.Flushed {
		return halt(SlotAhead, "somebody moved it or made it anew, and rows may have passed it: "+hintRepair,
			"slot %q stands at %s, but the relay confirmed only %s", cfg.Postgres.Slot, now.Slot.Confirmed, m.Flushed)
	}
	return nil
}

// checkTimeline tells a promotion that lost nothing from other changes of the timeline.
// Behind the place where the timelines part, what was published is not in this database, and
// its LSNs are used for the second time.
func (m *memory) checkTimeline(ctx context.Context, conn *pgconn.PgConn, now pglogrepl.IdentifySystemResult) error {
	changed := func(format string, args ...any) error {
		return halt(SystemChanged, "check postgres.url; if this server is the right one: "+hintRepair,
			"the server is on timeline %d, but the relay has read from %d: %w", now.Timeline, m.Timeline, fmt.Errorf(format, args...))
	}
	if now.Timeline < m.Timeline {
		return changed("it is older")
	}
	history, err := pglogrepl.TimelineHistory(ctx, conn, now.Timeline)
	if err != nil {
		return fmt.Errorf("read the history of timeline %d: %w", now.Timeline, postgresError(err))
	}
	parted, err := timelineEnd(history.Content, m.Timeline)
	if err != nil {
		return changed("%w", err)
	}
	if m.Flushed > parted {
		return changed("they part at %s, and what was published up to %s is not in this database", parted, m.Flushed)
	}
	return nil
}

// timelineEnd reads a history file (PostgreSQL manual, "Timelines"): where the timeline
// ended from which the next one came. Each line is timeline, LSN, reason.
func timelineEnd(history []byte, timeline int32) (LSN, error) {
	for line := range strings.Lines(string(history)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != strconv.Itoa(int(timeline)) {
			continue
		}
		return pglogrepl.ParseLSN(fields[1])
	}
	return 0, errors.New("it does not come from that one")
}

// catalog returns the objects that were read, as far as they are remembered.
func (m *memory) catalog() *catalog {
	return &catalog{TableOID: m.Table, Publication: publicationFacts{
		OID: m.Publication, RelationOID: m.Relation, Version: m.PublicationVersion, RelVersion: m.RelationVersion,
	}}
}
