package avroschema

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse_AcceptsWhatAvroAccepts(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"bare primitive name":                 `"string"`,
		"comments and white space":            " /* c */ { // d\n\"type\" : \"int\" }\t",
		"null default of a null-last union":   field(`["string","null"]`, `null`),
		"default of any branch":               field(`["null","string"]`, `"x"`),
		"recursive record":                    `{"type":"record","name":"n","fields":[{"name":"next","type":["null","n"],"default":null}]}`,
		"forward reference":                   `{"type":"record","name":"r","fields":[{"name":"a","type":"e"},{"name":"b","type":{"type":"enum","name":"e","symbols":["A"]}}]}`,
		"enum without symbols":                `{"type":"enum","name":"e","symbols":[]}`,
		"record without fields":               `{"type":"record","name":"r","fields":[]}`,
		"empty union":                         `[]`,
		"fixed of size 0":                     `{"type":"fixed","name":"f","size":0}`,
		"identical redefinition":              `[{"type":"array","items":{"type":"fixed","name":"f","size":1}},{"type":"map","values":{"type":"fixed","name":"f","size":1,"doc":"x"}}]`,
		"NaN default":                         field(`"double"`, `"NaN"`),
		"infinite default":                    field(`"float"`, `"-Infinity"`),
		"number as string for a double":       field(`"double"`, `" 1.5f "`),
		"integer default of a float":          field(`"float"`, `1`),
		"largest int default":                 field(`"int"`, `2147483647`),
		"enum default outside the symbols":    field(`{"type":"enum","name":"e","symbols":["A"]}`, `"B"`),
		"unicode name":                        `{"type":"fixed","name":"größe","size":1}`,
		"name of a primitive in a namespace":  `{"type":"fixed","name":"int","namespace":"n","size":1}`,
		"invalid logical type":                `{"type":"string","logicalType":"date"}`,
		"attribute given twice":               `{"type":"int","type":"long"}`,
		"record default from field defaults":  field(`{"type":"record","name":"i","fields":[{"name":"x","type":"int","default":1}]}`, `{}`),
		"doc that is no string":               `{"type":"fixed","name":"f","size":1,"doc":1}`,
		"order in capitals":                   `{"type":"record","name":"r","fields":[{"name":"a","type":"int","order":"DESCENDING"}]}`,
		"nested as deep as the limit":         nested(MaxDepth),
		"two names that differ by namespace":  `[{"type":"fixed","name":"a.f","size":1},{"type":"fixed","name":"b.f","size":1}]`,
		"reference that falls back to no ns":  `[{"type":"fixed","name":"f","size":1},{"type":"record","name":"n.r","fields":[{"name":"x","type":"f"}]}]`,
		"name starting with a dot":            `{"type":"fixed","name":".f","namespace":"n","size":1}`,
		"big integer in a primitive property": `{"type":"int","x":123456789012345678901234567890}`,
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(text)
			if err != nil {
				t.Fatalf("Parse(%.200s) = %v, want a schema", text, err)
			}
			again, err := Parse(s.Canonical())
			if err != nil {
				t.Fatalf("canonical text %.200s does not parse: %v", s.Canonical(), err)
			}
			if diff := cmp.Diff(s.Canonical(), again.Canonical()); diff != "" {
				t.Errorf("canonical text is no fixpoint:\n%s", diff)
			}
		})
	}
}

func TestParse_RefusesWhatAvroRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ text, path, message string }{
		"nothing":                         {"", "", "empty"},
		"name without quotes":             {"string", "", "double quotes"},
		"JSON null":                       {"null", "", "not null"},
		"number":                          {"1", "", "not 1"},
		"text after the end":              {`"int" x`, "", "after the end"},
		"unclosed comment":                {`/* "int"`, "", "comment"},
		"unknown type":                    {`{"type":"array","items":"x"}`, "/items", "unknown type x"},
		"unknown type at the top":         {`"x"`, "", "unknown type x"},
		"built-in word as a name":         {`"record"`, "", "unknown type record"},
		"type that is an object":          {`{"type":{"type":"int"}}`, "", `"type"`},
		"fractional fixed size":           {`{"type":"fixed","name":"f","size":1.5}`, "/size", "size"},
		"negative fixed size":             {`{"type":"fixed","name":"f","size":-1}`, "/size", "size"},
		"huge fixed size":                 {`{"type":"fixed","name":"f","size":2147483647}`, "/size", "size"},
		"fixed size as string":            {`{"type":"fixed","name":"f","size":"1"}`, "/size", "size"},
		"no fixed size":                   {`{"type":"fixed","name":"f"}`, "", "size"},
		"int default out of range":        {field(`"int"`, `2147483648`), "/fields/0/default", "default"},
		"long default out of range":       {field(`"long"`, `9223372036854775808`), "/fields/0/default", "default"},
		"fractional default of an int":    {field(`"int"`, `1.0`), "/fields/0/default", "default"},
		"string default of an int":        {field(`"int"`, `"1"`), "/fields/0/default", "default"},
		"default of no branch":            {field(`["null","string"]`, `1`), "/fields/0/default", "default"},
		"NaN default of a union":          {field(`["null","double"]`, `"NaN"`), "/fields/0/default", "default"},
		"word as a double's default":      {field(`"double"`, `"inf"`), "/fields/0/default", "default"},
		"bad element in a default":        {field(`{"type":"array","items":"int"}`, `[1,"x"]`), "/fields/0/default", "default"},
		"default with a field missing":    {field(`{"type":"record","name":"i","fields":[{"name":"x","type":"int"}]}`, `{}`), "/fields/0/default", "default"},
		"default of a forward reference":  {`{"type":"record","name":"r","fields":[{"name":"a","type":"e","default":"A"},{"name":"b","type":{"type":"enum","name":"e","symbols":["A"]}}]}`, "/fields/0/default", "default"},
		"default holding its own record":  {`{"type":"record","name":"r","fields":[{"name":"a","type":["null","r"],"default":{"a":null}}]}`, "/fields/0/default", "default"},
		"empty name":                      {`{"type":"fixed","name":"","size":1}`, "/name", "empty"},
		"name with a dash":                {`{"type":"fixed","name":"a-b","size":1}`, "/name", "character"},
		"name starting with a digit":      {`{"type":"fixed","name":"1a","size":1}`, "/name", "start"},
		"bad namespace":                   {`{"type":"fixed","name":"a","namespace":"b..c","size":1}`, "/name", "empty"},
		"name of a primitive":             {`{"type":"fixed","name":"int","size":1}`, "/name", "primitive"},
		"bad field name":                  {`{"type":"record","name":"r","fields":[{"name":"a b","type":"int"}]}`, "/fields/0/name", "character"},
		"field twice":                     {`{"type":"record","name":"r","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}`, "/fields/1", "twice"},
		"field without type":              {`{"type":"record","name":"r","fields":[{"name":"a"}]}`, "/fields/0", "type"},
		"field without name":              {`{"type":"record","name":"r","fields":[{"type":"int"}]}`, "/fields/0", "name"},
		"record without fields attribute": {`{"type":"record","name":"r"}`, "", "fields"},
		"symbol twice":                    {`{"type":"enum","name":"e","symbols":["A","A"]}`, "/symbols/1", "twice"},
		"bad symbol":                      {`{"type":"enum","name":"e","symbols":["A-B"]}`, "/symbols/0", "character"},
		"enum default not a symbol":       {`{"type":"enum","name":"e","symbols":["A"],"default":"B"}`, "/default", "symbols"},
		"branch twice":                    {`["int","int"]`, "/1", "twice"},
		"named branch twice":              {`[{"type":"fixed","name":"f","size":1},"f"]`, "/1", "twice"},
		"forward branch twice":            {`[{"type":"array","items":["f","f"]},{"type":"fixed","name":"f","size":1}]`, "/0/items/1", "twice"},
		"union in a union":                {`["int",["string"]]`, "/1", "union"},
		"different redefinition":          {`[{"type":"array","items":{"type":"fixed","name":"f","size":1}},{"type":"fixed","name":"f","size":2}]`, "/1", "already defined"},
		"unknown order":                   {`{"type":"record","name":"r","fields":[{"name":"a","type":"int","order":"up"}]}`, "/fields/0/order", "order"},
		"aliases that are a string":       {`{"type":"fixed","name":"f","size":1,"aliases":"x"}`, "/aliases", "array"},
		"bad alias":                       {`{"type":"fixed","name":"f","size":1,"aliases":["a-b"]}`, "/aliases", "character"},
		"map without values":              {`{"type":"map"}`, "", "values"},
		"big integer in a property":       {`{"type":"map","values":"int","x":[9223372036854775808]}`, "/x", "64 bits"},
		"leading zero":                    {field(`"int"`, `01`), "", "number"},
		"control character":               {"\"in\nt\"", "", "control"},
		"broken UTF-8":                    {"\"\xff\"", "", "UTF-8"},
		"trailing comma":                  {`["int",]`, "", "double quotes"},
		"too deep":                        {nested(MaxDepth + 1), "", "deeper"},
		"far too deep":                    {strings.Repeat("[", 1<<20), "", "deeper"},
		"too deep by references":          {chain(400), "", "deeper"},
		"far too deep by references":      {chain(20_000), "", "deeper"},
		"too long":                        {`"` + strings.Repeat("x", MaxBytes) + `"`, "", "limit"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(c.text)
			var parseErr *ParseError
			if !errors.As(err, &parseErr) {
				t.Fatalf("Parse(%.200s) = %v, %v, want a ParseError", c.text, s, err)
			}
			if !strings.Contains(parseErr.Message, c.message) {
				t.Errorf("message %q does not mention %q", parseErr.Message, c.message)
			}
			if c.path != "" && parseErr.Path != c.path {
				t.Errorf("path = %q, want %q", parseErr.Path, c.path)
			}
		})
	}
}

// Both branches of the union fit but for the innermost value, so trying them anew at each
// level would take 2⁴⁰⁰ steps.
func TestParse_DefaultOfARecursiveUnionIsCheckedInNoTime(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"x":`, 400) + "5" + strings.Repeat("}", 400)
	text := `[{"type":"record","name":"a","fields":[{"name":"x","type":["null","a","b"]}]},` +
		`{"type":"record","name":"b","fields":[{"name":"x","type":["null","a","b"]}]},` +
		`{"type":"record","name":"r","fields":[{"name":"f","type":"a","default":%s}]}]`
	if _, err := Parse(fmt.Sprintf(text, deep)); err == nil {
		t.Error("a default that does not fit was accepted")
	}
	if _, err := Parse(fmt.Sprintf(text, strings.Replace(deep, "5", "null", 1))); err != nil {
		t.Error(err)
	}
}

func TestParse_ErrorNamesThePlace(t *testing.T) {
	t.Parallel()
	text := "{\n  \"type\": \"record\", \"name\": \"r\",\n  \"fields\": [{\"name\": \"ä\", \"type\": \"nope\"}]\n}"
	_, err := Parse(text)
	want := &ParseError{Path: "/fields/0/type", Offset: strings.Index(text, `"nope"`), Line: 3, Column: 36, Message: "unknown type nope", UnknownType: "nope"}
	if diff := cmp.Diff(error(want), err); diff != "" {
		t.Error(diff)
	}
	if got, want := err.Error(), "line 3, column 36, at /fields/0/type: unknown type nope"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func TestParse_RecursiveTypeIsOneNode(t *testing.T) {
	t.Parallel()
	s, err := Parse(`{"type":"record","name":"a.n","fields":[{"name":"next","type":["null","n"]},{"name":"all","type":{"type":"array","items":"a.n"}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if s.Fields[0].Type.Branches[1] != s || s.Fields[1].Type.Items != s {
		t.Error("references do not point at the record itself")
	}
}

func TestParse_ReferencesOtherSchemas(t *testing.T) {
	t.Parallel()
	address, err := Parse(`{"type":"record","name":"shop.address","fields":[{"name":"kind","type":{"type":"enum","name":"kind","symbols":["HOME"]}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	order, err := Parse(`{"type":"record","name":"shop.order","fields":[{"name":"to","type":"address"},{"name":"kind","type":"kind"}]}`, address)
	if err != nil {
		t.Fatal(err)
	}
	if order.Fields[0].Type != address || order.Fields[1].Type != address.Fields[0].Type {
		t.Error("references do not point into the referenced schema")
	}
	want := `{"type":"record","name":"order","namespace":"shop","fields":[{"name":"to","type":"address"},` +
		`{"name":"kind","type":{"type":"enum","name":"kind","symbols":["HOME"]}}]}`
	if got := order.Canonical(address); got != want {
		t.Errorf("Canonical(address) = %s, want %s", got, want)
	}
	if _, err := Parse(`{"type":"fixed","name":"shop.address","size":1}`, address); err == nil {
		t.Error("a referenced type was redefined")
	}
	other, err := Parse(`{"type":"fixed","name":"shop.address","size":1}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(`"int"`, address, other); err == nil {
		t.Error("two references that define one type differently were accepted")
	}
}

func TestParse_LogicalTypes(t *testing.T) {
	t.Parallel()
	cases := map[string]*Logical{
		`{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`:            {"decimal", 9, 2},
		`{"type":"bytes","logicalType":"decimal","precision":9}`:                      {"decimal", 9, 0},
		`{"type":"bytes","logicalType":"decimal"}`:                                    nil,
		`{"type":"bytes","logicalType":"decimal","precision":0}`:                      nil,
		`{"type":"bytes","logicalType":"decimal","precision":"9"}`:                    nil,
		`{"type":"bytes","logicalType":"decimal","precision":9,"scale":10}`:           nil,
		`{"type":"string","logicalType":"decimal","precision":9}`:                     nil,
		`{"type":"fixed","name":"f","size":4,"logicalType":"decimal","precision":9}`:  {"decimal", 9, 0},
		`{"type":"fixed","name":"f","size":4,"logicalType":"decimal","precision":10}`: nil,
		`{"type":"string","logicalType":"uuid"}`:                                      {Name: "uuid"},
		`{"type":"fixed","name":"f","size":16,"logicalType":"uuid"}`:                  {Name: "uuid"},
		`{"type":"fixed","name":"f","size":15,"logicalType":"uuid"}`:                  nil,
		`{"type":"fixed","name":"f","size":12,"logicalType":"duration"}`:              {Name: "duration"},
		`{"type":"int","logicalType":"date"}`:                                         {Name: "date"},
		`{"type":"long","logicalType":"date"}`:                                        nil,
		`{"type":"int","logicalType":"time-millis"}`:                                  {Name: "time-millis"},
		`{"type":"long","logicalType":"time-micros"}`:                                 {Name: "time-micros"},
		`{"type":"long","logicalType":"timestamp-nanos"}`:                             {Name: "timestamp-nanos"},
		`{"type":"long","logicalType":"local-timestamp-micros"}`:                      {Name: "local-timestamp-micros"},
		`{"type":"int","logicalType":"timestamp-millis"}`:                             nil,
		`{"type":"int","logicalType":"of-my-own"}`:                                    nil,
		`{"type":"int","logicalType":1}`:                                              nil,
	}
	for text, want := range cases {
		s, err := Parse(text)
		if err != nil {
			t.Fatalf("Parse(%s): %v", text, err)
		}
		if diff := cmp.Diff(want, s.Logical); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	}
}

func TestJavaDouble(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{
		"1": 1, "+1.5": 1.5, "-.5": -0.5, "1.": 1, " 2e3\t": 2000, "1d": 1, "1F": 1, "0x1p4": 16,
		"Infinity": math.Inf(1), "-Infinity": math.Inf(-1), "1e999": math.Inf(1),
	} {
		if got, ok := javaDouble(text); !ok || got != want {
			t.Errorf("javaDouble(%q) = %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "+", "inf", "nan", "infinity", "1_0", "0x1", "--1", "1 2", "f", "1ff"} {
		if got, ok := javaDouble(text); ok {
			t.Errorf("javaDouble(%q) = %v, want it refused", text, got)
		}
	}
}

// field is a record with one field that has a default.
func field(typ, value string) string {
	return fmt.Sprintf(`{"type":"record","name":"r","fields":[{"name":"a","type":%s,"default":%s}]}`, typ, value)
}

func nested(depth int) string {
	return strings.Repeat(`{"type":"array","items":`, depth) + `"int"` + strings.Repeat("}", depth)
}

// chain is a flat union of records, each of which refers forward to the next.
func chain(n int) string {
	var b strings.Builder
	b.WriteString("[")
	for i := range n {
		fmt.Fprintf(&b, `{"type":"record","name":"r%d","fields":[{"name":"f","type":"r%d"}]},`, i, i+1)
	}
	fmt.Fprintf(&b, `{"type":"fixed","name":"r%d","size":1}]`, n)
	return b.String()
}
