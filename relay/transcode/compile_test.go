package transcode

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

func TestCompile_EncodesDefaults(t *testing.T) {
	t.Parallel()
	const (
		fixed   = `{"type":"fixed","name":"F","size":2}`
		enum    = `{"type":"enum","name":"E","symbols":["A","B"]}`
		decimal = `{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`
	)
	inner := recordOf("Inner", `a "int" = 5`, `b "string" = "x"`)
	for _, tc := range []struct{ name, field, want string }{
		{"null", `f "null" = null`, ``},
		{"boolean", `f "boolean" = true`, `01`},
		{"int", `f "int" = 5`, `0a`},
		{"double", `f "double" = 1`, `000000000000f03f`},
		{"string", `f "string" = "a\u00e9"`, `0661c3a9`},
		{"bytes are code points", `f "bytes" = "\u00ff\u0000a"`, `06ff0061`},
		{"fixed is code points", `f ` + fixed + ` = "\u00ff\u0001"`, `ff01`},
		{"enum", `f ` + enum + ` = "B"`, `02`},
		{"date is a number", `f ` + logical("int", "date") + ` = 1`, `02`},
		{"timestamp is a number", `f ` + logical("long", "timestamp-millis") + ` = 1`, `02`},
		{"decimal is code points", `f ` + decimal + ` = "\u0004\u00d2"`, `0404d2`},
		{"array", `f {"type":"array","items":"int"} = [1,2]`, `04020400`},
		{"map", `f {"type":"map","values":"bytes"} = {"k":"\u00ff"}`, `02026b02ff00`},
		{"record", `f ` + inner + ` = {"b":"y","a":1}`, `020279`},
		{"record by its own defaults", `f ` + inner + ` = {}`, `0a0278`},
		{"null of a union", `f ["null","int"] = null`, `00`},
		{"first branch of a union", `f ["int","null"] = 5`, `000a`},
		{"other branch of a union", `f ["null","int"] = 5`, `020a`},
		{"union goes by the schema's order", `f ["double","long"] = 5`, `000000000000001440`},
		{"union of a map that does not fit and a record", `f [{"type":"map","values":"boolean"},` + inner + `] = {"a":1}`, `02020278`},
		{"union of records", `f [` + recordOf("Other", `z "int"`) + `,` + inner + `] = {"b":"y"}`, `020a0279`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			out, err := compileText(t, recordOf("R", tc.field)).Append(nil, []byte(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(out); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestCompile_DefaultsMayRelyOnEachOther(t *testing.T) {
	t.Parallel()
	tr := compileText(t, recordOf("A", `b `+recordOf("B", `c `+recordOf("C", `v "int" = 7`, `next ["null","A"] = null`)+` = {}`)+` = {}`))
	out, err := tr.Append(nil, []byte(`{}`))
	if got := hex.EncodeToString(out); err != nil || got != "0e00" {
		t.Errorf("got %s, %v, want 0e00", got, err)
	}
}

func TestCompile_DefaultInAUnionMayRelyOnALaterOne(t *testing.T) {
	t.Parallel()
	r := &avroschema.Schema{Type: avroschema.Record, Name: "R"}
	nullable := &avroschema.Schema{Type: avroschema.Union, Branches: []*avroschema.Schema{{Type: avroschema.Null}, r}}
	r.Fields = []*avroschema.Field{
		{Name: "n", Type: nullable, Default: []byte(`{"n":null}`)},
		{Name: "k", Type: &avroschema.Schema{Type: avroschema.Int}, Default: []byte(`5`)}}
	tr, err := Compile(r)
	if err != nil {
		t.Fatal(err)
	}
	out, err := tr.Append(nil, []byte(`{}`))
	if got := hex.EncodeToString(out); err != nil || got != "02000a0a" {
		t.Errorf("got %s, %v, want 02000a0a", got, err)
	}
}

// Parse refuses some of these schemas, too; Compile does not rely on it.
func TestCompile_RefusesWhatItCannotEncode(t *testing.T) {
	t.Parallel()
	intType := &avroschema.Schema{Type: avroschema.Int}
	record := func(fields ...*avroschema.Field) *avroschema.Schema {
		return &avroschema.Schema{Type: avroschema.Record, Name: "R", Fields: fields}
	}
	endless := record()
	endless.Fields = []*avroschema.Field{{Name: "r", Type: endless, Default: []byte(`{}`)}}
	for _, tc := range []struct {
		name   string
		schema *avroschema.Schema
		want   string
	}{
		{"no schema", nil, "a type is missing"},
		{"a type that is not known", &avroschema.Schema{Type: 99}, "type 99 is not known"},
		{"an array without items", &avroschema.Schema{Type: avroschema.Array}, "a type is missing"},
		{"a union in a union", &avroschema.Schema{Type: avroschema.Union, Branches: []*avroschema.Schema{
			{Type: avroschema.Union, Branches: []*avroschema.Schema{intType}}}}, "branch 0 of a union is a union"},
		{"a logical type that is not known", &avroschema.Schema{Type: avroschema.Int, Logical: &avroschema.Logical{Name: "week"}}, `logical type "week" is not supported`},
		{"a decimal of a million digits", &avroschema.Schema{Type: avroschema.Bytes, Logical: &avroschema.Logical{Name: "decimal", Precision: 1e6}}, "more digits than"},
		{"a default of another type", record(&avroschema.Field{Name: "f", Type: intType, Default: []byte(`"x"`)}), "record R: default of field f: $: wrong type: want int, got string"},
		{"a default of bytes beyond code point 255", record(&avroschema.Field{Name: "f", Type: &avroschema.Schema{Type: avroschema.Bytes}, Default: []byte(`"\u0100"`)}), "code points up to 255"},
		{"a default of fixed of another size", record(&avroschema.Field{Name: "f", Type: &avroschema.Schema{Type: avroschema.Fixed, Name: "F", Size: 2}, Default: []byte(`"a"`)}), "want the 2 bytes of fixed F, got 1"},
		{"a default that contains itself", endless, "record R: default of field r contains itself"},
		{"a field's name with a quote", record(&avroschema.Field{Name: `a"b`, Type: intType}), `field name "a\"b" cannot be a JSON key`},
		{"a field twice", record(&avroschema.Field{Name: "a", Type: intType}, &avroschema.Field{Name: "a", Type: intType}), "field a is there twice"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tr, err := Compile(tc.schema)
			if err == nil || !strings.Contains(err.Error(), tc.want) || tr != nil {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestCompile_BoundsTheWorkForDefaultsOfNestedUnions(t *testing.T) {
	t.Parallel()
	// Each level offers two records that fit but for the innermost value.
	s := &avroschema.Schema{Type: avroschema.Int}
	text := `"x"`
	for range 40 {
		union := &avroschema.Schema{Type: avroschema.Union, Branches: []*avroschema.Schema{
			{Type: avroschema.Record, Name: "A", Fields: []*avroschema.Field{{Name: "n", Type: s}}},
			{Type: avroschema.Record, Name: "B", Fields: []*avroschema.Field{{Name: "n", Type: s}}}}}
		s, text = union, `{"n":`+text+`}`
	}
	_, err := Compile(&avroschema.Schema{Type: avroschema.Record, Name: "R", Fields: []*avroschema.Field{{Name: "f", Type: s, Default: []byte(text)}}})
	if err == nil || !strings.Contains(err.Error(), "too many combinations") {
		t.Errorf("got %v, want it refused for its work", err)
	}
}
