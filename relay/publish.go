package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/sync/semaphore"
)

const (
	// batchBytes bounds a batch before compression, so that it fits the brokers' default of
	// one megabyte after it whatever it holds. A single record may be larger.
	batchBytes = 512 << 10
	// requestBytes bounds a request.
	requestBytes = 4 << 20

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

// A partition is where records queue. Only the publisher's goroutine touches it, but for
// what does not change.
type partition struct {
	topic string
	id    int32
	// known is the position of the last record that earlier sessions appended. Positions
	// rise along a partition, so whatever is not above it is in Kafka already.
	known Position

	appended Position // of the last record that this session appended
	queue    recordQueue
	batch    *sarama.RecordBatch // on its way or waiting to be sent again; nil for none
	batched  []queuedRecord
	sequence int32 // of the next new batch
	limit    int   // records in a batch; 0 for no limit but bytes
	attempts int
	retryAt  time.Time
	refresh  bool // ask the cluster for the leader
	troubled bool // counted in the publisher's troubled
	state    partitionState
}

// partitionState says which of the publisher's lists a partition stands in: never in two,
// or its batch could be sent and settled twice.
type partitionState byte

const (
	partitionIdle    partitionState = iota // nothing to send
	partitionReady                         // in ready: something to send
	partitionSent                          // its batch is on the way
	partitionWaiting                       // in waiting: for retryAt
)

type queuedRecord struct {
	block *block
	index int32
}

func (q queuedRecord) record() *sarama.Record { return &q.block.records[q.index] }
func (q queuedRecord) meta() *recordMeta      { return &q.block.meta[q.index] }

// recordQueue is a first-in-first-out queue that reuses its memory.
type recordQueue struct {
	records []queuedRecord
	head    int
}

func (q *recordQueue) len() int            { return len(q.records) - q.head }
func (q *recordQueue) push(r queuedRecord) { q.records = append(q.records, r) }
func (q *recordQueue) peek(i int) queuedRecord {
	return q.records[q.head+i]
}

// pop removes the first n records.
func (q *recordQueue) pop(n int) {
	q.head += n
	if q.head == len(q.records) {
		q.records, q.head = q.records[:0], 0
	} else if q.head > len(q.records)/2 {
		q.records = q.records[:copy(q.records, q.records[q.head:])]
		q.head = 0
	}
}

// refusal is a record that the broker will never take.
type refusal struct {
	id  string // of the event
	err *HaltError
}

func (r *refusal) Error() string { return r.err.Error() }

// Publisher produces records: acks=all, idempotent, one batch of a partition on its way at
// a time, so that no record overtakes another whatever fails. Batches grow while one is on
// its way and leave at once when none is: there is no linger.
//
// All state belongs to the goroutine that calls Run.
type Publisher struct {
	cluster    *cluster
	checkpoint *Checkpoint
	status     *Status
	metrics    *metrics
	owed       *deadLetters
	codec      sarama.CompressionCodec

	in      chan *block // from the encoder, which closes it
	results chan result // from sarama's response goroutines
	free    chan *block // empty blocks
	budget  *semaphore.Weighted
	limit   int64 // of the budget

	producerID    int64
	producerEpoch int16

	brokers  map[int32]*broker
	ready    []*partition
	waiting  []*partition
	inFlight int // requests
	queued   int // records that are not acknowledged
	troubled int // partitions that fail again and again
	tickets  []Ticket
}

type broker struct {
	conn     *sarama.Broker
	requests int
	closed   int // how often the connection was closed after a failure
}

type result struct {
	broker   *broker
	closed   int // broker.closed when the request was sent
	parts    []*partition
	response *sarama.ProduceResponse
	err      error
}

func newPublisher(cl *cluster, cfg *Config, cp *Checkpoint, status *Status, m *metrics) (*Publisher, error) {
	p := &Publisher{
		cluster: cl, checkpoint: cp, status: status, metrics: m,
		codec:   compressionCodecs[cfg.Kafka.Compression],
		in:      make(chan *block, 4),
		results: make(chan result, 256), // so that a response never waits for us

		free:    make(chan *block, 8*chunkCount),
		limit:   int64(cfg.Kafka.MaxInFlightBytes),
		budget:  semaphore.NewWeighted(int64(cfg.Kafka.MaxInFlightBytes)),
		brokers: make(map[int32]*broker),
		owed:    new(deadLetters),
	}
	var err error
	p.producerID, p.producerEpoch, err = cl.producer()
	return p, err
}

// take returns an empty block. It belongs to the encoder until submit.
func (p *Publisher) take() *block {
	select {
	case b := <-p.free:
		return b
	default:
		return new(block)
	}
}

// submit hands b over to the publisher. It waits while more is on its way than the
// configuration allows, until ctx ends.
func (p *Publisher) submit(ctx context.Context, b *block) error {
	b.size = int(min(int64(b.memory()), p.limit))
	b.unacked = len(b.records)
	if err := p.budget.Acquire(ctx, int64(b.size)); err != nil {
		return err
	}
	select {
	case p.in <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run produces until the encoder has closed its side and every record is acknowledged
// (nil), until ctx ends, or until the producer cannot go on.
func (p *Publisher) Run(ctx context.Context) error {
	in := p.in
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for in != nil || p.queued > 0 {
		select {
		case b, ok := <-in:
			if !ok {
				in = nil
				break
			}
			p.enqueue(b)
			p.enqueueMore(&in)
		case r := <-p.results:
			if err := p.handle(r); err != nil {
				return p.giveUp(ctx, err)
			}
		case <-retry.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		p.wake(time.Now())
		if err := p.send(ctx); err != nil {
			return p.giveUp(ctx, err)
		}
		p.arm(retry)
	}
	return nil
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

// enqueueMore takes what else has come in, so that it travels in the same batches.
func (p *Publisher) enqueueMore(in *chan *block) {
	for range cap(p.in) {
		select {
		case b, ok := <-*in:
			if !ok {
				*in = nil
				return
			}
			p.enqueue(b)
		default:
			return
		}
	}
}

func (p *Publisher) enqueue(b *block) {
	for i := range b.records {
		part := b.meta[i].partition
		part.queue.push(queuedRecord{b, int32(i)})
		if part.state == partitionIdle {
			p.makeReady(part)
		}
	}
	p.queued += len(b.records)
	p.metrics.setInFlight(p.queued)
}

func (p *Publisher) makeReady(part *partition) {
	part.state = partitionReady
	p.ready = append(p.ready, part)
}

// wake moves the partitions whose time to retry has come to the ready list.
func (p *Publisher) wake(now time.Time) {
	kept := p.waiting[:0]
	for _, part := range p.waiting {
		if now.Before(part.retryAt) {
			kept = append(kept, part)
			continue
		}
		p.makeReady(part)
	}
	p.waiting = kept
}

func (p *Publisher) arm(retry *time.Timer) {
	next := time.Hour
	for _, part := range p.waiting {
		next = min(next, time.Until(part.retryAt))
	}
	retry.Reset(max(next, 0))
}

// send makes requests of the ready partitions, for every broker that has room for one.
func (p *Publisher) send(ctx context.Context) error {
	type load struct {
		request *sarama.ProduceRequest
		parts   []*partition
		bytes   int
	}
	loads := make(map[*broker]*load)
	asked := make(map[string]error) // topics whose metadata were asked for in this round
	kept := p.ready[:0]
	for i, part := range p.ready {
		if ctx.Err() != nil {
			kept = append(kept, p.ready[i:]...)
			break
		}
		b, err := p.brokerOf(part, asked)
		if err != nil {
			p.later(part, err)
			continue
		}
		l := loads[b]
		if b.requests >= maxRequests || l != nil && l.bytes >= requestBytes {
			kept = append(kept, part)
			continue
		}
		if l == nil {
			l = &load{request: &sarama.ProduceRequest{
				RequiredAcks: sarama.WaitForAll, Timeout: int32(kafkaTimeout / time.Millisecond), Version: 7,
			}}
			loads[b] = l
		}
		part.state = partitionSent
		l.bytes += p.fill(part)
		l.request.AddBatch(part.topic, part.id, part.batch)
		l.parts = append(l.parts, part)
	}
	p.ready = kept
	for b, l := range loads {
		r := result{broker: b, closed: b.closed, parts: l.parts}
		b.requests++
		p.inFlight++
		err := b.conn.AsyncProduce(l.request, func(res *sarama.ProduceResponse, err error) {
			r.response, r.err = res, err
			p.results <- r
		})
		if err != nil { // the callback is not called then
			r.err = err
			if err := p.handle(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// brokerOf returns the leader of part. Each topic's metadata are asked for at most once in a
// round; when no broker answers at all, nobody is asked again.
func (p *Publisher) brokerOf(part *partition, asked map[string]error) (*broker, error) {
	const anyTopic = ""
	if part.refresh {
		if err := asked[anyTopic]; err != nil {
			return nil, err
		}
		if _, done := asked[part.topic]; !done {
			err := p.cluster.refresh(part.topic)
			asked[part.topic] = err
			if errors.Is(err, sarama.ErrOutOfBrokers) {
				asked[anyTopic] = err
				return nil, err
			}
		}
	}
	conn, err := p.cluster.leader(part)
	if err != nil {
		// What the brokers say of the topic tells more than that a leader is not known.
		return nil, cmp.Or(asked[part.topic], err)
	}
	part.refresh = false
	b := p.brokers[conn.ID()]
	if b == nil || b.conn != conn {
		b = &broker{conn: conn}
		p.brokers[conn.ID()] = b
	}
	return b, nil
}

// fill gives part a batch, unless it has one to send again, and returns its size. A batch
// that is sent again is the same to the byte and has the same sequence number: that is how
// the broker knows it.
func (p *Publisher) fill(part *partition) (bytes int) {
	if part.batch != nil {
		return batchBytes
	}
	n := 0
	for n < part.queue.len() && (part.limit == 0 || n < part.limit) {
		r := part.queue.peek(n).record()
		size := len(r.Key) + len(r.Value)
		for _, h := range r.Headers {
			size += len(h.Key) + len(h.Value)
		}
		if n > 0 && bytes+size > batchBytes {
			break
		}
		bytes += size
		n++
	}
	now := time.Now()
	batch := &sarama.RecordBatch{
		Version: 2, Codec: p.codec, CompressionLevel: sarama.CompressionLevelDefault,
		FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: p.producerID, ProducerEpoch: p.producerEpoch, FirstSequence: part.sequence,
		LastOffsetDelta: int32(n - 1),
		Records:         make([]*sarama.Record, n),
	}
	part.batched = part.batched[:0]
	for i := range n {
		q := part.queue.peek(i)
		r := q.record()
		r.OffsetDelta = int64(i)
		batch.Records[i] = r
		part.batched = append(part.batched, q)
	}
	part.queue.pop(n)
	part.batch = batch
	return bytes
}

// handle takes the answer to a request.
func (p *Publisher) handle(r result) error {
	r.broker.requests--
	p.inFlight--
	var unsendable sarama.PacketEncodingError
	if errors.As(r.err, &unsendable) {
		// The request is larger than any broker takes; nothing was sent.
		var firstErr error
		for _, part := range r.parts {
			firstErr = cmp.Or(firstErr, p.refused(part, sarama.ErrMessageSizeTooLarge))
		}
		return firstErr
	}
	if r.err != nil {
		// Whether the batches were appended is unknown; they are sent again under the same
		// sequence numbers, and the broker says.
		if r.closed == r.broker.closed { // not the connection that came after it
			_ = r.broker.conn.Close()
			r.broker.closed++
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
	}
	return firstErr
}

// appended settles the batch of part.
func (p *Publisher) appended(part *partition) {
	n := len(part.batched)
	part.appended = part.batched[n-1].meta().position
	for _, q := range part.batched {
		meta := q.meta()
		p.tickets = append(p.tickets, meta.ticket)
		if meta.dead != "" {
			p.metrics.deadLetter(meta.dead)
			p.owed.settle(meta.id)
		}
		q.block.unacked--
		if q.block.unacked == 0 {
			p.release(q.block)
		}
	}
	p.queued -= n
	p.metrics.setInFlight(p.queued)
	p.metrics.published(part.topic, n)
	part.sequence = (part.sequence + int32(n)) & 0x7FFFFFFF // wraps to 0 as the protocol does
	part.batch, part.attempts = nil, 0
	if part.troubled {
		part.troubled = false
		if p.troubled--; p.troubled == 0 {
			p.status.clear(componentKafka)
		}
	}
	if part.limit > 0 {
		part.limit += part.limit/8 + 1 // the broker's limit is tried again only now and then
	}
	part.state = partitionIdle
	if part.queue.len() > 0 {
		p.makeReady(part)
	}
}

func (p *Publisher) release(b *block) {
	p.budget.Release(int64(b.size))
	b.reset()
	select {
	case p.free <- b:
	default:
	}
}

// later puts part aside until its next attempt. Its batch, if it has one, stays as it is.
func (p *Publisher) later(part *partition, err error) {
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
	if part.attempts > 1 || asHalt(err) != nil { // a leader that moves is no trouble yet
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
		part.batch, part.limit = nil, (n+1)/2
		p.makeReady(part)
		return nil
	}
	meta := part.batched[0].meta()
	code, hint := PoisonEvent, hintPoison
	if errors.Is(err, sarama.ErrMessageSizeTooLarge) || errors.Is(err, sarama.ErrMessageSetSizeTooLarge) {
		code = RecordTooLarge
		hint = "raise max.message.bytes of the topic or set on_poison: dead-letter, and restart the relay"
	}
	r := part.batched[0].record()
	h := halt(code, hint, "record of %d bytes for topic %q, key %q, at %s: %w", len(r.Value), part.topic, r.Key, meta.position, err)
	h.final = meta.dead != ""
	return &refusal{string(meta.id), h}
}
