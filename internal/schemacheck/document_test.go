package schemacheck

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

func TestDocument_KnowsWhereEachValueStands(t *testing.T) {
	t.Parallel()
	text := "// a comment\n{\"type\": \"record\", /* another */\n  \"fiélds\": [{\"n/a~me\": \"x\", \"siz\\u0065\": -1.5e3}, null]}\n"
	root := parseDocument(text)
	if root == nil {
		t.Fatal("was not read")
	}
	for _, c := range []struct {
		v            *value
		pointer      string
		text         string
		line, column int
	}{
		{root, "", text[strings.Index(text, "{"):strings.LastIndex(text, "\n")], 2, 1},
		{root.get("type"), "/type", `"record"`, 2, 10},
		{root.get("fiélds").at(0), "/fiélds/0", "{\"n/a~me\": \"x\", \"siz\\u0065\": -1.5e3}", 3, 14},
		{root.get("fiélds").at(0).get("n/a~me"), "/fiélds/0/n~1a~0me", `"x"`, 3, 25},
		{root.get("fiélds").at(0).get("size"), "/fiélds/0/size", "-1.5e3", 3, 43},
		{root.get("fiélds").at(1), "/fiélds/1", "null", 3, 52},
	} {
		line, column := lineColumn(text, c.v.start)
		if got := text[c.v.start:c.v.end]; got != c.text || c.v.pointer() != c.pointer || line != c.line || column != c.column {
			t.Errorf("%s at %d:%d: %s, want %s at %d:%d: %s", c.v.pointer(), line, column, got, c.pointer, c.line, c.column, c.text)
		}
	}
	if root.get("none") != nil || root.get("fiélds").at(2) != nil || root.get("type").get("x") != nil || root.get("none").at(0) != nil {
		t.Error("something was found where nothing is")
	}
}

func TestDocument_RefusesWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "{", "[", `"`, `"\`, `"a`, `{"a"}`, `{"a":}`, `{"a":1,}`, "[1,]", "[,1]", "[1 2]", "nul", "1 2", "/* open", `{"a":1 /* open`, "{a:1}",
		strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
	} {
		if parseDocument(text) != nil {
			t.Errorf("%.40q was read", text)
		}
	}
}

// What the parser of schemas reads, the index of its places reads too, and every pointer
// leads to the value that encoding/json has there.
func FuzzDocument(f *testing.F) {
	for _, seed := range []string{
		`{"type":"record","name":"a","fields":[{"name":"x","type":["null","int"],"default":null}]}`,
		"// c\n{\"type\":\"enum\",\"name\":\"é\\u00e9\",\"symbols\":[\"A\"]}", `[1,-2.5e+7,true,{"a":{"a":"\"\\"}}]`, `{"a":1,"a":2}`, "\"", "{", "/*",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		root := parseDocument(text)
		if root == nil {
			if _, err := avroschema.Parse(text); err == nil {
				t.Fatal("a schema was not read")
			}
			return
		}
		var decoded any
		if json.Unmarshal([]byte(text), &decoded) != nil {
			return // with comments
		}
		checkValue(t, text, root, decoded)
	})
}

func checkValue(t *testing.T, text string, v *value, want any) {
	t.Helper()
	if v.start < 0 || v.start >= v.end || v.end > len(text) {
		t.Fatalf("%q is at %d to %d of %d", v.pointer(), v.start, v.end, len(text))
	}
	var got any
	if err := json.Unmarshal([]byte(text[v.start:v.end]), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q is %q: %v", v.pointer(), text[v.start:v.end], err)
	}
	switch want := want.(type) {
	case map[string]any:
		for name := range want {
			checkValue(t, text, v.get(name), want[name])
		}
	case []any:
		for i := range want {
			checkValue(t, text, v.at(i), want[i])
		}
	}
}
