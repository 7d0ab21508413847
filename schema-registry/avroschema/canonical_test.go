package avroschema

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCanonical_IsTheTextOfJava(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ text, want string }{
		"primitive object without properties": {`{ "type" : "int" }`, `"int"`},
		"primitive with properties":           {`{"logicalType":"date","type":"int"}`, `{"type":"int","logicalType":"date"}`},
		"attributes of a record": {
			`{"aliases":["old","x.y"],"custom":1,"fields":[],"doc":"","namespace":"a.b","name":"r","type":"record"}`,
			`{"type":"record","name":"r","namespace":"a.b","doc":"","fields":[],"custom":1,"aliases":["old","x.y"]}`,
		},
		"attributes of a field": {
			`{"type":"record","name":"r","fields":[{"p":null,"aliases":["b"],"order":"Ignore","default":1,"doc":"d","type":"int","name":"a"}]}`,
			`{"type":"record","name":"r","fields":[{"name":"a","type":"int","doc":"d","default":1,"order":"ignore","aliases":["b"],"p":null}]}`,
		},
		"attributes of an enum": {
			`{"x":1,"default":"A","symbols":["A"],"aliases":["f"],"name":"e","type":"enum"}`,
			`{"type":"enum","name":"e","symbols":["A"],"default":"A","x":1,"aliases":["f"]}`,
		},
		"error":                   {`{"type":"error","name":"e","fields":[]}`, `{"type":"error","name":"e","fields":[]}`},
		"full name":               {`{"type":"fixed","name":"a.b.c","namespace":"x","size":1}`, `{"type":"fixed","name":"c","namespace":"a.b","size":1}`},
		"order ascending":         {`{"type":"record","name":"r","fields":[{"name":"a","type":"int","order":"ascending"}]}`, `{"type":"record","name":"r","fields":[{"name":"a","type":"int"}]}`},
		"redundant namespace":     {`{"type":"record","name":"n.r","fields":[{"name":"a","type":{"type":"fixed","name":"f","namespace":"n","size":1}}]}`, `{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":{"type":"fixed","name":"f","size":1}}]}`},
		"null namespace inside":   {`{"type":"record","name":"n.r","fields":[{"name":"a","type":{"type":"fixed","name":"f","namespace":"","size":1}},{"name":"b","type":"f"}]}`, `{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":{"type":"fixed","name":"f","namespace":"","size":1}},{"name":"b","type":"f"}]}`},
		"named like a type":       {`{"type":"record","name":"n.r","fields":[{"name":"a","type":{"type":"fixed","name":"int","size":1}},{"name":"b","type":"n.int"}]}`, `{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":{"type":"fixed","name":"int","size":1}},{"name":"b","type":"n.int"}]}`},
		"forward reference":       {`{"type":"record","name":"r","fields":[{"name":"a","type":"f"},{"name":"b","type":{"type":"fixed","name":"f","size":1}}]}`, `{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"fixed","name":"f","size":1}},{"name":"b","type":"f"}]}`},
		"attributes out of place": {`{"type":"array","items":"int","size":1,"name":"x","default":[]}`, `{"type":"array","items":"int","default":[]}`},
		"doubles":                 {`{"type":"int","x":[1.0,1.50,1e5,1e7,1.5e-4,-0.0,123456789.5,1e400,-0,5e-324]}`, `{"type":"int","x":[1.0,1.5,100000.0,1.0E7,1.5E-4,-0.0,1.234567895E8,"Infinity",0,4.9E-324]}`},
		"default written as text": {field(`"double"`, `"1e10"`), `{"type":"record","name":"r","fields":[{"name":"a","type":"double","default":1.0E10}]}`},
		"strings":                 {`{"type":"int","x":"\u00e4\u001f\/\"\\\n\ud83d\ude00\u007f"}`, "{\"type\":\"int\",\"x\":\"ä\\u001F/\\\"\\\\\\n😀\x7f\"}"},
		"attribute twice":         {`{"type":"int","a":1,"b":2,"a":3}`, `{"type":"int","a":3,"b":2}`},
		"alias of null namespace": {`{"type":"fixed","name":"n.f","size":1,"aliases":[".g"]}`, `{"type":"fixed","name":"f","namespace":"n","size":1,"aliases":["g"]}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, s.Canonical()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`"string"`, `["null","long"]`, nested(3), chain(3), field(`"double"`, `"NaN"`),
		`{"type":"record","name":"a.r","doc":"d","aliases":["b"],"p":{"x":[1.5,null]},"fields":[{"name":"next","type":["null","r"],"default":null,"order":"ignore"}]}`,
		`{"type":"enum","name":"e","symbols":["A","B"],"default":"A"}`,
		`{"type":"fixed","name":"f","size":8,"logicalType":"decimal","precision":4,"scale":2} `,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		canonical := s.Canonical()
		again, err := Parse(canonical)
		if err != nil {
			t.Fatalf("canonical text does not parse: %v\n%s", err, canonical)
		}
		if got := again.Canonical(); got != canonical {
			t.Fatalf("canonical text is no fixpoint:\n%s\n%s", canonical, got)
		}
	})
}
