package schemaregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// HandlerConfig is what the HTTP API needs beside a registry.
type HandlerConfig struct {
	// Logger gets a line for each change and for each failure of the store. Defaults to none.
	Logger *slog.Logger
	// MaxBody bounds the body of a request in bytes. Defaults to 4 MiB.
	MaxBody int64
	// StoreTimeout bounds the work of one request. Defaults to 10 s.
	StoreTimeout time.Duration
	// Metrics is served at /metrics beside the handler's own. Defaults to nothing.
	Metrics prometheus.Gatherer
}

// NewHandler returns the HTTP API of a registry, with /livez, /readyz and /metrics.
func NewHandler(registry *Registry, cfg HandlerConfig) http.Handler {
	h := &handler{registry: registry, log: cfg.Logger, maxBody: cfg.MaxBody, timeout: cfg.StoreTimeout, metrics: newHTTPMetrics()}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.maxBody <= 0 {
		h.maxBody = 4 << 20
	}
	if h.timeout <= 0 {
		h.timeout = 10 * time.Second
	}
	h.routes = h.api()
	mux := http.NewServeMux()
	gatherers := prometheus.Gatherers{h.metrics.registry}
	if cfg.Metrics != nil {
		gatherers = append(gatherers, cfg.Metrics)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", h.ready)
	// All else goes past the mux, which would tidy up the paths of odd subjects.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics", "/livez", "/readyz":
			mux.ServeHTTP(w, r)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

type handler struct {
	registry *Registry
	log      *slog.Logger
	maxBody  int64
	timeout  time.Duration
	routes   []route
	metrics  *httpMetrics
}

// text is an answer that is written as it is, not as a JSON string.
type text string

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	pattern, status := "none", http.StatusOK
	defer func() { h.metrics.observe(pattern, r.Method, status, time.Since(start)) }()

	answerType, ok := negotiate(r.Header.Values("Accept"))
	var answer any
	var err error
	if !ok {
		err = &Error{http.StatusNotAcceptable, http.StatusNotAcceptable, "HTTP 406 Not Acceptable"}
	} else {
		pattern, answer, err = h.serve(w, r)
	}
	if err != nil {
		e := h.refusal(r, err)
		status = e.StatusCode
		answer = struct {
			Code    int    `json:"error_code"`
			Message string `json:"message"`
		}{e.Code, e.Message}
	}
	w.Header().Set("Content-Type", answerType)
	w.WriteHeader(status)
	if plain, ok := answer.(text); ok {
		_, err = io.WriteString(w, string(plain))
	} else {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(answer)
	}
	if err != nil {
		h.log.Debug("answer not sent", "path", r.URL.Path, "error", err)
	}
}

// serve runs the handler of a request and returns its route's pattern and its answer.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) (string, any, error) {
	route, values, err := match(h.routes, r.Method, r.URL.EscapedPath())
	if err != nil {
		return "none", nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.timeout)
	defer cancel()
	r.Body = http.MaxBytesReader(w, r.Body, h.maxBody)
	answer, err := route.handle(&call{Request: r.WithContext(ctx), values: values})
	return route.pattern, answer, err
}

// refusal turns any error into one of the API.
func (h *handler) refusal(r *http.Request, err error) *Error {
	var e *Error
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &large):
		return &Error{http.StatusRequestEntityTooLarge, http.StatusRequestEntityTooLarge,
			fmt.Sprintf("Request body is longer than the limit of %d bytes", large.Limit)}
	case r.Context().Err() != nil: // the client has gone
		return &Error{http.StatusRequestTimeout, http.StatusRequestTimeout, "Request canceled"}
	}
	h.log.Error("store failed", "method", r.Method, "path", r.URL.Path, "error", err)
	return &Error{http.StatusInternalServerError, CodeStore, "Error in the backend data store"}
}

func (h *handler) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.timeout)
	defer cancel()
	if err := h.registry.Ready(ctx); err != nil {
		h.log.Warn("not ready", "error", err)
		http.Error(w, "the store cannot be reached", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// call is a request with what was found in its path.
type call struct {
	*http.Request
	values []string // of the pattern's variables, in their order, decoded
}

func (c *call) flag(name string) bool { return c.URL.Query().Get(name) == "true" }

// body decodes the JSON of a request. Attributes that are not known are ignored.
func (c *call) body(into any) error {
	if err := c.checkContentType(); err != nil {
		return err
	}
	raw, err := io.ReadAll(c.Body)
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return err
		}
		return &Error{http.StatusBadRequest, http.StatusBadRequest, "Request body cannot be read"}
	}
	var value json.RawMessage
	if len(raw) > 0 {
		err = json.Unmarshal(raw, &value)
	}
	if err == nil && (value == nil || string(value) == "null") {
		return &Error{http.StatusUnprocessableEntity, http.StatusUnprocessableEntity, "Request body must not be empty or null"}
	}
	if err == nil {
		err = json.Unmarshal(value, into)
	}
	if err != nil {
		return &Error{http.StatusBadRequest, http.StatusBadRequest, fmt.Sprintf("Malformed JSON: %v", err)}
	}
	return nil
}

// httpMetrics counts requests on a registry of its own, so that a program may have more
// than one handler.
type httpMetrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newHTTPMetrics() *httpMetrics {
	m := &httpMetrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_registry_requests_total", Help: "Requests by route, method and status code.",
		}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postrider_registry_request_seconds", Help: "Time to answer a request.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"route", "method"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *httpMetrics) observe(route, method string, status int, took time.Duration) {
	if route == "none" {
		method = "any" // whatever a client makes up must not become a label
	}
	m.requests.WithLabelValues(route, method, fmt.Sprint(status)).Inc()
	m.seconds.WithLabelValues(route, method).Observe(took.Seconds())
}
