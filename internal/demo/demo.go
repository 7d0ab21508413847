package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/examples/orders/events"
	"github.com/postrider/postrider/examples/orders/service"
	"github.com/postrider/postrider/examples/orders/shop"
)

const (
	// patience is how long nothing may move before --exit gives up.
	patience = time.Minute
	// settleTimeout is how long what is on its way may take when somebody ends the demo.
	settleTimeout = 15 * time.Second
	// shutdownGrace is how long services and relay may take to end after that: clients of a broker
	// that is down would take minutes.
	shutdownGrace = 5 * time.Second
	// startTimeout is how long the relay may take until it streams.
	startTimeout = time.Minute
)

// Report is how a demo ended.
type Report struct {
	Ledger
	Orders Orders `json:"orders"`
}

// demo is one that runs.
type demo struct {
	cfg     Config
	screen  *screen
	cleanup cleanup
	servers *servers
	topics  topics
	relay   *supervisor
	book    *book
	watch   *watch
	faults  *faults
	pause   pause
	keys    bool // commands are single keys

	declineNext atomic.Bool
	restarting  sync.Mutex // held while Postgres is restarted

	// ctx is that of everything but the orders: it outlives them, so that what was committed last
	// is still delivered.
	ctx context.Context //nolint:containedctx // the commands come from outside of any call
	// leave ends when nobody waits any more for what runs.
	leave context.Context //nolint:containedctx // as above
}

// Run runs a demo until ctx ends, a command says so or, with Config.Exit, everything is at
// rest. Then it ends what it has started and removes what it has made, and returns an error if
// the ledger or the check of the orders does not balance: *UnreachableError where something
// could not be started or reached, *RefusedError where the user's servers do not allow it. A
// second signal to end cuts short every wait. A client of a server that is down may then still
// run when Run returns, but no child process and no file of the demo's own servers is left.
func Run(ctx context.Context, cfg Config) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	hurry, stopSignals := onSignals(end)
	defer stopSignals()
	if cfg.Rate == 0 && cfg.Orders == 0 {
		cfg.Rate = 1
	}
	keyboard := openKeyboard(cfg.In)
	defer keyboard.close()
	d := &demo{cfg: cfg, book: newBook(), watch: newWatch(), keys: keyboard.keys}
	d.faults = &faults{demo: d, end: end}
	d.screen = newScreen(cfg.Out, cfg.JSON, cfg.Getenv)
	// A reader that has seen enough (demo | head) ends the demo like Ctrl-C.
	d.screen.out = &watchedWriter{d.screen.out, end}

	go d.screen.run() // until close
	defer func() { d.screen.close(hurry) }()

	err := d.run(ctx, hurry, keyboard)
	if left := d.cleanup.run(hurry); left != nil {
		err = errors.Join(err, left)
	}
	return err
}

// onSignals calls end at the first signal to end; the context that it returns ends with the
// second.
func onSignals(end func()) (hurry context.Context, stop func()) {
	// A broken pipe would end the process at once and leave the servers' files behind.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	hurry, cancel := context.WithCancel(context.Background())
	go func() {
		for range signals {
			end()
			if _, again := <-signals; !again {
				return
			}
			cancel()
		}
	}()
	return hurry, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
	}
}

// watchedWriter calls failed when it cannot write.
type watchedWriter struct {
	io.Writer
	failed func()
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.failed()
	}
	return n, err
}

func (d *demo) run(ctx, hurry context.Context, keyboard *keyboard) error {
	began := time.Now()
	leaves := "leaves nothing behind"
	if d.cfg.Keep != "" {
		leaves = "keeps all data in " + d.cfg.Keep
	}
	d.screen.say("postrider demo: orders go through four services, Postgres, a relay and Kafka.\nCtrl-C ends it and " + leaves + ".\n")
	place, err := openPlace(d.cfg)
	if err != nil {
		return err
	}
	d.cleanup.add("directory "+place.dir, func(context.Context) error { return place.close() })
	ends, err := d.start(ctx, place)
	if err != nil {
		return ended(ctx, err) // Ctrl-C while starting is no failure
	}
	d.screen.say(d.servers.introduce(d.relay.url()))
	err = d.play(ctx, hurry, keyboard, ends, began)
	final := d.watch.current()
	d.screen.finish(bottom{figures: final})
	if d.cfg.JSON {
		err = errors.Join(err, json.NewEncoder(d.cfg.Out).Encode(final.Report))
	}
	return err
}

// start brings up everything but relay, services and orders, and returns the ends of the
// topics.
func (d *demo) start(ctx context.Context, place *place) (ends kadm.ListedOffsets, err error) {
	if d.servers, err = startServers(ctx, d.cfg, place, &d.cleanup); err != nil {
		return nil, err
	}
	d.topics = d.servers.topics()
	// The services register their schemas in the database; that of a poison event, which is
	// JSON, has to be in the registry.
	if err := events.Register(ctx, d.servers.pool); err != nil {
		return nil, err
	}
	if _, err := d.servers.registry.Register(ctx, events.OrderPaidSchema.Name(), events.OrderPaidSchema.Text()); err != nil {
		return nil, fmt.Errorf("register a schema: %w", err)
	}
	listener, err := listenNear(8080)
	if err != nil {
		return nil, &UnreachableError{fmt.Errorf("relay: %w", err)}
	}
	listen := listener.Addr().String()
	_ = listener.Close() // the relay opens it again in a moment
	d.relay = newSupervisor(relayConfig{
		program: d.cfg.Program, dir: place.dir, postgresURL: d.servers.postgresURL, brokers: d.servers.addresses,
		prefix: d.servers.prefix, registryURL: d.servers.registryURL, listen: listen,
	}, d.screen)
	return d.servers.brokers.ends(ctx)
}

// play runs relay, services, consumer and orders until ctx ends or, with --exit, all is at
// rest.
func (d *demo) play(ctx, hurry context.Context, keyboard *keyboard, ends kadm.ListedOffsets, began time.Time) error {
	base := context.WithoutCancel(ctx)
	relayCtx, stopRelay := context.WithCancel(base)
	defer stopRelay()
	servicesCtx, stopServices := context.WithCancel(base)
	defer stopServices()
	// What fails ends everything.
	g, group := errgroup.WithContext(base)
	work, stopWork := context.WithCancel(group)
	defer stopWork()
	leave, giveUp := context.WithCancel(hurry)
	defer giveUp()
	d.ctx, d.leave = work, leave
	failed := context.AfterFunc(work, func() { stopRelay(); stopServices() })
	defer failed()

	caughtUp := make(chan struct{})
	relayEnded := make(chan struct{})
	g.Go(func() error {
		defer close(relayEnded)
		return d.relay.run(relayCtx, leave)
	})
	g.Go(func() error { return ended(servicesCtx, shop.Run(servicesCtx, d.env())) })
	g.Go(func() error { return d.consume(work, ends, func() { close(caughtUp) }) })
	g.Go(func() error { return d.look(work) })
	g.Go(func() error { return d.guardPostgres(work) })

	playing, stopPlaying := context.WithCancel(ctx)
	defer stopPlaying()
	context.AfterFunc(work, stopPlaying)
	err := d.conduct(playing, keyboard, caughtUp, began)
	if err == nil && work.Err() == nil {
		err = d.settle(work, ctx, hurry)
	}
	stopPlaying()
	stopServices()
	stopRelay()
	stopWork()

	time.AfterFunc(shutdownGrace, giveUp)
	allEnded := make(chan error, 1)
	go func() { // outlives the demo where a client does not return from a server that is down
		d.faults.finish()
		allEnded <- g.Wait()
	}()
	select {
	case failure := <-allEnded:
		return errors.Join(err, failure)
	case <-leave.Done():
	}
	if hurry.Err() == nil {
		d.screen.news("●", yellow, "clients of a server that is down have not ended after %s: they are left alone", shutdownGrace)
	}
	<-relayEnded // it is killed
	d.faults.finish()
	if failure := context.Cause(group); !errors.Is(failure, context.Canceled) {
		err = errors.Join(err, failure)
	}
	return err
}

// conduct places the orders, once everything is ready for them.
func (d *demo) conduct(ctx context.Context, keyboard *keyboard, caughtUp <-chan struct{}, began time.Time) error {
	if err := d.awaitReady(ctx, caughtUp); err != nil {
		return ended(ctx, err)
	}
	help := "the word help on standard input"
	if d.keys {
		help = "the key ?"
	}
	d.screen.news("●", "", "ready after %s: %s shows what can be broken", seconds(time.Since(began)), help)
	go keyboard.read(func(command string) { d.faults.obey(ctx, command) }) // ends with the input
	if err := d.placeOrders(ctx); err != nil {
		return fmt.Errorf("place an order: %w", err)
	}
	if !d.cfg.Exit {
		<-ctx.Done()
	}
	return nil
}

// awaitReady returns when the relay streams, so that the first event shows an ordinary latency,
// and what an earlier run left in the topics has been read.
func (d *demo) awaitReady(ctx context.Context, caughtUp <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !d.relay.healthy(ctx) {
		if !sleep(ctx, pollInterval) {
			report, _ := d.relay.status(context.WithoutCancel(ctx))
			return fmt.Errorf("the relay does not stream: %s", report.Reason)
		}
	}
	select {
	case <-caughtUp:
		return nil
	case <-ctx.Done():
		return errors.New("the topics of the earlier run could not be read")
	}
}

// env is what the services get.
func (d *demo) env() service.Env {
	env := d.servers.env()
	conf := sarama.NewConfig()
	conf.ClientID = ownName
	conf.Consumer.Offsets.Initial = sarama.OffsetOldest
	// A broker that comes back is to be noticed at once: asking again inside of the client takes
	// a fixed time, while the pauses of package consumer grow.
	conf.Metadata.Retry.Max, conf.Metadata.Retry.Backoff = 1000, 100*time.Millisecond
	conf.Consumer.Group.Heartbeat.Interval = time.Second
	env.Kafka = conf
	return env
}

// restartPostgres restarts the demo's own Postgres.
func (d *demo) restartPostgres(ctx context.Context) error {
	d.restarting.Lock()
	defer d.restarting.Unlock()
	return d.servers.postgres.Restart(ctx)
}

// guardPostgres returns an error when the demo's own Postgres ends by itself, which nothing
// mends.
func (d *demo) guardPostgres(ctx context.Context) error {
	if d.servers.postgres == nil {
		return nil
	}
	for {
		select {
		case <-d.servers.postgres.Done():
		case <-ctx.Done():
			return nil
		}
		d.restarting.Lock() // it may only be restarted
		done, err := d.servers.postgres.Done(), d.servers.postgres.Err()
		d.restarting.Unlock()
		select {
		case <-done: // no failure where leave has cut a restart short
			return ended(d.leave, &UnreachableError{fmt.Errorf("Postgres has ended: %w", err)}) //nolint:staticcheck // a name
		default:
		}
	}
}

// settle waits until everything is at rest. When asked has ended, because somebody ended the
// demo, it waits for settleTimeout at most, and when hurry has, no longer.
func (d *demo) settle(ctx, asked, hurry context.Context) error {
	if d.faults.brokerDown() {
		d.screen.news("●", "", "the broker is started, so that what is in flight can arrive")
		d.faults.mu.Lock()
		d.faults.startBroker(ctx)
		d.faults.mu.Unlock()
	}
	d.pause.set(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(asked, func() { time.AfterFunc(settleTimeout, cancel) })()
	defer context.AfterFunc(hurry, cancel)()
	moved, before := time.Now(), -1
	for {
		_, err := d.read(ctx)
		last := d.watch.current()
		ledger, orders := last.Ledger, last.Orders
		if err == nil && ledger.InFlight == 0 && orders.atRest() {
			return d.verdict(ctx, ledger, orders)
		}
		if now := ledger.accounted() + orders.Shipped + orders.Cancelled; now != before {
			moved, before = time.Now(), now
		}
		switch {
		case ctx.Err() != nil && asked.Err() != nil:
			return d.verdict(context.WithoutCancel(ctx), ledger, orders)
		case ctx.Err() != nil:
			return nil // what failed says more
		case time.Since(moved) > patience:
			return errors.Join(fmt.Errorf("nothing has moved for %s, and not everything is at rest: %s; orders: %s; %v", patience, ledger, orders, orders.Pending), err)
		}
		sleep(ctx, pollInterval)
	}
}

// verdict is an error if anything is wrong that more time would not mend.
func (d *demo) verdict(ctx context.Context, ledger Ledger, orders Orders) error {
	var wrong []error
	if len(orders.Violations) > 0 {
		wrong = append(wrong, fmt.Errorf("the orders do not balance: %v", orders.Violations))
	}
	if orders.DeadLetters > 0 {
		wrong = append(wrong, fmt.Errorf("the services could not handle %d events, which are in their dead-letter topics", orders.DeadLetters))
	}
	if ledger.OutOfOrder > 0 {
		wrong = append(wrong, fmt.Errorf("events arrived out of order: %s", ledger))
	}
	if ledger.Duplicates > 0 && d.faults.made.Load() == 0 && !d.servers.place.kept() {
		wrong = append(wrong, fmt.Errorf("events arrived twice though nothing had failed: %s", ledger))
	}
	if ledger.InFlight == 0 {
		lost, phantoms, err := d.audit(ctx)
		if err == nil && lost+phantoms > 0 {
			err = fmt.Errorf("of the committed events %d never arrived, and %d arrived that were never committed", lost, phantoms)
		}
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

// audit compares events by their ids.
func (d *demo) audit(ctx context.Context) (lost, phantoms int, err error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	rows, err := d.servers.pool.Query(ctx, "SELECT id::text FROM outbox")
	if err != nil {
		return 0, 0, fmt.Errorf("read the ids of the events: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, 0, fmt.Errorf("read the ids of the events: %w", err)
	}
	lost, phantoms = d.book.audit(ids)
	return lost, phantoms, nil
}
