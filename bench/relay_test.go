package bench_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/postrider/postrider/internal/benchmark"
	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

// relayProcess is a running relay.
type relayProcess struct {
	*process
	url string // of its HTTP server
}

// startRelay runs a relay with default settings that publishes to topic what slot holds. It
// has a name of its own: one that was used before would remember another slot.
func (r *rig) startRelay(topic, slot string) *relayProcess {
	r.b.Helper()
	listen := freeAddress(r.b)
	config, err := yaml.Marshal(map[string]any{
		"name":     slot,
		"postgres": map[string]any{"url": r.url, "slot": slot, "publication": r.name},
		"outbox":   map[string]any{"topic": topic},
		"kafka":    map[string]any{"brokers": testserver.Kafka(r.b)},
		"registry": map[string]any{"url": r.registryURL},
		"http":     map[string]any{"listen": listen},
	})
	if err != nil {
		r.b.Fatal(err)
	}
	file := filepath.Join(r.b.TempDir(), "postrider.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		r.b.Fatal(err)
	}
	r.b.Cleanup(func() { _, _ = r.kafka.DeleteGroup(context.Background(), "postrider_"+slot) })
	p := startPostrider(r.b, nil, nil, "relay", "-c", file)
	return &relayProcess{process: p, url: "http://" + listen}
}

// progress is how many events had got through when.
type progress struct {
	at     time.Time
	events int64
}

// rate returns events per second from the first progress to the last.
func rate(first, last progress) float64 {
	return float64(last.events-first.events) / last.at.Sub(first.at).Seconds()
}

// awaitPublished returns when the relay has published so many events, with the first
// progress that was seen and the last.
func (p *relayProcess) awaitPublished(events int) (first, last progress) {
	p.b.Helper()
	p.awaitStatus(fmt.Sprintf("%d events were published", events), func(s relay.StatusReport) (done bool, mark int64) {
		last = progress{time.Now(), int64(s.Published)}
		if first.events == 0 {
			first = last
		}
		left := int64(events) - last.events
		if left <= 0 {
			return true, last.events
		}
		next := benchmark.NextLook(last.at.Sub(first.at), uint64(last.events-first.events), uint64(left))
		select {
		case <-time.After(next):
		case <-p.exited:
		}
		return false, last.events
	})
	return first, last
}

func (p *relayProcess) awaitStreaming() {
	p.b.Helper()
	p.awaitStatus("it streamed", func(s relay.StatusReport) (done bool, mark int64) {
		return s.Phase == relay.PhaseStreaming, 0
	})
}

// awaitStatus polls the relay's status until look is done with it.
func (p *relayProcess) awaitStatus(what string, look func(relay.StatusReport) (done bool, mark int64)) {
	p.b.Helper()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var mark int64
	p.await(what, pollInterval, func() (bool, int64) {
		report, err := relay.FetchStatus(p.b.Context(), client, p.url)
		if err != nil {
			return false, mark // it does not listen yet
		}
		for _, t := range report.Troubles {
			if t.Code != "" {
				p.b.Fatalf("the relay halts before %s: %s: %s\n%s", what, t.Code, t.Message, p.log())
			}
		}
		var done bool
		done, mark = look(report)
		return done, mark
	})
}
