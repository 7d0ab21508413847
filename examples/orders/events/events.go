// Package events holds the events of the orders example: the .avsc files that are their
// contract, the structs generated from them, and the files' text embedded, since the text is
// what travels to the registry.
package events

import (
	"context"
	"embed"

	"github.com/postrider/postrider/outbox"
)

//go:generate go tool avrogen -pkg events -fullname -o generated.go order.created.avsc order.paid.avsc order.cancelled.avsc order.shipment_ready.avsc order.shipped.avsc inventory.reserved.avsc inventory.rejected.avsc inventory.released.avsc payment.processed.avsc payment.declined.avsc payment.refunded.avsc

//go:embed *.avsc
var files embed.FS

// The schemas, each of the struct of the same name.
var (
	OrderCreatedSchema       = parse("order.created.avsc")
	OrderPaidSchema          = parse("order.paid.avsc")
	OrderCancelledSchema     = parse("order.cancelled.avsc")
	OrderShipmentReadySchema = parse("order.shipment_ready.avsc")
	OrderShippedSchema       = parse("order.shipped.avsc")

	InventoryReservedSchema = parse("inventory.reserved.avsc")
	InventoryRejectedSchema = parse("inventory.rejected.avsc")
	InventoryReleasedSchema = parse("inventory.released.avsc")

	PaymentProcessedSchema = parse("payment.processed.avsc")
	PaymentDeclinedSchema  = parse("payment.declined.avsc")
	PaymentRefundedSchema  = parse("payment.refunded.avsc")
)

// Schemas are all of them.
var Schemas = []*outbox.Schema{
	OrderCreatedSchema, OrderPaidSchema, OrderCancelledSchema, OrderShipmentReadySchema, OrderShippedSchema,
	InventoryReservedSchema, InventoryRejectedSchema, InventoryReleasedSchema,
	PaymentProcessedSchema, PaymentDeclinedSchema, PaymentRefundedSchema,
}

// Register puts the schemas into the database, where the relay finds them. Each process calls
// it once before it writes its first event.
func Register(ctx context.Context, db outbox.PgxDB) error {
	return outbox.RegisterSchemas(ctx, db, Schemas...)
}

func parse(file string) *outbox.Schema {
	text, err := files.ReadFile(file)
	if err != nil {
		panic(err) // the files are part of the program
	}
	return outbox.MustParseSchema(string(text))
}
