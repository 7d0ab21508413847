package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/testdata/schemas"
)

var created = MustParseSchema(schemas.OrderCreatedText)

func TestNewRow_RefusesAndNamesTheField(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*Event)
		want   string
	}{
		{"empty aggregate type", func(e *Event) { e.AggregateType = "" }, "aggregate_type: is empty"},
		{"empty aggregate id", func(e *Event) { e.AggregateID = "" }, "aggregate_id: is empty"},
		{"empty type", func(e *Event) { e.Type = "" }, "type: is empty"},
		{"NUL byte", func(e *Event) { e.AggregateID = "o\x00" }, `aggregate_id: "o\x00" contains a NUL byte`},
		{"invalid UTF-8", func(e *Event) { e.AggregateType = "\xff" }, `aggregate_type: "\xff" is not valid UTF-8`},
		{"illegal topic", func(e *Event) { e.Topic = "a b" }, `topic: "a b" is not a legal topic name`},
		{"dots as topic", func(e *Event) { e.Topic = ".." }, `topic: ".." is not a legal topic name`},
		{"long topic", func(e *Event) { e.Topic = strings.Repeat("a", 250) }, "is not a legal topic name"},
		{"deadline out of range", func(e *Event) { e.ExpiresAt = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) }, "expires_at: year 10000 is out of range"},
		{"empty header name", func(e *Event) { e.Headers = map[string]string{"": "x"} }, "headers: a header's name is empty"},
		{"CloudEvents header", func(e *Event) { e.Headers = map[string]string{"CE_id": "x"} }, `headers: the relay sets "CE_id" itself`},
		{"relay's header", func(e *Event) { e.Headers = map[string]string{"postrider-position": "x"} }, `headers: the relay sets "postrider-position" itself`},
		{"content type", func(e *Event) { e.Headers = map[string]string{"content-type": "x"} }, `headers: the relay sets "content-type" itself`},
		{"header with a NUL byte", func(e *Event) { e.Headers = map[string]string{"k": "\x00"} }, `headers: header "k": "\x00" contains a NUL byte`},
		{"no payload", func(e *Event) { e.Payload = nil }, "payload: is nil: set Tombstone"},
		{"nil pointer", func(e *Event) { e.Payload = (*Event)(nil) }, "payload: is nil: set Tombstone"},
		{"payload and tombstone", func(e *Event) { e.Tombstone = true }, "payload: is set, but Tombstone too"},
		{"invalid JSON", func(e *Event) { e.Payload = json.RawMessage(`{"a":`) }, "payload: is not valid JSON"},
		{"invalid UTF-8 in JSON", func(e *Event) { e.Payload = json.RawMessage("\"\xff\"") }, "payload: is not valid UTF-8"},
		{"bytes", func(e *Event) { e.Payload = []byte(`{}`) }, "payload: is []byte: use json.RawMessage"},
		{"not marshalable", func(e *Event) { e.Payload = make(chan int) }, "payload: json: unsupported type"},
		{"refused by the schema", func(e *Event) { e.Schema, e.Payload = created, schemas.OrderCreated{Currency: "CHF"} }, `payload: field currency: "CHF" is not a symbol`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := Event{AggregateType: "order", AggregateID: "o-1", Type: "order.created", Payload: json.RawMessage(`{}`)}
			test.change(&e)
			_, refused := newRow(&e, nil)
			if refused == nil {
				t.Fatal("was accepted")
			}
			if got := refused.Error(); !strings.Contains(got, test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestNewRow_TakesTheTypeFromTheSchema(t *testing.T) {
	t.Parallel()
	e := Event{AggregateType: "order", AggregateID: "o-1", Schema: created, Tombstone: true}
	r, refused := newRow(&e, nil)
	if refused != nil {
		t.Fatal(refused)
	}
	if r.eventType != "order.created" || r.payloadAvro != nil || r.fingerprint != nil || r.payload != "" {
		t.Errorf("got %+v, want a tombstone of type order.created", r)
	}
	if r.id == ([16]byte{}) {
		t.Error("no id was made")
	}
}

func TestHeaders_OfEventWinOverHookOverContext(t *testing.T) {
	t.Parallel()
	o, err := New(Config{Headers: func(_ context.Context, h map[string]string) {
		h[HeaderTraceparent] = "of hook"
		h[HeaderCausationID] = "of hook"
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := WithTraceparent(t.Context(), "of context", "vendor=1")
	ctx = WithCorrelationID(ctx, "c-1")
	ctx = WithCausationID(ctx, "of context")
	sibling := WithCorrelationID(ctx, "c-2")

	rows, err := o.rows(ctx, []Event{
		{AggregateType: "a", AggregateID: "1", Type: "t", Tombstone: true, Headers: map[string]string{HeaderCausationID: "own", "x": "y"}},
		{AggregateType: "a", AggregateID: "2", Type: "t", Tombstone: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []map[string]string{
		{"traceparent": "of hook", "tracestate": "vendor=1", "correlationid": "c-1", "causationid": "own", "x": "y"},
		{"traceparent": "of hook", "tracestate": "vendor=1", "correlationid": "c-1", "causationid": "of hook"},
	} {
		var got map[string]string
		if err := json.Unmarshal([]byte(rows[i].headers), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("headers of event %d (-want +got):\n%s", i, diff)
		}
	}
	if rows, err = o.rows(sibling, []Event{{AggregateType: "a", AggregateID: "1", Type: "t", Tombstone: true}}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(rows[0].headers, `"correlationid":"c-2"`) {
		t.Errorf("headers of a derived context: %s", rows[0].headers)
	}
	if rows, err = std.rows(WithCorrelationID(WithCorrelationID(t.Context(), "c-1"), ""), []Event{{AggregateType: "a", AggregateID: "1", Type: "t", Tombstone: true}}); err != nil {
		t.Fatal(err)
	}
	if rows[0].headers != "" {
		t.Errorf("an empty correlation id did not take the header away: %s", rows[0].headers)
	}
}

func TestEventError_NamesIndexAndType(t *testing.T) {
	t.Parallel()
	_, err := std.rows(t.Context(), []Event{
		{AggregateType: "order", AggregateID: "1", Type: "order.paid", Tombstone: true},
		{AggregateType: "order", AggregateID: "", Type: "order.paid", Tombstone: true},
	})
	var refused *EventError
	if !errors.As(err, &refused) || refused.Index != 1 || refused.Field != "aggregate_id" {
		t.Fatalf("got %#v", err)
	}
	if want := "outbox: event 1 (order.paid): aggregate_id: is empty"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestNewID_IsUUIDv7AndRises(t *testing.T) {
	t.Parallel()
	before := time.Now().UnixMilli()
	last := [16]byte{}
	for range 10_000 {
		id := NewID()
		if id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Fatalf("%s has the wrong version or variant", formatID(id))
		}
		if formatID(id) <= formatID(last) {
			t.Fatalf("%s does not follow %s", formatID(id), formatID(last))
		}
		last = id
	}
	var milli int64
	for _, b := range last[:6] {
		milli = milli<<8 | int64(b)
	}
	if after := time.Now().UnixMilli(); milli < before || milli > after+1000 {
		t.Errorf("timestamp %d is not between %d and %d", milli, before, after)
	}
}

func TestNewID_RisesWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	var s idSource
	now := time.UnixMilli(1_800_000_000_000)
	first := s.next(now)
	second := s.next(now.Add(-time.Hour))
	if formatID(second) <= formatID(first) {
		t.Errorf("%s does not follow %s", formatID(second), formatID(first))
	}
}
