package benchmark

import (
	"fmt"
	"strings"
)

// What can limit a drain.
const (
	LimitWalsender = "walsender" // one process for each slot: Postgres cannot send faster
	LimitRelay     = "relay"
	LimitBroker    = "broker"
	LimitNetwork   = "network"
	LimitMachine   = "machine" // its cores, by all that runs on it
	// LimitSending is the walsender or the network to it: which one cannot be told from another
	// machine.
	LimitSending = "walsender or network"
	LimitUnclear = "not clear"
)

// Verdict says what limited a drain, and how that can be told.
type Verdict struct {
	Limit string `json:"limited_by"`
	Why   string `json:"why"` // a sentence with the evidence
}

const (
	// atRaw is the share of the raw rate from which the relay is not what is in the way.
	atRaw = 0.85
	// busyProcess is the share of a core from which one that can use a single core has no
	// time to spare: the walsender, and the relay's encoder, which is most of its work.
	busyProcess = 0.85
	// busySending is the same for a walsender that is read at pace: what it waits for is to
	// be read.
	busySending = 0.7
	// busyMachine is the share of all cores from which there is nothing left to hand out.
	busyMachine = 0.92
)

func atLeast(cores *float64, share float64) bool { return cores != nil && *cores >= share }

// judge says what limited a drain.
func judge(d Drain, r *Report) Verdict {
	if d.Ratio == nil {
		return Verdict{LimitUnclear, "the drain was over too soon to tell: raise the number of events"}
	}
	if *d.Ratio >= atRaw {
		full := atLeast(d.Paced.MachineCores, busyMachine*float64(r.Cores))
		reached := fmt.Sprintf("the relay drains %.2f of the rate at which the stream can be read at all", *d.Ratio)
		sending := d.Paced.WalsenderCores
		switch {
		case sending == nil:
			return Verdict{LimitSending, reached + "; which of the two bounds that rate cannot be told, for Postgres runs elsewhere"}
		case *sending >= busySending:
			return Verdict{LimitWalsender, fmt.Sprintf("%s, and for that the walsender, a single process, is busy to %.2f of a core", reached, *sending)}
		case full:
			return Verdict{LimitMachine, fmt.Sprintf("%s, and for that all %d cores of this machine are busy, the walsender with %.2f of one: the rest is taken by something else",
				reached, r.Cores, *sending)}
		}
		return Verdict{LimitNetwork, fmt.Sprintf("%s, but the walsender is busy to only %.2f of a core for that: it waits for the link to the relay, whose round trip is %.2f ms",
			reached, *sending, r.PostgresRoundTrip)}
	}
	short := fmt.Sprintf("the relay drains only %.2f of the rate at which the stream can be read", *d.Ratio)
	switch {
	case atLeast(d.MachineCores, busyMachine*float64(r.Cores)):
		return Verdict{LimitMachine, fmt.Sprintf("%s, and all %d cores of this machine are busy: %s", short, r.Cores, d.shares())}
	case d.KafkaFull && d.AckTime != nil && r.KafkaRoundTrip > *d.AckTime/3:
		return Verdict{LimitNetwork, fmt.Sprintf("%s, and waits for Kafka with all that may be in flight: an acknowledgement takes %.0f ms, of which the round trip to the brokers is %.0f",
			short, *d.AckTime, r.KafkaRoundTrip)}
	case d.KafkaFull && d.AckTime != nil:
		return Verdict{LimitBroker, fmt.Sprintf("%s, and waits for Kafka with all that may be in flight: an acknowledgement takes %.0f ms, though the round trip is only %.1f",
			short, *d.AckTime, r.KafkaRoundTrip)}
	case atLeast(d.RelayCores, busyProcess):
		return Verdict{LimitRelay, fmt.Sprintf("%s, and is busy to %.2f cores for that, while %.0f events wait for Kafka on average", short, *d.RelayCores, d.InFlight)}
	case atLeast(d.WalsenderCores, busyProcess):
		return Verdict{LimitWalsender, fmt.Sprintf("%s, but the walsender, a single process, is busy to %.2f of a core meanwhile", short, *d.WalsenderCores)}
	}
	return Verdict{LimitUnclear, fmt.Sprintf("%s, and nothing that can be seen from here is busy all the time: %s; %.0f events wait for Kafka on average",
		short, d.shares(), d.InFlight)}
}

// shares lists who used how much of this machine.
func (d *Drain) shares() string {
	var parts []string
	known := 0.0
	add := func(who string, cores *float64) {
		if cores != nil {
			known += *cores
			parts = append(parts, fmt.Sprintf("%s %.2f of a core", who, *cores))
		}
	}
	add("the relay", d.RelayCores)
	add("the walsender", d.WalsenderCores)
	if d.MachineCores != nil {
		parts = append(parts, fmt.Sprintf("everything else here %.2f", max(*d.MachineCores-known, 0)))
	}
	if len(parts) == 0 {
		return "CPU times are not known"
	}
	return strings.Join(parts, ", ")
}
