package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// pipeline is one session at work: source → chunks → encoder → blocks → publisher, and
// acknowledgements back to the source by way of the checkpoint.
type pipeline struct {
	relay      *Relay
	conn       *pgx.Conn // for questions before the stream begins
	facts      *catalog
	now        memory // what this session is to remember
	kafka      *cluster
	schemas    *schemas
	source     *Source
	encoder    *Encoder
	publisher  *Publisher
	checkpoint *Checkpoint
	keeper     *keeper
	chunks     *chunks
	drained    chan struct{}   // closed when the publisher has ended
	kept       chan struct{}   // closed when the keeper has, after it
	slotReady  chan struct{}   // closed when the slot exists, under its real name
	told       context.Context //nolint:containedctx // done when the relay is told to stop
	slotMade   bool            // the same, for when the session has ended
	once       bool            // end when the slot exists and its place is written down
}

// close closes what was opened.
func (p *pipeline) close() {
	if p.schemas != nil {
		p.schemas.close()
	}
	if p.source != nil {
		p.source.close()
	}
	if p.kafka != nil {
		p.kafka.close()
	}
	if p.conn != nil {
		closeConn(p.conn)
	}
}

// run works until ctx ends or a stage fails.
//
// A stop goes the way of the data: the source stops reading between two transactions, for
// half of one cannot be confirmed, and closes the chunks, the encoder finishes them and
// closes the blocks, the publisher waits for the last acknowledgement, the keeper writes it
// down, and the source, which has kept the connection alive, confirms it.
//
// A replication connection that breaks is another matter: another relay may have the slot
// by now. Only what is on the wire is waited for.
func (p *pipeline) run(ctx context.Context) error {
	p.told = ctx
	stop, stopReading := context.WithCancel(ctx)
	defer stopReading()
	hard, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	defer context.AfterFunc(hard, p.encoder.cluster.cut)()
	finish, cutReading := context.WithCancel(hard)
	defer cutReading()
	draining, abandon := context.WithCancelCause(context.Background())
	defer abandon(nil)
	defer context.AfterFunc(stop, func() { // the time for all of it counts from here
		timeout := p.relay.cfg.ShutdownTimeout
		time.AfterFunc(timeout/4, cutReading)
		time.AfterFunc(timeout, func() { abandon(fmt.Errorf("events were not acknowledged within %v", timeout)) })
	})()

	lost, lose := context.WithCancelCause(context.Background())
	defer lose(nil)

	var g errgroup.Group
	g.Go(func() error { // sole user of the replication connection
		err := from(componentPostgres, p.read(stop, finish))
		stopReading()
		if err != nil {
			lose(err)
		}
		close(p.chunks.filled)
		return errors.Join(err, p.drain(draining, err == nil, abort))
	})
	g.Go(func() error { // decode, route, encode
		err := p.encoder.Run(hard, stop, p.chunks)
		stopReading()
		cutReading()
		return err
	})
	g.Go(func() error { // sole user of the partitions
		defer close(p.drained)
		err := p.publisher.Run(hard, lost)
		stopReading()
		if lost.Err() == nil {
			err = from(componentKafka, err)
		}
		if err != nil {
			abort(err)
		}
		return err
	})
	g.Go(func() error { // writes down how far it all got
		defer close(p.kept)
		return p.keep(hard)
	})
	g.Go(func() error { // lag and drift, on a connection of its own
		err := p.monitor(stop)
		stopReading()
		return from(componentPostgres, err)
	})
	g.Go(func() error { // the outbox's partitions, on a connection of its own
		p.relay.janitor.run(stop, p.relay.status.streaming)
		return nil
	})
	return g.Wait()
}

// keep runs the keeper from the slot's beginning until the publisher has ended.
func (p *pipeline) keep(hard context.Context) error {
	select {
	case <-p.slotReady:
		p.keeper.run(hard, p.drained)
	case <-p.drained:
	}
	<-p.drained
	if hard.Err() != nil || !p.slotMade {
		return nil //nolint:nilerr // the connections are cut, or there is nothing to keep
	}
	if err := p.keeper.last(); err != nil {
		return from(componentMemory, err)
	}
	if p.once {
		return nil
	}
	return p.inspectLast()
}

// read makes the slot where it is missing and then streams.
func (p *pipeline) read(stop, finish context.Context) error {
	cfg, status := &p.relay.cfg, p.relay.status
	confirmed := p.facts.Slot.Confirmed
	if !p.facts.Slot.Exists {
		status.clear(componentPostgres)
		status.setPhase(PhaseSnapshot)
		var err error
		confirmed, err = p.source.createSlot(stop, cfg, p.conn, p.chunks, func(point LSN) error {
			return p.checkpoint.wait(stop, point)
		})
		switch {
		case err == nil:
		case errors.Is(err, errSlotTaken):
			return errStandby
		case stop.Err() != nil:
			return nil //nolint:nilerr // told to stop in the middle: the next start begins again
		default:
			return err
		}
	}
	p.checkpoint.Progress(confirmed) // a slot that was made now has nothing below
	p.slotMade = true
	close(p.slotReady)
	err := p.source.setFailover(stop, cfg, p.facts.Slot.Exists && p.facts.Slot.Failover)
	if err == nil {
		p.relay.adviseFailover(stop, p.conn)
	}
	if slotActive(err) {
		return errStandby
	}
	if err != nil {
		return err
	}
	if p.once {
		return nil
	}
	if !p.relay.text {
		p.source.binary, err = p.facts.readableInBinary(stop, p.conn, cfg)
		switch {
		case stop.Err() != nil:
			return nil //nolint:nilerr // told to stop in the middle
		case err != nil:
			return err
		}
	}
	err = p.source.start(stop, confirmed, p.facts.WALSenderTimeout, p.keeper.confirmable)
	if slotActive(err) {
		return errStandby
	}
	if err != nil {
		return err
	}
	// Only now can nobody else move the slot.
	held, err := readSlot(stop, p.conn, cfg.Postgres.Slot)
	closeConn(p.conn)
	switch {
	case stop.Err() != nil:
		return nil //nolint:nilerr // told to stop in the middle
	case err != nil:
		return err
	case held.Confirmed > confirmed:
		return fmt.Errorf("slot %q moved from %s to %s while the relay connected", cfg.Postgres.Slot, confirmed, held.Confirmed)
	}
	p.kafka.held = time.Now()
	status.setServer(p.facts.ServerVersion, 2*p.source.liveness)
	status.alive(confirmed)
	status.setPhase(PhaseStreaming, "slot", cfg.Postgres.Slot, "lsn", confirmed.String(), "server_version", p.facts.ServerVersion, "binary", p.source.binary)
	return p.source.stream(stop, finish, p.chunks)
}

// drain waits for publisher and keeper. While the replication connection is alive it is kept so,
// and what is acknowledged meanwhile is confirmed.
func (p *pipeline) drain(ctx context.Context, alive bool, abort context.CancelCauseFunc) error {
	defer func() { abort(context.Cause(ctx)) }()
	if p.told.Err() != nil && p.relay.status.streaming() {
		p.relay.status.setPhase(PhaseStopping)
	}
	if alive && p.source.flushed != nil {
		return p.source.drain(ctx, p.kept)
	}
	select {
	case <-p.kept:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
