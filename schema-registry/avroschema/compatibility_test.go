package avroschema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCheckCompatibility(t *testing.T) {
	t.Parallel()
	record := func(name, fields string) string {
		return fmt.Sprintf(`{"type":"record","name":%q,"fields":[%s]}`, name, fields)
	}
	const ab = `{"type":"enum","name":"e","symbols":["A","B"]}`
	cases := map[string]struct {
		reader, writer string
		want           []string // "TYPE at path"; nil is compatible
	}{
		"int to long":       {`"long"`, `"int"`, nil},
		"int to float":      {`"float"`, `"int"`, nil},
		"int to double":     {`"double"`, `"int"`, nil},
		"long to float":     {`"float"`, `"long"`, nil},
		"long to double":    {`"double"`, `"long"`, nil},
		"float to double":   {`"double"`, `"float"`, nil},
		"string to bytes":   {`"bytes"`, `"string"`, nil},
		"bytes to string":   {`"string"`, `"bytes"`, nil},
		"long to int":       {`"int"`, `"long"`, []string{"TYPE_MISMATCH at /"}},
		"double to float":   {`"float"`, `"double"`, []string{"TYPE_MISMATCH at /"}},
		"int to string":     {`"string"`, `"int"`, []string{"TYPE_MISMATCH at /"}},
		"boolean to int":    {`"int"`, `"boolean"`, []string{"TYPE_MISMATCH at /"}},
		"null to int":       {`"int"`, `"null"`, []string{"TYPE_MISMATCH at /"}},
		"fixed to bytes":    {`"bytes"`, `{"type":"fixed","name":"f","size":1}`, []string{"TYPE_MISMATCH at /"}},
		"logical types":     {`{"type":"int","logicalType":"date"}`, `{"type":"int","logicalType":"time-millis"}`, nil},
		"array items":       {`{"type":"array","items":"long"}`, `{"type":"array","items":"int"}`, nil},
		"array items worse": {`{"type":"array","items":"int"}`, `{"type":"array","items":"long"}`, []string{"TYPE_MISMATCH at /items"}},
		"map values worse":  {`{"type":"map","values":"int"}`, `{"type":"map","values":"long"}`, []string{"TYPE_MISMATCH at /values"}},
		"map to array":      {`{"type":"array","items":"int"}`, `{"type":"map","values":"int"}`, []string{"TYPE_MISMATCH at /"}},

		"fixed size and name": {`{"type":"fixed","name":"f","size":1}`, `{"type":"fixed","name":"g","size":2}`,
			[]string{"NAME_MISMATCH at /name", "FIXED_SIZE_MISMATCH at /size"}},
		"namespace does not count":   {`{"type":"fixed","name":"a.f","size":1}`, `{"type":"fixed","name":"b.f","size":1}`, nil},
		"alias by full name":         {`{"type":"fixed","name":"a.f","size":1,"aliases":["g"]}`, `{"type":"fixed","name":"a.g","size":1}`, nil},
		"alias of another namespace": {`{"type":"fixed","name":"a.f","size":1,"aliases":["g"]}`, `{"type":"fixed","name":"b.g","size":1}`, []string{"NAME_MISMATCH at /name"}},
		"alias of the null namespace": {`{"type":"fixed","name":"a.f","size":1,"aliases":[".g"]}`, `{"type":"fixed","name":"g","size":1}`,
			[]string{"NAME_MISMATCH at /name"}},
		"alias of the writer": {`{"type":"fixed","name":"f","size":1}`, `{"type":"fixed","name":"g","size":1,"aliases":["f"]}`, []string{"NAME_MISMATCH at /name"}},

		"symbol added":                {`{"type":"enum","name":"e","symbols":["A","B","C"]}`, ab, nil},
		"symbols in another order":    {`{"type":"enum","name":"e","symbols":["B","A"]}`, ab, nil},
		"symbol removed":              {`{"type":"enum","name":"e","symbols":["B"]}`, ab, []string{"MISSING_ENUM_SYMBOLS at /symbols"}},
		"symbol removed with default": {`{"type":"enum","name":"e","symbols":["B"],"default":"B"}`, ab, nil},
		"writer's default":            {`{"type":"enum","name":"e","symbols":["B"]}`, `{"type":"enum","name":"e","symbols":["A","B"],"default":"B"}`, []string{"MISSING_ENUM_SYMBOLS at /symbols"}},

		"field added with default":       {record("r", `{"name":"a","type":"int","default":1}`), record("r", ``), nil},
		"field added without":            {record("r", `{"name":"a","type":"int"}`), record("r", ``), []string{"READER_FIELD_MISSING_DEFAULT_VALUE at /fields/0"}},
		"nullable field without default": {record("r", `{"name":"a","type":["null","int"]}`), record("r", ``), []string{"READER_FIELD_MISSING_DEFAULT_VALUE at /fields/0"}},
		"default null":                   {record("r", `{"name":"a","type":["null","int"],"default":null}`), record("r", ``), nil},
		"field removed":                  {record("r", ``), record("r", `{"name":"a","type":"int"}`), nil},
		"enum's default is no field's":   {record("r", `{"name":"a","type":{"type":"enum","name":"e","symbols":["A"],"default":"A"}}`), record("r", ``), []string{"TYPE_MISMATCH at /fields/0/type"}},
		"field renamed with alias":       {record("r", `{"name":"b","type":"int","aliases":["a"]}`), record("r", `{"name":"a","type":"int"}`), nil},
		"field type worse":               {record("r", `{"name":"x","type":"int"},{"name":"a","type":"int"}`), record("r", `{"name":"a","type":"string"},{"name":"x","type":"int"}`), []string{"TYPE_MISMATCH at /fields/1/type"}},
		"alias matches a second field":   {record("r", `{"name":"a","type":"int","aliases":["b"]}`), record("r", `{"name":"a","type":"int"},{"name":"b","type":"int"}`), []string{"AMBIGUOUS_FIELD at /fields/0"}},
		"ambiguity spoils a union": {`["null",` + record("r", `{"name":"a","type":"int","aliases":["b"]}`) + `,` + record("s", `{"name":"a","type":"int"}`) + `,{"type":"map","values":"int"}]`,
			`[` + record("r", `{"name":"a","type":"int"},{"name":"b","type":"int"}`) + `]`, []string{"MISSING_UNION_BRANCH at /0"}},
		"record to error":     {`{"type":"error","name":"r","fields":[]}`, record("r", ``), nil},
		"several at once":     {record("r", `{"name":"a","type":"int"},{"name":"b","type":"int"}`), record("q", `{"name":"b","type":"string"}`), []string{"NAME_MISMATCH at /name", "READER_FIELD_MISSING_DEFAULT_VALUE at /fields/0", "TYPE_MISMATCH at /fields/1/type"}},
		"default is no value": {record("r", `{"name":"a","type":"int","default":7}`), record("r", `{"name":"a","type":"string","default":"x"}`), []string{"TYPE_MISMATCH at /fields/0/type"}},

		"into a union":             {`["null","long"]`, `"int"`, nil},
		"no branch":                {`["null","int"]`, `"string"`, []string{"MISSING_UNION_BRANCH at /"}},
		"union branch added":       {`["null","int","string"]`, `["null","int"]`, nil},
		"union branch removed":     {`["null","int"]`, `["null","string","int","boolean"]`, []string{"MISSING_UNION_BRANCH at /1", "MISSING_UNION_BRANCH at /3"}},
		"union of one to its type": {`"long"`, `["int","long"]`, nil},
		"union to a type":          {`"int"`, `["int","null"]`, []string{"TYPE_MISMATCH at /1"}},
		"empty union is readable":  {`"int"`, `[]`, nil},
		"empty union reads no int": {`[]`, `"int"`, []string{"MISSING_UNION_BRANCH at /"}},

		"recursive": {
			`{"type":"record","name":"n","fields":[{"name":"v","type":"long"},{"name":"next","type":["null","n"]}]}`,
			`{"type":"record","name":"n","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","n"]}]}`, nil},
		"recursive and worse": {
			`{"type":"record","name":"n","fields":[{"name":"next","type":{"type":"array","items":"n"}},{"name":"v","type":"int"}]}`,
			`{"type":"record","name":"n","fields":[{"name":"next","type":{"type":"array","items":"n"}},{"name":"v","type":"long"}]}`,
			[]string{"TYPE_MISMATCH at /fields/1/type"}},
		"shared type is reported once": {
			record("r", `{"name":"a","type":{"type":"fixed","name":"f","size":1}},{"name":"b","type":"f"}`),
			record("r", `{"name":"a","type":{"type":"fixed","name":"f","size":2}},{"name":"b","type":"f"}`),
			[]string{"FIXED_SIZE_MISMATCH at /fields/0/type/size"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, problem := range CheckCompatibility(mustParse(t, c.reader), mustParse(t, c.writer)) {
				got = append(got, fmt.Sprintf("%s at %s", problem.Type, problem.Path))
				if problem.Reader == nil || problem.Writer == nil || problem.Message == "" {
					t.Errorf("%v lacks a side or a message", problem)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRepeatedIncompatibilities(t *testing.T) {
	t.Parallel()
	record := func(fields string) string { return `{"type":"record","name":"r","fields":[` + fields + `]}` }
	enum := `{"type":"enum","name":"e","symbols":["A"],"default":"A"}`
	cases := map[string]struct {
		reader, writer string
		want           []string // "TYPE at location"
	}{
		"again for each place, where it was first": {
			record(`{"name":"a","type":{"type":"fixed","name":"f","size":1}},{"name":"x","type":"int"},{"name":"b","type":"f"}`),
			record(`{"name":"a","type":{"type":"fixed","name":"f","size":2}},{"name":"b","type":"f"}`),
			[]string{"FIXED_SIZE_MISMATCH at /fields/0/type/size", "READER_FIELD_MISSING_DEFAULT_VALUE at /fields/1", "FIXED_SIZE_MISMATCH at /fields/0/type/size"}},
		"a reader's union starts anew": {
			record(`{"name":"a","type":["null",{"type":"fixed","name":"f","size":1}]},{"name":"b","type":"f"}`),
			record(`{"name":"a","type":["null",{"type":"fixed","name":"f","size":2}]},{"name":"b","type":"f"}`),
			[]string{"MISSING_UNION_BRANCH at /fields/0/type/1", "FIXED_SIZE_MISMATCH at /size"}},
		"an enum's default is no field's": {
			record(`{"name":"a","type":` + enum + `},{"name":"b","type":"e"}`), record(``),
			[]string{"TYPE_MISMATCH at /fields/0/type", "TYPE_MISMATCH at /fields/0/type"}},
		"nothing beside an ambiguity": {
			record(`{"name":"x","type":"int"},{"name":"a","type":"int","aliases":["b"]}`), record(`{"name":"a","type":"int"},{"name":"b","type":"int"}`),
			[]string{"AMBIGUOUS_FIELD at /fields/1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, problem := range RepeatedIncompatibilities(mustParse(t, c.reader), mustParse(t, c.writer)) {
				got = append(got, fmt.Sprintf("%s at %s", problem.Type, problem.Location))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A type used twice at each of many levels would double the work at each of them.
func TestCheckCompatibility_SharedTypesAreComparedOnce(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	leaf := `{"type":"fixed","name":"r0","size":%d}`
	fmt.Fprintf(&b, `{"type":"record","name":"root","fields":[{"name":"x","type":%s}`, leaf)
	for i := 1; i <= 200; i++ {
		fmt.Fprintf(&b, `,{"name":"x%d","type":{"type":"record","name":"r%d","fields":[{"name":"a","type":"r%d"},{"name":"b","type":"r%d"}]}}`, i, i, i-1, i-1)
	}
	b.WriteString("]}")
	reader, writer := mustParse(t, fmt.Sprintf(b.String(), 1)), mustParse(t, fmt.Sprintf(b.String(), 2))
	if got := CheckCompatibility(reader, writer); len(got) == 0 || len(got) > 10 {
		t.Errorf("got %d problems, want few", len(got))
	}
	if got := RepeatedIncompatibilities(reader, writer); len(got) != MaxRepeated {
		t.Errorf("got %d problems told again, want %d", len(got), MaxRepeated)
	}
}

func TestCheckCompatibility_GivesUpOnHostileUnions(t *testing.T) {
	t.Parallel()
	union := func(prefix string) *Schema {
		var branches []string
		for i := range 3000 {
			branches = append(branches, fmt.Sprintf(`{"type":"record","name":"%s%d","fields":[{"name":"a","type":"int"}]}`, prefix, i))
		}
		return mustParse(t, "["+strings.Join(branches, ",")+"]")
	}
	for _, writer := range []*Schema{union("a"), union("b")} {
		got := CheckCompatibility(union("a"), writer)
		if len(got) != 1 || got[0].Type != TooComplex {
			t.Errorf("got %.200v, want one TOO_COMPLEX", got)
		}
	}
}

func TestCheckCompatibility_Properties(t *testing.T) {
	t.Parallel()
	draw := func(t *rapid.T, label string) *Schema {
		s, err := Parse(rapid.Custom(schemaText).Draw(t, label))
		if err != nil {
			t.Skip() // a default or a reference that does not fit
		}
		return s
	}
	t.Run("reads what it wrote", rapid.MakeCheck(func(t *rapid.T) {
		s := draw(t, "schema")
		for _, problem := range CheckCompatibility(s, s) {
			// Names within one schema can be ambiguous through aliases, and only so.
			if problem.Type != AmbiguousField && problem.Type != MissingUnionBranch {
				t.Fatalf("%s cannot read itself: %v", s.Canonical(), problem)
			}
		}
	}))
	t.Run("canonical text changes no verdict", rapid.MakeCheck(func(t *rapid.T) {
		reader, writer := draw(t, "reader"), draw(t, "writer")
		if hasNullNamespaceAlias(reader) {
			t.Skip() // Java writes .A as A, which then means an alias in the type's own namespace
		}
		again := mustParse(t, reader.Canonical())
		a, b := CheckCompatibility(reader, writer), CheckCompatibility(again, mustParse(t, writer.Canonical()))
		if (len(a) == 0) != (len(b) == 0) {
			t.Fatalf("%v and %v", a, b)
		}
	}))
	t.Run("a field with a default may come and go", rapid.MakeCheck(func(t *rapid.T) {
		fields := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 4, rapid.ID).Draw(t, "fields")
		without := rapid.SampledFrom(fields).Draw(t, "without")
		make := func(fields []string) *Schema {
			var list []string
			for _, f := range fields {
				list = append(list, fmt.Sprintf(`{"name":%q,"type":"int","default":0}`, f))
			}
			return mustParse(t, `{"type":"record","name":"r","fields":[`+strings.Join(list, ",")+`]}`)
		}
		full := make(fields)
		less := make(slices.DeleteFunc(slices.Clone(fields), func(f string) bool { return f == without }))
		if got := append(CheckCompatibility(full, less), CheckCompatibility(less, full)...); len(got) > 0 {
			t.Fatal(got)
		}
	}))
	t.Run("a union with one branch more reads the type alone", rapid.MakeCheck(func(t *rapid.T) {
		s := draw(t, "schema")
		if s.Type == Union || s.Type == Null || len(CheckCompatibility(s, s)) > 0 {
			t.Skip()
		}
		union := mustParse(t, `["null",`+s.Canonical()+`]`)
		if got := CheckCompatibility(union, s); len(got) > 0 {
			t.Fatal(got)
		}
		if got := CheckCompatibility(s, union); len(got) == 0 {
			t.Fatal("a type that is not null reads null")
		}
	}))
}

func hasNullNamespaceAlias(s *Schema) bool {
	for part := range s.all() {
		if namespace(part.Name) != "" && slices.ContainsFunc(part.Aliases, func(a string) bool { return namespace(a) == "" }) {
			return true
		}
	}
	return false
}

func mustParse(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string) *Schema {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("Parse(%.300s): %v", text, err)
	}
	return s
}

func TestCanonical_IsValidJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, err := Parse(rapid.Custom(schemaText).Draw(t, "schema"))
		if err != nil {
			t.Skip()
		}
		if !json.Valid([]byte(s.Canonical())) {
			t.Fatalf("not JSON: %s", s.Canonical())
		}
	})
}
