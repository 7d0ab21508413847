package inbox

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/outbox"
)

// HeaderID is the header of a record that is the event's id and the dedupe key.
const HeaderID = "ce_id"

// WithHeaders returns a context in which outbox.Insert gives the events that follow from a
// record the headers that tie them to it:
//
//	correlationid            that of the record; where it has none, the record's own id:
//	                         it is the first of a new process
//	causationid              the record's id
//	traceparent, tracestate  those of the record
//
// headers are the record's. What the context carried of these before is replaced or, where
// the record has no such header, taken away: it belonged to something else. A value that no
// event could carry on counts as none.
func WithHeaders(ctx context.Context, headers map[string]string) context.Context {
	text := func(name string) string {
		if value := headers[name]; utf8.ValidString(value) && strings.IndexByte(value, 0) < 0 {
			return value
		}
		return ""
	}
	id, correlation := text(HeaderID), text(outbox.HeaderCorrelationID)
	if correlation == "" {
		correlation = id
	}
	ctx = outbox.WithCorrelationID(ctx, correlation)
	ctx = outbox.WithCausationID(ctx, id)
	return outbox.WithTraceparent(ctx, text(outbox.HeaderTraceparent), text(outbox.HeaderTracestate))
}
