package relay

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// Phase is what the relay is doing.
type Phase string

// The phases.
const (
	PhaseStarting  Phase = "starting"  // connecting
	PhaseStandby   Phase = "standby"   // another relay reads the slot
	PhaseSnapshot  Phase = "snapshot"  // rows from before the slot
	PhaseStreaming Phase = "streaming" // the normal state
	PhaseStopping  Phase = "stopping"  // draining
	PhaseStopped   Phase = "stopped"
)

// phaseNews is what the log says when a phase begins.
var phaseNews = map[Phase]string{
	PhaseStarting:  "relay connects",
	PhaseStandby:   "relay stands by: another relay reads the slot",
	PhaseSnapshot:  "relay reads the rows from before the slot",
	PhaseStreaming: "relay is streaming",
	PhaseStopping:  "relay is stopping: what is on its way is awaited",
	PhaseStopped:   "relay has stopped",
}

// The parts that can be in trouble.
const (
	componentPostgres = "postgres"
	componentKafka    = "kafka"
	componentRegistry = "registry"
	componentEvent    = "event"
	componentMemory   = "kafka-place" // what the relay keeps in Kafka
	componentCatalog  = "postgres-catalog"
)

var components = []string{componentPostgres, componentKafka, componentRegistry, componentEvent, componentMemory, componentCatalog}

// Trouble is what keeps a part of the relay from working. With a Code it is a named halt;
// without one it passes by itself.
type Trouble struct {
	Component string    `json:"component"`
	WaitsFor  string    `json:"waits_for,omitempty"` // the server that an event waits for
	Code      HaltCode  `json:"code,omitempty"`
	Message   string    `json:"message"`
	Hint      string    `json:"hint,omitempty"`
	Since     time.Time `json:"since"`
}

// Lag is how far Kafka is behind the database.
type Lag struct {
	Bytes          int64   `json:"bytes"`                  // WAL between the confirmed LSN and the server's end
	Seconds        float64 `json:"seconds"`                // age of the oldest event not yet acknowledged; -1 while nothing is streamed
	RetainedBytes  int64   `json:"retained_wal_bytes"`     // WAL that the slot keeps the server from removing
	SafeBytes      *int64  `json:"safe_wal_bytes"`         // what may still be written before the slot is lost; null for no limit
	SecondsToLoss  *int64  `json:"seconds_to_slot_loss"`   // at the rate of the last minutes; null for no limit
	OldestXactSecs float64 `json:"oldest_transaction_age"` // a long transaction holds the slot back
}

// StatusReport is the answer of /status.
type StatusReport struct {
	Name          string    `json:"name"`
	Phase         Phase     `json:"phase"`
	Since         time.Time `json:"since"`
	Ready         bool      `json:"ready"`
	Reason        string    `json:"reason,omitempty"`
	Troubles      []Trouble `json:"troubles"`
	Slot          string    `json:"slot"`
	Publication   string    `json:"publication"`
	ConfirmedLSN  string    `json:"confirmed_lsn"` // empty while it is not known
	ReceivedLSN   string    `json:"received_lsn"`
	LastReceived  time.Time `json:"last_received"`
	Lag           *Lag      `json:"lag"` // null while it is not known
	Published     uint64    `json:"published"`
	DeadLettered  uint64    `json:"dead_lettered"`
	Expired       uint64    `json:"expired"`
	Skipped       uint64    `json:"duplicates_skipped"`
	InFlight      int64     `json:"in_flight"`
	Sessions      uint64    `json:"sessions"`
	ServerVersion int       `json:"server_version,omitempty"`
	// Parked is null unless on_poison is halt-key.
	Parked *ParkedReport `json:"parked,omitempty"`
}

// Status is what the relay knows about itself, for people, probes and metrics. It may be
// used by any goroutine.
type Status struct {
	log     *slog.Logger
	metrics *metrics

	mu           sync.Mutex
	phase        Phase
	since        time.Time
	troubles     map[string]Trouble
	received     LSN
	lastReceived time.Time
	liveness     time.Duration
	lag          *Lag
	flushed      func() LSN
	sessions     uint64
	version      int
}

func newStatus(log *slog.Logger, m *metrics) *Status {
	s := &Status{log: log, metrics: m, troubles: make(map[string]Trouble), liveness: 2 * minLiveness}
	s.setPhase(PhaseStarting)
	return s
}

// setPhase enters a phase and logs the change, with attributes as slog takes them.
func (s *Status) setPhase(p Phase, attrs ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == p {
		return
	}
	if s.phase != "" {
		s.log.Info(phaseNews[p], attrs...)
	}
	s.phase, s.since = p, time.Now()
	s.metrics.setPhase(p)
}

// streaming reports whether the relay reads the stream.
func (s *Status) streaming() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == PhaseStreaming
}

// trouble records that component cannot work because of err. The same trouble again is
// neither logged nor given a new start.
func (s *Status) trouble(component string, err error) {
	t := Trouble{Component: component, Message: err.Error(), Since: time.Now()}
	var c *componentError
	if component == componentEvent && errors.As(err, &c) {
		t.WaitsFor = c.component
	}
	if h := asHalt(err); h != nil {
		t.Code, t.Hint, t.Message = h.Code, h.Hint, h.Err.Error()
	} else if unreachable(err) {
		t.Hint = waitHints[cmp.Or(t.WaitsFor, component)]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.troubles[component]
	if known && old.Code == t.Code {
		t.Since = old.Since
		s.troubles[component] = t
		return
	}
	s.troubles[component] = t
	s.metrics.setTroubles(s.troubles)
	if t.Code != "" {
		s.log.Error("relay halts", "code", t.Code, "component", component, "error", t.Message, "hint", t.Hint)
		return
	}
	attrs := []any{"component", component, "error", t.Message}
	if t.Hint != "" {
		attrs = append(attrs, "hint", t.Hint)
	}
	s.log.Warn("relay waits", attrs...)
}

// waitHints say what to look at while a server cannot be reached.
var waitHints = map[string]string{
	componentPostgres: "is it running, and is postgres.url right? the relay goes on by itself",
	componentKafka:    "are the brokers running, and is kafka.brokers right? the relay goes on by itself",
	componentRegistry: "is it running, and is registry.url right? the relay goes on by itself",
}

// unreachable reports whether err says that no connection could be made, or that it broke.
func unreachable(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// clear records that component works again.
func (s *Status) clear(component string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, known := s.troubles[component]
	if !known {
		return
	}
	delete(s.troubles, component)
	s.metrics.setTroubles(s.troubles)
	s.log.Info("relay goes on", "component", component, "after", time.Since(t.Since).Round(time.Millisecond).String())
}

// clearAll records that nothing is in trouble.
func (s *Status) clearAll() {
	s.mu.Lock()
	components := slices.Collect(maps.Keys(s.troubles))
	s.mu.Unlock()
	for _, component := range components {
		s.clear(component)
	}
}

// alive records a sign of life of the stream.
func (s *Status) alive(walEnd LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastReceived = time.Now()
	s.received = max(s.received, walEnd)
}

func (s *Status) begin(flushed func() LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed = flushed
	s.sessions++
}

// end forgets the session, but for the LSN that it confirmed last.
func (s *Status) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flushed != nil {
		confirmed := s.flushed()
		s.flushed = func() LSN { return confirmed }
	}
}

func (s *Status) setServer(version int, liveness time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.liveness = version, liveness
}

// setLag takes the lag; nil while it cannot be read.
func (s *Status) setLag(l *Lag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = l
}

// Ready reports whether the relay does its work: it streams, has heard from the server of
// late and nothing is in trouble, or it stands by for a relay that does. The reason says
// what is missing.
func (s *Status) Ready() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready()
}

func (s *Status) ready() (bool, string) {
	if len(s.troubles) > 0 {
		component := slices.Min(slices.Collect(maps.Keys(s.troubles)))
		t := s.troubles[component]
		if t.Code != "" {
			return false, "halted: " + string(t.Code) + ": " + t.Message
		}
		if component == componentEvent {
			return false, "waiting: " + t.Message
		}
		return false, "waiting for " + component + ": " + t.Message
	}
	switch s.phase {
	case PhaseStandby:
		return true, "standby: another relay reads the slot"
	case PhaseSnapshot:
		return true, "snapshot"
	case PhaseStreaming:
		if silent := time.Since(s.lastReceived); silent > s.liveness {
			return false, "nothing received for " + silent.Round(time.Second).String()
		}
		return true, "streaming"
	}
	return false, string(s.phase)
}

func (s *Status) report() StatusReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := StatusReport{
		Phase: s.phase, Since: s.since, Troubles: []Trouble{},
		ReceivedLSN: s.received.String(), LastReceived: s.lastReceived,
		Lag: s.lag, Sessions: s.sessions, ServerVersion: s.version,
	}
	r.Ready, r.Reason = s.ready()
	for _, component := range slices.Sorted(maps.Keys(s.troubles)) {
		r.Troubles = append(r.Troubles, s.troubles[component])
	}
	if s.flushed != nil {
		if lsn := s.flushed(); lsn > 0 {
			r.ConfirmedLSN = lsn.String()
		}
	}
	return r
}
