package schemaregistry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// jsonChangesOf compares two JSON Schemas, and returns the changes that do harm with their
// places.
func jsonChangesOf(t *testing.T, old, updated string, used jsonReferences) ([]string, error) {
	t.Helper()
	var nodes []*jsonNode
	for _, text := range []string{old, updated} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		must(t, err)
		node, err := loadJSONSchema(doc, used)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	problems, err := compareJSONSchemas(nodes[0], nodes[1])
	var changes []string
	for _, p := range problems {
		changes = append(changes, p.change+" "+p.path)
	}
	return changes, err
}

func TestCanonicalJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		` { "b" : 1.50, "a" : [ 1e3, "x y" ] } `:                    `{"b":1.50,"a":[1e3,"x y"]}`,
		`{"$schema":"http:\/\/json-schema.org\/draft-07\/schema#"}`: `{"$schema":"http://json-schema.org/draft-07/schema#"}`,
		`{"p":"^\\d+\"$","\u00e9":"\uD83D\uDE42"}`:                  `{"p":"^\\d+\"$","é":"🙂"}`,
		`{"half":"\ud83d"}`:                                         `{"half":"\ud83d"}`,
		`{"tab":"\t\u0009","tag":"<a>"}`:                            `{"tab":"\t\t","tag":"<a>"}`,
	} {
		got, err := canonicalJSON(text)
		must(t, err)
		if got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

func TestCompareJSONSchemas(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, old, updated, want string }{
		{"the same", `{"type":"string"}`, `{"type":"string"}`, ``},
		{"annotations", `{"type":"string","title":"a"}`, `{"type":"string","title":"b","default":"x","format":"date"}`, ``},
		{"another type", `{"type":"string"}`, `{"type":"integer"}`, `TYPE_CHANGED #/`},
		{"number to integer", `{"type":"number"}`, `{"type":"integer"}`, `TYPE_NARROWED #/`},
		{"integer to number", `{"type":"integer"}`, `{"type":"number"}`, ``},
		{"anything to something", `{}`, `{"type":"string"}`, `TYPE_CHANGED #/`},
		{"something to anything", `{"type":"string"}`, `{}`, ``},
		{"nothing to something", `{"items":false}`, `{"items":{"type":"string"}}`, ``},
		{"one of several types goes", `{"type":["string","null"]}`, `{"type":"string"}`, `TYPE_CHANGED #/`},
		{"one more type", `{"type":"string"}`, `{"type":["string","null"]}`, ``},
		{"one type among several less", `{"type":["string","null","integer"]}`, `{"type":["string","null"]}`, `SUM_TYPE_NARROWED #/`},
		{"decimals of Kafka Connect", `{"type":"string","connect.type":"bytes"}`, `{"type":"number","connect.type":"bytes"}`, ``},

		{"limits of a string", `{"type":"string","maxLength":5,"minLength":2,"pattern":"a"}`, `{"type":"string","maxLength":4,"minLength":3,"pattern":"b"}`,
			`MAX_LENGTH_DECREASED #/maxLength, MIN_LENGTH_INCREASED #/minLength, PATTERN_CHANGED #/pattern`},
		{"limits of a string go", `{"type":"string","maxLength":5,"minLength":2,"pattern":"a"}`, `{"type":"string","maxLength":6}`, ``},
		{"limits of a string come", `{"type":"string"}`, `{"type":"string","maxLength":5,"pattern":"a"}`, `MAX_LENGTH_ADDED #/maxLength, PATTERN_ADDED #/pattern`},
		{"limits of a number", `{"type":"number","maximum":5,"exclusiveMinimum":1}`, `{"type":"number","maximum":4.5,"exclusiveMinimum":2}`,
			`MAXIMUM_DECREASED #/maximum, EXCLUSIVE_MINIMUM_INCREASED #/exclusiveMinimum`},
		{"a multiple of more", `{"type":"number","multipleOf":0.5}`, `{"type":"number","multipleOf":1.5}`, `MULTIPLE_OF_EXPANDED #/multipleOf`},
		{"a multiple of less", `{"type":"number","multipleOf":6}`, `{"type":"number","multipleOf":2}`, ``},
		{"a multiple of something else", `{"type":"number","multipleOf":6}`, `{"type":"number","multipleOf":4}`, `MULTIPLE_OF_CHANGED #/multipleOf`},
		{"values", `{"enum":["a","b"]}`, `{"enum":["b","a","c"]}`, ``},
		{"fewer values", `{"enum":["a","b"]}`, `{"enum":["a"]}`, `ENUM_ARRAY_NARROWED #/enum`},
		{"other values", `{"enum":["a",{"x":1}]}`, `{"enum":["a",{"x":2}]}`, `ENUM_ARRAY_CHANGED #/enum`},
		{"values where there were none", `{"type":"string"}`, `{"type":"string","enum":["a"]}`, `TYPE_CHANGED #/`},
		{"another constant", `{"const":1}`, `{"const":2}`, `ENUM_ARRAY_CHANGED #/const`},

		{"a property of an open object", `{"type":"object"}`, `{"type":"object","properties":{"a":{"type":"string"}}}`, `PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL #/properties/a`},
		{"a property of an open object that may be anything", `{"type":"object"}`, `{"type":"object","properties":{"a":{}}}`, ``},
		{"a property of an open object goes", `{"properties":{"a":{"type":"string"}}}`, `{"properties":{}}`, ``},
		{"a property of a closed object", `{"type":"object","additionalProperties":false}`, `{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}`, ``},
		{"a property of a closed object goes", `{"properties":{"a":{"type":"string"}},"additionalProperties":false}`, `{"properties":{},"additionalProperties":false}`,
			`PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL #/properties/a`},
		{"a required property of a closed object", `{"additionalProperties":false}`, `{"properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}`,
			`REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL #/properties/a`},
		{"a required property with a default", `{"additionalProperties":false}`, `{"properties":{"a":{"type":"string","default":null}},"required":["a"],"additionalProperties":false}`, ``},
		{"required", `{"properties":{"a":{"type":"string"},"b":{"type":"string"}}}`, `{"properties":{"a":{"type":"string"},"b":{"type":"string","default":"x"}},"required":["a","b"]}`,
			`REQUIRED_ATTRIBUTE_ADDED #/required/a`},
		{"a pattern says another thing", `{"patternProperties":{"^a":{"type":"string"}},"additionalProperties":false}`,
			`{"properties":{"ab":{"type":"integer"}},"patternProperties":{"^a":{"type":"string"}},"additionalProperties":false}`,
			`TYPE_CHANGED #/properties/ab, PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/properties/ab`},
		{"all others say another thing", `{"properties":{"a":{"type":"string"}},"additionalProperties":{"type":"integer"}}`, `{"additionalProperties":{"type":"integer"}}`,
			`TYPE_CHANGED #/properties/a, PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/properties/a`},
		{"closing an object", `{"type":"object"}`, `{"type":"object","additionalProperties":false}`, `ADDITIONAL_PROPERTIES_REMOVED #/additionalProperties`},
		{"narrowing an object", `{"type":"object"}`, `{"type":"object","additionalProperties":{"type":"string"}}`, `ADDITIONAL_PROPERTIES_NARROWED #/additionalProperties`},
		{"opening an object", `{"type":"object","additionalProperties":false}`, `{"type":"object"}`, ``},
		{"sizes of an object", `{"type":"object","maxProperties":3}`, `{"type":"object","maxProperties":2,"minProperties":1}`, `MAX_PROPERTIES_DECREASED #/maxProperties, MIN_PROPERTIES_ADDED #/minProperties`},
		{"dependencies", `{"dependencies":{"a":["b"],"c":["d"]}}`, `{"dependencies":{"a":["b","c"],"c":["e"],"f":["g"],"h":{"type":"object"}}}`,
			`DEPENDENCY_ARRAY_EXTENDED #/dependencies/a, DEPENDENCY_ARRAY_CHANGED #/dependencies/c, DEPENDENCY_ARRAY_ADDED #/dependencies/f, DEPENDENCY_SCHEMA_ADDED #/dependencies/h`},

		{"items", `{"type":"array","items":{"type":"string"}}`, `{"type":"array","items":{"type":"integer"}}`, `TYPE_CHANGED #/items`},
		{"items come", `{"type":"array"}`, `{"type":"array","items":{"type":"integer"}}`, `SCHEMA_ADDED #/items`},
		{"sizes of an array", `{"type":"array","maxItems":3}`, `{"type":"array","maxItems":2,"uniqueItems":true}`, `MAX_ITEMS_DECREASED #/maxItems, UNIQUE_ITEMS_ADDED #/uniqueItems`},
		{"an item of an open tuple", `{"items":[{"type":"string"}]}`, `{"items":[{"type":"string"},{"type":"string"}]}`, `ITEM_ADDED_TO_OPEN_CONTENT_MODEL #/items/1`},
		{"an item of a closed tuple", `{"items":[{"type":"string"}],"additionalItems":false}`, `{"items":[{"type":"string"},{"type":"string"}],"additionalItems":false}`, ``},
		{"an item of a closed tuple goes", `{"items":[{"type":"string"}],"additionalItems":false}`, `{"items":[],"additionalItems":false}`, `ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL #/items/0`},

		{"one more choice", `{"oneOf":[{"type":"string"},{"type":"null"}]}`, `{"oneOf":[{"type":"null"},{"type":"string"},{"type":"integer"}]}`, ``},
		{"one choice less", `{"oneOf":[{"type":"string"},{"type":"null"}]}`, `{"oneOf":[{"type":"string"}]}`, `SUM_TYPE_NARROWED #/`},
		{"another choice", `{"oneOf":[{"type":"string"},{"type":"null"}]}`, `{"oneOf":[{"type":"string"},{"type":"integer"}]}`, `COMBINED_TYPE_SUBSCHEMAS_CHANGED #/`},
		{"a choice where there was none", `{"type":"string"}`, `{"oneOf":[{"type":"string"},{"type":"integer"}]}`, ``},
		{"one more condition", `{"allOf":[{"maxLength":5}]}`, `{"allOf":[{"maxLength":5},{"minLength":1}]}`, `PRODUCT_TYPE_EXTENDED #/`},
		{"one condition less", `{"allOf":[{"maxLength":5},{"minLength":1}]}`, `{"allOf":[{"maxLength":5}]}`, ``},
		{"one of to any of", `{"oneOf":[{"type":"string"},{"type":"null"}]}`, `{"anyOf":[{"type":"string"},{"type":"null"}]}`, ``},
		{"any of to one of", `{"anyOf":[{"type":"string"},{"type":"null"}]}`, `{"oneOf":[{"type":"string"},{"type":"null"}]}`, `COMBINED_TYPE_CHANGED #/`},
		{"less is excluded", `{"not":{"type":["string","null"]}}`, `{"not":{"type":"string"}}`, ``},
		{"more is excluded", `{"not":{"type":"string"}}`, `{"not":{"type":["string","null"]}}`, `NOT_TYPE_EXTENDED #/not`},

		{"a definition", `{"properties":{"a":{"$ref":"#/definitions/A"}},"definitions":{"A":{"type":"string"}}}`, `{"properties":{"a":{"type":"integer"}}}`, `TYPE_CHANGED #/properties/a`},
		{"a schema within itself", `{"properties":{"next":{"$ref":"#"},"a":{"type":"string"}}}`, `{"properties":{"next":{"$ref":"#"},"a":{"type":"integer"}}}`,
			`TYPE_CHANGED #/properties/a, TYPE_CHANGED #/properties/next/properties/a`},
		{"draft 4 has no constants", `{"$schema":"http://json-schema.org/draft-04/schema#","const":1}`, `{"$schema":"http://json-schema.org/draft-04/schema#","const":2}`, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			changes, err := jsonChangesOf(t, tt.old, tt.updated, nil)
			must(t, err)
			if diff := cmp.Diff(tt.want, strings.Join(changes, ", ")); diff != "" {
				t.Errorf("%s to %s:\n%s", tt.old, tt.updated, diff)
			}
		})
	}
}

func TestCompareJSONSchemas_FollowsReferencesToOtherSchemas(t *testing.T) {
	t.Parallel()
	used := jsonReferences{
		"other.json":  map[string]any{"type": "string", "definitions": map[string]any{"n/m": map[string]any{"type": "null"}}},
		"http://x/id": map[string]any{"type": "boolean"},
	}
	const old = `{"$id":"http://x/root.json","items":[{"$ref":"other.json"},{"$ref":"other.json#/definitions/n~1m"},{"$ref":"http://x/id"},{"$ref":"root.json#/definitions/a"}],"definitions":{"a":{"type":"integer"}}}`
	changes, err := jsonChangesOf(t, old, `{"items":[{"type":"string"},{"type":"null"},{"type":"boolean"},{"type":"integer"}]}`, used)
	must(t, err)
	if len(changes) > 0 {
		t.Errorf("the same types differ: %q", changes)
	}
}

func TestCompareJSONSchemas_RefusesToDecideWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	var deep strings.Builder
	for i := range 30 {
		fmt.Fprintf(&deep, `"d%d":{"allOf":[{"$ref":"#/definitions/d%[2]d"},{"$ref":"#/definitions/d%[2]d","x":1}]},`, i, i+1)
	}
	combinations := `{"$ref":"#/definitions/d0","definitions":{` + deep.String() + `"d30":{"type":"string"}}}`
	for name, schema := range map[string]string{
		"a newer draft":                   `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"string"}`,
		"a part with a name of its own":   `{"$ref":"#name"}`,
		"a place that does not exist":     `{"items":{"$ref":"#/definitions/x"}}`,
		"a pattern that Go does not know": `{"patternProperties":{"(?=a)b":{}}}`,
		"combinations in combinations":    combinations,
	} {
		if changes, err := jsonChangesOf(t, schema, strings.Replace(schema, `"string"`, `"integer"`, 1), nil); err == nil {
			t.Errorf("%s: %q", name, changes)
		}
	}
}
