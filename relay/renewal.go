package relay

import (
	"context"
	"time"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// maxRenewals is how many subjects the registry is asked for at a time.
const maxRenewals = 4

// renewal is the registry's answer to the question for a subject that is in use already.
type renewal struct {
	version schemaregistry.SubjectVersion
	err     error
	at      time.Time
}

// latestOf returns the latest version of subject, as the registry has said within the
// configured time. It asks again when half of that time has passed, and goes on meanwhile,
// so that events whose schema is known do not wait. An event waits only where its subject is
// new, or was not seen for so long that what is known of it is out of date; and not even then
// while the registry is away.
func (s *schemas) latestOf(ctx context.Context, subject []byte, now time.Time) (*subjectSchema, error) {
	for {
		known := s.latest[string(subject)]
		if known == nil {
			if err := s.first(ctx, string(subject), now); err != nil {
				return nil, err
			}
			continue
		}
		age := now.Sub(known.fetched)
		if age < s.cfg.Registry.LatestTTL/2 {
			return known, nil
		}
		if known.renewal == nil && !s.renew(ctx, string(subject), known) {
			return known, nil // the next event asks
		}
		var r renewal
		if age < s.cfg.Registry.LatestTTL || s.away {
			select {
			case r = <-known.renewal:
			default:
				return known, nil
			}
		} else {
			select {
			case r = <-known.renewal:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if err := s.renewed(string(subject), known, r); err != nil {
			return nil, err
		}
	}
}

// renew asks the registry for the latest version of subject, unless enough is asked already.
func (s *schemas) renew(ctx context.Context, subject string, known *subjectSchema) bool {
	select {
	case s.renewals <- struct{}{}:
	default:
		return false
	}
	answer := make(chan renewal, 1)
	known.renewal = answer
	s.asking.Go(func() {
		v, err := s.registry.Latest(ctx, subject)
		<-s.renewals
		answer <- renewal{v, err, time.Now()}
	})
	return true
}

// renewed takes the registry's answer. What it says counts from when it was said, for it may
// have waited for the subject's next event.
func (s *schemas) renewed(subject string, known *subjectSchema, r renewal) error {
	known.renewal = nil
	if r.err != nil {
		err := s.registryError(r.err, subject)
		if asHalt(err) != nil {
			delete(s.latest, subject) // the next event asks and waits
			return err
		}
		if !s.away {
			s.away = true
			s.log.Warn("registry does not answer, going on with the known schemas", "subject", subject, "version", known.version, "error", err)
		}
		known.fetched = r.at // and ask again after another while
		return nil
	}
	if s.away {
		s.away = false
		s.log.Info("registry answers again")
	}
	next, err := s.use(subject, known, r.version)
	if err != nil {
		delete(s.latest, subject)
		return err
	}
	next.fetched = r.at
	return nil
}
