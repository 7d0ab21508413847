package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/demo"
)

func newDemoCommand() *cobra.Command {
	var cfg demo.Config
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: orders through four services, and what happens when things break",
		Long: `Places orders that go through four services (order, inventory, payment,
shipping), Postgres, the relay and Kafka, and shows every event on its way. Some
orders are declined, some ask for what is not in stock. Nothing needs to be
installed: where there is no Postgres one is downloaded once (15 MB), Kafka is a
stand-in in this process, and the relay is a process of its own, so that it can
be killed.

Break things, and see that nothing is lost. On a terminal these are keys, else
words on standard input:
  k  kill relay         kill -9; it is started again at once
  b  stop broker        closes its port and cuts all connections; its records
     start broker       stay, for they are in this process
  p  restart postgres
  x  poison             commits an event that its schema refuses
  d  decline            declines the card of the next order
     pause, resume      the orders; on a terminal the space bar
  ?  help
  q  quit               as does Ctrl-C; a second one does not wait

At the bottom is what must always hold:
  committed = delivered + in flight + dead-lettered + expired
  orders placed = shipped + cancelled + open; none paid or shipped twice

With --postgres-url and --kafka, one of them or both, it uses servers of yours.
On them it makes a database (with its slot and publication), topics and consumer
groups whose names begin with postrider_demo, and removes them at the end. The
role needs REPLICATION and CREATEDB, Postgres wal_level = logical; the brokers a
listener without TLS and passwords, and the right to create and delete topics.

With --keep DIR all data stay when it ends, and a later demo with the same DIR
and servers goes on with them.

Exits 0 when all is well, 1 when ledger or orders do not balance or the servers
do not allow it, 2 on wrong usage, 3 when something could not be started or
reached.`,
		Example: `  postrider demo
  postrider demo --orders 500 --exit          ends when all orders are at rest
  postrider demo --orders 500 --exit --json   prints ledger and orders as JSON
  echo 'kill relay' | postrider demo --orders 100 --rate 20 --exit
  postrider demo --keep ~/demo
  postrider demo --postgres-url postgres://me@db/app --kafka kafka:9092`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return usageError(errors.New(strings.ReplaceAll(err.Error(), "\n", "\n  ")))
			}
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("demo: find the program to run as the relay: %w", err)
			}
			cfg.Program, cfg.Getenv = program, os.Getenv
			cfg.In, cfg.Out, cfg.Err = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return demoError(demo.Run(cmd.Context(), cfg))
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&cfg.Orders, "orders", 0, "place this many orders and no more (default: go on until Ctrl-C)")
	f.Float64Var(&cfg.Rate, "rate", 0, "orders a second (default 1, or with --orders as fast as possible)")
	f.BoolVar(&cfg.Exit, "exit", false, "end when all orders are at rest; needs --orders")
	f.BoolVar(&cfg.JSON, "json", false, "print only the final ledger and orders, as JSON")
	f.StringVar(&cfg.Keep, "keep", "", "keep all data in this `DIR`, and go on with them the next time")
	f.StringVar(&cfg.PostgresURL, "postgres-url", "", "a Postgres of yours, postgres://…")
	f.StringSliceVar(&cfg.Brokers, "kafka", nil, "brokers of yours, `host:port` (repeatable)")
	f.BoolVar(&cfg.Replace, "replace", false, "first remove what another demo left on your servers")
	_ = cmd.MarkFlagDirname("keep")
	return cmd
}

// demoError gives err its exit code.
func demoError(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("demo: %w", err)
	var down *demo.UnreachableError
	if errors.As(err, &down) {
		return unreachable(err)
	}
	return err
}
