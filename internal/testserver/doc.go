// Package testserver gives tests a real Postgres and a real Kafka.
//
// Two kinds of servers are had here. The shared ones are named by POSTGRES_URL and
// KAFKA_BROKERS, which `make test` sets after it has started them; every test takes a
// database and topics of its own on them, so that all tests can run in parallel:
//
//	func TestRelay_PublishesCommittedRow(t *testing.T) {
//		t.Parallel()
//		url := testserver.Postgres(t)      // an empty database, dropped afterwards
//		brokers := testserver.Kafka(t)
//		topic := testserver.Topic(t, 8)    // eight partitions, deleted afterwards
//		name := testserver.UniqueName(t)   // slots are named across all databases
//		...
//	}
//
// Private ones, NewPostgresCluster and NewKafkaCluster, belong to one test that may
// stop, crash and restart them. They take seconds to start.
//
// Where a server is missing the test is skipped with a line that says so, or fails when
// REQUIRE_INTEGRATION=1, as in CI.
//
// On the shared Postgres a transaction that one test leaves open holds up the creation of
// a replication slot in every other, whatever their databases: tests that keep
// transactions open for long use a private cluster.
package testserver
