package benchmark

// Report is what was measured. A nil figure is not known.
type Report struct {
	Name     string `json:"name"`           // with which everything was called that is gone now
	Server   string `json:"server_version"` // of Postgres
	Registry string `json:"registry"`       // "in-process" or "configured"
	Cores    int    `json:"cores"`          // of this machine

	Events       int `json:"events"` // in each drain
	PayloadBytes int `json:"payload_bytes"`
	Partitions   int `json:"partitions"`

	// How long the servers take to answer a question that costs them nothing.
	PostgresRoundTrip float64 `json:"postgres_round_trip_ms"`
	KafkaRoundTrip    float64 `json:"kafka_round_trip_ms"`

	// Background is how many cores of this machine were busy before the benchmark began.
	Background *float64 `json:"background_cores"`

	Drains  []Drain  `json:"drains"`
	Latency *Latency `json:"latency,omitempty"` // nil where none was asked for
}

// Disturbed reports whether something else used so much of this machine that the figures are
// not those of a quiet one.
func (r *Report) Disturbed() bool {
	return r.Background != nil && *r.Background > 0.1*float64(r.Cores)
}

// Drain is one backlog, read three times: greedily, at the relay's pace, and by the relay.
// The figures of the relay are those of the time from the first acknowledgement that was seen
// to the last.
type Drain struct {
	RowsPerTransaction int `json:"rows_per_transaction"`

	Greedy Read `json:"raw_greedy"`
	Paced  Read `json:"raw_paced"`

	EventsPerSecond *float64 `json:"events_per_second"`
	Ratio           *float64 `json:"ratio"`                       // to the rate of the paced read
	RelayCPU        *float64 `json:"relay_cpu_s_per_million"`     // user and system
	WalsenderCPU    *float64 `json:"walsender_cpu_s_per_million"` // what it costs the primary
	PeakMemory      *float64 `json:"relay_peak_memory_bytes"`     // resident

	// How many cores were busy on average, 1.0 being all of one.
	RelayCores     *float64 `json:"relay_cores"`
	WalsenderCores *float64 `json:"walsender_cores"`
	MachineCores   *float64 `json:"machine_cores"` // everything on this machine

	// How many events waited for the brokers' acknowledgement on average, and for how long.
	InFlight  float64  `json:"in_flight_events"`
	AckTime   *float64 `json:"acknowledged_after_ms"`
	KafkaFull bool     `json:"in_flight_limit_reached"` // kafka.max_in_flight_bytes was about used up

	Verdict Verdict `json:"verdict"`
}

// Read is a backlog that was read and thrown away.
type Read struct {
	RowsPerSecond  float64  `json:"rows_per_second"`
	WalsenderCPU   *float64 `json:"walsender_cpu_s_per_million"`
	WalsenderCores *float64 `json:"walsender_cores"`
	MachineCores   *float64 `json:"machine_cores"`
}

// Latency is the time from the return of a commit to the arrival of its event at a consumer.
type Latency struct {
	Rate      float64 `json:"events_per_second"` // as it was committed
	WantRate  int     `json:"events_per_second_asked_for"`
	Events    int     `json:"events"` // that count
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
	Missing   int     `json:"missing"`   // not arrived within half a minute of the last commit
	Duplicate int     `json:"duplicate"` // arrived more than once
}

// known returns a figure that is known.
func known(v float64) *float64 { return &v }
