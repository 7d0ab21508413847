package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults of GuardConfig.
const (
	DefaultMaxURL  = 8 << 10
	DefaultMaxBody = 4 << 20
)

// GuardConfig is what a Guard needs.
type GuardConfig struct {
	// Keeper has the policy. Without one everybody may do everything, and only the limits hold.
	Keeper *Keeper
	// Logger gets a line for each change that was refused. Defaults to none.
	Logger *slog.Logger
	// Metrics gets the guard's metrics. Defaults to none.
	Metrics prometheus.Registerer
	// RateLimit bounds the requests per second of one client: a user, token or certificate,
	// or an address where there is none of them. Twice as many may come at once. 0 is no limit.
	RateLimit float64
	// MaxURL bounds the URL of a request in bytes. Defaults to DefaultMaxURL.
	MaxURL int
	// MaxBody bounds the body of a request in bytes. Defaults to DefaultMaxBody.
	MaxBody int64
}

// Guard is an http.Handler before that of a registry.
type Guard struct {
	next     http.Handler
	keeper   *Keeper
	log      *slog.Logger
	metrics  *guardMetrics
	requests *limiter // by client
	hashes   *limiter // of passwords, by address and user
	warnings *limiter // lines in the log about who is not known
	uses     *useCache
	maxURL   int
	maxBody  int64
}

// NewGuard returns a guard before next. What next logs with the context of a request carries
// who made it, if its logger is made with AuditHandler.
func NewGuard(next http.Handler, cfg GuardConfig) *Guard {
	g := &Guard{
		next: next, keeper: cfg.Keeper, log: cfg.Logger, metrics: newGuardMetrics(cfg.Metrics),
		requests: newLimiter(cfg.RateLimit, 2*cfg.RateLimit), hashes: newLimiter(1, 10), warnings: newLimiter(1, 10),
		uses: newUseCache(), maxURL: cfg.MaxURL, maxBody: cfg.MaxBody,
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.maxURL <= 0 {
		g.maxURL = DefaultMaxURL
	}
	if g.maxBody <= 0 {
		g.maxBody = DefaultMaxBody
	}
	return g
}

// refusal is an answer of the guard, in the form of the registry's.
type refusal struct {
	status  int
	code    int
	reason  string // label of the metric
	message string
	header  http.Header
}

// ServeHTTP implements http.Handler.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.RequestURI) > g.maxURL {
		g.refuse(w, refusal{status: http.StatusRequestURITooLong, reason: "url",
			message: fmt.Sprintf("The URL is longer than the limit of %d bytes", g.maxURL)})
		return
	}
	if r.ContentLength > g.maxBody {
		g.refuse(w, refusal{status: http.StatusRequestEntityTooLarge, reason: "body",
			message: fmt.Sprintf("The request body is longer than the limit of %d bytes", g.maxBody)})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, g.maxBody)
	req, known := parsePath(r.URL.EscapedPath())
	need, method := need{}, r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if known {
		need = req.route.needs[method]
	}
	if g.keeper == nil {
		if need.what != open {
			if no := g.limitRate(limitKey(Anonymous, clientAddress(r))); no != nil {
				g.refuse(w, *no)
				return
			}
		}
		g.serve(w, r.WithContext(withCaller(r, Anonymous)), &req, need)
		return
	}
	if known && req.route.needs[http.MethodGet].what == open {
		g.forward(w, r, &req)
		return
	}
	policy := g.keeper.Policy()
	who, no := g.identify(policy, r)
	if no == nil {
		r = r.WithContext(withCaller(r, who))
		no = g.judge(policy, who, r, &req, known, need)
	}
	if no != nil {
		g.refuse(w, *no)
		if who != "" && need.change != "" {
			g.auditRefusal(r, &req, need, no.status, no.message)
		}
		return
	}
	// From here on the registry sees the path that was judged, not the one that was sent.
	r = rewrite(r, &req)
	if need.list != notAList && !policy.allowsEverywhere(who, Read) {
		g.serveList(w, r, &req, need.list, reader{policy, who})
		return
	}
	g.serve(w, r, &req, need)
}

// serve passes a request on and sees what becomes of a change.
func (g *Guard) serve(w http.ResponseWriter, r *http.Request, req *request, need need) {
	if need.change == "" {
		g.next.ServeHTTP(w, r)
		return
	}
	answer := &watchedWriter{ResponseWriter: w, status: http.StatusOK}
	g.next.ServeHTTP(answer, r)
	if answer.status >= http.StatusBadRequest {
		g.auditRefusal(r, req, need, answer.status, answer.message())
	}
}

func (g *Guard) forward(w http.ResponseWriter, r *http.Request, req *request) {
	g.next.ServeHTTP(w, rewrite(r, req))
}

// rewrite returns a request whose path has one reading only.
func rewrite(r *http.Request, req *request) *http.Request {
	next, u := *r, *r.URL
	u.Path, u.RawPath = req.path()
	next.URL, next.RequestURI = &u, u.RequestURI()
	return &next
}

// identify tells who sent a request.
func (g *Guard) identify(policy *Policy, r *http.Request) (string, *refusal) {
	given, err := readCredentials(r)
	if err == nil {
		address := clientAddress(r)
		key := network(address)
		if _, known := policy.passwords[given.user]; known {
			key += " " + given.user // all users that do not exist are one
		}
		var who string
		who, err = policy.authenticate(r.Context(), given, func() bool { _, ok := g.hashes.allow(key); return ok })
		if err == nil {
			return who, g.limitRate(limitKey(who, address))
		}
	}
	if _, ok := g.warnings.allow(""); ok {
		g.log.Warn("credentials refused", "user", given.user, "client", clientAddress(r), "error", err)
	}
	if errors.Is(err, errTooManyPasswords) {
		return "", &refusal{status: http.StatusTooManyRequests, reason: "password_rate", header: http.Header{"Retry-After": {"1"}},
			message: "Too many passwords were tried for this user from this address, try again later"}
	}
	if errors.Is(err, errCredentials) {
		return "", unauthenticated("The user, password or token is not known")
	}
	return "", &refusal{status: http.StatusRequestTimeout, reason: "canceled", message: "Request canceled"}
}

func unauthenticated(message string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: 40101, reason: "unauthenticated", message: message,
		header: http.Header{"Www-Authenticate": {`Basic realm="schema registry", charset="UTF-8"`, `Bearer realm="schema registry"`}}}
}

func (g *Guard) limitRate(client string) *refusal {
	wait, ok := g.requests.allow(client)
	if ok {
		return nil
	}
	return &refusal{status: http.StatusTooManyRequests, reason: "rate", header: http.Header{"Retry-After": {fmt.Sprint(wait)}},
		message: "Too many requests of this client, try again later"}
}

// judge tells why somebody may not have what they ask for; nil lets them.
func (g *Guard) judge(policy *Policy, who string, r *http.Request, req *request, known bool, need need) *refusal {
	if len(policy.rights[who]) == 0 {
		return denied(who, "do anything here")
	}
	if !known {
		return &refusal{status: http.StatusNotFound, reason: "path", message: "HTTP 404 Not Found"}
	}
	if _, ok := req.route.needs[methodOf(r)]; !ok {
		return &refusal{status: http.StatusMethodNotAllowed, reason: "path", message: "HTTP 405 Method Not Allowed"}
	}
	switch need.what {
	case oneSubject, oneVersion, everything:
		for _, n := range req.names() {
			if !policy.allows(who, need.action, n) {
				return denied(who, fmt.Sprintf("%s subject %q", need.action, displayName(n)))
			}
		}
	case usersOfID:
		if policy.allowsEverywhere(who, need.action) {
			return nil
		}
		allowed, exists, err := g.uses.any(r, req, g.next, func(n name) bool { return policy.allows(who, need.action, n) })
		switch {
		case err != nil:
			return &storeFailed
		case !exists:
			return &refusal{status: http.StatusNotFound, code: 40403, reason: "path", message: fmt.Sprintf("Schema %.40s not found", req.values[2])}
		case !allowed:
			return denied(who, "read this schema: no subject that uses it is open to them")
		}
	}
	if need.what == oneVersion && !policy.allowsEverywhere(who, need.action) {
		found, exists, err := foundSubject(r, req, g.next)
		if err != nil {
			return &storeFailed
		}
		if exists && !policy.allows(who, need.action, found) {
			return denied(who, fmt.Sprintf("%s subject %q", need.action, found))
		}
		// What does not exist is the registry's to say, in the path's own words.
	}
	if need.action != 0 && (r.Method == http.MethodPost || r.Method == http.MethodPut) {
		return judgeBody(policy, who, r, req)
	}
	return nil
}

var storeFailed = refusal{status: http.StatusInternalServerError, code: 50001, reason: "store", message: "Error in the backend data store"}

func methodOf(r *http.Request) string {
	if r.Method == http.MethodHead {
		return http.MethodGet
	}
	return r.Method
}

func displayName(n name) string {
	if n.subject == "" {
		n.subject = "*"
	}
	return n.String()
}

func denied(who, what string) *refusal {
	if who == Anonymous {
		return unauthenticated("Credentials are needed to " + what)
	}
	return &refusal{status: http.StatusForbidden, code: 40301, reason: "forbidden", message: fmt.Sprintf("%s may not %s", who, what)}
}

// refuse answers a request in the form of the registry's errors.
func (g *Guard) refuse(w http.ResponseWriter, no refusal) {
	g.metrics.refused.WithLabelValues(no.reason).Inc()
	for key, values := range no.header {
		w.Header()[key] = values
	}
	if no.code == 0 {
		no.code = no.status
	}
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	w.WriteHeader(no.status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(map[string]any{"error_code": no.code, "message": no.message}) // the client went away
}

// ask puts a question to the registry on behalf of the guard itself.
func ask(ctx context.Context, next http.Handler, path string, query url.Values) (*capture, error) {
	u := &url.URL{RawPath: path, RawQuery: query.Encode()}
	u.Path, _ = url.PathUnescape(path)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	r.URL = u
	r.RequestURI = u.RequestURI()
	answer := newCapture()
	next.ServeHTTP(answer, r)
	return answer, nil
}

// capture is an answer that is kept instead of sent.
type capture struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newCapture() *capture { return &capture{header: make(http.Header), status: http.StatusOK} }

func (c *capture) Header() http.Header            { return c.header }
func (c *capture) WriteHeader(status int)         { c.status = status }
func (c *capture) Write(text []byte) (int, error) { return c.body.Write(text) }

// send sends an answer on.
func (c *capture) send(w http.ResponseWriter, body []byte) {
	for key, values := range c.header {
		if !strings.EqualFold(key, "Content-Length") {
			w.Header()[key] = values
		}
	}
	w.WriteHeader(c.status)
	_, _ = w.Write(body) // the client went away
}
