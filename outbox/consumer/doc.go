// Package consumer consumes events from Kafka with a consumer group of sarama's and handles
// each once, by package inbox. [Run] is the whole of it:
//
//	err := consumer.Run(ctx, consumer.Config{
//		Brokers:  []string{"kafka:9092"},
//		Group:    "shipping",
//		Topics:   []string{"order"},
//		Registry: registry, // a *schemaregistry.Client
//		Handler: consumer.Pgx(pool, func(ctx context.Context, tx pgx.Tx, r *consumer.Record) error {
//			var event events.OrderPaid
//			if err := r.Decode(&event); err != nil {
//				return err
//			}
//			return ship(ctx, tx, event) // and outbox.Insert(ctx, tx, …) of what follows
//		}),
//	})
//
// # What holds
//
// Each event has its effect in the handler's database once: its mark is committed with the
// handler's work, its offset after both. A crash, a rebalance or two members with the same
// partition bring an event again, but not its effect.
//
// The events of a partition are handled one after the other. One that fails is tried again
// with rising pauses and holds up what is behind it, until it has failed Config.Attempts
// times: then it goes to the dead-letter topic, and the offset follows when the brokers have
// acknowledged that. Trouble that is not the event's (the database or the registry is down, a
// deadlock) is waited out and counts as no attempt. A dead letter has no mark: produced to its
// topic again, it is handled.
//
// A handler that is at work when the consumer stops or its partitions are about to move has
// Config.Grace to finish; after that, and at once when the group has given the partition
// away, its context ends and its transaction is rolled back.
//
// The package's one client is sarama. For another, package inbox alone is as good: the loop is
// the part that each client brings itself.
package consumer
