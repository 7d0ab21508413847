// Package embedded runs the two servers that `postrider demo` needs, so that trying it asks
// for nothing to be installed.
//
// StartPostgres starts a real Postgres as a child process: the one installed on the machine
// or, where there is none, one that is downloaded once. StartKafka starts a stand-in for a
// Kafka broker inside this process: it speaks the protocol, but has no replication and keeps
// records in memory, so nothing about durability or speed can be learned from it.
//
//	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Progress: os.Stderr})
//	if err != nil {
//		return err
//	}
//	defer postgres.Stop()
//	kafka, err := embedded.StartKafka(embedded.KafkaOptions{})
//	if err != nil {
//		return err
//	}
//	defer kafka.Stop()
//	fmt.Println(postgres.URL(), kafka.Brokers())
//
// Both listen on 127.0.0.1 only and let everybody in.
package embedded
