package relay

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/maphash"
	"time"

	"golang.org/x/sync/errgroup"
)

// eventKey is an event's id in the least memory: a uuid's bytes, or of any other id a hash.
type eventKey [16]byte

func keyOf(id []byte) eventKey {
	if uuid, ok := parseUUID(string(id)); ok {
		return uuid
	}
	sum := sha256.Sum256(id)
	return eventKey(sum[:16])
}

// survey is what the kept rows are, and which of them Kafka has. It takes about a hundred
// bytes a row.
type survey struct {
	rows   []surveyedRow
	index  map[eventKey]int32
	topics map[string]struct{} // where they belong
	oldest time.Time           // zero where the rows carry no time
}

type surveyedRow struct {
	key     uint64 // hash of topic and aggregate id
	created int64  // microseconds, or the row's rank where rows carry no time
	present bool   // in Kafka
	old     bool   // from before the time that is asked for
}

// surveyTable reads all rows. A row that can be no event belongs to no topic, and counts as
// missing: what is to happen with it is decided when it is published.
func surveyTable(ctx context.Context, cfg *Config, progress func(rows int)) (*survey, error) {
	s := &survey{index: make(map[eventKey]int32), topics: make(map[string]struct{})}
	topics, err := parseTemplate(cfg.Outbox.Topic)
	if err != nil {
		return nil, fmt.Errorf("outbox.topic: %w", err)
	}
	ch := newChunks()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { // reads the table
		defer close(ch.filled)
		_, err := copySnapshot(ctx, cfg, "", 1, ch)
		return err
	})
	g.Go(func() error { // looks at its rows
		var (
			decoder = NewDecoder()
			router  = NewRouter(cfg, func(*Relation, ChangeKind) {})
			seed    = maphash.MakeSeed()
			change  Change
			event   Event
			topic   []byte
		)
		for c := range ch.filled {
			for rest := c.buf; len(rest) > 0; {
				var msg []byte
				_, msg, rest = nextMessage(rest)
				if err := decoder.Decode(msg, &change); err != nil {
					return err
				}
				switch change.Kind {
				case ChangeRelation:
					if err := router.Relate(change.Relation); err != nil {
						return err
					}
				case ChangeInsert:
					_, err := router.Route(&change, &event)
					topic = append(topic[:0], event.Topic...)
					if err == nil && len(topic) == 0 {
						topic, err = topics.appendTo(topic, &event)
					}
					s.add(&event, topic, err == nil && validTopic(topic), seed)
				}
			}
			progress(len(s.rows))
			ch.giveBack(c)
		}
		return nil
	})
	return s, g.Wait()
}

func (s *survey) add(ev *Event, topic []byte, routed bool, seed maphash.Seed) {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.Write(topic)
	_ = h.WriteByte(0)
	_, _ = h.Write(ev.AggregateID)
	row := surveyedRow{key: h.Sum64(), created: int64(len(s.rows))}
	if t, err := parseTimestamp(ev.CreatedAt); err == nil && !t.IsZero() {
		row.created = t.UnixMicro()
		if s.oldest.IsZero() || t.Before(s.oldest) {
			s.oldest = t
		}
	}
	if _, seen := s.topics[string(topic)]; routed && !seen {
		s.topics[string(topic)] = struct{}{}
	}
	s.index[keyOf(ev.ID)] = int32(len(s.rows))
	s.rows = append(s.rows, row)
}

// mark records that Kafka has the event.
func (s *survey) mark(id []byte) {
	if i, kept := s.index[keyOf(id)]; kept {
		s.rows[i].present = true
	}
}

// passesOver reports whether the event with this id is not to be published: Kafka has it, or
// nobody asked for it.
func (s *survey) passesOver(id []byte) bool {
	i, kept := s.index[keyOf(id)]
	return kept && (s.rows[i].present || s.rows[i].old)
}

// since leaves out the rows from before that time, where rows carry one.
func (s *survey) since(t time.Time) {
	if s.oldest.IsZero() || t.IsZero() {
		return
	}
	for i := range s.rows {
		s.rows[i].old = s.rows[i].created < t.UnixMicro()
	}
	if s.oldest.Before(t) {
		s.oldest = t
	}
}

// shortage is what Kafka lacks.
type shortage struct {
	rows, old      int
	oldest, newest time.Time // of the rows; zero where they carry no time
	// lateKeys counts the keys of which Kafka has a later event than one that it lacks, and
	// lateIDs are a few of those events.
	lateKeys int
	lateIDs  []eventKey
}

// maxLateIDs is how many examples a shortage names.
const maxLateIDs = 10

func (s *survey) shortage() (short shortage) {
	newest := make(map[uint64]int64) // of what Kafka has, by key
	for _, r := range s.rows {
		if r.present {
			newest[r.key] = max(newest[r.key], r.created)
		}
	}
	late := make(map[uint64]struct{})
	for id, i := range s.index {
		r := s.rows[i]
		if r.old {
			short.old++
		}
		if r.present || r.old {
			continue
		}
		short.rows++
		if !s.oldest.IsZero() {
			t := time.UnixMicro(r.created)
			if short.oldest.IsZero() || t.Before(short.oldest) {
				short.oldest = t
			}
			if t.After(short.newest) {
				short.newest = t
			}
		}
		if _, known := late[r.key]; !known && r.created < newest[r.key] {
			late[r.key] = struct{}{}
			if len(short.lateIDs) < maxLateIDs {
				short.lateIDs = append(short.lateIDs, id)
			}
		}
	}
	short.lateKeys = len(late)
	return short
}
