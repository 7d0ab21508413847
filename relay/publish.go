package relay

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/sync/semaphore"
)

const (
	// The batches of a request share sharedBatchBytes before compression: large ones where there are
	// few, for a partition has one batch on its way at a time, small ones where there are many,
	// which cost less memory and are no slower. The largest fits the brokers' default of one
	// megabyte whatever it holds. A single record may be larger.
	minBatchBytes    = 128 << 10
	maxBatchBytes    = 512 << 10
	sharedBatchBytes = 1 << 20
	// requestBytes bounds a request.
	requestBytes = 4 << 20
	// A broker pays for each batch and each request, and events that are late already have no
	// hurry. Where less waits than gatherBytes for each partition that could send it, and less than
	// half of what may be in flight, the next request waits for more: for one gatherShare of the
	// time that the events are late, and never longer than gatherLimit.
	gatherBytes = 128 << 10
	gatherShare = 20
	gatherLimit = 100 * time.Millisecond
	// spareBytes is how much memory of batches, compressed, is kept for the next ones.
	spareBytes = 2 << 20
)

// Publisher produces records: acks=all, idempotent, one batch of a partition on its way at
// a time, so that no record overtakes another whatever fails. Batches grow while one is on
// its way and leave at once when none is: there is no linger but for events that are late.
//
// All state belongs to the goroutine that calls Run.
type Publisher struct {
	cluster    *cluster
	checkpoint *Checkpoint
	status     *Status
	metrics    *metrics
	owed       *deadLetters
	batches    *batchEncoder

	in      chan *block // from the encoder, which closes it
	results chan result // from sarama's response goroutines
	blocks  blockPool   // empty ones
	budget  *semaphore.Weighted
	limit   int64 // of the budget

	producerID    int64
	producerEpoch int16

	brokers  map[int32]*broker
	ready    []*partition
	waiting  []*partition
	inFlight int           // requests
	queued   int           // records that are not acknowledged
	unsent   int           // bytes of memory of those that are in no batch yet
	late     time.Duration // the block that came last
	sent     time.Time     // the last request
	troubled int           // partitions that fail again and again
	tickets  []Ticket
	spaces   []*batchSpace // spare ones
	spare    int           // bytes that they take
}

type broker struct {
	conn     *sarama.Broker
	requests int
	closed   int // how often the connection was closed after a failure
}

func newPublisher(cl *cluster, cfg *Config, cp *Checkpoint, status *Status, m *metrics) (*Publisher, error) {
	p := &Publisher{
		cluster: cl, checkpoint: cp, status: status, metrics: m,
		in:      make(chan *block, 4),
		results: make(chan result, 256), // so that a response never waits for us

		blocks:  blockPool{limit: cfg.Kafka.MaxInFlightBytes * 5 / 4}, // blocks have some room beyond what is in them
		limit:   int64(cfg.Kafka.MaxInFlightBytes),
		budget:  semaphore.NewWeighted(int64(cfg.Kafka.MaxInFlightBytes)),
		brokers: make(map[int32]*broker),
		owed:    new(deadLetters),
	}
	var err error
	if p.batches, err = newBatchEncoder(cfg.Kafka.Compression); err != nil {
		return nil, err
	}
	p.producerID, p.producerEpoch, err = cl.producer()
	return p, err
}

// submit hands b over to the publisher. It waits while more is on its way than the
// configuration allows, until ctx ends.
func (p *Publisher) submit(ctx context.Context, b *block) error {
	b.size = int(min(int64(b.memory()), p.limit))
	b.unacked = len(b.records)
	if err := p.budget.Acquire(ctx, int64(b.size)); err != nil {
		return err
	}
	p.blocks.lend(b)
	select {
	case p.in <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run produces until the encoder has closed its side and every record is acknowledged
// (nil), until ctx ends, or until the producer cannot go on. When lost is done it sends
// nothing more, takes the answers that are on their way and returns the cause.
func (p *Publisher) Run(ctx, lost context.Context) error {
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
		case <-lost.Done():
			return p.giveUp(ctx, context.Cause(lost))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if lost.Err() != nil {
			continue
		}
		now := time.Now()
		p.wake(now)
		wait := time.Duration(0)
		if in != nil { // more may come
			wait = p.gathering(now)
		}
		if wait == 0 {
			if err := p.send(ctx); err != nil {
				return p.giveUp(ctx, err)
			}
		}
		p.arm(retry, wait)
	}
	return nil
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
		part := b.records[i].partition
		part.queue.push(queuedRecord{b, int32(i)})
		if part.state == partitionIdle {
			p.makeReady(part)
		}
		p.unsent += b.records[i].memory()
		failpoint(pointEnqueued)
	}
	p.late = b.late
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

// arm has retry wake the publisher when something is to be done that nothing else wakes it for:
// after wait, unless that is 0, or when a partition's time has come.
func (p *Publisher) arm(retry *time.Timer, wait time.Duration) {
	next := time.Hour
	for _, part := range p.waiting {
		next = min(next, time.Until(part.retryAt))
	}
	switch {
	case wait > 0:
		next = min(next, wait)
	case len(p.ready) > 0 && p.inFlight == 0: // no answer will wake us
		next = 0
	}
	retry.Reset(max(next, 0))
}

// gathering returns for how long the next request is to wait for more records, 0 for not at all.
func (p *Publisher) gathering(now time.Time) time.Duration {
	wait := min(p.late/gatherShare, gatherLimit)
	since := now.Sub(p.sent)
	if since >= wait || len(p.ready) == 0 {
		return 0
	}
	if p.unsent >= min(gatherBytes*len(p.ready), int(p.limit/2)) || !p.budget.TryAcquire(0) { // the encoder waits for room
		return 0
	}
	for _, part := range p.ready {
		if part.batch != nil || part.limit > 0 { // nothing can be added to it, or little
			return 0
		}
	}
	return wait - since
}

// send makes requests of the ready partitions, for every broker that has room for one.
func (p *Publisher) send(ctx context.Context) error {
	loads := make(map[*broker][]*partition)
	asked := make(map[string]error) // topics whose metadata were asked for in this round
	limit := min(max(sharedBatchBytes/max(len(p.ready), 1), minBatchBytes), maxBatchBytes)
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
		if b.requests >= maxRequests {
			kept = append(kept, part)
			continue
		}
		loads[b] = append(loads[b], part)
	}
	p.ready = kept
	for b, parts := range loads {
		if err := p.produce(b, parts, limit); err != nil {
			return err
		}
	}
	return nil
}

// produce sends b one request with the batches of parts. Those for which it has no room stay
// ready.
func (p *Publisher) produce(b *broker, parts []*partition, limit int) error {
	request := &sarama.ProduceRequest{
		RequiredAcks: sarama.WaitForAll, Timeout: int32(kafkaTimeout / time.Millisecond), Version: 7,
	}
	bytes, n := 0, 0
	for _, part := range parts {
		size := p.fill(part, limit)
		if n > 0 && bytes+size > requestBytes { // a huge one travels alone
			break
		}
		part.state = partitionSent
		request.AddBatch(part.topic, part.id, &part.batch.batch)
		bytes += size
		n++
	}
	p.ready = append(p.ready, parts[n:]...)
	r := result{broker: b, closed: b.closed, parts: parts[:n:n]}
	b.requests++
	p.inFlight++
	err := b.conn.AsyncProduce(request, func(res *sarama.ProduceResponse, err error) {
		r.response, r.err = res, err
		p.results <- r
	})
	if err != nil { // the callback is not called then
		r.err = err
		return p.handle(r)
	}
	p.sent = time.Now()
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

// fill gives part a batch of up to limit bytes before compression, unless it has one to send
// again, and returns its size as it travels. A batch that is sent again is the same to the
// byte and has the same sequence number: that is how the broker knows it.
func (p *Publisher) fill(part *partition, limit int) (size int) {
	if part.batch == nil {
		bytes, n := 0, 0
		for n < part.queue.len() && n < batchRecords && (part.limit == 0 || n < part.limit) {
			record := part.queue.peek(n).record().body.len()
			if n > 0 && bytes+record > limit {
				break
			}
			bytes += record
			n++
		}
		p.unsent -= bytes + n*recordOverhead
		part.batched = append(part.batched[:0], part.queue.front(n)...)
		part.queue.pop(n)
		part.batch = p.space()
		p.batches.fill(part.batch, part.batched)
		b := &part.batch.batch
		b.ProducerID, b.ProducerEpoch, b.FirstSequence = p.producerID, p.producerEpoch, part.sequence
	}
	return len(part.batch.wire)
}

// space returns the memory for a batch.
func (p *Publisher) space() *batchSpace {
	if n := len(p.spaces); n > 0 {
		s := p.spaces[n-1]
		p.spaces[n-1] = nil
		p.spaces = p.spaces[:n-1]
		p.spare -= cap(s.wire)
		return s
	}
	return new(batchSpace)
}

// settled takes the memory of part's batch back, and lets go of its blocks.
func (p *Publisher) settled(part *partition) {
	clear(part.batched)
	part.batched = part.batched[:0]
	part.batch.clear()
	if p.spare+cap(part.batch.wire) <= spareBytes {
		p.spaces = append(p.spaces, part.batch)
		p.spare += cap(part.batch.wire)
	}
	part.batch = nil
}
