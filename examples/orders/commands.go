package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/examples/orders/balance"
	"github.com/postrider/postrider/examples/orders/events"
	"github.com/postrider/postrider/examples/orders/inventory"
	"github.com/postrider/postrider/examples/orders/order"
	"github.com/postrider/postrider/examples/orders/payment"
	"github.com/postrider/postrider/examples/orders/shop"
)

// prices are what is sold here, in cents.
var prices = map[string]int64{"lamp": 3990, "kettle": 2450, "chair": 8900, "radio": 12900}

func newMigrateCommand(s *servers) *cobra.Command {
	var stock int
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make the tables of all services, the outbox and the inbox, and fill an empty stock",
		Args:  arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			db, err := s.connect(ctx)
			if err != nil {
				return err
			}
			defer db.Close()
			if err := shop.Migrate(ctx, db); err != nil {
				return err
			}
			return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
				var filled bool
				if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM inventory.stock)").Scan(&filled); err != nil || filled {
					return err
				}
				for item := range prices {
					if err := inventory.Receive(ctx, tx, item, stock); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&stock, "stock", 100, "units of each item")
	return cmd
}

func newTopicsCommand(s *servers) *cobra.Command {
	var partitions int32
	cmd := &cobra.Command{
		Use:   "topics",
		Short: "Make the topics of the events and of the dead letters",
		Args:  arguments(0),
		RunE: func(*cobra.Command, []string) error {
			return shop.CreateTopics(s.env(), partitions, -1)
		},
	}
	cmd.Flags().Int32Var(&partitions, "partitions", 8, "of each topic of events")
	return cmd
}

func newReceiveCommand(s *servers) *cobra.Command {
	return &cobra.Command{
		Use:     "receive ITEM UNITS",
		Short:   "Put units of an item on the shelf",
		Example: "  orders receive lamp 50",
		Args:    arguments(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			units, err := strconv.Atoi(args[1])
			if err != nil || units < 1 {
				return fmt.Errorf("receive: %q is no number of units", args[1])
			}
			db, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			return inventory.Receive(cmd.Context(), db, args[0], units)
		},
	}
}

func newPlaceCommand(s *servers) *cobra.Command {
	var count int
	var o order.New
	cmd := &cobra.Command{
		Use:   "place",
		Short: "Place orders",
		Example: `  orders place --count 20               of all sorts; one in ten has a card that is declined
  orders place --item lamp --quantity 2
  orders place --card declined`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			db, err := s.open(ctx)
			if err != nil {
				return err
			}
			defer db.Close()
			if err := events.Register(ctx, db); err != nil {
				return err
			}
			for range count {
				o := fill(o)
				err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
					o.ID, err = order.Place(ctx, tx, o)
					return err
				})
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "order %s: %s wants %d × %s for %s, card %s\n", o.ID, o.Customer, o.Quantity, o.Item, money(o.AmountCents), o.Card)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&count, "count", 1, "how many")
	flags.StringVar(&o.Item, "item", "", "what (default: any)")
	flags.IntVar(&o.Quantity, "quantity", 0, "how many units (default: one or two)")
	flags.StringVar(&o.Card, "card", "", "the card; "+payment.DeclinedCard+" is declined")
	return cmd
}

// fill chooses what nobody has asked for.
func fill(o order.New) order.New {
	o.Customer = "customer-" + strconv.Itoa(rand.IntN(100))
	for item := range prices { // in no order
		if o.Item == "" {
			o.Item = item
		}
	}
	if o.Quantity == 0 {
		o.Quantity = 1 + rand.IntN(2)
	}
	if o.Card == "" {
		o.Card = "4242"
		if rand.IntN(10) == 0 {
			o.Card = payment.DeclinedCard
		}
	}
	price := prices[o.Item]
	if price == 0 {
		price = 1000 // of what is not sold here
	}
	o.AmountCents = price * int64(o.Quantity)
	return o
}

func money(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

func newCheckCommand(s *servers) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the books of all services against each other",
		Args:  arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			db, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			sheet, err := balance.Check(cmd.Context(), db)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintln(out, sheet)
			for _, line := range sheet.Pending {
				fmt.Fprintln(out, "pending  ", line)
			}
			for _, line := range sheet.Violations {
				fmt.Fprintln(out, "VIOLATION", line)
			}
			if len(sheet.Violations) > 0 {
				return errors.New("the books are wrong")
			}
			return nil
		},
	}
}
