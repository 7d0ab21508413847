// Package bench measures the whole line, from rows committed in Postgres to Avro records in
// Kafka, with the binary and the default settings that users run; beside it two readers that
// throw everything away, Debezium, the cost to the service, and the registry:
//
//	make bench                                       # everything, writes RESULTS.md
//	make bench BENCH=Drain/one-row BENCHTIME=1x BENCH_EVENTS=100000
//
// The benchmarks are written with the testing package, so that -benchtime 3x repeats a
// drain of the same rows and benchstat compares two runs. They take the servers of
// POSTGRES_URL, a superuser on a server with wal_level=logical, and KAFKA_BROKERS, and
// leave nothing behind on them. README.md says what each figure means and which variables
// there are.
//
// CPU times and memory are read from /proc: on Linux only, and those of the walsender only
// where Postgres runs on the same machine. Elsewhere the benchmarks leave them out.
//
// Relay, broker, Postgres and the benchmark share the machine's cores. A figure says nothing
// without the machine and its load beside it, which is why the results name both.
package bench
