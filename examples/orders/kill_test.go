package main

import (
	"bytes"
	"context"
	"flag"
	"log"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/examples/orders/order"
	"github.com/postrider/postrider/examples/orders/service"
	"github.com/postrider/postrider/examples/orders/shop"
	"github.com/postrider/postrider/relay"
)

var seed = flag.Uint64("seed", 0, "of the kill test; 0 for any")

// A hundred orders, while each of the services and the relay are killed again and again.
func TestSaga_KeepsItsBooksThoughProcessesAreKilled(t *testing.T) {
	t.Parallel()
	const (
		orders = 100
		each   = 5 // kills of each process
		until  = 8 // marks per order: about ten are written until an order is closed
	)
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d (-seed repeats who is killed, and after how many events)", *seed)
	random := rand.New(rand.NewPCG(*seed, 0))

	s := newShop(t)
	s.receive("lamp", 90)
	s.receive("kettle", 15)
	processes := map[string]*process{"relay": s.startRelay()}
	for name := range shop.Services {
		processes[name] = s.startService(name)
	}

	// Each is killed when a certain number of events have been handled: in the middle of work.
	type kill struct {
		after int
		name  string
	}
	var kills []kill
	for _, name := range slices.Sorted(maps.Keys(processes)) {
		for range each {
			kills = append(kills, kill{random.IntN(until * orders), name})
		}
	}
	slices.SortFunc(kills, func(a, b kill) int { return a.after - b.after })

	var placing sync.WaitGroup
	placing.Go(func() { s.placeSlowly(orders, 40*time.Millisecond) })
	t.Cleanup(placing.Wait) // the test's context has ended then
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for done := 0; done < len(kills); <-tick.C {
		handled := s.count("SELECT count(*) FROM inbox")
		for ; done < len(kills) && kills[done].after <= handled; done++ {
			processes[kills[done].name].restart()
			s.check()
			deadline = time.Now().Add(patience)
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d of %d kills only %d events are handled", done, len(kills), handled)
		}
	}
	placing.Wait()
	sheet := s.settle()
	t.Logf("after %d kills:\n%s", len(kills), sheet)
	if sheet.Placed != orders || sheet.Shipped == 0 || sheet.Cancelled == 0 {
		t.Errorf("want %d orders, some shipped and some cancelled", orders)
	}
	s.checkMarks()
	s.checkHistories()
}

// checkMarks waits until each service has marked every event of its topics, and wants no mark
// beside.
func (s *testShop) checkMarks() {
	s.t.Helper()
	topics := map[string][]string{
		service.Order:     {service.InventoryTopic, service.PaymentTopic, service.ShipmentTopic},
		service.Inventory: {service.OrderTopic},
		service.Payment:   {service.OrderTopic},
		service.Shipping:  {service.OrderTopic},
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for name, topics := range topics {
		const query = `SELECT count(*) FROM outbox e FULL JOIN (SELECT * FROM inbox WHERE consumer = $2) m ON m.dedupe_key = e.id::text
			WHERE (e.aggregate_type = ANY ($1) OR e.id IS NULL) AND (e.id IS NULL OR m.dedupe_key IS NULL)`
		for deadline := time.Now().Add(patience); s.count(query, topics, s.env.Group(name)) > 0; <-tick.C {
			if time.Now().After(deadline) {
				s.t.Fatalf("%s has not handled every event, or others", name)
			}
		}
		s.t.Logf("%-9s has handled %d events, all that there are", name, s.count("SELECT count(*) FROM inbox WHERE consumer = $1", s.env.Group(name)))
	}
}

// checkHistories wants the table of orders to say what their events say.
func (s *testShop) checkHistories() {
	s.t.Helper()
	rows, err := s.env.DB.Query(s.t.Context(), "SELECT id, status FROM orders.orders")
	if err != nil {
		s.t.Fatal(err)
	}
	var id, status string
	table, rebuilt := map[string]string{}, map[string]string{}
	_, err = pgx.ForEachRow(rows, []any{&id, &status}, func() error { table[id] = status; return nil })
	if err != nil {
		s.t.Fatal(err)
	}
	for id := range table {
		state, err := order.Rebuild(s.t.Context(), s.env.DB, id)
		if err != nil {
			s.t.Fatal(err)
		}
		rebuilt[id] = state.Status
	}
	if diff := cmp.Diff(table, rebuilt); diff != "" {
		s.t.Errorf("orders by their events (-table +events):\n%s", diff)
	}
}

func (s *testShop) count(query string, args ...any) (n int) {
	s.t.Helper()
	if err := s.env.DB.QueryRow(s.t.Context(), query, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// process is a process of the shop that can be killed.
type process struct {
	t    *testing.T
	args []string
	log  *bytes.Buffer // of the last run
	cmd  *exec.Cmd
}

// childArgs makes the test's binary the program itself, with these arguments, or a relay.
const childArgs = "ORDERS_TEST_ARGS"

func runChild(args []string) {
	if args[0] != "relay" {
		os.Args = append([]string{"orders"}, args...)
		main()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config, err := relay.LoadConfig("", nil, args[1:])
	if err == nil {
		err = runRelay(ctx, config)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func (s *testShop) startService(name string) *process {
	return s.startProcess(name, "--postgres-url", s.url, "--kafka", strings.Join(s.env.Brokers, ","), "--registry", s.registry,
		"--prefix", s.env.Prefix, "--instance", "only")
}

func (s *testShop) startRelay() *process {
	return s.startProcess("relay", "name="+s.relay.Name, "postgres.url="+string(s.relay.Postgres.URL), "outbox.topic="+s.relay.Outbox.Topic,
		"kafka.brokers="+strings.Join(s.relay.Kafka.Brokers, ","), "registry.url="+s.registry, "http.listen=-")
}

func (s *testShop) startProcess(args ...string) *process {
	s.t.Helper()
	p := &process{t: s.t, args: args}
	p.start()
	s.t.Cleanup(p.stop)
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.log = &bytes.Buffer{}
	p.cmd = exec.Command(os.Args[0], "-test.run=^$")
	p.cmd.Env = append(os.Environ(), childArgs+"="+strings.Join(p.args, "\n"))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// restart kills the process and starts it again.
func (p *process) restart() {
	p.t.Helper()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
	if p.cmd.ProcessState.Exited() {
		p.t.Fatalf("%s ended by itself: %v\n%s", p.args[0], p.cmd.ProcessState, p.log)
	}
	p.start()
}

// stop ends the process by SIGTERM, which it must obey.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	killer := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer killer.Stop()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v after SIGTERM\n%s", p.args[0], err, p.log)
	} else if p.t.Failed() {
		p.t.Logf("%s:\n%s", p.args[0], p.log)
	}
}

// placeSlowly places one order after the other.
func (s *testShop) placeSlowly(n int, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range n {
		err := s.placeOne(i)
		if s.t.Context().Err() != nil {
			return
		}
		if err != nil {
			s.t.Errorf("place order %d: %v", i, err)
			return
		}
		<-tick.C
	}
}
