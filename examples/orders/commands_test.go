package main

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/examples/orders/shop"
	"github.com/postrider/postrider/internal/testserver"
)

// run runs a command and returns what it prints, without times and ids of parcels and payments.
func (s *testShop) run(args ...string) (string, error) {
	s.t.Helper()
	cmd := newCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs(append(args, "--postgres-url", s.url, "--kafka", strings.Join(s.env.Brokers, ","), "--registry", s.registry, "--prefix", s.env.Prefix))
	err := cmd.ExecuteContext(s.t.Context())
	text := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3}`).ReplaceAllString(out.String(), "TIME")
	text = regexp.MustCompile(`"placed_at":"[^"]*"`).ReplaceAllString(text, `"placed_at":"TIME"`)
	return regexp.MustCompile(`(parcel |_id":)\d+`).ReplaceAllString(text, "${1}N"), err
}

func (s *testShop) mustRun(args ...string) string {
	s.t.Helper()
	out, err := s.run(args...)
	if err != nil {
		s.t.Fatalf("orders %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func TestCommands_PlaceOrdersAndShowWhatBecameOfThem(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for range 2 { // both can be repeated
		s.mustRun("migrate", "--stock", "10")
		s.mustRun("topics")
	}
	s.mustRun("receive", "lamp", "5")
	s.start("relay", func(ctx context.Context) error { return runRelay(ctx, s.relay) })
	s.start("services", func(ctx context.Context) error { return shop.Run(ctx, s.env) })
	placed := s.mustRun("place", "--item", "lamp", "--quantity", "2", "--card", "4242")
	if !regexp.MustCompile(`^order 1: customer-\d+ wants 2 × lamp for 79.80, card 4242\n$`).MatchString(placed) {
		t.Errorf("place: %s", placed)
	}
	s.mustRun("place", "--item", "radio", "--quantity", "11", "--card", "4242")
	s.mustRun("place", "--count", "3")
	s.settle()

	check := s.mustRun("check")
	for _, want := range []string{"orders    5 placed = ", "+ 0 open\n", "units     45 received = ", "checks    0 violations, 0 pending\n"} {
		if !strings.Contains(check, want) {
			t.Errorf("check: %s", check)
		}
	}

	customer := regexp.MustCompile(`customer-\d+`)
	history := customer.ReplaceAllString(s.mustRun("history", "1"), "customer-N")
	want := `order 1: customer-N wants 2 × lamp for 79.80: shipped as parcel N

TIME  order.created                   {"amount_cents":7980,"card":"4242","customer":"customer-N","item":"lamp","order_id":"1","placed_at":"TIME","quantity":2}
TIME  order.paid                      {"amount_cents":7980,"item":"lamp","order_id":"1","quantity":2}
TIME  order.shipped                   {"order_id":"1","parcel_id":N}
`
	if diff := cmp.Diff(want, history); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if history = s.mustRun("history", "2"); !strings.Contains(history, "cancelled, because 11 of radio ordered, 10 available\n") {
		t.Errorf("history of an order that was cancelled: %s", history)
	}

	// Whichever of the two answers came second has made the order cancelled or paid.
	chain := s.mustRun("audit", "1")
	for _, want := range []string{
		"TIME  order.created     ",
		"TIME    inventory.reserved  ",
		"TIME    payment.processed  ",
		"TIME      order.paid      ",
		"TIME        order.shipment_ready  ",
		"TIME          order.shipped  ",
	} {
		if strings.Count(chain, want) != 1 {
			t.Errorf("no line %q in the chain:\n%s", want, chain)
		}
	}
	if n := strings.Count(chain, "\n"); n != 6 {
		t.Errorf("%d events in the chain:\n%s", n, chain)
	}
}

func TestCommands_SayWhatToDo(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	empty := &testShop{t: t, url: testserver.Postgres(t), env: s.env, registry: s.registry}
	for _, c := range []struct {
		on   *testShop
		args []string
		want string
	}{
		{empty, []string{"place"}, "run orders migrate"},
		{empty, []string{"inventory"}, "run orders migrate"},
		{s, []string{"order", "--prefix", "nowhere-"}, "make the topics: orders topics"},
		{s, []string{"check", "--postgres-url", "postgres://127.0.0.1:1/none"}, "is Postgres up?"},
		{s, []string{"topics", "--kafka", "127.0.0.1:1"}, "is Kafka up?"},
		{s, []string{"history"}, "usage: orders history ID"},
		{s, []string{"history", "4711"}, "order 4711: the outbox keeps no events of it"},
		{s, []string{"audit", "4711"}, "the outbox keeps no event with the correlation id 4711"},
		{s, []string{"receive", "lamp"}, "usage: orders receive ITEM UNITS"},
		{s, []string{"receive", "lamp", "0"}, "is no number of units"},
	} {
		// What a case names itself wins over what all cases name.
		cmd := newCommand()
		cmd.SetOut(&bytes.Buffer{})
		cmd.SetErr(&bytes.Buffer{})
		all := []string{"--postgres-url", c.on.url, "--kafka", strings.Join(s.env.Brokers, ","), "--registry", s.registry, "--prefix", s.env.Prefix}
		cmd.SetArgs(append(all, c.args...))
		err := cmd.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error()+hint(err), c.want) {
			t.Errorf("orders %s: %v%s, want %s", strings.Join(c.args, " "), err, hint(err), c.want)
		}
	}
}
