package relay

import "context"

// A subject that is new holds its event up until the registry has answered, and one after the
// other a thousand new ones would hold up the start of a relay, at a distance for seconds. So
// the first of them has the registry asked for those behind it, several at a time.

// maxAhead is how many new subjects the registry is asked for at a time.
const maxAhead = 4

// firstAnswer is what the registry says of a subject that no event has waited for yet.
type firstAnswer struct {
	schema *subjectSchema
	err    error
}

// lookAhead has the registry asked for the new subjects in the rest of the chunk. It changes
// nothing of the encoder's, and leaves it to the events themselves to complain.
func (e *Encoder) lookAhead(ctx context.Context) {
	var (
		decoder = Decoder{relations: e.decoder.relations}
		change  Change
		event   Event
		subject []byte
	)
	for rest := e.rest; len(rest) > 0; {
		var tag byte
		var msg []byte
		tag, msg, rest = nextMessage(rest)
		if tag == tagProgress || ChangeKind(msg[0]) != ChangeInsert {
			if ChangeKind(msg[0]) == ChangeRelation && tag == tagWAL {
				return // from here on the columns may be others
			}
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
		if subject, err = e.subjectTemplate.appendTo(subject[:0], &event); err == nil {
			e.schemas.ask(ctx, subject)
		}
	}
}

// ask asks the registry for a subject that an event needs soon, unless it is known or asked
// for already.
func (s *schemas) ask(ctx context.Context, subject []byte) {
	if s.latest[string(subject)] != nil || s.asked[string(subject)] != nil {
		return
	}
	name, answer := string(subject), make(chan firstAnswer, 1)
	s.asked[name] = answer
	s.asking.Go(func() {
		var a firstAnswer
		if a.err = s.ahead.Acquire(ctx, 1); a.err == nil {
			a.schema, a.err = s.askFirst(ctx, name)
			s.ahead.Release(1)
		}
		answer <- a
	})
}

// askFirst runs beside the encoder.
func (s *schemas) askFirst(ctx context.Context, subject string) (*subjectSchema, error) {
	v, err := s.registry.Latest(ctx, subject)
	if err != nil {
		return nil, err
	}
	return s.compile(v)
}

// first makes the latest version of a subject that is new known. What the registry was asked
// ahead, but did not answer, the event asks itself, for it must know why.
func (s *schemas) first(ctx context.Context, subject string) error {
	answer := s.asked[subject]
	if answer == nil {
		s.lookAhead(ctx)
		_, err := s.fetchLatest(ctx, subject, nil)
		return err
	}
	delete(s.asked, subject)
	select {
	case a := <-answer:
		if a.err != nil {
			_, err := s.fetchLatest(ctx, subject, nil)
			return err
		}
		s.begin(subject, a.schema)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
