// Package benchmark measures the whole line on servers that are there already: how fast
// Postgres sends a stream that is read at once and one that is read at the relay's pace, how
// fast the relay brings the same events to Kafka, what that costs, and how long a single
// event takes.
//
//	report, err := benchmark.Run(ctx, benchmark.Config{
//		Postgres:           cfg.Postgres,
//		Kafka:              cfg.Kafka,
//		Events:             200_000,
//		RowsPerTransaction: []int{1, 100},
//		PayloadBytes:       300,
//		Partitions:         8,
//		LatencyRate:        500,
//		LatencyTime:        10 * time.Second,
//	})
//
// Everything that it makes has a name of its own that begins with postrider_bench_: a schema,
// a publication, one replication slot at a time, topics, consumer groups and a subject. All of
// it is removed before Run returns, whatever the reason; what could not be removed is named
// in the error. The relay runs as a process of its own, from the binary that users run.
//
// Figures of CPU and memory come from /proc: on Linux only, and those of the walsender only
// where Postgres runs on the same machine. Elsewhere they are nil, which means not known.
package benchmark
