package relay

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// renewalRig is what an encoder knows of schemas, and the registry that it has them from.
type renewalRig struct {
	*schemas
	tb     testing.TB
	ctx    context.Context
	client *schemaregistry.Client
	ttl    time.Duration
	away   atomic.Bool                   // answers 503
	asked  atomic.Int64                  // how often it was asked for a subject
	gate   atomic.Pointer[chan struct{}] // holds answers back until it is closed
}

func newRenewalRig(tb testing.TB) *renewalRig {
	tb.Helper()
	r := &renewalRig{tb: tb, ttl: time.Hour}
	handler := schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet {
			r.asked.Add(1)
		}
		if gate := r.gate.Load(); gate != nil && req.Method == http.MethodGet {
			select {
			case <-*gate:
			case <-req.Context().Done():
			}
		}
		if r.away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, req)
	}))
	var err error
	r.client, err = schemaregistry.NewClient(schemaregistry.ClientConfig{URL: server.URL})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := minimalConfig()
	cfg.Registry.LatestTTL = r.ttl
	r.schemas = newSchemas(r.client, &cfg, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	r.ctx = ctx
	tb.Cleanup(func() {
		cancel()
		r.schemas.close()
		r.client.Close()
		server.Close()
	})
	return r
}

// register registers a version of subject that has so many fields.
func (r *renewalRig) register(subject string, fields int) {
	r.tb.Helper()
	text := `{"type":"record","name":"r","fields":[` +
		strings.TrimSuffix(strings.Repeat(`{"name":"f#","type":"long","default":0},`, fields), ",") + `]}`
	for n := range fields {
		text = strings.Replace(text, "#", string(rune('a'+n)), 1)
	}
	if _, err := r.client.Register(r.tb.Context(), subject, text); err != nil {
		r.tb.Fatal(err)
	}
}

// version is what latestOf says when the registry has said so far that long ago.
func (r *renewalRig) version(subject string, age time.Duration) int {
	r.tb.Helper()
	if known := r.latest[subject]; known != nil {
		known.fetched = time.Now().Add(-age)
		if len(known.renewal) > 0 && age >= r.ttl {
			answer := <-known.renewal
			answer.at = time.Now().Add(-age)
			known.renewal <- answer
		}
	}
	s, err := r.latestOf(r.ctx, []byte(subject), time.Now())
	if err != nil {
		r.tb.Fatal(err)
	}
	return s.version
}

func (r *renewalRig) want(subject string, age time.Duration, version int) {
	r.tb.Helper()
	if got := r.version(subject, age); got != version {
		r.tb.Errorf("%s after %v: version %d, want %d", subject, age, got, version)
	}
}

// untilAnswered returns when the registry's answer for subject waits for the next event.
func (r *renewalRig) untilAnswered(subject string) {
	for len(r.latest[subject].renewal) == 0 {
		runtime.Gosched()
	}
}

func (r *renewalRig) holdBack() (release func()) {
	gate := make(chan struct{})
	r.gate.Store(&gate)
	return func() { close(gate) }
}

func TestSchemas_AKnownSchemaIsRenewedWithoutHoldingUpItsEvents(t *testing.T) {
	t.Parallel()
	r := newRenewalRig(t)
	r.register("s", 1)
	r.want("s", 0, 1)
	r.register("s", 2)
	release := r.holdBack()
	r.want("s", r.ttl/4, 1)
	if r.latest["s"].renewal != nil {
		t.Error("the registry was asked before half of the time had passed")
	}
	r.want("s", r.ttl*3/4, 1) // returns although the registry does not answer
	r.want("s", r.ttl*3/4, 1)
	release()
	r.untilAnswered("s")
	r.want("s", r.ttl*3/4, 2)
}

func TestSchemas_OutOfDateIsNotUsedWhileTheRegistryAnswers(t *testing.T) {
	t.Parallel()
	r := newRenewalRig(t)
	r.register("s", 1)
	r.want("s", 0, 1)
	r.register("s", 2)
	r.want("s", r.ttl, 2)
}

func TestSchemas_AnAnswerCountsFromWhenItWasGiven(t *testing.T) {
	t.Parallel()
	r := newRenewalRig(t)
	r.register("s", 1)
	r.want("s", 0, 1)
	r.want("s", r.ttl*3/4, 1)
	r.untilAnswered("s")
	r.register("s", 2)
	r.want("s", 2*r.ttl, 2) // the answer has waited for this event, and is out of date itself
}

func TestSchemas_WhileTheRegistryIsAwayOnlyTheFirstEventWaits(t *testing.T) {
	t.Parallel()
	r := newRenewalRig(t)
	for _, subject := range []string{"a", "b"} {
		r.register(subject, 1)
		r.want(subject, 0, 1)
		r.register(subject, 2)
	}
	r.away.Store(true)
	r.want("a", 2*r.ttl, 1) // has waited for the refusal
	release := r.holdBack()
	r.want("b", 2*r.ttl, 1) // does not wait for an answer that does not come
	r.away.Store(false)
	release()
	r.untilAnswered("b")
	r.want("b", r.ttl*3/4, 2)
	for r.version("a", r.ttl*3/4) != 2 {
		runtime.Gosched()
	}
}

func TestSchemas_ASubjectThatIsGoneHalts(t *testing.T) {
	t.Parallel()
	r := newRenewalRig(t)
	r.register("s", 1)
	r.want("s", 0, 1)
	if err := r.client.DeleteSubject(t.Context(), "s", false); err != nil {
		t.Fatal(err)
	}
	r.latest["s"].fetched = time.Now().Add(-r.ttl)
	for range 2 { // and goes on halting
		_, err := r.latestOf(r.ctx, []byte("s"), time.Now())
		if h := asHalt(err); h == nil || h.Code != SchemaMissing {
			t.Fatalf("got %v, want %s", err, SchemaMissing)
		}
	}
	r.register("s", 2)
	r.want("s", 0, 2)
}
