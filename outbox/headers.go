package outbox

import (
	"context"
	"maps"
)

// Headers that a context carries into every event inserted with it.
const (
	HeaderTraceparent   = "traceparent" // W3C Trace Context
	HeaderTracestate    = "tracestate"
	HeaderCorrelationID = "correlationid"
	HeaderCausationID   = "causationid"
)

type contextKey struct{}

// WithCorrelationID returns a context whose events carry the header correlationid: the id
// that all events of one business process share.
func WithCorrelationID(ctx context.Context, id string) context.Context {
	return withHeader(ctx, HeaderCorrelationID, id)
}

// WithCausationID returns a context whose events carry the header causationid: the id of
// the event or command that is being handled.
func WithCausationID(ctx context.Context, id string) context.Context {
	return withHeader(ctx, HeaderCausationID, id)
}

// WithTraceparent returns a context whose events carry the header traceparent, and
// tracestate where that is not empty. A service that uses OpenTelemetry sets
// [Config.Headers] instead.
func WithTraceparent(ctx context.Context, traceparent, tracestate string) context.Context {
	return withHeader(withHeader(ctx, HeaderTraceparent, traceparent), HeaderTracestate, tracestate)
}

// withHeader leaves the parent's map alone, since siblings share it. An empty value takes
// the header away.
func withHeader(ctx context.Context, key, value string) context.Context {
	parent, _ := ctx.Value(contextKey{}).(map[string]string)
	headers := make(map[string]string, len(parent)+1)
	maps.Copy(headers, parent)
	if value == "" {
		delete(headers, key)
	} else {
		headers[key] = value
	}
	return context.WithValue(ctx, contextKey{}, headers)
}

// contextHeaders returns the headers of ctx and of the hook. The map may be shared: callers
// do not change it.
func (o *Outbox) contextHeaders(ctx context.Context) map[string]string {
	headers, _ := ctx.Value(contextKey{}).(map[string]string)
	if o.headers == nil {
		return headers
	}
	headers = maps.Clone(headers)
	if headers == nil {
		headers = make(map[string]string, 2)
	}
	o.headers(ctx, headers)
	return headers
}

// mergeHeaders lays an event's own headers over those of the context.
func mergeHeaders(inherited, own map[string]string) map[string]string {
	switch {
	case len(own) == 0:
		return inherited
	case len(inherited) == 0:
		return own
	}
	merged := maps.Clone(inherited)
	maps.Copy(merged, own)
	return merged
}
