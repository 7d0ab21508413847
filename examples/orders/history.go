package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/examples/orders/order"
	"github.com/postrider/postrider/examples/orders/service"
	"github.com/postrider/postrider/outbox"
)

func newHistoryCommand(s *servers) *cobra.Command {
	return &cobra.Command{
		Use:     "history ID",
		Short:   "Rebuild an order from its events, and show them",
		Example: "  orders history 42",
		Args:    arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, id := cmd.Context(), args[0]
			db, err := s.open(ctx)
			if err != nil {
				return err
			}
			defer db.Close()
			state, err := order.Rebuild(ctx, db, id)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "order %s: %s wants %d × %s for %s: %s", id, state.Customer, state.Quantity, state.Item, money(state.AmountCents), state.Status)
			switch {
			case state.Reason != "":
				fmt.Fprintf(out, ", because %s", state.Reason)
			case state.ParcelID != 0:
				fmt.Fprintf(out, " as parcel %d", state.ParcelID)
			}
			fmt.Fprint(out, "\n\n")
			for event, err := range outbox.History(ctx, db, service.OrderTopic, id) {
				if err == nil {
					err = printEvent(out, "", &event)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newAuditCommand(s *servers) *cobra.Command {
	return &cobra.Command{
		Use:     "audit CORRELATION",
		Short:   "Show all events of a process over all services, each below the one that it follows from",
		Example: "  orders audit 42          an order's id is the correlation id of all that follows from it",
		Args:    arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			db, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			var chain []outbox.StoredEvent
			for event, err := range outbox.Correlated(cmd.Context(), db, args[0]) {
				if err != nil {
					return err
				}
				chain = append(chain, event)
			}
			if len(chain) == 0 {
				return fmt.Errorf("the outbox keeps no event with the correlation id %s", args[0])
			}
			return printTree(cmd.OutOrStdout(), chain)
		},
	}
}

// printTree prints events below their causes. Those whose cause is not among them, such as
// the first, stand at the left.
func printTree(out io.Writer, chain []outbox.StoredEvent) error {
	known := map[string]bool{}
	for _, event := range chain {
		known[event.ID] = true
	}
	followers := map[string][]*outbox.StoredEvent{}
	for i := range chain {
		cause := chain[i].Headers[outbox.HeaderCausationID]
		if !known[cause] || cause == chain[i].ID {
			cause = ""
		}
		followers[cause] = append(followers[cause], &chain[i])
	}
	var below func(cause string, depth int) error
	below = func(cause string, depth int) error {
		for _, event := range followers[cause] {
			if err := printEvent(out, strings.Repeat("  ", depth), event); err != nil {
				return err
			}
			if err := below(event.ID, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return below("", 0)
}

func printEvent(out io.Writer, indent string, event *outbox.StoredEvent) error {
	text := []byte("deleted")
	if !event.Tombstone() {
		var payload any
		err := event.Decode(&payload)
		if err == nil {
			text, err = json.Marshal(payload)
		}
		if err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%s  %-30s  %s\n", event.CreatedAt.UTC().Format("15:04:05.000"), indent+event.Type, text)
	return err
}
