package transcode

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestAppend_FindsTheBranchOfAUnion(t *testing.T) {
	t.Parallel()
	const (
		enum = `{"type":"enum","name":"E","symbols":["A","B"]}`
		dec  = `{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`
	)
	var (
		a       = recordOf("A", `id "int"`, `a "int"`, `x "int" = 0`)
		b       = recordOf("B", `id "int"`, `b "int"`)
		records = `["null",` + a + `,` + b + `]`
	)
	for _, tc := range []struct{ name, schema, doc, want string }{
		{"null first", `["null","string"]`, `null`, `00`},
		{"null last", `["string","null"]`, `null`, `02`},
		{"the only other branch", `["null","string"]`, `"a"`, `020261`},
		{"one branch alone", `["string"]`, `"a"`, `000261`},
		{"tagged string", `["null","string"]`, `{"string":"a"}`, `020261`},
		{"tagged by a key in escapes", `["null","string"]`, `{ "\u0073tring" : "a" }`, `020261`},
		{"tagged long with a logical type goes by its plain name", `["null",` + logical("long", "timestamp-millis") + `]`, `{"long":1}`, `0202`},
		{"tagged array", `["null",{"type":"array","items":"int"}]`, `{"array":[1]}`, `02020200`},
		{"tagged record", records, `{"A":{"a":1,"id":2}}`, `02040200`},
		{"tagged by the full name", `["null",{"type":"record","name":"order.line","fields":[{"name":"qty","type":"int"}]}]`, `{"order.line":{"qty":1}}`, `0202`},
		{"boolean", `["null","boolean","string"]`, `true`, `0201`},

		{"integer is a long before it is a double", `["double","long"]`, `5`, `020a`},
		{"fraction is a double", `["long","double"]`, `5.5`, `020000000000001640`},
		{"integer too large for int is a long", `["int","long"]`, `3000000000`, `0280f882ad16`},
		{"integral number that fits both is the first", `["long","int"]`, `1`, `0002`},
		{"fraction is a decimal before it is a double", `["double",` + dec + `]`, `5.5`, `02040226`},
		{"fraction with more digits than the decimal has is a double", `["double",` + dec + `]`, `0.125`, `00000000000000c03f`},
		{"number is a double before it is a float", `["float","double"]`, `0.5`, `02000000000000e03f`},
		{"number that is integral but not a long is a double", `["long","double"]`, `1e300`, `029c7500883ce4377e`},

		{"text is a string before it is bytes", `["bytes","string"]`, `"AQID"`, `020841514944`},
		{"a symbol is the enum before it is a string", `["string",` + enum + `]`, `"B"`, `0202`},
		{"another text is the string", `["string",` + enum + `]`, `"C"`, `000243`},
		{"text is a string before it is a time", `[` + logical("int", "date") + `,"string"]`, `"1970-01-02"`, `0214313937302d30312d3032`},
		{"without a string branch text is what it looks like", `["bytes",` + logical("int", "date") + `]`, `"1970-01-02"`, `0202`},
		{"NaN is a string where there is one", `["double","string"]`, `"NaN"`, `02064e614e`},

		{"record by its keys", records, `{"b":1,"id":2}`, `040402`},
		{"record by its keys without a default", records, `{"id":2,"a":1}`, `02040200`},
		{"record by its keys with a default given", records, `{"x":3,"id":2,"a":1}`, `02040206`},
		{"record before map", `[{"type":"map","values":"int"},` + b + `]`, `{"id":1,"b":2}`, `020204`},
		{"map where no record fits", `[{"type":"map","values":"int"},` + b + `]`, `{"id":1}`, `000204696402` + `00`},
		{"beside a map no key is a tag", `["null","string",{"type":"map","values":"string"}]`, `{"string":"x"}`, `04020c737472696e67027800`},
		{"a field's name is not a tag", `["null",` + recordOf("A", `A "int"`) + `]`, `{"A":5}`, `020a`},
		{"a field's name is not a tag where several records are", `["null",` + recordOf("A", `B "int"`) + `,` + recordOf("B", `id "int"`) + `]`, `{"B":5}`, `020a`},
		{"a tag that is a field's name, too, where the fields do not fit", `["null",` + recordOf("A", `A "int"`, `b "int"`) + `]`, `{"A":{"b":1,"A":2}}`, `020402`},
		{"an empty object is the record that needs nothing", `[` + b + `,` + recordOf("C", `c "int" = 1`) + `]`, `{}`, `0202`},
		{"array", `["null","string",{"type":"array","items":["null","int"]}]`, `[null,1]`, `0404000202` + `00`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			out, err := compileText(t, tc.schema).Append(nil, []byte(tc.doc))
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(out); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestAppend_RefusesWhatFitsNoBranchOrSeveral(t *testing.T) {
	t.Parallel()
	var (
		a       = recordOf("A", `id "int"`, `a "int"`, `x "int" = 0`)
		b       = recordOf("B", `id "int"`, `b "int"`)
		records = recordOf("R", `of ["null",`+a+`,`+b+`]`)
		twins   = recordOf("R", `of [`+recordOf("Made", `id "int"`)+`,`+recordOf("Gone", `id "int"`, `why "string" = ""`)+`]`)
	)
	for _, tc := range []struct {
		name, schema, doc string
		kind              Kind
		path, reason      string
	}{
		{"no branch takes the form", `["null","int"]`, `true`, WrongType, `$`, `want null or int, got boolean`},
		{"null where no branch is null", `["int","string"]`, `null`, WrongType, `$`, `want int or string, got null`},
		{"the only branch of the form says why", `["null","int","string"]`, `3000000000`, OutOfRange, `$`, `beyond what int can hold`},
		{"several branches of the form all say why", `["int","long"]`, `1.5`, Inexact, `$`, `fits no branch of int or long: want int, got a fraction; want long, got a fraction`},
		{"no branch takes an object", `["null","int"]`, `{"x":1}`, WrongType, `$`, `want null or int, got object`},
		{"tag of a branch that is not there", `["null","int"]`, `{"long":1}`, WrongType, `$`, `want null or int, got object`},
		{"wrong value under a tag", `["null","int"]`, `{"int":"1"}`, WrongType, `$.int`, `want int, got string`},
		{"another key beside a tag", `["null","int"]`, `{"int":1,"x":2}`, WrongType, `$`, `an object whose key names a branch of a union has no other keys`},
		{"null under a tag", `["null","int"]`, `{"null":null}`, WrongType, `$`, `want null or int, got object`},
		{"object that fits no record", records, `{"of":{"id":1,"c":2}}`, WrongType, `$.of`, `fits no record of the union: record A has no field c; record B has no field c`},
		{"object with a strange key that fits no record", records, `{"of":{"a b":2}}`, WrongType, `$.of`, `fits no record of the union: record A has no field "a b"; record B has no field "a b"`},
		{"object that lacks fields of each record", records, `{"of":{"id":1}}`, WrongType, `$.of`, `fits no record of the union: record A needs a; record B needs b`},
		{"object that fits two records", twins, `{"of":{"id":1}}`, Ambiguous, `$.of`, `fits record Made and record Gone: write it as {"Made": …} or {"Gone": …}`},
		{"error inside the record that was chosen", records, `{"of":{"id":1,"b":"x"}}`, WrongType, `$.of.b`, `want int, got string`},
		{"field given twice while looking for the record", records, `{"of":{"id":1,"id":1,"b":1}}`, GivenTwice, `$.of.id`, `a field of record B`},
		{"malformed JSON while looking for the record", records, `{"of":{"id":1 "b":2}}`, Malformed, `$.of`, ``},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := checkRefused(t, compileText(t, tc.schema), tc.doc, tc.kind, tc.path)
			if tc.reason != "" && e.Reason != tc.reason {
				t.Errorf("got reason %q, want %q", e.Reason, tc.reason)
			}
		})
	}
}

func TestAppend_AmbiguousRecordsCanBeTagged(t *testing.T) {
	t.Parallel()
	tr := compileText(t, `[`+recordOf("Made", `id "int"`)+`,`+recordOf("Gone", `id "int"`, `why "string" = ""`)+`]`)
	_, err := tr.Append(nil, []byte(`{"Gone":{"id":1}}`))
	if err != nil {
		t.Errorf("the form that the error proposes is refused: %v", err)
	}
}

// A union of two records that contain each other is where trying whole branches would
// take 2^depth steps, and this test would not end.
func TestAppend_NestedUnionsTakeNoExponentialTime(t *testing.T) {
	t.Parallel()
	tr := compileText(t, `{"type":"record","name":"A","fields":[{"name":"n","type":["null","A",
		{"type":"record","name":"B","fields":[{"name":"n","type":["null","A","B"]},{"name":"b","type":"int","default":0}]}]},
		{"name":"a","type":"int","default":0}]}`)
	const depth = 300
	doc := strings.Repeat(`{"a":1,"n":`, depth) + `"wrong"` + strings.Repeat(`}`, depth)
	if _, err := tr.Append(nil, []byte(doc)); err == nil {
		t.Error("a string is taken for a record")
	}
}
