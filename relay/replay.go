package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A key that is parked is released by a logical message that `postrider replay` writes into
// the database (PostgreSQL manual, pg_logical_emit_message). So a release has its place in
// the stream: every event of the key before it was parked, every one after it follows the
// released ones. It holds the slot like an event does, and a relay that dies under it meets
// it again.

const (
	replayPrefix = "postrider/" // and the relay's name
	// replayRows is how many rows are fetched at a time.
	replayRows = 64
	// answersAtOnce is for how many keys acknowledgements are awaited together.
	answersAtOnce = 1000
)

// replayRequest is what the message says: {"replay": {"topic": "orders", "key": "42"}}.
type replayRequest struct {
	// ID is quoted by the answers.
	ID string `json:"id,omitempty"`
	// Key is the key to release; nil with All for every key.
	Key *string `json:"key,omitempty"`
	All bool    `json:"all,omitempty"`
	// Topic restricts it to one topic; empty is the one that cannot be told, nil any.
	Topic *string `json:"topic,omitempty"`
	// GiveUp names events that are not to be published: their dead letters are what remains.
	GiveUp []string `json:"give_up,omitempty"`
}

// replayMessage is the content of a logical message for a relay.
type replayMessage struct {
	Replay *replayRequest `json:"replay"`
}

// maxReplayID bounds the part of a message that comes back in headers.
const maxReplayID = 64

// readReplayRequest reads a message's content.
func readReplayRequest(content []byte) (*replayRequest, error) {
	var m replayMessage
	if err := json.Unmarshal(content, &m); err != nil {
		return nil, err
	}
	r := m.Replay
	switch {
	case r == nil:
		return nil, errors.New(`it has no "replay"`)
	case (r.Key == nil) != r.All:
		return nil, errors.New(`it must have either "key" or "all": true`)
	case len(r.ID) > maxReplayID || slices.ContainsFunc([]byte(r.ID), func(c byte) bool { return c <= ' ' || c >= 0x7F }):
		return nil, fmt.Errorf("its id is not of at most %d visible characters", maxReplayID)
	}
	return r, nil
}

// names reports whether the request concerns a key of a topic.
func (r *replayRequest) names(topic, key string) bool {
	return (r.Key == nil || *r.Key == key) && (r.Topic == nil || *r.Topic == topic)
}

// asksForReplay reports whether a message is for this relay.
func (e *Encoder) asksForReplay(c *Change) bool {
	return e.parked != nil && len(c.Prefix) == len(replayPrefix)+len(e.cfg.Name) && string(c.Prefix) == replayPrefix+e.cfg.Name
}

// replay carries out a request. What is malformed is said and passed over: it holds nobody
// up.
func (e *Encoder) replay(ctx, stop context.Context, c *Change) error {
	request, err := readReplayRequest(c.Content)
	if err == nil && (!c.Transactional || !e.open) {
		err = errors.New("it is not transactional")
	}
	if err != nil {
		e.metrics.failed("replay")
		e.log.Warn("a request to replay is passed over", "lsn", c.LSN.String(), "error", err)
		return nil
	}
	if e.position.LSN < e.skipBefore {
		return nil // carried out, as far as Kafka knows
	}
	e.parked.begin(e.position.LSN, e.checkpoint.Flushed)
	r := &release{Encoder: e, request: request, at: e.position}
	defer r.rows.close()
	r.parts = e.parked.before(request, e.system, e.position)
	if len(r.parts) == 0 {
		none := parkedPart{system: e.system}
		if request.Key != nil {
			none.key = *request.Key
		}
		if request.Topic != nil {
			none.topic = *request.Topic
		}
		r.parts = append(r.parts, none)
	}
	for i := range r.parts {
		if err := r.part(ctx, stop, i); err != nil {
			return err
		}
		if len(r.answers) == answersAtOnce || i == len(r.parts)-1 {
			if err := r.answerAll(ctx, stop); err != nil {
				return err
			}
		}
	}
	e.position = r.at
	return nil
}

// release is a request under way.
type release struct {
	*Encoder
	request *replayRequest
	parts   []parkedPart
	at      Position // of the next record
	rows    outboxRows
	answers []parkedRecord // to be given when the events are acknowledged
}

// part releases what it can of one part, in order.
func (r *release) part(ctx, stop context.Context, i int) error {
	p := &r.parts[i]
	answer := parkedRecord{
		releases: true, topic: p.topic, key: p.key, system: p.system,
		request: r.request.ID, answer: i + 1, answers: len(r.parts),
	}
	refused, err := r.events(ctx, stop, p, &answer)
	if err != nil {
		return err
	}
	// Whatever became of the events, what follows keeps its position.
	answer.at = Position{r.at.LSN, r.at.Index + uint32(len(p.events))}
	answer.staying = len(p.events) - answer.released - answer.givenUp
	if refused != nil {
		answer.code, answer.reason = string(refused.Code), refused.Err.Error()
	}
	r.parked.release(&answer)
	r.answers = append(r.answers, answer)
	r.at = Position{answer.at.LSN, answer.at.Index + 1}
	return nil
}

// answerAll gives the answers. They are what the next relay believes, so the events have to
// be in Kafka before: the brokers may refuse one of them yet.
func (r *release) answerAll(ctx, stop context.Context) error {
	if err := r.flush(ctx); err != nil {
		return err
	}
	if err := r.checkpoint.awaitSettled(ctx, stop, r.ticket); err != nil {
		return cmp.Or(context.Cause(ctx), errStopped)
	}
	for i := range r.answers {
		answer := &r.answers[i]
		if err := r.insist(ctx, stop, answer.at, func() error { return r.answer(answer) }); err != nil {
			return err
		}
		r.say(answer)
	}
	r.answers = r.answers[:0]
	return nil
}

func (r *release) say(answer *parkedRecord) {
	attrs := []any{"topic", answer.topic, "key", answer.key, "events", answer.released, "given_up", answer.givenUp, "lsn", answer.at.String()}
	switch {
	case answer.code != "":
		r.log.Warn("key stays parked", append(attrs, "parked_events", answer.staying, "code", answer.code, "error", answer.reason)...)
	case answer.released+answer.givenUp == 0:
		r.log.Warn("a request to replay names nothing that is parked", attrs...)
	default:
		r.log.Info("key is released", attrs...)
	}
}

// events publishes the events of p in their order, up to the first that still cannot be.
func (r *release) events(ctx, stop context.Context, p *parkedPart, answer *parkedRecord) (refused *HaltError, err error) {
	if p.topic == "" {
		if h := r.blocked(p.key, ""); h != nil {
			return h, nil
		}
	}
	defer func() { r.replaying = nil }()
	var ids []string // of the events from i on, as far as they are fetched together
	for i := 0; i < len(p.events); {
		if stop.Err() != nil {
			return nil, errStopped
		}
		if len(ids) == 0 {
			ids = r.parked.idsOf(p, i, replayRows)
		}
		at, original := Position{r.at.LSN, r.at.Index + uint32(i)}, p.events[i].at
		if slices.Contains(r.request.GiveUp, ids[0]) {
			answer.givenUp++
		} else {
			r.replaying = &original
			h, err := r.one(ctx, stop, p, ids, at)
			if h != nil || err != nil {
				return h, err
			}
			answer.released++
		}
		answer.through = original
		ids = ids[1:]
		i++
		if len(r.block.bytes) >= chunkSize {
			if err := r.flush(ctx); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// one publishes the event that is the first of ids, and stands at it while it has to wait.
func (r *release) one(ctx, stop context.Context, p *parkedPart, ids []string, at Position) (refused *HaltError, err error) {
	for {
		err := r.rows.read(ctx, r.cfg, ids, &r.event)
		if err == nil {
			err = r.attemptRelease(ctx, p, at)
		}
		if err == nil {
			r.goesOn()
			return nil, nil
		}
		if h := asHalt(err); h != nil && h.onEvent() {
			return h, nil
		}
		r.rows.close()
		if err := r.stand(ctx, stop, at, err); err != nil {
			return nil, err
		}
	}
}

// attemptRelease makes a record of the event in r.event, which belongs to p.
func (r *release) attemptRelease(ctx context.Context, p *parkedPart, at Position) error {
	topic, err := r.topicName(&r.event)
	if err == nil && (string(topic) != p.topic || string(r.event.AggregateID) != p.key) {
		// The row was mended, or the event is one of a key whose topic could not be told.
		if h := r.blocked(string(r.event.AggregateID), string(topic)); h != nil {
			return h
		}
	}
	r.clock = time.Now()
	return r.record(ctx, &r.event, at)
}

// blocked returns why no event of this key and topic may be released before others; any
// topic but the unknown one stands for all. Positions in the future of the stream do not
// count.
func (r *release) blocked(key, topic string) *HaltError {
	asked := &replayRequest{Key: &key}
	if topic != "" {
		asked.Topic = &topic
	}
	for _, p := range r.parked.before(asked, r.system, r.at) {
		if p.topic != "" {
			return halt(PoisonEvent, "release that first", "the key is parked for topic %q too, and from before", p.topic)
		}
	}
	return nil
}

// insist calls do until it succeeds, standing in between.
func (r *release) insist(ctx, stop context.Context, at Position, do func() error) error {
	for {
		err := do()
		if err == nil {
			r.goesOn()
			return nil
		}
		if err := r.stand(ctx, stop, at, err); err != nil {
			return err
		}
	}
}
