package schemaregistry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
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
	// IncompatibleCode is the code of the answer that a schema is not compatible:
	// CodeIncompatible, or CodeIncompatibleSchema as newer servers say. Defaults to
	// CodeIncompatible.
	IncompatibleCode int
	// KeepRuleSets keeps the rules that come with schemas and settings. Defaults to leaving
	// them out without a word, as the community edition of Confluent's registry does.
	KeepRuleSets bool
	// Version and Commit are what /v1/metadata/version says of the server. Defaults to what
	// the Go build knows.
	Version, Commit string
}

// NewHandler returns the HTTP API of a registry, with /livez, /readyz and /metrics.
func NewHandler(registry *Registry, cfg HandlerConfig) http.Handler {
	h := &handler{HandlerConfig: cfg, registry: registry, log: cfg.Logger, metrics: newHTTPMetrics(),
		submissions: newLRU[[sha256.Size]byte, Submission](parsedSchemas)}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.MaxBody <= 0 {
		h.MaxBody = 4 << 20
	}
	if h.StoreTimeout <= 0 {
		h.StoreTimeout = 10 * time.Second
	}
	if h.IncompatibleCode == 0 {
		h.IncompatibleCode = CodeIncompatible
	}
	if h.Version == "" {
		h.Version, h.Commit = buildVersion()
	}
	h.routes = newRoutes(h.api())
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

func buildVersion() (version, commit string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", "unknown"
	}
	commit = "unknown"
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			commit = setting.Value
		}
	}
	return info.Main.Version, commit
}

type handler struct {
	HandlerConfig
	registry *Registry
	log      *slog.Logger
	routes   routes
	metrics  *httpMetrics
	// submissions are what request bodies were read as, by their hash. They are not changed.
	submissions *lru[[sha256.Size]byte, Submission]
}

// text is an answer that is written as it is, not as a JSON string.
type text string

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	pattern, answerType, answer, err := h.serve(w, r)
	status := statusOf(answer)
	if err != nil {
		e := h.refusal(r, err)
		status = e.StatusCode
		answer = struct {
			Code    int    `json:"error_code"`
			Message string `json:"message"`
		}{e.Code, e.Message}
	}
	var body []byte
	switch a := answer.(type) {
	case text:
		body = []byte(a)
	case noContent:
	case encoded:
		body = a
	default:
		body, err = encode(a)
	}
	if err == nil || body != nil {
		header := w.Header()
		header["Content-Type"] = []string{answerType}
		header["Content-Length"] = []string{strconv.Itoa(len(body))}
		w.WriteHeader(status)
		_, err = w.Write(body)
	}
	if err != nil {
		h.log.Debug("answer not sent", "path", r.URL.Path, "error", err)
	}
	h.metrics.observe(pattern, r.Method, status, time.Since(start))
}

// encoded is an answer that is JSON already.
type encoded []byte

func encode(answer any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(answer)
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), err
}

// frequentPattern is what consumers ask for, at their start all of them at once.
const frequentPattern = "/schemas/ids/{id}"

// frequent answers the plainest of these questions without any work; nil for all others.
func (h *handler) frequent(r *http.Request) encoded {
	if r.Method != http.MethodGet || r.URL.RawQuery != "" {
		return nil
	}
	digits, ok := strings.CutPrefix(r.URL.Path, "/schemas/ids/")
	id, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return nil
	}
	return h.registry.encodedByID(id)
}

// serve runs the handler of a request and returns its route's pattern, and the answer with
// its content type. What is wrong with a request is looked for in the order of JAX-RS: path,
// method, content type, what is accepted.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) (pattern, answerType string, answer any, err error) {
	answerType, acceptable := negotiate(r.Header["Accept"])
	contentType := checkContentType(r.Header.Get("Content-Type"))
	if acceptable && contentType == nil {
		if body := h.frequent(r); body != nil {
			return frequentPattern, answerType, body, nil
		}
	}
	target, err := parseTarget(r.URL)
	if err != nil {
		return "none", answerType, nil, err
	}
	route, values, err := h.routes.match(r.Method, target.segments)
	var allowed allowedMethods
	switch {
	case errors.As(err, &allowed):
		w.Header().Set("Allow", allowed.header())
		if r.Method == http.MethodOptions {
			return "none", answerType, text(""), nil
		}
		return "none", answerType, nil, httpError(http.StatusMethodNotAllowed, "HTTP 405 Method Not Allowed")
	case err != nil:
		return "none", answerType, nil, err
	}
	if contentType != nil {
		return route.pattern, answerType, nil, contentType
	}
	r.Body = http.MaxBytesReader(w, r.Body, h.MaxBody)
	if !acceptable {
		return route.pattern, answerType, nil, httpError(http.StatusNotAcceptable, "HTTP 406 Not Acceptable")
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.StoreTimeout)
	defer cancel()
	answer, err = route.handle(&call{r.WithContext(ctx), h, target, values})
	return route.pattern, answerType, answer, err
}

// refusal turns any error into one of the API.
func (h *handler) refusal(r *http.Request, err error) *Error {
	var e *Error
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &e) && e.Code == CodeIncompatible:
		return &Error{e.StatusCode, h.IncompatibleCode, e.Message}
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
	ctx, cancel := context.WithTimeout(r.Context(), h.StoreTimeout)
	defer cancel()
	if err := h.registry.Ready(ctx); err != nil {
		h.log.Warn("not ready", "error", err)
		http.Error(w, "the store cannot be reached", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
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
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route, method).Observe(took.Seconds())
}
