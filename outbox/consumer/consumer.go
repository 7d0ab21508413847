package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// Run consumes until ctx ends, and then returns nil when everything is stopped: within
// Config.Grace if the handlers end with their context. It returns an error at once for a wrong
// configuration, and at the start if Kafka cannot be reached, or after ten seconds if the
// dead-letter topic does not exist. Later it waits for Kafka, with a line in the log.
//
// One process may call it several times, for several groups or as several members of one.
func Run(ctx context.Context, config Config) error {
	cfg, err := config.complete()
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	schemas, err := newSchemas(cfg.Registry, cfg.Schemas)
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	client, err := sarama.NewClient(cfg.Brokers, cfg.Kafka)
	if err != nil {
		return fmt.Errorf("consumer: connect to Kafka at %s: %w", strings.Join(cfg.Brokers, ","), err)
	}
	defer client.Close()
	if err := awaitTopic(ctx, client, cfg.DeadLetterTopic); err != nil {
		return fmt.Errorf("consumer: dead-letter topic %s: %w (create it first)", cfg.DeadLetterTopic, err)
	}
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	defer producer.Close()
	group, err := sarama.NewConsumerGroupFromClient(cfg.Group, client)
	if err != nil {
		return fmt.Errorf("consumer: group %s: %w", cfg.Group, err)
	}

	l := &loop{cfg: cfg, schemas: schemas, producer: producer, log: cfg.Log.With("group", cfg.Group)}
	var errorsEnd sync.WaitGroup
	errorsEnd.Go(func() { // reports what sarama retries itself; ends with group.Close
		for err := range group.Errors() {
			l.log.Warn("trouble with Kafka", "error", err)
		}
	})
	defer errorsEnd.Wait()
	defer group.Close()

	for failures := 0; ctx.Err() == nil; {
		started := time.Now()
		err := group.Consume(ctx, cfg.Topics, &session{loop: l, run: ctx}) // returns at every rebalance, too
		if err == nil || ctx.Err() != nil {
			failures = 0
			continue
		}
		if time.Since(started) > cfg.MaxBackoff {
			failures = 0
		}
		failures++
		l.log.Warn("cannot consume, trying again", "topics", cfg.Topics, "error", err)
		pause(ctx.Done(), l.backoff(failures))
	}
	return nil
}

// topicPatience is how long a topic may be unknown to the brokers: they hear of one that was
// just made a while after whoever made it.
const topicPatience = 10 * time.Second

// awaitTopic returns nil when the brokers know the topic, and their answer if they do not get
// to know it.
func awaitTopic(ctx context.Context, client sarama.Client, topic string) error {
	for deadline := time.Now().Add(topicPatience); ; {
		err := client.RefreshMetadata(topic)
		if err == nil {
			_, err = client.Partitions(topic)
		}
		unknown := errors.Is(err, sarama.ErrUnknownTopicOrPartition) || errors.Is(err, sarama.ErrLeaderNotAvailable)
		if !unknown || time.Now().After(deadline) || !pause(ctx.Done(), 100*time.Millisecond) {
			return err
		}
	}
}

// loop is what all sessions of a Run share.
type loop struct {
	cfg      Config
	schemas  *schemas
	producer sarama.SyncProducer
	log      *slog.Logger
}

// backoff is the pause after that many failures in a row.
func (l *loop) backoff(failures int) time.Duration {
	d := l.cfg.MaxBackoff
	// Compared from above, so that a shift cannot overflow.
	if n := failures - 1; n < 62 && l.cfg.MinBackoff <= l.cfg.MaxBackoff>>n {
		d = l.cfg.MinBackoff << n
	}
	return d - rand.N(d/2+1)
}

// pause waits, and reports false if done was closed first.
func pause(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return false
	case <-timer.C:
		return true
	}
}

// errRevoked is why the context of a handler ends.
var errRevoked = errors.New("the partition is no longer this consumer's")

// session is one membership in the group, with the partitions that came with it.
type session struct {
	*loop
	run  context.Context //nolint:containedctx // that of Run; sarama has no place for it
	work context.Context //nolint:containedctx // that of the handlers
	end  context.CancelCauseFunc
}

// Setup makes the context of the handlers, which outlives the session's by the grace. It is
// called once, before the first claim.
func (s *session) Setup(sess sarama.ConsumerGroupSession) error {
	s.work, s.end = context.WithCancelCause(context.WithoutCancel(s.run))
	context.AfterFunc(sess.Context(), func() {
		// While we stop, or the group waits for us to join again, nobody else has the partitions.
		cause := context.Cause(sess.Context())
		ours := s.run.Err() != nil || errors.Is(cause, sarama.ErrRebalanceInProgress) ||
			errors.Is(cause, sarama.ErrSessionPartitionCountChanged) || errors.Is(cause, sarama.ErrSessionConsumeClaimExited)
		if ours && !pause(s.work.Done(), s.cfg.Grace) {
			return
		}
		s.end(errRevoked)
	})
	s.log.Info("joined the group", "member", sess.MemberID(), "generation", sess.GenerationID(), "claims", sess.Claims())
	return nil
}

// Cleanup is called when no claim is at work any more.
func (s *session) Cleanup(sess sarama.ConsumerGroupSession) error {
	s.end(nil)
	s.log.Info("left the group's generation", "generation", sess.GenerationID(), "reason", context.Cause(sess.Context()))
	return nil
}

// ConsumeClaim handles the records of one partition, one after the other.
func (s *session) ConsumeClaim(sess sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case <-sess.Context().Done():
			return nil
		case msg, ok := <-claim.Messages():
			// Closed when the partition is taken away, which need not end the session.
			if !ok || !s.settle(sess.Context().Done(), msg) {
				return nil
			}
			sess.MarkMessage(msg, "")
		}
	}
}
