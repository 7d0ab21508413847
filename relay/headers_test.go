package relay

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func headersOf(pairs ...string) []Header {
	headers := []Header{}
	for i := 0; i < len(pairs); i += 2 {
		headers = append(headers, Header{[]byte(pairs[i]), []byte(pairs[i+1])})
	}
	return headers
}

func TestAppendHeaders_TakesAFlatObjectInItsOrder(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, doc string
		want      []Header
	}{
		{"as jsonb prints it", `{"traceparent": "00-4bf9-01", "tenant": "acme"}`, headersOf("traceparent", "00-4bf9-01", "tenant", "acme")},
		{"as json keeps it", " {\n\t\"b\" :\"2\" ,\r\n\"a\":\"1\"} ", headersOf("b", "2", "a", "1")},
		{"empty", `{}`, headersOf()},
		{"empty with space", " { } ", headersOf()},
		{"empty name and value", `{"": ""}`, headersOf("", "")},
		{"outside ASCII", `{"grüße": "日本"}`, headersOf("grüße", "日本")},
		{"escapes", `{"a\u00e9": "line\nbreak \"quoted\" \ud83d\ude00"}`, headersOf("aé", "line\nbreak \"quoted\" 😀")},
		{"a plain one before an escaped one", `{"a": "1", "b": "\t"}`, headersOf("a", "1", "b", "\t")},
		{"numbers as they are written", `{"n": 1.50, "big": 12345678901234567890, "e": -1E+2}`, headersOf("n", "1.50", "big", "12345678901234567890", "e", "-1E+2")},
		{"booleans", `{"yes": true, "no": false}`, headersOf("yes", "true", "no", "false")},
		{"null leaves its header out", `{"a": "1", "gone": null, "b": "2"}`, headersOf("a", "1", "b", "2")},
		{"a name twice, as json allows", `{"a": "1", "a": "2"}`, headersOf("a", "1", "a", "2")},
		{"white space inside strings", `{" a ": " : , } "}`, headersOf(" a ", " : , } ")},
	} {
		before := headersOf("before", "it")
		got, err := appendHeaders(before, []byte(tc.doc))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(append(before, tc.want...), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestAppendHeaders_RefusesWhatIsNoFlatObject(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		``, ` `, `null`, `"a"`, `1`, `[]`, `["a", "b"]`, `{`, `{"a"`, `{"a":`, `{"a": "b"`, `{"a": "b",`, `{"a": "b",}`, `{,}`,
		`{"a" "b"}`, `{"a": "b" "c": "d"}`, `{"a"; "b"}`, `{a: "b"}`, `{1: "b"}`, `{"a": b}`, `{"a": 01}`, "{\"a\": \"\x01\"}", `{"a": "\x"}`,
		`{"a": {"nested": "b"}}`, `{"a": ["b"]}`, `{"a": {}}`, `{"a": []}`, `{"a": "b"} x`, `{"a": "b"}{}`, `{} 1`, `{"a": 1} 2`,
	} {
		if got, err := appendHeaders(nil, []byte(doc)); err == nil {
			t.Errorf("%q was taken for %q", doc, got)
		}
	}
}

func TestAppendHeaders_PlainHeadersCostNoAllocation(t *testing.T) {
	doc := []byte(`{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "correlationid": "42"}`)
	dst := make([]Header, 0, 4)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := appendHeaders(dst, doc); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("reading plain headers costs %v allocations", allocs)
	}
}

// jsonHeaders reads doc by encoding/json alone.
func jsonHeaders(doc []byte) (headers []Header, ok bool) {
	if !json.Valid(doc) || !bytes.HasPrefix(bytes.TrimLeft(doc, " \t\r\n"), []byte("{")) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	_, _ = dec.Token()
	for dec.More() {
		name, _ := dec.Token()
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, false
		}
		value := string(raw)
		switch raw[0] {
		case '{', '[':
			return nil, false
		case 'n':
			continue
		case '"':
			if err := json.Unmarshal(raw, &value); err != nil {
				return nil, false
			}
		}
		headers = append(headers, Header{[]byte(name.(string)), []byte(value)})
	}
	return headers, true
}

func FuzzHeaders(f *testing.F) {
	for _, doc := range []string{
		`{"traceparent": "00-4bf9-01", "tenant": "acme"}`, `{}`, ` { "a" : "\u0041" , "b" : 1.5e3 } `, `{"a": null, "b": true}`,
		`{"a": {}}`, `{"a": "b",}`, `{"a": "b"} x`, `[1]`, `{"a": "` + strings.Repeat("x", 100) + `"}`, `{"ü": "\ud83d"}`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, err := appendHeaders(nil, doc)
		if !utf8.Valid(doc) {
			return // Postgres keeps such bytes out of text and json
		}
		want, ok := jsonHeaders(doc)
		if !ok {
			if err == nil {
				t.Fatalf("%q was taken for %q", doc, got)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q was refused: %v", doc, err)
		}
		if diff := cmp.Diff(append([]Header{}, want...), append([]Header{}, got...)); diff != "" {
			t.Fatalf("%q (-encoding/json +ours):\n%s", doc, diff)
		}
	})
}

func TestAppendHeaders_RefusesAStrayBracket(t *testing.T) {
	t.Parallel()
	for _, d := range []string{`{}}`, `{"a": "b"}}`, `{"a": 1}]`} {
		if h, err := appendHeaders(nil, []byte(d)); err == nil {
			t.Errorf("%s was taken for %q", d, h)
		}
	}
}
