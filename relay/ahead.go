package relay

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// A subject that is new holds its event up until the registry has answered, and one after the
// other a thousand new ones would hold up the start of a relay, at a distance for seconds. So
// once the registry has answered for the first of them, it is asked for those behind it as
// well, several at a time.

// maxAhead is how many subjects the registry is asked for at a time.
const maxAhead = 4

// question is one to the registry for a subject that no event has waited for yet.
type question struct {
	subject string
	answer  chan firstAnswer // holds the one answer
}

type firstAnswer struct {
	schema *subjectSchema
	err    error
}

// lookAhead has the registry asked for the new subjects in the rest of the chunk, once for
// each chunk. It changes nothing else of the encoder's, and leaves it to the events themselves
// to complain.
func (e *Encoder) lookAhead(ctx context.Context) {
	if e.looked {
		return
	}
	e.looked = true
	var (
		decoder   = Decoder{relations: e.decoder.relations}
		change    Change
		event     Event
		subject   []byte
		questions []question
	)
	defer func() { e.schemas.ask(ctx, questions) }()
	for rest := e.rest; len(rest) > 0; {
		var tag byte
		var msg []byte
		tag, msg, rest = nextMessage(rest)
		if tag == tagProgress {
			continue
		}
		switch ChangeKind(msg[0]) {
		case ChangeRelation:
			return // from here on the columns may be others
		case ChangeInsert:
		default:
			continue
		}
		if err := decoder.Decode(msg, &change); err != nil {
			return
		}
		route := e.router.routes[change.Relation.OID]
		if route == nil || route.fill(change.New, &event) != nil || event.Payload == nil {
			continue
		}
		if _, pinned := event.header(headerSchemaVersion); pinned {
			continue
		}
		var err error
		if subject, err = e.subjectTemplate.appendTo(subject[:0], &event); err != nil {
			continue
		}
		if s := e.schemas; s.latest[string(subject)] == nil && s.asked[string(subject)] == nil {
			q := question{string(subject), make(chan firstAnswer, 1)}
			s.asked[q.subject] = q.answer
			questions = append(questions, q)
		}
	}
}

// ask puts the questions to the registry, in their order.
func (s *schemas) ask(ctx context.Context, questions []question) {
	s.asking.Go(func() {
		var g errgroup.Group
		g.SetLimit(maxAhead)
		for _, q := range questions {
			g.Go(func() error {
				var a firstAnswer
				v, err := s.registry.Latest(ctx, q.subject)
				if a.err = err; err == nil {
					a.schema, a.err = s.compile(v)
				}
				q.answer <- a
				return nil
			})
		}
		_ = g.Wait() // they return nil
	})
}

// first makes the latest version of a subject that is new known. Where no answer of use came
// to the question that was put ahead, the event asks itself, and knows why.
func (s *schemas) first(ctx context.Context, subject string, now time.Time) error {
	if answer := s.asked[subject]; answer != nil {
		select {
		case a := <-answer:
			delete(s.asked, subject)
			if a.err == nil && now.Sub(a.schema.fetched) < s.cfg.Registry.LatestTTL {
				s.begin(subject, a.schema)
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if _, err := s.fetchLatest(ctx, subject, nil); err != nil {
		return err
	}
	s.lookAhead(ctx)
	return nil
}
