package schemaregistry

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// FuzzHandler sends any request to a registry that has something of everything.
func FuzzHandler(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "/contexts/x/schemas/ids/1?subject=a", ""},
		{"PUT", "/config/s", `{"alias":"t","compatibility":"FULL","defaultMetadata":{"tags":{"a":["b"]}}}`},
		{"PUT", "/mode/:.x:?force=true", `{"mode":"IMPORT"}`},
		{"POST", "/subjects/s/versions?normalize=true", quoted(`{"type":"record","name":"r","fields":[],"b":{"d":1,"c":[{}]},"a":1e3}`)},
		{"POST", "/subjects/s/versions", `{"schema":"syntax = \"proto3\";","schemaType":"PROTOBUF","id":3,"version":-1}`},
		{"POST", "/subjects/s/versions", `{"schema":"{\"$ref\":\"a\"}","schemaType":"JSON","references":[{"name":"a","subject":"u","version":1}]}`},
		{"POST", "/compatibility/subjects/u/versions/latest?verbose=true", quoted(`["int","u"]`)},
		{"DELETE", "/subjects/u/versions/1?permanent=true", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.Parse("http://registry" + target)
		if err != nil || !strings.HasPrefix(target, "/") {
			t.Skip("no request")
		}
		handler := newTestHandler()
		for _, setUp := range []string{"/subjects/u/versions", "/contexts/x/subjects/u/versions"} {
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", setUp, strings.NewReader(quoted(record("a")))))
		}
		req, err := http.NewRequest(method, u.String(), strings.NewReader(body))
		if err != nil {
			t.Skip("no request")
		}
		for range 2 {
			resp := httptest.NewRecorder()
			handler.ServeHTTP(resp, req.Clone(t.Context()))
			if resp.Code >= 500 {
				t.Fatalf("%s %s %q: %d %s", method, target, body, resp.Code, resp.Body)
			}
		}
	})
}

// FuzzCompareJSONSchemas compares what is a schema and what is not. Every schema fits itself.
func FuzzCompareJSONSchemas(f *testing.F) {
	f.Add(`{"type":["object","null"],"properties":{"a":{"$ref":"#"}},"required":["a"]}`, `{"properties":{"a":{"oneOf":[{"$ref":"#/properties/a"},true]}}}`)
	f.Add(`{"items":[{"enum":[1,"a"]},{"not":{}}],"additionalItems":{"multipleOf":0}}`, `{"items":false,"maxItems":1e400}`)
	f.Add(`{"patternProperties":{"^a":{"allOf":[]}},"dependencies":{"a":["b"],"c":{}}}`, `{"properties":{"ab":{"const":null}}}`)
	f.Fuzz(func(t *testing.T, old, updated string) {
		docs := make([]any, 2)
		for i, text := range []string{old, updated} {
			var err error
			if docs[i], err = jsonschema.UnmarshalJSON(strings.NewReader(text)); err != nil {
				t.Skip("no JSON")
			}
		}
		a, err := loadJSONSchema(docs[0], nil)
		if err != nil {
			return
		}
		if b, err := loadJSONSchema(docs[1], nil); err == nil {
			_, _ = compareJSONSchemas(a, b)
		}
		if problems, err := compareJSONSchemas(a, a); err == nil && len(problems) > 0 {
			t.Errorf("%s does not fit itself: %v", old, problems)
		}
	})
}

// FuzzProtobufText reads any text as a schema. Its texts are schemas too, and stay as they are.
func FuzzProtobufText(f *testing.F) {
	f.Add(`syntax = "proto3"; enum E { B = 0; A = -1; } message M { oneof o { string s = 2; } map<string, E> m = 3; int32 i = 1 [json_name = "}"]; message N {} }`)
	f.Add(`message M { optional group G = 2 { required int32 i = 1 [default = -1]; } extensions 100 to max; extend M { optional M m = 100; } reserved "a;{"; }`)
	f.Add(`syntax = "proto3"; option java_package = " {"; service S { option deprecated = true; rpc R (stream A) returns (A) { option deprecated = true; } } message A {}`)
	f.Fuzz(func(t *testing.T, text string) {
		parse := func(text string) (parsedSchema, error) {
			return protobufFormat{}.parse(&source{content: content{Type: Protobuf, Text: text}}, true)
		}
		parsed, err := parse(text)
		if err != nil {
			return
		}
		again, err := parse(parsed.canonical())
		if err != nil {
			t.Fatalf("%q becomes %q: %v", text, parsed.canonical(), err)
		}
		if again.canonical() != parsed.canonical() || again.normalized() != parsed.normalized() {
			t.Errorf("%q becomes %q and then %q", text, parsed.canonical(), again.canonical())
		}
	})
}

// FuzzDecodeRecord reads what a store may hold.
func FuzzDecodeRecord(f *testing.F) {
	f.Add("schema/1/.", `{"text":"\"int\"","references":[{"name":"a","subject":"s","version":1}]}`)
	f.Add("version/2/a/b", `{"id":1,"deleted":true}`)
	f.Add("context/.x", `{"lastId":3,"hidden":true}`)
	f.Add("config/", `{"compatibilityLevel":"FULL"}`)
	f.Add("mode/s", `{"mode":"IMPORT"}`)
	f.Fuzz(func(t *testing.T, key, value string) {
		decoded, err := decodeRecord(Record{key, []byte(value)})
		if err != nil {
			return
		}
		s := newState()
		s.apply(decoded)
		encoded, err := encodeFact(decoded)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeRecord(encoded); err != nil || again.key() != decoded.key() {
			t.Fatalf("%v, %v: was %v", again, err, decoded)
		}
	})
}
