package demo

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestBook_CountsEveryEventOnce(t *testing.T) {
	t.Parallel()
	b := newBook()
	for _, r := range []struct {
		id, topic, position, code string
	}{
		{"a", "order", "0/10/0", ""},
		{"b", "order", "0/10/1", ""},
		{"c", "payment", "0/8/0", ""}, // another topic has an order of its own
		{"a", "order", "0/10/0", ""},  // a duplicate is not out of order as well
		{"e", "order", "0/30/0", ""},
		{"d", "order", "0/20/0", ""}, // out of order
		{"f", "order", "nonsense", ""},
		{"p", "dead", "", "POISON_EVENT"},
		{"x", "dead", "", "EXPIRED"},
	} {
		b.receive(&kgo.Record{Topic: r.topic}, map[string]string{
			"ce_id": r.id, "postrider-position": r.position, "postrider-error-code": r.code,
		}, r.topic == "dead")
	}
	b.setCommitted(10)
	got := b.ledger()
	want := Ledger{Committed: 10, Delivered: 6, InFlight: 2, DeadLettered: 1, Expired: 1, Duplicates: 1, OutOfOrder: 2}
	if got != want {
		t.Errorf("ledger %+v, want %+v", got, want)
	}
	b.setCommitted(7) // counted before the last arrived
	if got := b.ledger(); got.Committed != 8 || got.InFlight != 0 {
		t.Errorf("ledger %+v, want 8 committed and none in flight", got)
	}
}

func TestBook_AuditFindsTwoMistakesThatMakeARightNumber(t *testing.T) {
	t.Parallel()
	b := newBook()
	for _, id := range []string{"a", "never committed"} {
		b.receive(&kgo.Record{}, map[string]string{"ce_id": id}, true)
	}
	if lost, phantoms := b.audit([]string{"a", "b"}); lost != 1 || phantoms != 1 {
		t.Errorf("%d lost and %d phantoms, want 1 and 1", lost, phantoms)
	}
}

func TestLedger_FitsATerminal(t *testing.T) {
	t.Parallel()
	l := Ledger{Committed: 99999, Delivered: 99899, InFlight: 98, DeadLettered: 1, Expired: 1}
	if text := l.equation(); len(text) >= 80 || !strings.Contains(text, "delivered 99899 + in flight 98") {
		t.Errorf("%d columns: %s", len(text), text)
	}
}
