package avroread

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/big"
	"strings"
	"testing"

	"github.com/hamba/avro/v2"

	testschemas "github.com/postrider/postrider/testdata/schemas"
)

const list = `{"type": "record", "name": "list", "fields": [{"name": "next", "type": ["null", "list"]}]}`

// newSchema returns the Schema of one text, as itself or as another sees it.
func newSchema(t testing.TB, text string, reader ...string) *Schema {
	t.Helper()
	writer, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var as avro.Schema
	for _, text := range reader {
		if as, err = Parse(text); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(writer, as)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCheck_TakesWholeValuesOnly(t *testing.T) {
	t.Parallel()
	encoded := everyType(t)
	s := newSchema(t, every)
	if err := s.Check(encoded); err != nil {
		t.Fatal(err)
	}
	for n := range encoded {
		if err := s.Check(encoded[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken for a value", n, len(encoded))
		}
	}
	if err := s.Check(append(encoded, 0)); err == nil {
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
		if err := newSchema(t, c.schema).Check(c.value); err == nil || !strings.Contains(err.Error(), c.want) {
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

// FuzzDecode wants an error or a value of any bytes: no panic, no endless loop, no memory
// beyond what the bytes are worth.
func FuzzDecode(f *testing.F) {
	encoded, err := avro.Marshal(newSchema(f, testschemas.OrderCreatedText).writer, testschemas.OrderCreated{OrderID: "o-1", Currency: "EUR", Total: big.NewRat(1, 1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add(everyType(f))
	f.Add([]byte{})
	f.Add([]byte{2, 2, 2, 0})
	f.Add(binary.AppendVarint(nil, 1<<40))
	f.Add(bytes.Repeat([]byte{0xff}, 20))
	of := []*Schema{
		newSchema(f, testschemas.OrderCreatedText), newSchema(f, testschemas.OrderCreatedText, testschemas.OrderCreatedText), newSchema(f, list), newSchema(f, every),
		newSchema(f, `{"type": "record", "name": "all", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}, {"name": "m", "type": {"type": "map", "values": "bytes"}}]}`),
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		for i, s := range of {
			if s.Check(value) != nil {
				continue
			}
			var v any
			if err := s.Decode(value, &v); err != nil {
				t.Errorf("%x is a value of schema %d, but: %v", value, i, err)
			}
			if i < 2 {
				var order testschemas.OrderCreated
				if err := s.Decode(value, &order); err != nil {
					t.Errorf("%x is an order, but: %v", value, err)
				}
			}
		}
	})
}
