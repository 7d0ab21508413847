package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/postrider/postrider/outbox/inbox"
)

// settle deals with a record until it is handled, known or a dead letter, and reports whether
// it is: if not, the session has ended. What is not settled comes again.
func (s *session) settle(sessionEnds <-chan struct{}, msg *sarama.ConsumerMessage) bool {
	log := s.log.With("topic", msg.Topic, "partition", msg.Partition, "offset", msg.Offset)
	failures, waits := 0, 0
	for {
		select {
		case <-sessionEnds:
			return false
		default:
		}
		ran, err := s.attempt(msg)
		switch {
		case err == nil:
			outcome := Duplicate
			if ran {
				outcome = Handled
			}
			s.cfg.Count(msg.Topic, outcome)
			if failures+waits > 0 {
				log.Info("the event went through", "failures", failures, "waits", waits)
			}
			return true
		case s.work.Err() != nil:
			return false
		case isTrouble(err):
			if waits++; waits == 1 {
				log.Warn("the event has to wait", "error", err)
			}
			s.cfg.Count(msg.Topic, Waited)
			if !pause(sessionEnds, s.backoff(waits)) {
				return false
			}
		default:
			waits = 0
			failures++
			s.cfg.Count(msg.Topic, Failed)
			if isFinal(err) || failures >= s.cfg.Attempts {
				return s.bury(sessionEnds, msg, err, failures)
			}
			if failures == 1 {
				log.Warn("the event failed, trying again", "error", err)
			}
			if !pause(sessionEnds, s.backoff(failures)) {
				return false
			}
		}
	}
}

// attempt reads a record and hands it to the handler, whose panic is an error.
func (s *session) attempt(msg *sarama.ConsumerMessage) (ran bool, err error) {
	r, err := s.read(msg)
	if err != nil {
		return false, err
	}
	ctx := inbox.WithHeaders(s.work, r.Headers)
	return s.cfg.Handler(ctx, s.cfg.Inbox, s.cfg.Group, r)
}

// bury sends a record to the dead-letter topic, and reports whether that has it: if not, the
// session has ended.
func (s *session) bury(sessionEnds <-chan struct{}, msg *sarama.ConsumerMessage, cause error, failures int) bool {
	log := s.log.With("topic", msg.Topic, "partition", msg.Partition, "offset", msg.Offset, "dead_letter_topic", s.cfg.DeadLetterTopic)
	for refused := 1; ; refused++ {
		if s.work.Err() != nil {
			return false // somebody else may be at it already
		}
		letter := newDeadLetter(msg, s.cfg.DeadLetterTopic, s.cfg.Group, cause, failures)
		_, _, err := s.producer.SendMessage(letter)
		if err == nil {
			s.cfg.Count(msg.Topic, DeadLettered)
			log.Error("the event is a dead letter", "failures", failures, "error", cause)
			return true
		}
		if refused == 1 {
			log.Error("the event cannot become a dead letter, trying again", "error", err)
		}
		s.cfg.Count(msg.Topic, Waited)
		if !pause(sessionEnds, s.backoff(refused)) {
			return false
		}
	}
}

// Codes that the header postrider-error-code of a dead letter can have.
const (
	CodeFailed         = "HANDLER_FAILED"   // the handler failed as often as it may
	CodeRefused        = "HANDLER_REFUSED"  // the handler returned Final
	CodeNoID           = "NO_EVENT_ID"      // no header ce_id, or none that the inbox can hold
	CodeUndecodable    = "UNDECODABLE"      // the value is not what its schema says, or not Confluent's wire format
	CodeSchemaNotFound = "SCHEMA_NOT_FOUND" // the registry does not know the ID in the value, at any attempt
)

// Final marks an error of a handler as one that another attempt cannot change: the event
// becomes a dead letter at once. It is nil for nil.
func Final(err error) error {
	if err == nil {
		return nil
	}
	return &codedError{CodeRefused, err}
}

// codedError is an error with a code of its own.
type codedError struct {
	code string
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func coded(code, format string, args ...any) error {
	return &codedError{code, fmt.Errorf(format, args...)}
}

func codeOf(err error) string {
	var e *codedError
	if errors.As(err, &e) {
		return e.code
	}
	return CodeFailed
}

// isFinal tells whether another attempt is in vain. A schema that is not found may only not
// have reached the registry's replica yet.
func isFinal(err error) bool {
	code := codeOf(err)
	return code != CodeFailed && code != CodeSchemaNotFound
}

// troubleError is an error that is not the event's, and passes.
type troubleError struct{ err error }

func (e *troubleError) Error() string { return e.err.Error() }
func (e *troubleError) Unwrap() error { return e.err }

func isTrouble(err error) bool {
	var trouble *troubleError
	return errors.As(err, &trouble)
}

// Handler handles one event as consumer, once, and reports as inbox.Once does. It returns an
// error with nothing done if ctx ended before the commit. Pgx and SQL make them.
type Handler func(ctx context.Context, box *inbox.Inbox, consumer string, r *Record) (ran bool, err error)
