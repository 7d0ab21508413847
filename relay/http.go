package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves what the relay shows of itself:
//
//	/livez    200 while the process runs
//	/readyz   200 while the relay streams or stands by, else 503 with the reason
//	/metrics  Prometheus
//	/status   StatusReport as JSON
func (r *Relay) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready, reason := r.status.Ready()
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, reason)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(r.Status()) // the client went away
	})
	return mux
}

// Status returns what /status serves.
func (r *Relay) Status() StatusReport {
	report := r.status.report()
	report.Name, report.Slot, report.Publication = r.cfg.Name, r.cfg.Postgres.Slot, r.cfg.Postgres.Publication
	report.Published = r.metrics.publishedTotal.Load()
	report.DeadLettered = r.metrics.deadTotal.Load()
	report.Expired = r.metrics.expiredTotal.Load()
	report.Skipped = r.metrics.skippedTotal.Load()
	report.InFlight = r.metrics.inFlightNow.Load()
	report.Parked = r.parked.report()
	return report
}

// FetchStatus asks the relay whose HTTP server is at url for what /status serves.
func FetchStatus(ctx context.Context, client *http.Client, url string) (report StatusReport, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/status", nil)
	if err != nil {
		return report, err
	}
	response, err := client.Do(request)
	if err != nil {
		return report, err
	}
	defer response.Body.Close()
	return report, json.NewDecoder(response.Body).Decode(&report)
}
