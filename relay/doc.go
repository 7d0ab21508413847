// Package relay publishes the events of an outbox table to Kafka: it reads them from
// Postgres' logical replication and produces them as Avro, in commit order per key.
//
// What it guarantees: the slot's confirmed LSN never passes an event that Kafka has not
// acknowledged with acks=all; events of one key are appended in the order of their commits;
// an event that cannot be published is never skipped, the relay waits or stands in a named
// halt instead; memory stays bounded whatever the size of a transaction or a backlog.
//
//	cfg, err := relay.LoadConfig("postrider.yaml", os.Environ(), nil)
//	if err != nil {
//		return err
//	}
//	r, err := relay.New(cfg, relay.Options{Logger: slog.Default()})
//	if err != nil {
//		return err // every problem of the configuration at once
//	}
//	return r.Run(ctx) // until ctx ends; then it drains, confirms and returns nil
//
// To read the package, follow the data: source.go (replication connection) → decode.go
// (pgoutput bytes → changes) → route.go (change → event) → encode.go (event → record) →
// publish.go (record → Kafka) → checkpoint.go (acknowledgements → confirmed LSN).
// pipeline.go starts the goroutines, relay.go the sessions.
//
// An event can be published twice after a crash, with the same ce_id and the same bytes; in
// the common case tail.go prevents it. Rows from before the slot come first, in an order that is only nearly theirs.
package relay
