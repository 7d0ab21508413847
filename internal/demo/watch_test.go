package demo

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWatch_KeepsTheLatestFiguresAndSaysWhenTheyAreStale(t *testing.T) {
	t.Parallel()
	w, began := newWatch(), time.Now()
	of := func(committed int, after time.Duration) figures {
		return figures{Report: Report{Ledger: Ledger{Committed: committed}}, at: began.Add(after)}
	}
	w.set(of(2, 2))
	w.set(of(1, 1)) // read by another, who began earlier
	w.outdate(began.Add(1))
	if now := w.current(); now.Committed != 2 || now.stale {
		t.Errorf("figures %+v, want the later ones, and not stale", now)
	}
	w.outdate(began.Add(3))
	if now := w.current(); now.Committed != 2 || !now.stale || now.balanced() {
		t.Errorf("figures %+v, want the later ones, but stale", now)
	}
	w.set(of(4, 4))
	if now := w.current(); now.Committed != 4 || now.stale {
		t.Errorf("figures %+v, want fresh ones", now)
	}
}

func TestWatch_TellsOfEachViolationOnce(t *testing.T) {
	t.Parallel()
	w := newWatch()
	var told []string
	for _, found := range [][]string{{"shipped twice: order-1"}, {"shipped twice: order-1, order-2", "stock does not add up: lamp"}, nil, {"shipped twice: order-1"}} {
		told = append(told, w.set(figures{Report: Report{Orders: Orders{Violations: found}}})...)
	}
	if diff := cmp.Diff([]string{"shipped twice: order-1", "stock does not add up: lamp"}, told); diff != "" {
		t.Error(diff)
	}
}
