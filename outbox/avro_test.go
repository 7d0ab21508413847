package outbox

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hamba/avro/v2"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/testdata/schemas"
)

var everything = MustParseSchema(schemas.SampleEverythingText)

// decode reads with hamba's decoder, which shares no code with the encoder under test.
func decode(t interface{ Fatalf(string, ...any) }, schema *Schema, data []byte, into any) {
	r := avro.NewReader(bytes.NewReader(data), 4096)
	r.ReadVal(schema.encoders.schema, into)
	if r.Error != nil {
		t.Fatalf("decode %x: %v", data, r.Error)
	}
	// Every byte was used: reading one more finds the end.
	var extra [1]byte
	if r.Read(extra[:]); r.Error == nil {
		t.Fatalf("bytes left over after decoding %x", data)
	}
}

var equalRats = cmp.Comparer(func(a, b *big.Rat) bool {
	return a == b || a != nil && b != nil && a.Cmp(b) == 0
})

func TestEncode_DecodesToTheSameValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := drawEverything(t)
		data, err := everything.Encode(want)
		if err != nil {
			t.Fatalf("encode %+v: %v", want, err)
		}
		var got schemas.SampleEverything
		decode(t, everything, data, &got)
		if m, ok := got.AChoice.(map[string]any); ok {
			// hamba names the branch if it has no Go type for one of them.
			for _, value := range m {
				got.AChoice = value
			}
		}
		if diff := cmp.Diff(want, got, equalRats); diff != "" {
			t.Fatalf("decoded value differs (-want +got):\n%s", diff)
		}
	})
}

func drawEverything(t *rapid.T) schemas.SampleEverything {
	text := rapid.String()
	rat := func(name string, digits, scale int64) *big.Rat {
		limit := int64(math.Pow10(int(digits))) - 1
		n := rapid.Int64Range(-limit, limit).Draw(t, name)
		return new(big.Rat).SetFrac(big.NewInt(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(scale), nil))
	}
	node := schemas.SampleNode{Label: text.Draw(t, "label")}
	for range rapid.IntRange(0, 5).Draw(t, "nodes") {
		inner := node
		node = schemas.SampleNode{Label: text.Draw(t, "label"), Next: &inner}
	}
	v := schemas.SampleEverything{
		ABoolean:         rapid.Bool().Draw(t, "boolean"),
		AnInt:            int(rapid.Int32().Draw(t, "int")),
		ALong:            rapid.Int64().Draw(t, "long"),
		AFloat:           rapid.Float32().Draw(t, "float"),
		ADouble:          rapid.Float64().Draw(t, "double"),
		SomeBytes:        append([]byte{}, rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")...),
		AString:          text.Draw(t, "string"),
		AnEnum:           rapid.SampledFrom([]string{"SPADES", "HEARTS", "DIAMONDS", "CLUBS"}).Draw(t, "enum"),
		AnArray:          append([]int64{}, rapid.SliceOf(rapid.Int64()).Draw(t, "array")...),
		AMap:             rapid.MapOf(text, text).Draw(t, "map"),
		ARecord:          node,
		MaybeLong:        rapid.Ptr(rapid.Int64(), true).Draw(t, "maybe long"),
		ADate:            time.Unix(rapid.Int64Range(-800000, 2900000).Draw(t, "date")*secondsOfDay, 0).UTC(),
		ATimeMillis:      time.Duration(rapid.Int64Range(0, 86_399_999).Draw(t, "time-millis")) * time.Millisecond,
		ATimeMicros:      time.Duration(rapid.Int64Range(0, 86_399_999_999).Draw(t, "time-micros")) * time.Microsecond,
		ATimestampMillis: time.UnixMilli(rapid.Int64Range(-1e14, 1e14).Draw(t, "timestamp-millis")).UTC(),
		ATimestampMicros: time.UnixMicro(rapid.Int64Range(-1e17, 1e17).Draw(t, "timestamp-micros")).UTC(),
		ADecimal:         rat("decimal", 18, 4),
		AFixedDecimal:    rat("fixed decimal", 16, 2),
		AUUID:            formatID(NewID()),
		ADuration: avro.LogicalDuration{
			Months:       rapid.Uint32().Draw(t, "months"),
			Days:         rapid.Uint32().Draw(t, "days"),
			Milliseconds: rapid.Uint32().Draw(t, "milliseconds"),
		},
	}
	copy(v.AFixed[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "fixed"))
	if rapid.Bool().Draw(t, "maybe decimal") {
		r := rat("maybe decimal", 10, 3)
		v.MaybeDecimal = &r
	}
	switch rapid.IntRange(0, 3).Draw(t, "choice") {
	case 1:
		v.AChoice = rapid.Int64().Draw(t, "choice")
	case 2:
		v.AChoice = text.Draw(t, "choice")
	case 3:
		v.AChoice = v.AFixed
	}
	return v
}

func valid() schemas.SampleEverything {
	return schemas.SampleEverything{
		AnEnum:        "CLUBS",
		ADecimal:      new(big.Rat),
		AFixedDecimal: new(big.Rat),
		AUUID:         "0190a5e4-1c3b-7b7e-9a35-0c1f5e6d7a8b",
		ADate:         time.Unix(0, 0).UTC(),
	}
}

func TestEncode_RefusesAndNamesTheField(t *testing.T) {
	t.Parallel()
	invalid := string([]byte{'a', 0xff})
	for _, test := range []struct {
		name   string
		change func(*schemas.SampleEverything)
		want   string
	}{
		{"int overflow", func(v *schemas.SampleEverything) { v.AnInt = 3_000_000_000 }, "field an_int: 3000000000 is out of range for int"},
		{"int underflow", func(v *schemas.SampleEverything) { v.AnInt = math.MinInt32 - 1 }, "field an_int: -2147483649 is out of range for int"},
		{"uint64 overflow in a choice", func(v *schemas.SampleEverything) { v.AChoice = uint64(math.MaxUint64) }, "field a_choice: 18446744073709551615 is out of range for long"},
		{"invalid UTF-8", func(v *schemas.SampleEverything) { v.AString = invalid }, `field a_string: "a\xff" is not valid UTF-8`},
		{"invalid UTF-8 in a map's value", func(v *schemas.SampleEverything) { v.AMap = map[string]string{"k": invalid} }, `field a_map["k"]: "a\xff" is not valid UTF-8`},
		{"invalid UTF-8 in a map's key", func(v *schemas.SampleEverything) { v.AMap = map[string]string{invalid: ""} }, `field a_map["a\xff"]: "a\xff" is not valid UTF-8`},
		{"invalid UTF-8 in a nested record", func(v *schemas.SampleEverything) { v.ARecord.Next = &schemas.SampleNode{Label: invalid} }, `field a_record.next.label: "a\xff" is not valid UTF-8`},
		{"invalid UTF-8 in a choice", func(v *schemas.SampleEverything) { v.AChoice = invalid }, `field a_choice: "a\xff" is not valid UTF-8`},
		{"unknown symbol", func(v *schemas.SampleEverything) { v.AnEnum = "clubs" }, `field an_enum: "clubs" is not a symbol of enum sample.suit (SPADES, HEARTS, DIAMONDS, CLUBS)`},
		{"empty symbol", func(v *schemas.SampleEverything) { v.AnEnum = "" }, `field an_enum: "" is not a symbol`},
		{"nil decimal", func(v *schemas.SampleEverything) { v.ADecimal = nil }, "field a_decimal: is nil, but its schema does not allow null"},
		{"decimal with too many decimals", func(v *schemas.SampleEverything) { v.ADecimal = big.NewRat(1, 100_000) }, "field a_decimal: 1/100000 has more decimals than scale 4 allows"},
		{"decimal with too many digits", func(v *schemas.SampleEverything) { v.AFixedDecimal = big.NewRat(1e14, 1) }, "field a_fixed_decimal: 100000000000000.00 has more digits than precision 16 allows"},
		{"malformed UUID", func(v *schemas.SampleEverything) { v.AUUID = "0190a5e4" }, `field a_uuid: "0190a5e4" is not a UUID`},
		{"time of day of a whole day", func(v *schemas.SampleEverything) { v.ATimeMillis = 24 * time.Hour }, "field a_time_millis: 24h0m0s is not a time of day"},
		{"negative time of day", func(v *schemas.SampleEverything) { v.ATimeMicros = -1 }, "field a_time_micros: -1ns is not a time of day"},
		{"timestamp beyond 64 bits", func(v *schemas.SampleEverything) { v.ATimestampMicros = time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC) }, "field a_timestamp_micros: 300000-01-01 00:00:00 +0000 UTC is out of range"},
		{"date beyond 32 bits", func(v *schemas.SampleEverything) { v.ADate = time.Date(6_000_000, 1, 1, 0, 0, 0, 0, time.UTC) }, "field a_date: 6000000-01-01 00:00:00 +0000 UTC is out of range"},
		{"no branch for the type", func(v *schemas.SampleEverything) { v.AChoice = 1.5 }, "field a_choice: a Go float64 fits no branch of its union"},
		{"no branch of the name", func(v *schemas.SampleEverything) { v.AChoice = map[string]any{"int": 1} }, `field a_choice: "int" is not a branch of its union`},
		{"cycle", func(v *schemas.SampleEverything) {
			node := &schemas.SampleNode{}
			node.Next = node
			v.ARecord.Next = node
		}, "records are nested more than 500 deep"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := valid()
			test.change(&v)
			_, err := everything.Encode(&v)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestEncode_RefusesTypesThatDoNotFit(t *testing.T) {
	t.Parallel()
	schema := MustParseSchema(`{"type":"record","name":"r","fields":[{"name":"n","type":"int"},{"name":"list","type":{"type":"array","items":"string"}}]}`)
	for _, test := range []struct {
		name  string
		value any
		want  string
	}{
		{"missing field", struct {
			N int `avro:"n"`
		}{}, "field list: has no field in Go type struct"},
		{"unknown tagged field", struct {
			N     int      `avro:"n"`
			List  []string `avro:"list"`
			Total int      `avro:"total"`
		}{}, "field total: is in Go type struct"},
		{"wrong type", struct {
			N    string   `avro:"n"`
			List []string `avro:"list"`
		}{}, "field n: a Go string cannot be written as Avro int"},
		{"wrong item type", struct {
			N    int   `avro:"n"`
			List []int `avro:"list"`
		}{}, "field list[]: a Go int cannot be written as Avro string"},
		{"no struct", map[string]any{"n": 1}, "cannot be written as Avro record r"},
		{"nil in an interface", struct {
			N    any      `avro:"n"`
			List []string `avro:"list"`
		}{}, "field n: is nil, but its schema does not allow null"},
		{"wrong type in an interface", struct {
			N    any      `avro:"n"`
			List []string `avro:"list"`
		}{N: "1"}, "field n: a Go string cannot be written as Avro int"},
		{"nil pointer", (*schemas.SampleNode)(nil), "is nil"},
		{"nil", nil, "is nil"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for range 2 { // the second time from the cache
				_, err := schema.Encode(test.value)
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got error %v\nwant %s", err, test.want)
				}
			}
		})
	}
}

type currency string

type upper struct{ s string }

func (u upper) MarshalText() ([]byte, error) {
	if u.s == "" {
		return nil, errors.New("no text")
	}
	return []byte(strings.ToUpper(u.s)), nil
}

type base struct {
	ID string `avro:"id"`
}

func TestEncode_TakesTheUsualGoForms(t *testing.T) {
	t.Parallel()
	schema := MustParseSchema(`{"type":"record","name":"forms","fields":[
		{"name":"id","type":"string"},
		{"name":"Untagged","type":"long"},
		{"name":"code","type":{"type":"enum","name":"code","symbols":["EUR","USD"]}},
		{"name":"name","type":"string"},
		{"name":"small","type":"int"},
		{"name":"maybe","type":["string","null"]},
		{"name":"number","type":["null","int","long"]},
		{"name":"amount","type":["null",{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}]},
		{"name":"local","type":{"type":"long","logicalType":"local-timestamp-millis"}},
		{"name":"node","type":["null",{"type":"record","name":"node","fields":[{"name":"label","type":"string"}]},"string"]},
		{"name":"list","type":["null",{"type":"array","items":"int"}]}
	]}`)
	berlin := time.FixedZone("Berlin", 3600)
	amount := big.NewRat(-5, 4)
	value := struct {
		base
		Untagged uint32
		Code     currency        `avro:"code"`
		Name     upper           `avro:"name"`
		Small    uint8           `avro:"small"`
		Maybe    *string         `avro:"maybe"`
		Number   any             `avro:"number"`
		Amount   *big.Rat        `avro:"amount"`
		Local    time.Time       `avro:"local"`
		Node     map[string]any  `avro:"node"`
		List     []int32         `avro:"list"`
		Ignored  chan struct{}   `avro:"-"`
		Extra    map[string]bool // not tagged: none of the schema's business
	}{
		base: base{"o-1"}, Untagged: math.MaxUint32, Code: "USD", Name: upper{"ada"}, Small: 200,
		Number: int64(7), Amount: amount, Local: time.Date(2026, 1, 2, 3, 4, 5, 6_999_999, berlin),
		Node: map[string]any{"node": schemas.SampleNode{Label: "x"}},
	}
	node := struct {
		Label string `avro:"label"`
	}{"x"}
	value.Node = map[string]any{"node": &node}
	data, err := schema.Encode(value)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := avro.Unmarshal(schema.encoders.schema, data, &got); err != nil {
		t.Fatal(err)
	}
	local := got["local"].(time.Time)
	if clock := local.Format("2006-01-02 15:04:05.000"); clock != "2026-01-02 03:04:05.006" {
		t.Errorf("local timestamp is %s, want the clock of its own location", clock)
	}
	delete(got, "local")
	want := map[string]any{
		"id": "o-1", "Untagged": int64(math.MaxUint32), "code": "USD", "name": "ADA", "small": 200,
		"maybe": nil, "number": int64(7), "amount": amount, "list": nil,
		"node": map[string]any{"node": map[string]any{"label": "x"}},
	}
	// hamba wraps union branches that are neither primitive nor registered.
	if m, ok := got["amount"].(map[string]any); ok {
		got["amount"] = m["bytes.decimal"]
	}
	if diff := cmp.Diff(want, got, equalRats); diff != "" {
		t.Errorf("decoded value differs (-want +got):\n%s", diff)
	}

	value.Name.s = ""
	if _, err := schema.Encode(value); err == nil || err.Error() != "field name: no text" {
		t.Errorf("error of MarshalText: got %v", err)
	}
}

func TestEncode_RefusesAmbiguousUnionBranch(t *testing.T) {
	t.Parallel()
	schema := MustParseSchema(`{"type":"record","name":"r","fields":[{"name":"u","type":[
		{"type":"record","name":"a","fields":[{"name":"label","type":"string"}]},
		{"type":"record","name":"b","fields":[{"name":"label","type":"string"}]}]}]}`)
	type node struct {
		Label string `avro:"label"`
	}
	type record struct {
		U any `avro:"u"`
	}
	if _, err := schema.Encode(record{node{"x"}}); err == nil || !strings.Contains(err.Error(), "fits more than one branch") {
		t.Errorf("got %v, want an error that tells how to name the branch", err)
	}
	data, err := schema.Encode(record{map[string]any{"b": node{"x"}}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{2, 2, 'x'}; !bytes.Equal(data, want) {
		t.Errorf("got %x, want %x: branch 1", data, want)
	}
	if _, err := schema.Encode(record{nil}); err == nil || !strings.Contains(err.Error(), "has no null") {
		t.Errorf("nil in a union without null: got %v", err)
	}
}

func TestEncode_IsTheSameBytesForTheSameMap(t *testing.T) {
	t.Parallel()
	v := valid()
	v.AMap = map[string]string{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5", "f": "6"}
	first, err := everything.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := everything.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, again) {
			t.Fatal("two encodings of one value differ")
		}
	}
}

func TestEncode_TakesTheDateThatTheTimeShows(t *testing.T) {
	t.Parallel()
	v := valid()
	v.ADate = time.Date(2026, 11, 21, 0, 30, 0, 0, time.FixedZone("Berlin", 3600))
	data, err := everything.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	var got schemas.SampleEverything
	decode(t, everything, data, &got)
	if day := got.ADate.Format(time.DateOnly); day != "2026-11-21" {
		t.Errorf("got %s, want the day in Berlin", day)
	}
}

func TestParseSchema_KeepsTextAndRefusesWhatIsNoRecord(t *testing.T) {
	t.Parallel()
	created := MustParseSchema(schemas.OrderCreatedText)
	if created.Name() != "order.created" || created.Text() != schemas.OrderCreatedText {
		t.Errorf("name %q, text %q", created.Name(), created.Text())
	}
	for text, want := range map[string]string{
		`"string"`: "an event is a record, not string",
		`{"type":"record","name":"r","fields":[{"name":"f","type":"order.line"}]}`: "unknown type: order.line",
		"\x00": "NUL",
		`{`:    "schema",
	} {
		if _, err := ParseSchema(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseSchema(%q): got %v, want %s", text, err, want)
		}
	}
}

func FuzzTwosComplement(f *testing.F) {
	for _, seed := range []int64{0, 1, -1, 127, 128, -128, -129, 255, 256, math.MaxInt64, math.MinInt64} {
		f.Add(seed, uint8(0))
	}
	f.Fuzz(func(t *testing.T, n int64, shift uint8) {
		want := new(big.Int).Lsh(big.NewInt(n), uint(shift))
		b := twosComplement(want)
		got := new(big.Int).SetBytes(b)
		if b[0]&0x80 != 0 {
			got.Sub(got, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
		}
		if got.Cmp(want) != 0 {
			t.Fatalf("%v became %x, which is %v", want, b, got)
		}
		if len(b) > 1 && (b[0] == 0 && b[1]&0x80 == 0 || b[0] == 0xff && b[1]&0x80 != 0) {
			t.Fatalf("%v became %x, which is longer than it need be", want, b)
		}
	})
}
