package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

const (
	retryFirst = 20 * time.Millisecond
	retryLimit = 2 * time.Second
	// refusedRetry is how soon a request that the brokers do not permit is tried again.
	refusedRetry  = 5 * time.Second
	giveUpTimeout = 5 * time.Second
	// goneAfter is how many times an unknown topic is taken for one whose metadata are late.
	goneAfter = 5
)

// errProducerLost ends the session: records may have been appended that nobody
// acknowledged, and only a new producer, from the confirmed LSN on, keeps the order.
var errProducerLost = errors.New("the brokers do not accept this producer any more")

// result is the answer to a produce request, or why there is none.
type result struct {
	broker   *broker
	closed   int // broker.closed when the request was sent
	parts    []*partition
	response *sarama.ProduceResponse
	err      error
}

// refusal is a record that the broker will never take.
type refusal struct {
	id  string // of the event
	err *HaltError
}

func (r *refusal) Error() string { return r.err.Error() }

// handle takes the answer to a request.
func (p *Publisher) handle(r result) error {
	r.broker.requests--
	p.inFlight--
	if r.err == nil {
		failpoint(pointAppended)
	}
	var unsendable sarama.PacketEncodingError
	if errors.As(r.err, &unsendable) {
		// The request is larger than any broker takes; nothing was sent. Batches of several records
		// are far smaller, so the reason is one large record, and the others may go without it.
		largest := slices.MaxFunc(r.parts, func(a, b *partition) int { return cmp.Compare(len(a.batch.wire), len(b.batch.wire)) })
		for _, part := range r.parts {
			if part != largest {
				p.makeReady(part)
			}
		}
		return p.refused(largest, sarama.ErrMessageSizeTooLarge)
	}
	if r.err != nil {
		// Whether the batches were appended is unknown; they are sent again under the same
		// sequence numbers, and the broker says.
		if r.closed == r.broker.closed { // not the connection that came after it
			_ = r.broker.conn.Close()
			r.broker.closed++
		}
		if silent(r.err) {
			// The other connections may be as dead and not know it: only new ones tell.
			p.cluster.dialer.closeAll()
		}
		err := kafkaError(r.err)
		for _, part := range r.parts {
			p.later(part, err)
		}
		return nil
	}
	p.tickets = p.tickets[:0]
	var firstErr error
	for _, part := range r.parts {
		answer := r.response.GetBlock(part.topic, part.id)
		err := sarama.ErrNetworkException // an answer that leaves a batch out says nothing of it
		if answer != nil {
			err = answer.Err
		}
		switch judge(err) {
		case batchAppended:
			p.appended(part)
		case batchRetry:
			p.later(part, fmt.Errorf("produce to %s/%d: %w", part.topic, part.id, kafkaError(err)))
		case batchRefused:
			if refused := p.refused(part, err); refused != nil && firstErr == nil {
				firstErr = refused
			}
		case batchFatal:
			firstErr = fmt.Errorf("produce to %s/%d: %w: %w", part.topic, part.id, errProducerLost, err)
		}
	}
	if len(p.tickets) > 0 {
		p.checkpoint.Ack(p.tickets)
		failpoint(pointAcked)
	}
	return firstErr
}

// silent reports whether err is that of a broker that did not answer in time.
func silent(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// appended settles the batch of part.
func (p *Publisher) appended(part *partition) {
	n := len(part.batched)
	part.appended = part.batched[n-1].record().position
	dead := 0
	for _, q := range part.batched {
		r := q.record()
		p.tickets = append(p.tickets, r.ticket)
		if r.dead != "" {
			dead++
			p.metrics.deadLetter(r.dead)
		}
		if p.owed.any() {
			p.owed.settle(q.block.at(r.id))
		}
		q.block.unacked--
		if q.block.unacked == 0 {
			p.release(q.block)
		}
	}
	p.queued -= n
	p.metrics.setInFlight(p.queued)
	p.metrics.published(part.topic, n, dead)
	part.sequence = (part.sequence + int32(n)) & 0x7FFFFFFF // wraps to 0 as the protocol does
	p.settled(part)
	part.attempts = 0
	if part.troubled {
		part.troubled = false
		if p.troubled--; p.troubled == 0 {
			p.status.clear(componentKafka)
		}
	}
	if part.limit > 0 {
		part.limit += part.limit/8 + 1 // the broker's limit is tried again only now and then
		if part.limit >= batchRecords {
			part.limit = 0 // no batch has more
		}
	}
	part.state = partitionIdle
	if part.queue.len() > 0 {
		p.makeReady(part)
	}
}

func (p *Publisher) release(b *block) {
	p.budget.Release(int64(b.size))
	p.blocks.put(b)
}

// later puts part aside until its next attempt. Its batch, if it has one, stays as it is.
func (p *Publisher) later(part *partition, err error) {
	if bug(bugSkipFailedBatch) && part.batch != nil {
		p.tickets = p.tickets[:0]
		p.appended(part)
		p.checkpoint.Ack(p.tickets)
		return
	}
	wait := backoff(part.attempts, retryFirst, retryLimit)
	if part.attempts >= goneAfter && errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		err = halt(TopicMissing, "create the topic again with at least as many partitions, or restart the relay after that", "%w", err)
	}
	if asHalt(err) != nil {
		wait = refusedRetry
	}
	part.attempts++
	part.refresh = true
	part.retryAt = time.Now().Add(wait)
	part.state = partitionWaiting
	p.waiting = append(p.waiting, part)
	p.metrics.failed("kafka")
	if part.attempts > 1 || asHalt(err) != nil || silent(err) { // a leader that moves is no trouble yet
		if !part.troubled {
			part.troubled = true
			p.troubled++
		}
		p.status.trouble(componentKafka, err)
	}
}

// refused handles a batch that the broker will not take as it is, and has not appended. A
// batch of many is halved; a single record ends the session, and the encoder treats it as
// the configuration says when it meets it again.
func (p *Publisher) refused(part *partition, err sarama.KError) error {
	n := len(part.batched)
	if n > 1 {
		rest := part.queue.records[part.queue.head:]
		records := make([]queuedRecord, 0, n+len(rest))
		part.queue = recordQueue{records: append(append(records, part.batched...), rest...)}
		for _, q := range part.batched {
			p.unsent += q.record().memory()
		}
		p.settled(part)
		part.limit = (n + 1) / 2
		p.makeReady(part)
		return nil
	}
	b, r := part.batched[0].block, part.batched[0].record()
	code, hint := PoisonEvent, hintPoison
	if errors.Is(err, sarama.ErrMessageSizeTooLarge) || errors.Is(err, sarama.ErrMessageSetSizeTooLarge) {
		code = RecordTooLarge
		hint = "raise max.message.bytes of the topic or set on_poison (halt-key, dead-letter), and restart the relay"
	}
	h := halt(code, hint, "record of %d bytes for topic %q, key %q, at %s: %w", r.value.len(), part.topic, b.at(r.key), r.position, err)
	h.final, h.at = r.dead != "", r.position
	return &refusal{string(b.at(r.id)), h}
}

// giveUp takes the answers that are still on their way, so that what was appended is known
// to be, and returns why.
func (p *Publisher) giveUp(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(ctx, giveUpTimeout)
	defer cancel()
	for p.inFlight > 0 {
		select {
		case r := <-p.results:
			_ = p.handle(r) // the first failure is the one that counts
		case <-ctx.Done():
			return why
		}
	}
	return why
}
