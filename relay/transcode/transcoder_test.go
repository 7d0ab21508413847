package transcode

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

func compileText(t testing.TB, text string) *Transcoder {
	t.Helper()
	schema, err := avroschema.Parse(text)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	tr, err := Compile(schema)
	if err != nil {
		t.Fatalf("compile %s: %v", text, err)
	}
	return tr
}

// recordOf is the schema of a record with the given fields, "name type" or "name type = default".
func recordOf(name string, fields ...string) string {
	var out []string
	for _, f := range fields {
		f, def, hasDefault := strings.Cut(f, " = ")
		name, typ, _ := strings.Cut(f, " ")
		s := `{"name":"` + name + `","type":` + typ
		if hasDefault {
			s += `,"default":` + def
		}
		out = append(out, s+"}")
	}
	return `{"type":"record","name":"` + name + `","fields":[` + strings.Join(out, ",") + `]}`
}

func logical(base, name string) string {
	return `{"type":"` + base + `","logicalType":"` + name + `"}`
}

func TestAppend_WritesGoldenBytes(t *testing.T) {
	t.Parallel()
	const (
		decimalBytes = `{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}`
		decimalWide  = `{"type":"bytes","logicalType":"decimal","precision":40,"scale":0}`
		decimalFixed = `{"type":"fixed","name":"D","size":4,"logicalType":"decimal","precision":9,"scale":2}`
		enum         = `{"type":"enum","name":"E","symbols":["A","B","C"],"default":"A"}`
		fixed3       = `{"type":"fixed","name":"F","size":3}`
		uuidFixed    = `{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}`
		duration     = `{"type":"fixed","name":"P","size":12,"logicalType":"duration"}`
		uuidText     = "0190163d-8694-739b-aea5-966c26f8ad91"
	)
	var pair = recordOf("R", `a "int"`, `b "string"`, `c ["null","long"] = null`)
	for _, tc := range []struct{ name, schema, doc, want string }{
		{"null", `"null"`, `null`, ``},
		{"true", `"boolean"`, `true`, `01`},
		{"false", `"boolean"`, ` false `, `00`},
		{"int zero", `"int"`, `0`, `00`},
		{"int minus zero", `"int"`, `-0`, `00`},
		{"int lowest", `"int"`, `-2147483648`, `ffffffff0f`},
		{"int highest", `"int"`, `2147483647`, `feffffff0f`},
		{"int with fraction zero", `"int"`, `64.0`, `8001`},
		{"int with exponent", `"int"`, `1e3`, `d00f`},
		{"int made integral by its exponent", `"int"`, `1.25E+2`, `fa01`},
		{"int with negative exponent", `"int"`, `6400e-2`, `8001`},
		{"int zero with huge exponent", `"int"`, `0e99999999999999999999`, `00`},
		{"long lowest", `"long"`, `-9223372036854775808`, `ffffffffffffffffff01`},
		{"long highest", `"long"`, `9223372036854775807`, `feffffffffffffffff01`},
		{"long beyond what a double holds", `"long"`, `9007199254740993`, `8280808080808020`},
		{"long of 20 characters", `"long"`, `1000000000000000000.0`, `8080a0f6f4acdbe01b`},
		{"float", `"float"`, `0.1`, `cdcccc3d`},
		{"float highest", `"float"`, `3.4028234663852886e38`, `ffff7f7f`},
		{"float minus zero", `"float"`, `-0.0`, `00000080`},
		{"float NaN", `"float"`, `"NaN"`, `0000c07f`},
		{"double", `"double"`, `34.56`, `48e17a14ae474140`},
		{"double of an integer", `"double"`, `1`, `000000000000f03f`},
		{"double too small becomes zero", `"double"`, `1e-400`, `0000000000000000`},
		{"double infinity", `"double"`, `"Infinity"`, `000000000000f07f`},
		{"double minus infinity", `"double"`, `"-Infinity"`, `000000000000f0ff`},
		{"string", `"string"`, `"abc"`, `06616263`},
		{"string empty", `"string"`, `""`, `00`},
		{"string with every short escape", `"string"`, `"\"\\\/\b\f\n\r\t"`, `10225c2f080c0a0d09`},
		{"string with unicode escapes", `"string"`, `"a\u00e9\u20AC\ud83d\ude00z"`, `1661c3a9e282acf09f98807a`},
		{"string with NUL", `"string"`, `"\u0000"`, `0200`},
		{"string of UTF-8", `"string"`, `"é€😀"`, `12c3a9e282acf09f9880`},
		{"bytes", `"bytes"`, `"AQID"`, `06010203`},
		{"bytes empty", `"bytes"`, `""`, `00`},
		{"bytes padded", `"bytes"`, `"/w=="`, `02ff`},
		{"bytes with slash escaped", `"bytes"`, `"\/w=="`, `02ff`},
		{"bytes with line breaks", `"bytes"`, `"AQ\nID"`, `06010203`},
		{"fixed", fixed3, `"AQID"`, `010203`},
		{"enum first", enum, `"A"`, `00`},
		{"enum last", enum, `"C"`, `04`},
		{"enum escaped", enum, `"\u0042"`, `02`},
		{"decimal", decimalBytes, `12.34`, `0404d2`},
		{"decimal quoted", decimalBytes, `"12.34"`, `0404d2`},
		{"decimal negative", decimalBytes, `-12.34`, `04fb2e`},
		{"decimal zero", decimalBytes, `0`, `0200`},
		{"decimal minus zero", decimalBytes, `-0.000`, `0200`},
		{"decimal 127", decimalBytes, `1.27`, `027f`},
		{"decimal 128", decimalBytes, `1.28`, `040080`},
		{"decimal -128", decimalBytes, `-1.28`, `0280`},
		{"decimal -129", decimalBytes, `-1.29`, `04ff7f`},
		{"decimal scaled up", decimalBytes, `5`, `0401f4`},
		{"decimal with zeros beyond the scale", decimalBytes, `1.2300`, `027b`},
		{"decimal with exponent", decimalBytes, `1.5e3`, `060249f0`},
		{"decimal of all its digits", decimalBytes, `99999999.99`, `0a02540be3ff`},
		{"decimal of 19 digits", decimalWide, `9223372036854775808`, `12008000000000000000`},
		{"decimal of 19 digits negative", decimalWide, `-9223372036854775808`, `108000000000000000`},
		{"decimal of 40 digits", decimalWide, `"9999999999999999999999999999999999999999"`, `221d6329f1c35ca4bfabb9f560ffffffffff`},
		{"decimal with large exponent", decimalWide, `1e39`, `2202f050fe938943acc45f65568000000000`},
		{"decimal fixed", decimalFixed, `12.34`, `000004d2`},
		{"decimal fixed negative", decimalFixed, `-12.34`, `fffffb2e`},
		{"uuid", logical("string", "uuid"), `"` + uuidText + `"`, `48` + hex.EncodeToString([]byte(uuidText))},
		{"uuid in upper case stays so", logical("string", "uuid"), `"` + strings.ToUpper(uuidText) + `"`, `48` + hex.EncodeToString([]byte(strings.ToUpper(uuidText)))},
		{"uuid fixed", uuidFixed, `"` + strings.ToUpper(uuidText) + `"`, strings.ReplaceAll(uuidText, "-", "")},
		{"duration", duration, `"AQAAAAIAAAADAAAA"`, `010000000200000003000000`},

		{"date", logical("int", "date"), `"1970-01-02"`, `02`},
		{"date before 1970", logical("int", "date"), `"1969-12-31"`, `01`},
		{"date of a leap year", logical("int", "date"), `"2024-02-29"`, `8cb502`},
		{"date as number", logical("int", "date"), `-1`, `01`},
		{"time-millis", logical("int", "time-millis"), `"00:00:01.5"`, `b817`},
		{"time-millis with zeros beyond", logical("int", "time-millis"), `"00:00:00.001000"`, `02`},
		{"time-millis last", logical("int", "time-millis"), `"23:59:59.999"`, `feefb252`},
		{"time-millis as number", logical("int", "time-millis"), `86399999`, `feefb252`},
		{"time-micros", logical("long", "time-micros"), `"00:00:00.000001"`, `02`},
		{"timestamp-millis", logical("long", "timestamp-millis"), `"1970-01-01T00:00:00.001Z"`, `02`},
		{"timestamp-millis with finer digits, which are cut off", logical("long", "timestamp-millis"), `"1970-01-01T00:00:00.0019999Z"`, `02`},
		{"timestamp-millis before 1970 with finer digits", logical("long", "timestamp-millis"), `"1969-12-31T23:59:59.9999Z"`, `01`},
		{"time-millis with finer digits", logical("int", "time-millis"), `"00:00:00.0019"`, `02`},
		{"timestamp-nanos with a tenth digit", logical("long", "timestamp-nanos"), `"1970-01-01T00:00:00.0000000019Z"`, `02`},
		{"timestamp-millis with offset", logical("long", "timestamp-millis"), `"1970-01-01T02:00:00.001+02:00"`, `02`},
		{"timestamp-millis before 1970", logical("long", "timestamp-millis"), `"1969-12-31T23:59:59.999Z"`, `01`},
		{"timestamp-millis with negative offset", logical("long", "timestamp-millis"), `"1969-12-31T18:30:00-05:30"`, `00`},
		{"timestamp-micros as Postgres writes it in JSON", logical("long", "timestamp-micros"), `"2026-11-21T05:00:00.123456+00:00"`, `80d9ceb9c7b0b006`},
		{"timestamp-micros as Postgres writes it in text", logical("long", "timestamp-micros"), `"2026-11-21 05:00:00.123456+00"`, `80d9ceb9c7b0b006`},
		{"timestamp-micros with an offset of seconds", logical("long", "timestamp-micros"), `"1970-01-01T00:19:32.000001+00:19:32"`, `02`},
		{"timestamp-micros in small letters", logical("long", "timestamp-micros"), `"1970-01-01t00:00:00.000001z"`, `02`},
		{"timestamp-micros as number", logical("long", "timestamp-micros"), `1`, `02`},
		{"timestamp-micros as number with exponent", logical("long", "timestamp-micros"), `1e0`, `02`},
		{"timestamp-nanos", logical("long", "timestamp-nanos"), `"1970-01-01T00:00:00.000000001Z"`, `02`},
		{"timestamp-nanos lowest", logical("long", "timestamp-nanos"), `"1677-09-21T00:12:43.145224192Z"`, `ffffffffffffffffff01`},
		{"timestamp-nanos highest", logical("long", "timestamp-nanos"), `"2262-04-11T23:47:16.854775807Z"`, `feffffffffffffffff01`},
		{"local-timestamp-millis", logical("long", "local-timestamp-millis"), `"1970-01-01T00:00:00.001"`, `02`},
		{"local-timestamp-micros", logical("long", "local-timestamp-micros"), `"1970-01-01T00:00:00.000001"`, `02`},
		{"local-timestamp-nanos", logical("long", "local-timestamp-nanos"), `"1970-01-01 00:00:00.000000001"`, `02`},
		{"a logical type that is unknown is its plain type", logical("string", "colour"), `"red"`, `06726564`},

		{"array empty", `{"type":"array","items":"int"}`, `[ ]`, `00`},
		{"array is one block", `{"type":"array","items":"int"}`, `[1, 2,3]`, `0602040600`},
		{"array of 64 has a count of two bytes", `{"type":"array","items":"null"}`, `[` + strings.Repeat("null,", 63) + `null]`, `800100`},
		{"array of 64 ints", `{"type":"array","items":"int"}`, `[` + strings.Repeat("1,", 63) + `2]`, `8001` + strings.Repeat("02", 63) + `0400`},
		{"array of arrays", `{"type":"array","items":{"type":"array","items":"int"}}`, `[[1],[]]`, `040202000000`},
		{"map empty", `{"type":"map","values":"int"}`, `{}`, `00`},
		{"map is one block in the order given", `{"type":"map","values":"int"}`, `{"b":1,"a":2}`, `0402620202610400`},

		{"record", pair, `{"a":1,"b":"x","c":3}`, `0202780206`},
		{"record in another order", pair, `{"c":3,"b":"x","a":1}`, `0202780206`},
		{"record with a key written in escapes", pair, `{"\u0061":1,"b":"x","c":3}`, `0202780206`},
		{"record without its last field", pair, `{"a":1,"b":"x"}`, `02027800`},
		{"record in another order and without a field", pair, `{"b":"x","a":1}`, `02027800`},
		{"record without fields", recordOf("Empty"), `{ }`, ``},
		{"record in a record in another order", recordOf("O", `x `+pair, `y "int"`), `{"y":5,"x":{"b":"x","a":1}}`, `020278000a`},
		{"record without a field in the middle", recordOf("M", `a "int"`, `b "int" = 7`, `c "int"`), `{"a":1,"c":2}`, `020e04`},
		{"record whose middle field comes late", recordOf("M", `a "int"`, `b "int" = 7`, `c "int"`), `{"a":1,"c":2,"b":3}`, `020604`},
		{"recursive record", recordOf("N", `v "int"`, `next ["null","N"] = null`), `{"next":{"next":{"v":3},"v":2},"v":1}`, `020204020600`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			out, err := compileText(t, tc.schema).Append([]byte("dst"), []byte(tc.doc))
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(out[3:]); got != tc.want || string(out[:3]) != "dst" {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestAppend_RefusesWithKindAndPath(t *testing.T) {
	t.Parallel()
	const (
		decimal  = `{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}`
		decFixed = `{"type":"fixed","name":"D","size":2,"logicalType":"decimal","precision":4,"scale":0}`
		enum     = `{"type":"enum","name":"E","symbols":["A"],"default":"A"}`
	)
	order := recordOf("order", `lines {"type":"array","items":`+recordOf("line", `sku "string"`, `qty "int"`)+`}`,
		`note ["null","string"]`, `tags {"type":"map","values":"long"} = {}`)
	for _, tc := range []struct {
		name, schema, doc string
		kind              Kind
		path              string
	}{
		{"unknown field", order, `{"lines":[],"note":null,"colour":1}`, UnknownField, `$.colour`},
		{"unknown field in a nested record", order, `{"lines":[{"sku":"a","qty":1,"x":0}],"note":null}`, UnknownField, `$.lines[0].x`},
		{"field in the wrong case", order, `{"Lines":[],"note":null}`, UnknownField, `$.Lines`},
		{"missing field", order, `{"note":null}`, MissingField, `$.lines`},
		{"missing nullable field without default", order, `{"lines":[]}`, MissingField, `$.note`},
		{"missing field in a nested record", order, `{"lines":[{"sku":"a","qty":1},{"qty":1}],"note":null}`, MissingField, `$.lines[1].sku`},
		{"missing field, out of order", order, `{"tags":{},"lines":[]}`, MissingField, `$.note`},
		{"field given twice", order, `{"note":null,"note":"x","lines":[]}`, GivenTwice, `$.note`},
		{"field given twice, once in escapes", order, `{"note":null,"\u006eote":"x","lines":[]}`, GivenTwice, `$.note`},
		{"key of a map given twice", order, `{"lines":[],"note":null,"tags":{"a b":1,"c":2,"a b":1}}`, GivenTwice, `$.tags["a b"]`},
		{"key of a large map given twice", `{"type":"map","values":"null"}`, `{` + nullsTo(50) + `,"k7":null}`, GivenTwice, `$.k7`},
		{"wrong type deep inside", order, `{"lines":[{"sku":"a","qty":1},{"sku":"b","qty":"2"}],"note":null}`, WrongType, `$.lines[1].qty`},
		{"wrong type in a map", order, `{"lines":[],"note":null,"tags":{"a b":1,"\"":true}}`, WrongType, `$.tags["\""]`},
		{"wrong type in a nullable field", order, `{"lines":[],"note":5}`, WrongType, `$.note`},
		{"null where none is allowed", order, `{"lines":null,"note":null}`, WrongType, `$.lines`},
		{"array instead of record", order, `[]`, WrongType, `$`},
		{"number that breaks off", `"int"`, `-`, Malformed, `$`},

		{"int too high", `"int"`, `2147483648`, OutOfRange, `$`},
		{"int too low", `"int"`, `-2147483649`, OutOfRange, `$`},
		{"int with huge exponent", `"int"`, `1e99999999999999999999`, OutOfRange, `$`},
		{"int with an exponent that overflows", `"int"`, `1e18446744073709551617`, OutOfRange, `$`},
		{"int with fraction", `"int"`, `1.5`, Inexact, `$`},
		{"int with tiny exponent", `"int"`, `1e-99999999999999999999`, Inexact, `$`},
		{"int in quotes", `"int"`, `"1"`, WrongType, `$`},
		{"long too high", `"long"`, `9223372036854775808`, OutOfRange, `$`},
		{"long too low", `"long"`, `-9223372036854775809`, OutOfRange, `$`},
		{"long of 19 nines", `"long"`, `9999999999999999999`, OutOfRange, `$`},
		{"long of 20 digits", `"long"`, `18446744073709551616`, OutOfRange, `$`},
		{"long in quotes", `"long"`, `"1"`, WrongType, `$`},
		{"float too high", `"float"`, `3.5e38`, OutOfRange, `$`},
		{"double too high", `"double"`, `1e309`, OutOfRange, `$`},
		{"double as any string", `"double"`, `"1.5"`, WrongType, `$`},
		{"double nan in the wrong case", `"double"`, `"nan"`, WrongType, `$`},
		{"boolean as number", `"boolean"`, `1`, WrongType, `$`},
		{"string as number", `"string"`, `1`, WrongType, `$`},
		{"null as object", `"null"`, `{}`, WrongType, `$`},
		{"bytes that are not base64", `"bytes"`, `"a"`, BadValue, `$`},
		{"bytes without padding", `"bytes"`, `"/w"`, BadValue, `$`},
		{"bytes with stray bits", `"bytes"`, `"/x=="`, BadValue, `$`},
		{"bytes in the URL alphabet", `"bytes"`, `"_w=="`, BadValue, `$`},
		{"bytes as Postgres' hex", `"bytes"`, `"\\x0102"`, BadValue, `$`},
		{"fixed of another size", `{"type":"fixed","name":"F","size":2}`, `"AQID"`, BadValue, `$`},
		{"unknown symbol, in spite of a default", enum, `"B"`, BadValue, `$`},
		{"symbol as number", enum, `0`, WrongType, `$`},
		{"decimal with too many digits after the point", decimal, `1.234`, Inexact, `$`},
		{"decimal with too many digits", decimal, `1000.00`, OutOfRange, `$`},
		{"decimal with huge exponent", decimal, `1e999999999999`, OutOfRange, `$`},
		{"decimal that is no number", decimal, `"1,5"`, BadValue, `$`},
		{"decimal with a space", decimal, `" 1"`, BadValue, `$`},
		{"decimal NaN", decimal, `"NaN"`, BadValue, `$`},
		{"decimal of true", decimal, `true`, WrongType, `$`},
		{"decimal beyond its fixed", decFixed, `10000`, OutOfRange, `$`},
		{"uuid without hyphens", logical("string", "uuid"), `"0190163d8694739baea5966c26f8ad91"`, BadValue, `$`},
		{"uuid with another letter", logical("string", "uuid"), `"g190163d-8694-739b-aea5-966c26f8ad91"`, BadValue, `$`},
		{"uuid with a hyphen elsewhere", logical("string", "uuid"), `"0190163d8-694-739b-aea5-966c26f8ad91"`, BadValue, `$`},

		{"uuid with other hyphens", logical("string", "uuid"), `"0190163d_8694_739b_aea5_966c26f8ad91"`, BadValue, `$`},
		{"date on day 0", logical("int", "date"), `"2026-01-00"`, BadValue, `$`},
		{"date on day 99", logical("int", "date"), `"2026-01-99"`, BadValue, `$`},
		{"date that does not exist", logical("int", "date"), `"2026-02-29"`, BadValue, `$`},
		{"date in month 13", logical("int", "date"), `"2026-13-01"`, BadValue, `$`},
		{"date in month 0", logical("int", "date"), `"2026-00-01"`, BadValue, `$`},
		{"date with time", logical("int", "date"), `"2026-01-01T00:00:00Z"`, BadValue, `$`},
		{"date of five digits", logical("int", "date"), `"10000-01-01"`, BadValue, `$`},
		{"date before Christ", logical("int", "date"), `"0044-03-15 BC"`, BadValue, `$`},
		{"date as too high a number", logical("int", "date"), `2147483648`, OutOfRange, `$`},
		{"time with zone", logical("int", "time-millis"), `"05:00:00Z"`, BadValue, `$`},
		{"time without seconds", logical("int", "time-millis"), `"05:00"`, BadValue, `$`},
		{"time of 24 hours", logical("long", "time-micros"), `"24:00:00"`, BadValue, `$`},
		{"time beyond the day as number", logical("int", "time-millis"), `86400000`, OutOfRange, `$`},
		{"time before the day as number", logical("long", "time-micros"), `-1`, OutOfRange, `$`},
		{"timestamp without zone", logical("long", "timestamp-millis"), `"2026-11-21T05:00:00"`, BadValue, `$`},
		{"timestamp with zone name", logical("long", "timestamp-millis"), `"2026-11-21T05:00:00 CET"`, BadValue, `$`},
		{"timestamp with a bad offset", logical("long", "timestamp-millis"), `"2026-11-21T05:00:00+24:00"`, BadValue, `$`},
		{"timestamp with half an offset", logical("long", "timestamp-millis"), `"2026-11-21T05:00:00+01:"`, BadValue, `$`},
		{"timestamp with a leap second", logical("long", "timestamp-millis"), `"2016-12-31T23:59:60Z"`, BadValue, `$`},
		{"timestamp with a bare point", logical("long", "timestamp-millis"), `"2026-11-21T05:00:00.Z"`, BadValue, `$`},
		{"timestamp of infinity", logical("long", "timestamp-millis"), `"infinity"`, BadValue, `$`},
		{"timestamp-nanos too late", logical("long", "timestamp-nanos"), `"2262-04-11T23:47:16.854775808Z"`, OutOfRange, `$`},
		{"timestamp-nanos too early", logical("long", "timestamp-nanos"), `"1677-09-21T00:12:43.145224191Z"`, OutOfRange, `$`},
		{"timestamp-nanos in the year 9999", logical("long", "timestamp-nanos"), `"9999-11-21T05:00:00Z"`, OutOfRange, `$`},
		{"timestamp-nanos in the year 1", logical("long", "timestamp-nanos"), `"0001-11-21T05:00:00Z"`, OutOfRange, `$`},
		{"timestamp as fraction", logical("long", "timestamp-millis"), `1.5`, Inexact, `$`},
		{"local timestamp with zone", logical("long", "local-timestamp-micros"), `"2026-11-21T05:00:00Z"`, BadValue, `$`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_ = checkRefused(t, compileText(t, tc.schema), tc.doc, tc.kind, tc.path)
		})
	}
}

// nullsTo returns the members "k0":null to the nth.
func nullsTo(n int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf(`"k%d":null`, i))
	}
	return strings.Join(members, ",")
}

func checkRefused(t *testing.T, tr *Transcoder, doc string, kind Kind, path string) *Error {
	t.Helper()
	out, err := tr.Append([]byte("dst"), []byte(doc))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%s: got %x and error %v, want an *Error", doc, out, err)
	}
	if e.Kind != kind || e.Path != path {
		t.Errorf("%s: got %q (%v at %s), want %v at %s", doc, e, e.Kind, e.Path, kind, path)
	}
	if string(out) != "dst" {
		t.Errorf("%s: dst came back as %q with an error", doc, out)
	}
	if e.Offset < 0 || e.Offset > len(doc) {
		t.Errorf("%s: offset %d is outside the document", doc, e.Offset)
	}
	return e
}

func TestAppend_RefusesWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	tr := compileText(t, recordOf("R", `s "string" = ""`, `n "double" = 0`, `i "int" = 0`, `d {"type":"bytes","logicalType":"decimal","precision":9} = ""`,
		`a {"type":"array","items":"int"} = []`, `m {"type":"map","values":"int"} = {}`, `b "boolean" = true`, `z "null" = null`))
	for _, doc := range []string{
		``, ` `, `{`, `}`, `{}{}`, `{} x`, `{},`, "{}\x00", "\ufeff{}", `{"s"}`, `{"s":}`, `{"s":"a",}`, `{,}`, `{"s" "a"}`, `{"s":"a" "n":1}`,
		`{s:"a"}`, `{'s':"a"}`, `{"s":'a'}`, `{"s":"a}`, `{"s":"a\"}`, `{"s":"\x"}`, `{"s":"\u12"}`, `{"s":"\u12g4"}`, `{"s":"\`,
		"{\"s\":\"a\tb\"}", "{\"s\":\"a\x00b\"}", "{\"s\":\"\x1f\"}", "{\"s\":\"12345678\x019\"}",
		"{\"s\":\"\xff\"}", "{\"s\":\"\xc3\"}", "{\"s\":\"\xed\xa0\x80\"}", "{\"s\":\"\xc0\xaf\"}", "{\"s\":\"\\n\xff\"}", "{\"s\":\"\xc3\\n\xa9\"}",
		`{"s":"\ud800"}`, `{"s":"\ud800x"}`, `{"s":"\udc00"}`, `{"s":"\ud800\ud800"}`, `{"s":"\ud800\n"}`, `{"s":"\udc00\ud800"}`, `{"s":"\udc00\udc00"}`, "{\"s\":\"a\x01}", "{\"s\":\"12345678\x01}",
		"{\"\xff\":1}", "{\"\\ud800\":1}",
		`{"n":01}`, `{"n":1.}`, `{"n":.5}`, `{"n":+1}`, `{"n":1e}`, `{"n":1e+}`, `{"n":-}`, `{"n":0x1}`, `{"n":1_0}`, `{"n":NaN}`, `{"n":Infinity}`, `{"n":-Infinity}`, `{"n":1 2}`,
		`{"i":01}`, `{"i":-01}`, `{"i":1.}`, `{"i":1e}`, `{"i":+1}`, `{"i":1a}`, `{"i":1-2}`, `{"i":--1}`, `{"i":00000000000000000000}`,
		`{"d":01}`, `{"d":1.}`, `{"d":1e}`, `{"d":NaN}`,
		`{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[1}`, `{"a":[1`, `{"a":[`, `{"m":{"a":1,}}`, `{"m":{"a"}}`, `{"m":{1:1}}`, `{"m":{"a":1]}`,
		`{"b":tru}`, `{"b":True}`, `{"b":truex}`, `{"b":t`, `{"z":nul}`, `{"z":nil}`, `{"s":"a"/**/}`,
	} {
		// Strings are read eight bytes at a time up to near the end, so that it matters what follows.
		for _, doc := range []string{doc, doc + "                "} {
			if e := checkMalformed(t, tr, doc); e != nil && e.Kind != Malformed {
				t.Errorf("%q: got %v, want malformed JSON", doc, e)
			}
		}
	}
}

func checkMalformed(t *testing.T, tr *Transcoder, doc string) *Error {
	t.Helper()
	_, err := tr.Append(nil, []byte(doc))
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%q is accepted", doc)
	}
	return e
}

func TestAppend_LimitsNestingButNotSize(t *testing.T) {
	t.Parallel()
	tr := compileText(t, recordOf("N", `n ["null","N"]`))
	nested := func(depth int) string {
		return strings.Repeat(`{"n":`, depth) + "null" + strings.Repeat("}", depth)
	}
	if _, err := tr.Append(nil, []byte(nested(MaxDepth))); err != nil {
		t.Errorf("a document of the deepest nesting: %v", err)
	}
	var e *Error
	if _, err := tr.Append(nil, []byte(nested(MaxDepth+1))); !errors.As(err, &e) || e.Kind != TooDeep {
		t.Errorf("one level deeper: got %v, want it refused", err)
	}
	if _, err := tr.Append(nil, []byte(strings.Repeat(`{"n":{"N":`, 1e5))); !errors.As(err, &e) || e.Kind != TooDeep {
		t.Errorf("a hostile document: got %v, want it refused", err)
	}
	tagged := compileText(t, recordOf("N", `n ["null","N","int"]`))
	for depth, ok := range map[int]bool{MaxDepth - 1: true, MaxDepth: false} {
		doc := strings.Replace(nested(depth), "null", `{"int":1}`, 1)
		if _, err := tagged.Append(nil, []byte(doc)); (err == nil) != ok {
			t.Errorf("a tag below %d records: %v", depth, err)
		}
	}
	large := compileText(t, `{"type":"array","items":"string"}`)
	doc := "[" + strings.Repeat(`"0123456789\n",`, 200_000) + `""]`
	out, err := large.Append(nil, []byte(doc))
	if err != nil || len(out) != 3+200_000*12+1+1 {
		t.Errorf("a large document: %d bytes, %v", len(out), err)
	}
}

func TestAppend_PathsQuoteUnusualKeysAndCutLongOnes(t *testing.T) {
	t.Parallel()
	tr := compileText(t, `{"type":"map","values":"int"}`)
	for key, path := range map[string]string{
		`_a1`: `$._a1`, `1a`: `$["1a"]`, ``: `$[""]`, `a.b`: `$["a.b"]`, `a\nb`: `$["a\nb"]`, `é`: `$["é"]`,
		strings.Repeat("é", 50): `$["` + strings.Repeat("é", 32) + `…"]`, strings.Repeat("k", 65): `$["` + strings.Repeat("k", 64) + `…"]`,
	} {
		_ = checkRefused(t, tr, `{"`+key+`":null}`, WrongType, path)
	}
}

func TestAppend_ErrorsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	tr := compileText(t, recordOf("order", `qty "int"`, `note ["null","string"] = null`, `at `+logical("long", "timestamp-millis")+` = 0`))
	for doc, want := range map[string]string{
		`{"qty":"2"}`:                   `$.qty: wrong type: want int, got string`,
		`{"qty":1,"note":2}`:            `$.note: wrong type: want null or string, got number`,
		`{"qty":1,"x":2}`:               `$.x: unknown field: order has no such field`,
		`{}`:                            `$.qty: missing field: record order requires it: the schema gives no default`,
		`{"qty":1.5}`:                   `$.qty: would lose digits: want int, got a fraction`,
		`{"qty":3000000000}`:            `$.qty: out of range: beyond what int can hold`,
		`{"qty":1,"at":"secret"}`:       `$.at: bad value: want timestamp-millis such as 2026-11-21T05:00:00.123Z (a time zone is required)`,
		`{"qty":1`:                      `$: malformed JSON at byte 8: the document ends early`,
		`{"qty":?}`:                     `$.qty: malformed JSON at byte 7: unexpected character '?'`,
		`{"qty":1,"qty":2}`:             `$.qty: given twice: a field of record order`,
		`{"` + strings.Repeat("k", 100): `$: malformed JSON at byte 102: the document ends inside a string`,
	} {
		if _, err := tr.Append(nil, []byte(doc)); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", doc, err, want)
		}
	}
}

// A relay lives for months: neither a large document nor failed ones may leave much behind.
func TestAppend_KeepsNoScratchOfUnusualDocuments(t *testing.T) {
	t.Parallel()
	tr := compileText(t, recordOf("R", `b "bytes"`, `a {"type":"map","values":"int"}`))
	var doc strings.Builder
	doc.WriteString(`{"a":{`)
	for i := range 100_000 {
		fmt.Fprintf(&doc, `"some key %d":1,`, i)
	}
	doc.WriteString(`"x":1},"b":"\/AAA` + strings.Repeat("AAAA", maxScratch/4) + `"}`)
	if _, err := tr.Append(nil, []byte(doc.String())); err != nil {
		t.Fatal(err)
	}
	if e := &tr.enc; e.doc != nil || cap(e.text) > maxScratch || cap(e.moved) > maxScratch || cap(e.spans) > maxScratch/32 {
		t.Errorf("kept of a large document: %d bytes of itself, %d of text, %d of fields, %d spans",
			len(e.doc), cap(e.text), cap(e.moved), cap(e.spans))
	}
	for range 1000 {
		if _, err := tr.Append(nil, []byte(`{"b":"","a":{"x":1,"z":"no"}}`)); err == nil {
			t.Fatal("a string is taken for a number")
		}
	}
	if n := cap(tr.enc.spans); n > 100 {
		t.Errorf("failed documents left %d spans", n)
	}
}

func TestAppend_LearnsTheOrderOfFields(t *testing.T) {
	t.Parallel()
	tr := compileText(t, recordOf("R", `a "int"`, `b "int" = 0`, `c "int"`))
	for _, doc := range []string{`{"c":3,"a":1}`, `{"c":3,"a":1}`, `{"a":1,"b":2,"c":3}`, `{"c":3,"b":2,"a":1}`} {
		out, err := tr.Append(nil, []byte(doc))
		if err != nil || len(out) != 3 || out[0] != 2 || out[2] != 6 {
			t.Fatalf("%s: got %x, %v", doc, out, err)
		}
	}
	if diff := cmp.Diff([]int{2, 1, 0, 1}, tr.root.record.follow); diff != "" {
		t.Errorf("what follows each field (-want +got):\n%s", diff)
	}
}
