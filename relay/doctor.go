package relay

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// diagnosisTimeout bounds Diagnose.
const diagnosisTimeout = time.Minute

// CheckResult is how a check came out.
type CheckResult string

// The results, from good to bad.
const (
	CheckOK   CheckResult = "ok"
	CheckWarn CheckResult = "warn" // it works, and it should be otherwise
	CheckFail CheckResult = "FAIL" // the relay cannot work
)

// Check is one thing that was looked at.
type Check struct {
	Area    string      `json:"area"` // postgres, kafka or registry
	Name    string      `json:"name"`
	Result  CheckResult `json:"result"`
	Message string      `json:"message"`
	Hint    string      `json:"hint,omitempty"` // what to do, unless the result is ok
}

// Diagnosis is the answer of Diagnose.
type Diagnosis struct {
	Checks      []Check `json:"checks"`
	Failed      bool    `json:"failed"`      // a check did
	Unreachable bool    `json:"unreachable"` // a server did not answer
}

// Diagnose checks everything that the relay of cfg needs of its servers. It changes nothing
// and may be called while relays run. Of topics, subjects and event types it knows those of
// rows that stand in the table. The error says only that cfg is invalid.
func Diagnose(ctx context.Context, cfg Config, registry Registry) (Diagnosis, error) {
	if err := cfg.Validate(); err != nil {
		return Diagnosis{}, err
	}
	cfg = cfg.withDefaults()
	if registry == nil {
		client, err := cfg.Registry.client()
		if err != nil {
			return Diagnosis{}, fmt.Errorf("registry: %w", err)
		}
		defer client.Close()
		registry = client
	}
	ctx, cancel := context.WithTimeout(ctx, diagnosisTimeout)
	defer cancel()
	d := &doctor{cfg: &cfg, topics: make(map[string]struct{}), subjects: make(map[string]*subjectUse)}
	if d.kafka, d.kafkaErr = openCluster(cfg.Kafka, nil, slog.New(slog.DiscardHandler)); d.kafkaErr == nil {
		defer d.kafka.close()
		defer context.AfterFunc(ctx, d.kafka.cut)()
	}
	d.checkPostgres(ctx)
	d.checkKafka(ctx)
	d.checkRegistry(ctx, registry)
	return d.diagnosis, nil
}

// doctor goes from server to server and writes down what it finds.
type doctor struct {
	cfg       *Config
	diagnosis Diagnosis
	area      string

	kafka    *cluster
	kafkaErr error // of connecting to it
	halted   bool  // the relay would stand in a named halt at its start

	// What the rows in the table ask for.
	topics   map[string]struct{}
	subjects map[string]*subjectUse
}

// subjectUse is what rows in the table ask of a subject.
type subjectUse struct {
	json    bool     // some are JSON, which needs a schema in the registry
	types   []string // of its events
	pending bool     // the slot may not have passed some
}

// recall asks Kafka what the relay remembers. Facts to compare with it are read before, for
// a relay that runs writes there first.
func (d *doctor) recall() (*memory, error) {
	if d.kafkaErr != nil {
		return nil, d.kafkaErr
	}
	return d.kafka.recall()
}

func (d *doctor) add(name string, result CheckResult, hint, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	d.diagnosis.Checks = append(d.diagnosis.Checks, Check{d.area, name, result, message, hint})
	d.diagnosis.Failed = d.diagnosis.Failed || result == CheckFail
}

func (d *doctor) ok(name, format string, args ...any) { d.add(name, CheckOK, "", format, args...) }

func (d *doctor) warn(name, hint, format string, args ...any) {
	d.add(name, CheckWarn, hint, format, args...)
}

func (d *doctor) fail(name, hint, format string, args ...any) {
	d.add(name, CheckFail, hint, format, args...)
}

// failed writes down an error: a named halt with its code and hint, else a server that does
// not answer.
func (d *doctor) failed(name, hint string, err error) {
	if h := asHalt(err); h != nil {
		d.fail(name, h.Hint, "%s: %v", h.Code, h.Err)
		return
	}
	d.diagnosis.Unreachable = true
	d.fail(name, hint, "%v", err)
}

// found writes down findings as warnings, or that there are none.
func (d *doctor) found(name string, findings []finding, fine string) {
	for _, f := range findings {
		d.warn(name, f.hint, "%s", f.problem)
	}
	if len(findings) == 0 {
		d.ok(name, "%s", fine)
	}
}

// checkRegistry asks for the schema of each subject that rows in the table name.
func (d *doctor) checkRegistry(ctx context.Context, registry Registry) {
	d.area = "registry"
	s := newSchemas(registry, d.cfg, slog.New(slog.DiscardHandler))
	defer s.close()
	const hint = "is it running, and is registry.url right?"
	if lister, ok := registry.(interface {
		Subjects(ctx context.Context) ([]string, error)
	}); ok {
		subjects, err := lister.Subjects(ctx)
		if err != nil {
			d.failed("reachable", hint, s.registryError(err, ""))
			return
		}
		d.ok("reachable", "%s, %d subjects", d.cfg.Registry.URL, len(subjects))
	}
	for _, subject := range slices.Sorted(maps.Keys(d.subjects)) {
		schema, err := s.fetchLatest(ctx, subject, nil)
		use, h := d.subjects[subject], asHalt(err)
		switch {
		case err == nil:
			d.ok("subject", "%q, version %d, schema id %d", subject, schema.version, schema.id)
		case h != nil && schemaregistry.IsNotFound(h.Err) && !use.json:
			d.ok("subject", "%q is registered with its first event", subject)
		case h != nil && h.onEvent():
			d.poisoned(use, h)
		default:
			d.failed("subject", hint, err)
		}
	}
	if len(d.subjects) == 0 {
		d.ok("subject", "no events in the table name one")
	}
}

// poisoned writes down a subject whose events cannot be encoded. Those in the table may be
// dead letters, or parked, behind which the relay streams.
func (d *doctor) poisoned(use *subjectUse, h *HaltError) {
	slices.Sort(use.types)
	types := list(use.types)
	switch {
	case d.cfg.OnPoison == onPoisonDeadLetter:
		d.warn("subject", h.Hint, "%s: %v: events %s become dead letters", h.Code, h.Err, types)
	case d.cfg.OnPoison == onPoisonHaltKey:
		d.warn("subject", h.Hint, "%s: %v: events %s park their keys", h.Code, h.Err, types)
	case use.pending:
		d.fail("subject", h.Hint, "%s: %v: the relay halts at events %s, some of which the slot has not passed", h.Code, h.Err, types)
	default:
		d.warn("subject", h.Hint, "%s: %v: the next of the events %s would halt the relay; it has passed those in the table", h.Code, h.Err, types)
	}
}

// list joins names for people, the first few of them.
func list(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
