package relay

import (
	"strings"
	"testing"
)

func templateEvent() *Event {
	return &Event{
		AggregateType: []byte("order"), Type: []byte("order.created"),
		Headers: []Header{{[]byte("region"), []byte("eu")}, {[]byte("empty"), []byte{}}},
	}
}

func TestTemplate_RendersFieldsAndHeaders(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, want string }{
		{"{aggregate_type}", "order"},
		{"{event_type}", "order.created"},
		{"events", "events"},
		{"outbox.{aggregate_type}.events", "outbox.order.events"},
		{"{header:region}-{aggregate_type}{event_type}", "eu-orderorder.created"},
		{"a{header:empty}b", "ab"},
		{"}", "}"},
		{"a}{aggregate_type}", "a}order"},
	} {
		tmpl, err := parseTemplate(tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		got, err := tmpl.appendTo([]byte("x"), templateEvent())
		if err != nil || string(got) != "x"+tc.want {
			t.Errorf("%s: appended %q to x, %v, want %q", tc.text, got, err, tc.want)
		}
	}
}

func TestTemplate_RefusesWhatItCannotRender(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, want string }{
		{"", "empty"},
		{"{aggregate_type", "not closed"},
		{"a.{", "not closed"},
		{"{}", "{} is not one of"},
		{"{aggregate_id}", "{aggregate_id} is not one of"},
		{"{header:}", "{header:} is not one of"},
		{"{ event_type }", "is not one of"},
		{"{{event_type}}", "is not one of"},
	} {
		if _, err := parseTemplate(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: error %v, want one with %q", tc.text, err, tc.want)
		}
	}
}

func TestTemplate_NeedsTheHeadersItNames(t *testing.T) {
	t.Parallel()
	tmpl, err := parseTemplate("{header:tenant}.{event_type}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.appendTo(nil, templateEvent()); err == nil || !strings.Contains(err.Error(), `"tenant"`) {
		t.Errorf("error %v, want one that names the header", err)
	}
}

func TestTemplate_CostsNoAllocation(t *testing.T) {
	tmpl, err := parseTemplate("{header:region}.{aggregate_type}")
	if err != nil {
		t.Fatal(err)
	}
	e, dst := templateEvent(), make([]byte, 0, 64)
	if allocs := testing.AllocsPerRun(100, func() { _, _ = tmpl.appendTo(dst, e) }); allocs != 0 {
		t.Errorf("rendering costs %v allocations", allocs)
	}
}

func TestValidTopic_IsWhatKafkaAccepts(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"orders": true, "Orders_2.events-v1": true, "...": true, "a": true, strings.Repeat("a", 249): true,
		"": false, ".": false, "..": false, strings.Repeat("a", 250): false,
		"a b": false, "a/b": false, "ä": false, "a\x00": false, "{aggregate_type}": false,
	} {
		if got := validTopic(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
