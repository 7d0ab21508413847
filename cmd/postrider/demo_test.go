package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestDemo_LedgerBalancesAndNothingIsTwiceOrOutOfOrder(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := newDemoCommand()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--orders", "30", "--exit", "--json"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got ledgerReport
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%q: %v", out.String(), err)
	}
	// Every tenth order is rolled back, every other one has two events.
	if want := (ledgerReport{Committed: 54, Delivered: 54}); got != want {
		t.Errorf("ledger %+v, want %+v", got, want)
	}
}

func TestDemo_PrintsEveryHop(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := newDemoCommand()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--orders", "10", "--exit"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"STAND-IN", "psql ", "kcat -b", "committed    order-1 ", "delivered    order-1 ",
		`"order_id":"order-1"`, "rolled back  order-10", "ledger: committed 18 = delivered 18 + in flight 0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out.String())
		}
	}
}

func TestDemo_RefusesFlagsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--exit"}, {"--orders", "-1"}, {"--rate", "-1"}, {"extra"}} {
		cmd := newDemoCommand()
		cmd.SetArgs(args)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		var coded *exitError
		if err := cmd.ExecuteContext(t.Context()); !errors.As(err, &coded) || coded.code != exitUsage {
			t.Errorf("%v: %v, want exit %d", args, err, exitUsage)
		}
	}
}
