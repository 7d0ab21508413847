package relay

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"
)

// ReplayRequest says which parked keys are to be released.
type ReplayRequest struct {
	// Key is the key to release. Nil, together with All, stands for every key.
	Key *string
	All bool
	// Topic restricts the request to one topic. Nil is any.
	Topic *string
	// GiveUp names events, by id, that are not to be published any more, so that those behind
	// them can be. Their dead letters are what remains of them.
	GiveUp []string
}

// ReplayOutcome is what became of one parked key.
type ReplayOutcome struct {
	Topic    string   `json:"topic"`
	Key      string   `json:"key"`
	Released int      `json:"released"`         // events that were published
	GivenUp  int      `json:"given_up"`         // events that were not, as asked
	Parked   int      `json:"parked"`           // events that stay
	Code     HaltCode `json:"code,omitempty"`   // why they stay: the first of them
	Reason   string   `json:"reason,omitempty"` // in words
}

// ErrNotHaltKey says that the configuration has another on_poison, with which the
// dead-letter topic is not read.
var ErrNotHaltKey = errors.New("on_poison is not halt-key: the relay parks no keys now, " +
	"but those that were parked before may still wait in the dead-letter topic; " +
	"to see and release them, set on_poison: halt-key, here and for the relay")

// ErrNotParked says that an event that is to be given up is not parked.
var ErrNotParked = errors.New("not parked under what is asked for; see postrider replay --list")

// replayPoll is how often the dead-letter topic is looked at for answers.
const replayPoll = 100 * time.Millisecond

// ListParked reads from the dead-letter topic which keys are parked, those parked for
// longest first. It blocks until it has read all of it or ctx ends, and needs no relay.
func ListParked(ctx context.Context, cfg Config) ([]ParkedKey, error) {
	c, err := openForReplay(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.cut)()
	reader, err := c.readTopic(cfg.Kafka.DeadLetterTopic)
	if err != nil {
		return nil, because(ctx, err)
	}
	parked, err := readParked(ctx, reader)
	if err != nil {
		return nil, because(ctx, err)
	}
	return parked.list(math.MaxInt), nil
}

// readParked reads what is parked from the dead-letter topic.
func readParked(ctx context.Context, reader *topicReader) (*parkedKeys, error) {
	parked := newParkedKeys(nil)
	parked.reasons = math.MaxInt
	err := reader.read(ctx, func(t topicRecord) {
		if r, ok := readParkedRecord(t.key, t.headers, t.time.UnixMilli()); ok {
			parked.fold(&r, r.system, maxLSN)
		}
	})
	parked.settled()
	return parked, err
}

// checkGiveUp returns ErrNotParked, with its id, for an event that is to be given up and is
// none of the parked ones that the request is about.
func checkGiveUp(ctx context.Context, reader *topicReader, r *replayRequest) error {
	parked, err := readParked(ctx, reader)
	if err != nil {
		return err
	}
	ids := make(map[string]bool)
	for _, part := range parked.before(r, "", Position{LSN: maxLSN}) {
		for _, id := range parked.idsOf(&part, 0, len(part.events)) {
			ids[id] = true
		}
	}
	for _, id := range r.GiveUp {
		if !ids[id] {
			return fmt.Errorf("event %s is %w", id, ErrNotParked)
		}
	}
	return nil
}

// RequestReplay asks the relay of cfg to release parked keys, by a message in its stream,
// and waits for its answers: one for each key, in no particular order. progress, which may
// be nil, is told how many have come and how many there will be. Keys of which nothing is
// parked are answered with zeroes.
//
// An event of GiveUp that is not parked is the error ErrNotParked, and nothing is asked of the
// relay. When ctx ends the cause is returned with the answers so far. A request that was made stays
// made: the relay carries it out when it comes to it.
func RequestReplay(ctx context.Context, cfg Config, request ReplayRequest, progress func(answered, of int)) ([]ReplayOutcome, error) {
	c, err := openForReplay(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.cut)()
	reader, err := c.readTopic(cfg.Kafka.DeadLetterTopic)
	if err != nil {
		return nil, because(ctx, err)
	}
	id := rand.Text()
	asked := &replayRequest{id, request.Key, request.All, request.Topic, request.GiveUp}
	if len(request.GiveUp) > 0 {
		if err := checkGiveUp(ctx, reader, asked); err != nil {
			return nil, because(ctx, err)
		}
	}
	if err := reader.toEnd(); err != nil {
		return nil, because(ctx, err)
	}
	if err := emitReplay(ctx, cfg, asked); err != nil {
		return nil, because(ctx, err)
	}
	outcomes, of := []ReplayOutcome{}, 0
	seen := make(map[int]bool) // a relay that died in between answers twice
	for of == 0 || len(outcomes) < of {
		if err := sleep(ctx, replayPoll); err != nil {
			return outcomes, err
		}
		if len(reader.partitions) == 0 { // the answer makes the topic
			if reader, err = c.readTopic(cfg.Kafka.DeadLetterTopic); err != nil {
				return outcomes, because(ctx, err)
			}
		}
		err := reader.read(ctx, func(t topicRecord) {
			r, ok := readParkedRecord(t.key, t.headers, 0)
			if !ok || r.request != id || seen[r.answer] {
				return
			}
			seen[r.answer], of = true, r.answers
			outcomes = append(outcomes, ReplayOutcome{r.topic, r.key, r.released, r.givenUp, r.staying, HaltCode(r.code), r.reason})
			if progress != nil {
				progress(len(outcomes), of)
			}
		})
		if err != nil {
			return outcomes, because(ctx, err)
		}
	}
	return outcomes, nil
}

// because returns the cause of ctx's end, if it has ended, which closes the connections, and
// err otherwise.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// openForReplay connects to Kafka. It fills cfg's defaults.
func openForReplay(ctx context.Context, cfg *Config) (*cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	*cfg = cfg.withDefaults()
	if cfg.OnPoison != onPoisonHaltKey {
		return nil, ErrNotHaltKey
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return openCluster(cfg.Kafka, nil, slog.New(slog.DiscardHandler))
}

// emitReplay writes the request into the stream, in a transaction of its own.
func emitReplay(ctx context.Context, cfg Config, r *replayRequest) error {
	text, err := json.Marshal(replayMessage{r})
	if err != nil {
		return err
	}
	conn, err := cfg.Postgres.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, `SELECT pg_logical_emit_message(true, $1, $2::text)`, replayPrefix+cfg.Name, string(text)); err != nil {
		return fmt.Errorf("write the request: %w", postgresError(err))
	}
	return nil
}
