package schemaregistry

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// typed is a request body with a schema of a type.
func typed(schemaType, schema string, references ...Reference) string {
	text, _ := json.Marshal(map[string]any{"schema": schema, "schemaType": schemaType, "references": references})
	return string(text)
}

func TestAPI_Protobuf(t *testing.T) {
	const canonical = "syntax = \"proto3\";\npackage p;\n\nmessage M {\n  string a = 1;\n  int32 b_c = 2;\n}\n"
	one := `syntax = "proto3"; package p; /* a */ message M { string a = 1; int32 b_c = 2; }`
	more := `syntax = "proto3"; package p; message M { string a = 1; int32 b_c = 2; int32 d = 3; }`
	changed := `syntax = "proto3"; package p; message M { int32 a = 1; }`
	user := `syntax = "proto3"; package q; import "m.proto"; import "google/protobuf/timestamp.proto"; message U { p.M m = 1; google.protobuf.Timestamp at = 2; }`
	answer := func(version, id int, text any) string {
		body, _ := json.Marshal(map[string]any{"schemaType": "PROTOBUF", "guid": "*", "schema": text, "version": version, "id": id})
		return string(body)
	}
	binary, err := proto.Marshal(&descriptorpb.FileDescriptorProto{
		Name: proto.String("x.proto"), Package: proto.String("p"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("a"), Number: proto.Int32(1),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
		}, {
			Name: proto.String("b_c"), Number: proto.Int32(2),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum(),
		}}}},
	})
	must(t, err)
	onEachHandler(t, []exchange{
		{"GET", "/schemas/types", "", 200, `["JSON","PROTOBUF","AVRO"]`},
		{"POST", "/subjects/m/versions", typed(Protobuf, "message"), 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/subjects/m/versions", typed(Protobuf, one), 200, answer(1, 1, canonical)},
		{"POST", "/subjects/m/versions", typed(Protobuf, canonical), 200, answer(1, 1, canonical)},
		{"POST", "/subjects/m/versions", typed(Protobuf, base64.StdEncoding.EncodeToString(binary)), 200, answer(1, 1, canonical)},
		{"GET", "/schemas/ids/1/schema?format=serialized", "", 200, serialized(t, one)},
		{"POST", "/subjects/m/versions", quoted(`"int"`), 409, `{"error_code":409,"message":"*"}`},
		{"POST", "/compatibility/subjects/m/versions/latest?verbose=true", typed(Protobuf, changed), 200,
			`{"is_compatible":false,"messages":["{errorType:\"FIELD_SCALAR_KIND_CHANGED\", description:\"The kind of a SCALAR field at path '#/M/1' in the new schema does not match its kind in the old schema\"}",` +
				`"{oldSchemaVersion: 1}","{oldSchema: 'syntax = \"proto3\";\npackage p;\n\nmessage M {\n  string a = 1;\n  int32 b_c = 2;\n}\n'}","{validateFields: 'false', compatibility: 'BACKWARD'}"]}`},
		{"POST", "/subjects/m/versions", typed(Protobuf, more), 200, answer(2, 2, "*")},
		{"POST", "/subjects/u/versions", typed(Protobuf, user), 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/subjects/u/versions", typed(Protobuf, user, Reference{"m.proto", "m", 1}), 200,
			`{"schemaType":"PROTOBUF","guid":"*","schema":"*","version":1,"id":3,"references":[{"name":"m.proto","subject":"m","version":1}]}`},
		{"GET", "/subjects/m/versions/1/referencedby", "", 200, `[3]`},
	})
}

func TestProtobufText(t *testing.T) {
	t.Parallel()
	const text = `syntax = "proto3"; package p; option java_package = "x;{"; import "google/protobuf/timestamp.proto";
		enum T { option allow_alias = true; rpc = 0; reserved 9; C2 = 2; B1 = 1; A1 = 1; }
		message Z { message N { string q = 1; oneof r { string s = 2; } } oneof o { string x = 4; int32 y = 3; } T b = 2; optional int32 a = 1 [deprecated = true]; reserved 20 to 30; }
		message A {}
		service S { option deprecated = true; rpc R (A) returns (stream Z); }`
	// Types come before enums, and what is alike stands together.
	const canonical = `syntax = "proto3";
package p;

import "google/protobuf/timestamp.proto";

option java_package = "x;{";

message Z {
  reserved 20 to 30;

  T b = 2;
  optional int32 a = 1 [deprecated = true];

  oneof o {
    string x = 4;
    int32 y = 3;
  }

  message N {
    string q = 1;
  
    oneof r {
      string s = 2;
    }
  }
}
message A {}
enum T {
  reserved 9;
  option allow_alias = true;
  rpc = 0;
  C2 = 2;
  B1 = 1;
  A1 = 1;
}

service S {
  option deprecated = true;

  rpc R (A) returns (stream Z);
}
`
	// Messages stay in their order, which what is in Kafka counts on.
	normalized := strings.NewReplacer("  T b = 2;\n  optional int32 a = 1 [deprecated = true];\n", "  optional int32 a = 1 [deprecated = true];\n  T b = 2;\n",
		"    string x = 4;\n    int32 y = 3;\n", "    int32 y = 3;\n    string x = 4;\n",
		"  C2 = 2;\n  B1 = 1;\n  A1 = 1;\n", "  A1 = 1;\n  B1 = 1;\n  C2 = 2;\n").Replace(canonical)
	for _, form := range []string{text, canonical} {
		parsed, err := protobufFormat{}.parse(&source{content: content{Type: Protobuf, Text: form}}, true)
		must(t, err)
		if diff := cmp.Diff(canonical, parsed.canonical()); diff != "" {
			t.Errorf("canonical text:\n%s", diff)
		}
		if diff := cmp.Diff(normalized, parsed.normalized()); diff != "" {
			t.Errorf("normalized text:\n%s", diff)
		}
	}
}

func TestCompareProtobuf(t *testing.T) {
	t.Parallel()
	const head = `syntax = "proto3"; package p; `
	for name, c := range map[string]struct {
		old, updated string
		want         []string
	}{
		"same":                       {"message M { string a = 1; }", "message M { string a = 1; }", nil},
		"field added":                {"message M {}", "message M { string a = 1; }", nil},
		"field removed":              {"message M { string a = 1; }", "message M {}", nil},
		"field renamed":              {"message M { string a = 1; }", "message M { string b = 1; }", nil},
		"number widened":             {"message M { int32 a = 1; }", "message M { int64 a = 1; }", nil},
		"bytes for string":           {"message M { string a = 1; }", "message M { bytes a = 1; }", nil},
		"enum for number":            {"enum E { X = 0; } message M { E a = 1; }", "enum E { X = 0; } message M { int32 a = 1; }", nil},
		"message removed":            {"message M {} message N {}", "message M {}", []string{"MESSAGE_REMOVED at #/N"}},
		"nested removed":             {"message M { message N {} }", "message M {}", []string{"MESSAGE_REMOVED at #/M/N"}},
		"scalar for message":         {"message N {} message M { N a = 1; }", "message N {} message M { string a = 1; }", []string{"FIELD_KIND_CHANGED at #/M/1"}},
		"map for scalar":             {"message M { string a = 1; }", "message M { map<string, string> a = 1; }", []string{"FIELD_KIND_CHANGED at #/M/1"}},
		"value of a map":             {"message M { map<string, string> a = 1; }", "message M { map<string, int32> a = 1; }", []string{"FIELD_SCALAR_KIND_CHANGED at #/M/1"}},
		"signed for number":          {"message M { int32 a = 1; }", "message M { sint32 a = 1; }", []string{"FIELD_SCALAR_KIND_CHANGED at #/M/1"}},
		"label of a number":          {"message M { optional int32 a = 1; }", "message M { repeated int32 a = 1; }", []string{"FIELD_NUMERIC_LABEL_CHANGED at #/M/1"}},
		"label of a string":          {"message M { optional string a = 1; }", "message M { repeated string a = 1; }", nil},
		"other message":              {"message A {} message B {} message M { A a = 1; }", "message A {} message B {} message M { B a = 1; }", []string{"FIELD_NAMED_TYPE_CHANGED at #/M/1"}},
		"one field into a oneof":     {"message M { string a = 1; }", "message M { oneof o { string a = 1; } }", nil},
		"two fields into a oneof":    {"message M { string a = 1; string b = 2; }", "message M { oneof o { string a = 1; string b = 2; } }", []string{"MULTIPLE_FIELDS_MOVED_TO_ONEOF at #/M/o"}},
		"into an old oneof":          {"message M { string a = 1; oneof o { string b = 2; } }", "message M { oneof o { string a = 1; string b = 2; } }", []string{"FIELD_MOVED_TO_EXISTING_ONEOF at #/M/o"}},
		"out of a oneof, dropped":    {"message M { oneof o { string a = 1; string b = 2; } }", "message M { oneof o { string a = 1; } }", []string{"ONEOF_FIELD_REMOVED at #/M/o/2"}},
		"out of a oneof":             {"message M { oneof o { string a = 1; string b = 2; } }", "message M { string b = 2; oneof o { string a = 1; } }", nil},
		"out of a oneof, changed":    {"message M { oneof o { string a = 1; } }", "message M { int32 a = 1; }", []string{"FIELD_SCALAR_KIND_CHANGED at #/M/1"}},
		"into a oneof, changed":      {"message M { string a = 1; }", "message M { oneof o { int32 a = 1; } }", []string{"FIELD_SCALAR_KIND_CHANGED at #/M/o/1"}},
		"oneof renamed":              {"message M { oneof o { string a = 1; string b = 2; } }", "message M { oneof p { string a = 1; string b = 2; } }", nil},
		"oneof renamed, changed":     {"message M { oneof o { string a = 1; string b = 2; } }", "message M { oneof p { string a = 1; bool b = 2; } }", []string{"FIELD_SCALAR_KIND_CHANGED at #/M/p/2"}},
		"oneof renamed, dropped":     {"message M { oneof o { string a = 1; string b = 2; } }", "message M { oneof p { string a = 1; } }", []string{"ONEOF_FIELD_REMOVED at #/M/o/2"}},
		"oneof removed":              {"message M { oneof o { string a = 1; string b = 2; } }", "message M {}", nil},
		"two oneofs into one":        {"message M { oneof o { string a = 1; } oneof p { string b = 2; } }", "message M { oneof o { string a = 1; string b = 2; } }", []string{"FIELD_MOVED_TO_EXISTING_ONEOF at #/M/o"}},
		"a message is told once":     {"message N { string a = 1; } message M { N n = 1; }", "message N { int32 a = 1; } message M { N n = 1; }", []string{"FIELD_SCALAR_KIND_CHANGED at #/N/1"}},
		"recursive messages compare": {"message M { M m = 1; int32 a = 2; }", "message M { M m = 1; int32 a = 2; }", nil},
	} {
		old, err := protobufFormat{}.parse(&source{content: content{Type: Protobuf, Text: head + c.old}}, true)
		must(t, err)
		updated, err := protobufFormat{}.parse(&source{content: content{Type: Protobuf, Text: head + c.updated}}, true)
		must(t, err)
		problems := compareProtobuf(old.(*protobufParsed).file, updated.(*protobufParsed).file)
		if len(problems) != len(c.want) {
			t.Errorf("%s: %q, want %q", name, problems, c.want)
			continue
		}
		for i, want := range c.want {
			if got := shortened(problems[i]); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

func TestCompareProtobuf_GoesIntoImportedMessages(t *testing.T) {
	t.Parallel()
	parse := func(imported string) parsedSchema {
		parsed, err := protobufFormat{}.parse(&source{
			content: content{Type: Protobuf, Text: `syntax = "proto3"; import "i.proto"; message M { i.Out.In a = 1; i.Out.In b = 2; }`},
			uses:    []usedSchema{{"i.proto", `syntax = "proto3"; package i; message Out { message In { ` + imported + ` } }`}},
		}, true)
		must(t, err)
		return parsed
	}
	problems, err := parse("int32 x = 1;").unreadable(parse("string x = 1; In again = 2;"), false)
	must(t, err)
	want := []string{"FIELD_SCALAR_KIND_CHANGED at #/Out/In/1", "FIELD_NAMED_TYPE_CHANGED at #/M/1", "FIELD_NAMED_TYPE_CHANGED at #/M/2"}
	var got []string
	for _, problem := range problems {
		got = append(got, shortened(problem))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAPI_JSONSchema(t *testing.T) {
	one := `{ "type": "object", "properties": {"a": {"type": "string"}} }`
	compact := `{"type":"object","properties":{"a":{"type":"string"}}}`
	titled := `{"title":"T","type":"object","properties":{"a":{"type":"string"}}}`
	changed := `{"type":"object","properties":{"a":{"type":"integer"}}}`
	more := `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}}}`
	user := `{"type":"object","properties":{"o":{"$ref":"one.json"}}}`
	answer := func(version, id int, text string) string {
		body, _ := json.Marshal(map[string]any{"schemaType": "JSON", "guid": guidOf(text), "schema": text, "version": version, "id": id})
		return string(body)
	}
	onEachHandler(t, []exchange{
		{"POST", "/subjects/j/versions", typed(JSONSchema, `{"type":"nonsense"}`), 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/subjects/j/versions", typed(JSONSchema, `{"$ref":"http://127.0.0.1:1/x.json"}`), 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/subjects/j/versions", typed(JSONSchema, one), 200, answer(1, 1, compact)},
		{"POST", "/subjects/j/versions", typed(JSONSchema, compact), 200, answer(1, 1, compact)},
		{"POST", "/subjects/j/versions", typed(JSONSchema, titled), 200, answer(2, 2, titled)},
		{"POST", "/subjects/j/versions", typed(JSONSchema, changed), 409, `{"error_code":409,"message":"*"}`},
		{"POST", "/compatibility/subjects/j/versions/latest?verbose=true", typed(JSONSchema, changed), 200,
			`{"is_compatible":false,"messages":["{errorType:\"TYPE_CHANGED\", description:\"At path '#/properties/a' the new schema differs from the old schema\"}",` +
				`"{oldSchemaVersion: 2}","{oldSchema: '` + strings.ReplaceAll(titled, `"`, `\"`) + `'}","{validateFields: 'false', compatibility: 'BACKWARD'}"]}`},
		{"POST", "/compatibility/subjects/j/versions/latest", typed(JSONSchema, `{"$schema":"https://json-schema.org/draft/2020-12/schema"}`), 422, `{"error_code":42205,"message":"*"}`},
		// More of a property that was free before does harm, unless one is lenient.
		{"POST", "/compatibility/subjects/j/versions/latest", typed(JSONSchema, more), 200, `{"is_compatible":false}`},
		{"PUT", "/config/j", `{"compatibilityPolicy":"LENIENT"}`, 200, `{"compatibilityPolicy":"LENIENT"}`},
		{"POST", "/compatibility/subjects/j/versions/latest", typed(JSONSchema, more), 200, `{"is_compatible":true}`},
		{"PUT", "/config/j", `{"compatibility":"NONE","compatibilityPolicy":null}`, 200, `{"compatibility":"NONE"}`},
		{"POST", "/subjects/j/versions", typed(JSONSchema, changed), 200, answer(3, 3, changed)},
		{"POST", "/subjects/u/versions", typed(JSONSchema, user), 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/subjects/u/versions", typed(JSONSchema, user, Reference{"one.json", "j", 1}), 200,
			`{"schemaType":"JSON","guid":"*","schema":"*","version":1,"id":4,"references":[{"name":"one.json","subject":"j","version":1}]}`},
		// The same text, of which another version of what it refers to changes the meaning.
		{"POST", "/compatibility/subjects/u/versions/latest", typed(JSONSchema, user, Reference{"one.json", "j", 2}), 200, `{"is_compatible":true}`},
		{"POST", "/compatibility/subjects/u/versions/latest", typed(JSONSchema, user, Reference{"one.json", "j", 3}), 200, `{"is_compatible":false}`},
	})
}

// shortened is the type and the path of a problem.
func shortened(problem string) string {
	problem = strings.TrimPrefix(problem, `{errorType:"`)
	change, rest, _ := strings.Cut(problem, `"`)
	_, rest, _ = strings.Cut(rest, "'")
	path, _, _ := strings.Cut(rest, "'")
	return change + " at " + path
}

// serialized is the descriptor of a schema in Base64.
func serialized(t *testing.T, text string) string {
	t.Helper()
	parsed, err := protobufFormat{}.parse(&source{content: content{Type: Protobuf, Text: text}}, true)
	must(t, err)
	form := parsed.formatted("serialized")
	again, err := protobufFormat{}.parse(&source{content: content{Type: Protobuf, Text: form}}, true)
	must(t, err)
	if again.canonical() != parsed.canonical() || form == parsed.canonical() {
		t.Errorf("serialized: %q becomes %q", form, again.canonical())
	}
	return form
}
