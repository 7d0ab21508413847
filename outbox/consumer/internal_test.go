package consumer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hamba/avro/v2"

	"github.com/postrider/postrider/outbox"
	schemaregistry "github.com/postrider/postrider/schema-registry"
	testschemas "github.com/postrider/postrider/testdata/schemas"
)

func TestBackoff_DoublesToItsMaximum(t *testing.T) {
	t.Parallel()
	l := &loop{cfg: Config{MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second}}
	for failures, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond,
		5: time.Second, 6: time.Second, 62: time.Second, 63: time.Second, 1 << 30: time.Second,
	} {
		for range 100 {
			if got := l.backoff(failures); got > want || got < want/2-1 {
				t.Errorf("after %d failures: %s, want half of %s to all of it", failures, got, want)
			}
		}
	}
}

const list = `{"type": "record", "name": "list", "fields": [{"name": "next", "type": ["null", "list"]}]}`

func newSchema(t testing.TB, text string, readers ...string) *schema {
	t.Helper()
	var parsed []*outbox.Schema
	for _, reader := range readers {
		parsed = append(parsed, outbox.MustParseSchema(reader))
	}
	s, err := newSchemas(nil, parsed)
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.resolve(text)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestDecode_ReadsOldAndNewWritersAsTheHandlersSchema(t *testing.T) {
	t.Parallel()
	const reader = `{"type": "record", "name": "paid", "fields": [
		{"name": "cents", "type": "long"}, {"name": "currency", "type": "string", "default": "EUR"}]}`
	type paid struct {
		Cents    int64  `avro:"cents"`
		Currency string `avro:"currency"`
	}
	for name, c := range map[string]struct {
		writer string
		value  []byte
		want   paid
	}{
		"before the currency, in an int": {`{"type": "record", "name": "paid", "fields": [{"name": "cents", "type": "int"}]}`, []byte{14}, paid{7, "EUR"}},
		"the same":                       {reader, []byte{14, 6, 'U', 'S', 'D'}, paid{7, "USD"}},
		"with a field more": {`{"type": "record", "name": "paid", "fields": [
			{"name": "note", "type": "string"}, {"name": "currency", "type": "string"}, {"name": "cents", "type": "long"}]}`, []byte{2, 'x', 6, 'C', 'H', 'F', 14}, paid{7, "CHF"}},
	} {
		var got paid
		if err := newSchema(t, c.writer, reader).decode(c.value, &got); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
	s, err := newSchemas(nil, []*outbox.Schema{outbox.MustParseSchema(reader)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.resolve(`{"type": "record", "name": "paid", "fields": [{"name": "cents", "type": "string"}]}`); err == nil {
		t.Error("a writer that the handler's schema cannot read was taken")
	}
}

func TestCheck_TakesWholeValuesOnly(t *testing.T) {
	t.Parallel()
	encoded := everyType(t)
	s := newSchema(t, every)
	if err := check(s.writer, encoded); err != nil {
		t.Fatal(err)
	}
	for n := range encoded {
		if err := check(s.writer, encoded[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken for a value", n, len(encoded))
		}
	}
	if err := check(s.writer, append(encoded, 0)); err == nil {
		t.Error("a byte more is taken for a value")
	}
}

func TestCheck_SaysWhereTheValueBreaks(t *testing.T) {
	t.Parallel()
	minimum := binary.AppendVarint(nil, -1<<63)
	for name, c := range map[string]struct {
		schema string
		value  []byte
		want   string
	}{
		"string":    {`{"type": "record", "name": "r", "fields": [{"name": "a", "type": {"type": "record", "name": "i", "fields": [{"name": "b", "type": "string"}]}}]}`, []byte{4, 'x'}, "a.b: 2 bytes are said to follow, and 1 do"},
		"negative":  {`"string"`, []byte{1}, "a length of -1"},
		"boolean":   {`"boolean"`, []byte{2}, "2 is no boolean"},
		"enum":      {`{"type": "enum", "name": "e", "symbols": ["A"]}`, []byte{2}, "1 is none of the 1 symbols"},
		"union":     {`["null", "int"]`, []byte{4}, "2 is none of the 2 branches"},
		"int":       {`"int"`, binary.AppendVarint(nil, 1<<31), "2147483648 is no int"},
		"varint":    {`"long"`, bytes.Repeat([]byte{0xff}, 11), "a number does not end"},
		"items":     {`{"type": "array", "items": "long"}`, binary.AppendVarint(nil, 1<<40), "1099511627776 items"},
		"no items":  {`{"type": "array", "items": "null"}`, binary.AppendVarint(nil, 1<<40), "1099511627776 items"},
		"blocks":    {`{"type": "array", "items": "null"}`, bytes.Repeat(binary.AppendVarint(nil, 1<<16), 10), "65536 items"},
		"minimum":   {`{"type": "map", "values": "null"}`, append(minimum, 0), "-9223372036854775808 items"},
		"recursion": {list, append(bytes.Repeat([]byte{2}, 10_000), 0), "records within records"},
	} {
		if err := check(newSchema(t, c.schema).writer, c.value); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// every has every type of Avro.
const every = `{"type": "record", "name": "every", "fields": [
	{"name": "boolean", "type": "boolean"}, {"name": "int", "type": "int"}, {"name": "long", "type": "long"},
	{"name": "float", "type": "float"}, {"name": "double", "type": "double"}, {"name": "bytes", "type": "bytes"},
	{"name": "string", "type": "string"}, {"name": "fixed", "type": {"type": "fixed", "name": "two", "size": 2}},
	{"name": "enum", "type": {"type": "enum", "name": "ab", "symbols": ["A", "B"]}},
	{"name": "array", "type": {"type": "array", "items": "two"}}, {"name": "map", "type": {"type": "map", "values": "ab"}},
	{"name": "union", "type": ["null", "every"]}, {"name": "null", "type": "null"}]}`

func everyType(t testing.TB) []byte {
	t.Helper()
	value := map[string]any{
		"boolean": true, "int": -5, "long": int64(1) << 40, "float": float32(1.5), "double": 2.5, "bytes": []byte{1, 2, 3},
		"string": "größe", "fixed": [2]byte{1, 2}, "enum": "B", "array": []any{[2]byte{3, 4}, [2]byte{5, 6}},
		"map": map[string]any{"x": "A", "y": "B"}, "union": nil, "null": nil,
	}
	inner := maps.Clone(value)
	value["union"] = map[string]any{"every": inner}
	encoded, err := avro.Marshal(newSchema(t, every).writer, value)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestSchemas_TellsTroubleFromAMissingSchema(t *testing.T) {
	t.Parallel()
	status, body := http.StatusServiceUnavailable, `{"error_code": 50003, "message": "later"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, err := newSchemas(client, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.get(t.Context(), 7); !isTrouble(err) {
		t.Errorf("a registry that is down: %v", err)
	}
	status, body = http.StatusUnauthorized, `{"error_code": 40101, "message": "who?"}`
	if _, err := s.get(t.Context(), 7); !isTrouble(err) {
		t.Errorf("a registry that refuses us: %v", err)
	}
	status, body = http.StatusNotFound, `{"error_code": 40403, "message": "Schema 7 not found"}`
	if _, err := s.get(t.Context(), 7); isTrouble(err) || codeOf(err) != CodeSchemaNotFound || isFinal(err) {
		t.Errorf("a schema that is missing: %v", err)
	}
	status, body = http.StatusOK, `{"schema": "{"}`
	if _, err := s.get(t.Context(), 7); codeOf(err) != CodeUndecodable || !isFinal(err) {
		t.Errorf("a schema that is none: %v", err)
	}
}

func TestFinal_IsSeenThroughOtherErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("not for us")
	err := errors.Join(errors.New("context"), Final(cause))
	if !isFinal(err) || codeOf(err) != CodeRefused || !errors.Is(err, cause) {
		t.Errorf("%v: final %v, code %s", err, isFinal(err), codeOf(err))
	}
	if Final(nil) != nil {
		t.Error("Final makes an error of none")
	}
}

func FuzzSchemaID(f *testing.F) {
	for _, value := range [][]byte{nil, {}, {0}, {0, 0, 0, 0, 1}, {0, 255, 255, 255, 255, 1, 2}, {1, 0, 0, 0, 1}, []byte("{}"), []byte("{\"a\": 1}")} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		id, err := schemaID(value)
		if err != nil {
			if !isFinal(err) {
				t.Errorf("%x is not final: %v", value, err)
			}
			return
		}
		if again := binary.BigEndian.AppendUint32([]byte{0}, uint32(id)); !bytes.Equal(again, value[:wireHeader]) {
			t.Errorf("%x has the ID %d", value, id)
		}
	})
}

// FuzzDecode wants an error or a value of any bytes: no panic, no endless loop, no memory
// beyond what the bytes are worth.
func FuzzDecode(f *testing.F) {
	encoded, err := outbox.MustParseSchema(testschemas.OrderCreatedText).Encode(testschemas.OrderCreated{OrderID: "o-1", Currency: "EUR", Total: big.NewRat(1, 1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add(everyType(f))
	f.Add([]byte{})
	f.Add([]byte{2, 2, 2, 0})
	f.Add(binary.AppendVarint(nil, 1<<40))
	f.Add(bytes.Repeat([]byte{0xff}, 20))
	of := []*schema{
		newSchema(f, testschemas.OrderCreatedText), newSchema(f, testschemas.OrderCreatedText, testschemas.OrderCreatedText), newSchema(f, list), newSchema(f, every),
		newSchema(f, `{"type": "record", "name": "all", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}, {"name": "m", "type": {"type": "map", "values": "bytes"}}]}`),
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		for i, s := range of {
			if check(s.writer, value) != nil {
				continue
			}
			var v any
			if err := s.decode(value, &v); err != nil {
				t.Errorf("%x is a value of schema %d, but: %v", value, i, err)
			}
			if i < 2 {
				var order testschemas.OrderCreated
				if err := s.decode(value, &order); err != nil {
					t.Errorf("%x is an order, but: %v", value, err)
				}
			}
		}
	})
}
