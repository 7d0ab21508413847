package benchmark

import _ "embed"

// WorkloadSQL makes what loads events into a table called outbox, which must be on the
// search path: the function event_payload and the procedure load_events.
//
//go:embed workload.sql
var WorkloadSQL string

// OrderSchema is the Avro schema of the events, order.created.
//
//go:embed order.created.avsc
var OrderSchema string
