package bench_test

import "strconv"

// goal is a bound that a figure is to keep.
type goal struct {
	figure          string
	benchmark, unit string
	atLeast, atMost float64 // one of the two
}

// goals are those of the project, in the order of the page.
var goals = []goal{
	{figure: "drain, one row a transaction, beside the paced raw read", benchmark: "BenchmarkDrain/one-row", unit: "x_paced_raw", atLeast: 0.85},
	{figure: "the same beside Debezium, tuned for throughput", benchmark: "BenchmarkDrain/one-row", unit: "x_debezium", atLeast: 2},
	{figure: "drain, a hundred rows a transaction, beside the paced raw read", benchmark: "BenchmarkDrain/hundred-row", unit: "x_paced_raw", atLeast: 0.55},
	{figure: "the same beside Debezium, tuned for throughput", benchmark: "BenchmarkDrain/hundred-row", unit: "x_debezium", atLeast: 2.5},
	{figure: "walsender, CPU s per million, one row", benchmark: "BenchmarkDrain/one-row", unit: "walsender_cpu_s/1M", atMost: 8},
	{figure: "walsender, CPU s per million, a hundred rows", benchmark: "BenchmarkDrain/hundred-row", unit: "walsender_cpu_s/1M", atMost: 3.5},
	{figure: "relay, CPU s per million, JSON → Avro", benchmark: "BenchmarkDrain/one-row", unit: "relay_cpu_s/1M", atMost: 4.5},
	{figure: "relay, CPU s per million, payload Avro already", benchmark: "BenchmarkDrain/one-row-avro", unit: "relay_cpu_s/1M", atMost: 3},
	{figure: "latency at 500/s, p50, ms", benchmark: "BenchmarkLatency/500-per-second", unit: "p50_ms", atMost: 2},
	{figure: "latency at 500/s, p99, ms", benchmark: "BenchmarkLatency/500-per-second", unit: "p99_ms", atMost: 8},
	{figure: "latency at half the drain rate, p99, ms", benchmark: "BenchmarkLatency/half-drain-rate", unit: "p99_ms", atMost: 50},
	{figure: "memory in a drain, one row, MB", benchmark: "BenchmarkDrain/one-row", unit: "peak_rss_MB", atMost: 80},
	{figure: "memory in a drain, a hundred rows, MB", benchmark: "BenchmarkDrain/hundred-row", unit: "peak_rss_MB", atMost: 80},
	{figure: "memory in a drain of Avro, MB", benchmark: "BenchmarkDrain/one-row-avro", unit: "peak_rss_MB", atMost: 80},
	{figure: "memory with one transaction of a million rows, MB", benchmark: "BenchmarkLargeTransaction", unit: "peak_rss_MB", atMost: 80},
	{figure: "memory with a backlog of ten million, MB", benchmark: "BenchmarkBacklog", unit: "peak_rss_MB", atMost: 80},
	{figure: "memory at 500/s, MB", benchmark: "BenchmarkLatency/500-per-second", unit: "peak_rss_MB", atMost: 80},
	{figure: "memory at half the drain rate, MB", benchmark: "BenchmarkLatency/half-drain-rate", unit: "peak_rss_MB", atMost: 80},
	{figure: "CPU when idle, % of a core", benchmark: "BenchmarkIdle", unit: "cpu_%", atMost: 0.3},
	{figure: "transaction with one `outbox.Insert` beside one without, JSON", benchmark: "BenchmarkInsert", unit: "x_json_event", atMost: 1.25},
	{figure: "the same, Avro", benchmark: "BenchmarkInsert", unit: "x_avro_event", atMost: 1.25},
	{figure: "the same, JSON, by `outbox.Queue` in a batch", benchmark: "BenchmarkInsert", unit: "x_batch_json_event", atMost: 1.25},
	{figure: "registry on one core, GET by id, memory", benchmark: "BenchmarkRegistry/memory", unit: "get/s", atLeast: 30_000},
	{figure: "the same, Postgres", benchmark: "BenchmarkRegistry/postgres", unit: "get/s", atLeast: 30_000},
	{figure: "registry on one core, register of a known schema, memory", benchmark: "BenchmarkRegistry/memory", unit: "register/s", atLeast: 10_000},
	{figure: "the same, Postgres", benchmark: "BenchmarkRegistry/postgres", unit: "register/s", atLeast: 10_000},
	{figure: "registry with 10,000 schemas, memory, MB", benchmark: "BenchmarkRegistryMemory/memory", unit: "peak_rss_MB@10000", atMost: 100},
	{figure: "the same, Postgres, MB", benchmark: "BenchmarkRegistryMemory/postgres", unit: "peak_rss_MB@10000", atMost: 100},
	{figure: "slowest of 1 to 1,000 event types, beside 1", benchmark: "BenchmarkGrowthEventTypes", unit: "x_worst", atLeast: 0.85},
	{figure: "slowest of 1 to 500 partitions, beside 1", benchmark: "BenchmarkGrowthPartitions", unit: "x_worst", atLeast: 0.85},
	{figure: "slowest of 1 to 1,000 events a transaction, beside 1", benchmark: "BenchmarkGrowthTransaction", unit: "x_worst", atLeast: 0.85},
}

func (g goal) bound() string {
	if g.atLeast > 0 {
		return "≥ " + strconv.FormatFloat(g.atLeast, 'f', -1, 64)
	}
	return "≤ " + strconv.FormatFloat(g.atMost, 'f', -1, 64)
}

// verdict says whether the median keeps the bound.
func (g goal) verdict(s spread) string {
	switch {
	case s.runs == 0:
		return "not measured"
	case g.atLeast > 0 && s.median >= g.atLeast, g.atLeast == 0 && s.median <= g.atMost:
		return "reached"
	}
	return "missed"
}
