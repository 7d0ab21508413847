package access

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
)

// caller is who made a request.
type caller struct {
	name    string // as in the rights
	address string
}

type callerKey struct{}

func withCaller(r *http.Request, name string) context.Context {
	return context.WithValue(r.Context(), callerKey{}, caller{name, clientAddress(r)})
}

func callerOf(ctx context.Context) (caller, bool) {
	c, ok := ctx.Value(callerKey{}).(caller)
	return c, ok
}

// AuditHandler makes each line that is logged with the context of a request say who made it:
// who and client. So the registry's line of a change is the one line that tells of it.
func AuditHandler(h slog.Handler) slog.Handler { return auditHandler{h} }

type auditHandler struct{ slog.Handler }

func (h auditHandler) Handle(ctx context.Context, record slog.Record) error {
	if c, ok := callerOf(ctx); ok {
		record.AddAttrs(slog.String("who", c.name), slog.String("client", c.address))
	}
	return h.Handler.Handle(ctx, record)
}

func (h auditHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return auditHandler{h.Handler.WithAttrs(attrs)}
}

func (h auditHandler) WithGroup(name string) slog.Handler {
	return auditHandler{h.Handler.WithGroup(name)}
}

// auditRefusal logs a change that did not come about.
func (g *Guard) auditRefusal(r *http.Request, req *request, need need, status int, reason string) {
	attrs := []any{"change", need.change}
	if subject := req.value("{subject}"); subject != "" {
		attrs = append(attrs, "subject", req.names()[0].String())
	}
	if version := req.value("{version}"); version != "" {
		attrs = append(attrs, "version", version)
	}
	c, _ := callerOf(r.Context())
	attrs = append(attrs, "status", status, "reason", reason, "who", c.name, "client", c.address)
	g.log.Warn("change refused", attrs...)
}

// watchedWriter passes an answer on and keeps what an error says.
type watchedWriter struct {
	http.ResponseWriter
	status int
	kept   bytes.Buffer
}

const maxKept = 4 << 10

func (w *watchedWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *watchedWriter) Write(text []byte) (int, error) {
	if w.status >= http.StatusBadRequest {
		w.kept.Write(text[:min(len(text), maxKept-w.kept.Len())])
	}
	return w.ResponseWriter.Write(text)
}

func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watchedWriter) message() string {
	var body struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(w.kept.Bytes(), &body) != nil || body.Message == "" {
		return http.StatusText(w.status)
	}
	return body.Message
}
