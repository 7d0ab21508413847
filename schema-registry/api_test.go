package schemaregistry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fail is the body of a refusal.
func fail(code int, message string) string {
	text, _ := json.Marshal(map[string]any{"error_code": code, "message": message})
	return string(text)
}

// answerJSON is a schema in an answer, with the attributes in more over the usual ones.
func answerJSON(schema string, more map[string]any) string {
	answer := map[string]any{"schema": schema, "schemaType": "AVRO", "guid": guidOf(schema)}
	for name, value := range more {
		answer[name] = value
	}
	text, _ := json.Marshal(answer)
	return string(text)
}

// registered is the answer to a registration, lookedUp to a search, and full to a question.
func registered(version, id int, schema string) string {
	return answerJSON(schema, map[string]any{"version": version, "id": id})
}

func lookedUp(subject string, version, id int, schema string) string {
	return answerJSON(schema, map[string]any{"subject": subject, "version": version, "id": id})
}

func full(subject string, version, id int, schema string, deleted bool) string {
	return answerJSON(schema, map[string]any{"subject": subject, "version": version, "id": id, "ts": "*", "deleted": deleted})
}

func byID(subject string, version int, schema string, deleted bool) string {
	return answerJSON(schema, map[string]any{"subject": subject, "version": version, "ts": "*", "deleted": deleted})
}

// onEachHandler runs a script on every kind of store.
func onEachHandler(t *testing.T, script []exchange) {
	t.Helper()
	onEachStore(t, func(t *testing.T, r *Registry) { runScript(t, NewHandler(r, HandlerConfig{}), script) })
}

func TestAPI_SubjectsAndVersions(t *testing.T) {
	a, ab, aOrB := record("a"), record("a b"), record("a b?")
	onEachHandler(t, []exchange{
		{"GET", "/", "", 200, `{}`},
		{"GET", "/subjects", "", 200, `[]`},
		{"GET", "/schemas", "", 200, `[]`},
		{"GET", "/contexts", "", 200, `["."]`},

		{"GET", "/subjects/s/versions", "", 404, fail(40401, "Subject 's' not found.")},
		{"POST", "/subjects/s", quoted(a), 404, fail(40401, "Subject 's' not found.")},
		{"POST", "/subjects/s", quoted("string"), 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s/versions", quoted(" " + a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s", quoted(a), 200, lookedUp("s", 1, 1, a)},
		{"POST", "/subjects/s", quoted(ab), 404, fail(40403, "Schema not found")},
		{"POST", "/subjects/s/versions", quoted(ab), 409, fail(409, `Schema being registered is incompatible with an earlier schema for subject "s", details: [`+
			`{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'b' at path '/fields/1' in the new schema has no default value and is missing in the old schema', additionalInfo:'b'}, `+
			`{oldSchemaVersion: 1}, {oldSchema: '`+a+`'}, {validateFields: 'false', compatibility: 'BACKWARD'}]`)},
		{"POST", "/subjects/s/versions", quoted(aOrB), 200, registered(2, 2, aOrB)},
		{"POST", "/subjects/t/versions", quoted(aOrB), 200, registered(1, 2, aOrB)},
		{"GET", "/subjects", "", 200, `["s","t"]`},
		{"GET", "/subjects?subjectPrefix=t", "", 200, `["t"]`},
		{"GET", "/subjects?offset=1&limit=5", "", 200, `["t"]`},
		{"GET", "/subjects?limit=1", "", 200, `["s"]`},
		{"GET", "/subjects?limit=0", "", 200, `["s","t"]`},
		{"GET", "/subjects?offset=9", "", 200, `[]`},
		{"GET", "/subjects/s/versions", "", 200, `[1,2]`},
		{"GET", "/subjects/s/versions/", "", 200, `[1,2]`},
		{"GET", "/subjects/s/versions?offset=1", "", 200, `[2]`},
		{"GET", "/subjects/s/versions/1", "", 200, full("s", 1, 1, a, false)},
		{"GET", "/subjects/s/versions/latest", "", 200, full("s", 2, 2, aOrB, false)},
		{"GET", "/subjects/s/versions/-1", "", 200, full("s", 2, 2, aOrB, false)},
		{"GET", "/subjects/s/versions/latest/schema", "", 200, aOrB},
		{"GET", "/subjects/s/versions/1/referencedby", "", 200, `[]`},
		{"GET", "/subjects/s/versions/3", "", 404, fail(40402, "Version 3 not found.")},
		{"GET", "/subjects/s/versions/0", "", 422, fail(42202, `The specified version '0' is not a valid version id. Allowed values are between [1, 2^31-1] and the string "latest"`)},
		{"GET", "/subjects/s/versions/x", "", 422, fail(42202, `The specified version 'x' is not a valid version id. Allowed values are between [1, 2^31-1] and the string "latest"`)},
		{"GET", "/subjects/s/versions/2147483648", "", 422, `{"error_code":42202,"message":"*"}`},
		{"GET", "/subjects/x/versions/1", "", 404, fail(40401, "Subject 'x' not found.")},
		{"GET", "/schemas/ids/1", "", 200, byID("s", 1, a, false)},
		{"GET", "/schemas/ids/1?fetchMaxId=true", "", 200, answerJSON(a, map[string]any{"subject": "s", "version": 1, "ts": "*", "deleted": false, "maxId": 2})},
		{"GET", "/schemas/ids/1/schema", "", 200, a},
		{"GET", "/schemas/ids/2/versions", "", 200, `[{"subject":"s","version":2},{"subject":"t","version":1}]`},
		{"GET", "/schemas/ids/2/subjects", "", 200, `["s","t"]`},
		{"GET", "/schemas/ids/9/subjects", "", 404, fail(40403, "Schema not found")},
		{"GET", "/schemas/ids/9/schema", "", 404, fail(40403, "Schema 9 not found")},
		{"GET", "/schemas/ids/x/versions", "", 404, fail(404, "HTTP 404 Not Found")},
		{"GET", "/schemas/ids/9", "", 404, fail(40403, "Schema 9 not found")},
		{"GET", "/schemas/guids/" + guidOf(a), "", 200, answerJSON(a, map[string]any{"ts": "*", "deleted": false})},
		{"GET", "/schemas/guids/" + guidOf(a) + "/ids", "", 200, `[{"context":".","id":1}]`},
		{"GET", "/schemas/guids/" + guidOf(`"x"`), "", 404, fail(40403, "Schema "+guidOf(`"x"`)+" not found")},
		{"GET", "/schemas/guids/nonsense/ids", "", 200, `[]`},
		{"GET", "/schemas", "", 200, "[" + lookedUp("s", 1, 1, a) + "," + lookedUp("s", 2, 2, aOrB) + "," + lookedUp("t", 1, 2, aOrB) + "]"},
		{"GET", "/schemas?latestOnly=true&subjectPrefix=s", "", 200, "[" + lookedUp("s", 2, 2, aOrB) + "]"},
		{"GET", "/schemas?offset=1&limit=1", "", 200, "[" + lookedUp("s", 2, 2, aOrB) + "]"},
		{"GET", "/v1/metadata/version", "", 200, `{"version":"*","commitId":"*"}`},
		{"GET", "/v1/metadata/id", "", 200, `{"scope":{"path":[],"clusters":{"kafka-cluster":"postrider","schema-registry-cluster":"schema-registry"}}}`},
	})
}

func TestAPI_Deletion(t *testing.T) {
	a, b := record("a"), record("a b?")
	soft := func(what string) string {
		return fail(40404, "Subject '"+what+"' was soft deleted.Set permanent=true to delete permanently")
	}
	onEachHandler(t, []exchange{
		{"DELETE", "/subjects/s", "", 404, fail(40401, "Subject 's' not found.")},
		{"DELETE", "/subjects/s/versions/1", "", 404, fail(40401, "Subject 's' not found.")},
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s/versions", quoted(b), 200, registered(2, 2, b)},
		{"DELETE", "/subjects/s/versions/9", "", 404, fail(40402, "Version 9 not found.")},
		{"DELETE", "/subjects/s/versions/0", "", 422, `{"error_code":42202,"message":"*"}`},
		{"DELETE", "/subjects/s/versions/2?permanent=true", "", 404, fail(40407, "Subject 's' Version 2 was not deleted first before being permanently deleted")},
		{"DELETE", "/subjects/s?permanent=true", "", 404, fail(40405, "Subject 's' was not deleted first before being permanently deleted")},
		{"DELETE", "/subjects/s/versions/2", "", 200, "2"},
		{"DELETE", "/subjects/s/versions/2", "", 404, fail(40406, "Subject 's' Version 2 was soft deleted.Set permanent=true to delete permanently")},
		{"GET", "/subjects/s/versions", "", 200, `[1]`},
		{"GET", "/subjects/s/versions?deleted=true", "", 200, `[1,2]`},
		{"GET", "/subjects/s/versions?deletedOnly=true", "", 200, `[2]`},
		{"GET", "/subjects/s/versions/2", "", 404, fail(40402, "Version 2 not found.")},
		{"GET", "/subjects/s/versions/2?deleted=true", "", 200, full("s", 2, 2, b, true)},
		{"GET", "/schemas/ids/2", "", 200, byID("s", 2, b, true)},
		{"GET", "/schemas/ids/2/versions", "", 200, `[]`},
		{"GET", "/schemas/ids/2/versions?deleted=true", "", 200, `[{"subject":"s","version":2}]`},
		{"POST", "/subjects/s", quoted(b), 404, fail(40403, "Schema not found")},
		{"POST", "/subjects/s?deleted=true", quoted(b), 200, lookedUp("s", 2, 2, b)},

		// The same text again: the same ID, a new version, and the old one is gone.
		{"POST", "/subjects/s/versions", quoted(b), 200, registered(3, 2, b)},
		{"GET", "/subjects/s/versions?deleted=true", "", 200, `[1,3]`},
		{"DELETE", "/subjects/s", "", 200, `[1,3]`},
		{"DELETE", "/subjects/s", "", 404, soft("s")},
		{"GET", "/subjects", "", 200, `[]`},
		{"GET", "/subjects?deleted=true", "", 200, `["s"]`},
		{"GET", "/subjects?deletedOnly=true", "", 200, `["s"]`},
		{"GET", "/subjects/s/versions", "", 404, fail(40401, "Subject 's' not found.")},
		{"GET", "/schemas?deleted=true", "", 200, "[" + lookedUp("s", 1, 1, a) + "," + lookedUp("s", 3, 2, b) + "]"},

		// A permanent deletion drops settings and frees numbers of versions, but no ID.
		{"PUT", "/config/s", `{"compatibility":"NONE"}`, 200, `{"compatibility":"NONE"}`},
		{"PUT", "/mode/s", `{"mode":"READWRITE"}`, 200, `{"mode":"READWRITE"}`},
		{"DELETE", "/subjects/s/versions/3?permanent=true", "", 200, "3"},
		{"GET", "/schemas/ids/2", "", 404, fail(40403, "Schema 2 not found")},
		{"GET", "/config/s", "", 200, `{"compatibilityLevel":"NONE"}`},
		{"DELETE", "/subjects/s?permanent=true", "", 200, `[1]`},
		{"GET", "/config/s", "", 404, fail(40408, "Subject 's' does not have subject-level compatibility configured")},
		{"GET", "/mode/s", "", 404, fail(40409, "Subject 's' does not have subject-level mode configured")},
		{"GET", "/subjects?deleted=true", "", 200, `[]`},
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 3, a)},
	})
}

func TestAPI_Compatibility(t *testing.T) {
	a, ab := record("a"), record("a b")
	const missing = `"{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'b' at path '/fields/1' in the new schema has no default value and is missing in the old schema', additionalInfo:'b'}"`
	quotedA := strings.ReplaceAll(a, `"`, `\"`)
	onEachHandler(t, []exchange{
		{"POST", "/compatibility/subjects/x/versions/latest", quoted(a), 200, `{"is_compatible":true}`},
		{"POST", "/compatibility/subjects/x/versions", quoted(a), 200, `{"is_compatible":true}`},
		{"POST", "/compatibility/subjects/x/versions/1", quoted(a), 404, fail(40402, "Version 1 not found.")},
		{"POST", "/compatibility/subjects/x/versions/0", quoted(a), 422, `{"error_code":42202,"message":"*"}`},
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/compatibility/subjects/s/versions/latest", quoted(ab), 200, `{"is_compatible":false}`},
		{"POST", "/compatibility/subjects/s/versions?verbose=true", quoted(record("a b?")), 200, `{"is_compatible":true,"messages":[]}`},
		{"POST", "/compatibility/subjects/s/versions/1?verbose=true", quoted(ab), 200,
			`{"is_compatible":false,"messages":[` + missing + `,"{oldSchemaVersion: 1}","{oldSchema: '` + quotedA + `'}","{validateFields: 'false', compatibility: 'BACKWARD'}"]}`},
		{"POST", "/compatibility/subjects/s/versions/9", quoted(a), 404, fail(40402, "Version 9 not found.")},
		{"POST", "/compatibility/subjects/s/versions", quoted("string"), 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/compatibility/subjects/s/versions?verbose=true", quoted("string"), 200, `{"is_compatible":false,"messages":["Invalid schema of type AVRO, details: line 1, column 1: expected a JSON value; a type name needs double quotes"]}`},
		{"POST", "/compatibility/subjects/s/versions", quoted(""), 422, fail(42201, "Empty schema")},
		// Defaults are looked at when a schema is registered, not when it is compared.
		{"POST", "/compatibility/subjects/s/versions", quoted(`{"type":"record","name":"r","fields":[{"name":"a","type":"int","default":"x"}]}`), 200, `{"is_compatible":true}`},
		{"POST", "/subjects/s/versions", quoted(`{"type":"record","name":"r","fields":[{"name":"a","type":"int","default":"x"}]}`), 422, `{"error_code":42201,"message":"*"}`},
		{"PUT", "/config/s", `{"compatibility":"NONE"}`, 200, `{"compatibility":"NONE"}`},
		{"POST", "/compatibility/subjects/s/versions/latest", quoted(`"int"`), 200, `{"is_compatible":true}`},
	})
}

func TestAPI_Config(t *testing.T) {
	onEachHandler(t, []exchange{
		{"GET", "/config", "", 200, `{"compatibilityLevel":"BACKWARD"}`},
		{"PUT", "/config", `{"compatibility":"full_transitive"}`, 200, `{"compatibility":"FULL_TRANSITIVE"}`},
		{"GET", "/config", "", 200, `{"compatibilityLevel":"FULL_TRANSITIVE"}`},
		{"GET", "/config/s?defaultToGlobal=true", "", 200, `{"compatibilityLevel":"FULL_TRANSITIVE"}`},
		{"GET", "/config/:.x:s?defaultToGlobal=true", "", 200, `{"compatibilityLevel":"BACKWARD"}`},
		{"DELETE", "/config", "", 200, `{"compatibilityLevel":"FULL_TRANSITIVE"}`},
		{"GET", "/config", "", 200, `{"compatibilityLevel":"BACKWARD"}`},
		{"DELETE", "/config", "", 200, `{"compatibilityLevel":"BACKWARD"}`},
		{"GET", "/config/s", "", 404, fail(40408, "Subject 's' does not have subject-level compatibility configured")},
		{"PUT", "/config/s", `{"compatibility":"sideways"}`, 422,
			fail(42203, "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive")},
		{"PUT", "/config/s", `{"compatibility":"none"}`, 200, `{"compatibility":"NONE"}`},
		{"GET", "/config/s", "", 200, `{"compatibilityLevel":"NONE"}`},
		{"GET", "/subjects", "", 200, `[]`},
		{"PUT", "/config/s", `{"alias":"t","normalize":true,"defaultMetadata":{"properties":{"b":"2","a":"1"}},"defaultRuleSet":{"domainRules":[]}}`, 200,
			`{"alias":"t","normalize":true,"compatibility":"NONE","defaultMetadata":{"properties":{"a":"1","b":"2"}}}`},
		{"PUT", "/config/s", `{"alias":null,"compatibility":null}`, 200, `{"normalize":true,"defaultMetadata":{"properties":{"a":"1","b":"2"}}}`},
		{"GET", "/config/s", "", 200, `{"normalize":true,"compatibilityLevel":"BACKWARD","defaultMetadata":{"properties":{"a":"1","b":"2"}}}`},
		{"DELETE", "/config/s", "", 200, `{"normalize":true,"compatibilityLevel":"BACKWARD","defaultMetadata":{"properties":{"a":"1","b":"2"}}}`},
		{"DELETE", "/config/s", "", 404, fail(40401, "Subject 's' not found.")},
		{"PUT", "/config/p", `{"compatibilityPolicy":"lenient"}`, 200, `{"compatibilityPolicy":"LENIENT"}`},
		{"PUT", "/config/p", `{"compatibilityPolicy":"sideways"}`, 200, `{}`},
		{"PUT", "/config/__EMPTY", `{"compatibility":"NONE"}`, 422, fail(42208, "The specified subject '__EMPTY' is not a valid.")},
	})
}

func TestAPI_Modes(t *testing.T) {
	a, b := record("a"), record("a b?")
	withID := func(schema string, id, version int) string {
		text, _ := json.Marshal(map[string]any{"schema": schema, "id": id, "version": version})
		return string(text)
	}
	onEachHandler(t, []exchange{
		{"GET", "/mode", "", 200, `{"mode":"READWRITE"}`},
		{"GET", "/mode/s", "", 404, fail(40409, "Subject 's' does not have subject-level mode configured")},
		{"GET", "/mode/s?defaultToGlobal=true", "", 200, `{"mode":"READWRITE"}`},
		{"PUT", "/mode", `{"mode":"sideways"}`, 422, fail(42204, "Invalid mode. Valid values are READWRITE, READONLY, and IMPORT.")},
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s/versions", withID(b, 7, 0), 422, fail(42205, "Subject s in context  is not in import mode")},

		{"PUT", "/mode", `{"mode":"readonly"}`, 200, `{"mode":"readonly"}`},
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s/versions", quoted(b), 422, fail(42205, "Subject s in context  is in read-only mode")},
		{"DELETE", "/subjects/s", "", 422, fail(42205, "Subject s in context  is in read-only mode")},
		{"DELETE", "/subjects/s/versions/1", "", 422, fail(42205, "Subject s in context  is in read-only mode")},
		{"PUT", "/config", `{"compatibility":"NONE"}`, 422, fail(42205, "Subject null in context  is in read-only mode")},
		{"PUT", "/mode/s", `{"mode":"READWRITE"}`, 200, `{"mode":"READWRITE"}`},
		{"POST", "/subjects/s/versions", quoted(b), 200, registered(2, 2, b)},
		{"PUT", "/mode", `{"mode":"READONLY_OVERRIDE"}`, 200, `{"mode":"READONLY_OVERRIDE"}`},
		{"DELETE", "/subjects/s/versions/2", "", 422, fail(42205, "Subject s in context  is in read-only mode")},
		{"DELETE", "/mode", "", 200, `{"mode":"READONLY_OVERRIDE"}`},
		{"DELETE", "/mode/s", "", 200, `{"mode":"READWRITE"}`},
		{"DELETE", "/mode/s", "", 404, fail(40401, "Subject 's' not found.")},

		{"PUT", "/mode/s", `{"mode":"IMPORT"}`, 422, fail(42205, "Cannot import since found existing subjects")},
		{"PUT", "/mode", `{"mode":"IMPORT"}`, 422, fail(42205, "Cannot import since found existing subjects")},
		{"PUT", "/mode/i", `{"mode":"import"}`, 200, `{"mode":"import"}`},
		{"POST", "/subjects/i/versions", quoted(`"int"`), 422, fail(42205, "Subject i in context  is not in read-write mode")},
		{"POST", "/subjects/i/versions", withID(`"int"`, 100, 5), 200, registered(5, 100, `"int"`)},
		{"POST", "/subjects/i/versions", withID(`"int"`, 100, 5), 200, registered(5, 100, `"int"`)},
		// A deleted version comes back by importing it again.
		{"DELETE", "/subjects/i", "", 200, `[5]`},
		{"POST", "/subjects/i/versions", withID(`"int"`, 100, 5), 200, registered(5, 100, `"int"`)},
		{"GET", "/subjects/i/versions?deleted=true", "", 200, `[5]`},
		{"GET", "/schemas/ids/100/versions", "", 200, `[{"subject":"i","version":5}]`},
		{"POST", "/subjects/i/versions", withID(`"string"`, 100, 6), 422, fail(42205, "Overwrite new schema with id 100 in context  is not permitted.")},
		{"POST", "/subjects/i/versions", withID(`"string"`, 50, 0), 200, registered(6, 50, `"string"`)},
		{"POST", "/subjects/s/versions", quoted(record("a b? c?")), 200, registered(3, 101, record("a b? c?"))},
		{"DELETE", "/subjects/s", "", 200, `[1,2,3]`},
		{"PUT", "/mode/s", `{"mode":"IMPORT"}`, 200, `{"mode":"IMPORT"}`},
		{"GET", "/subjects?deleted=true", "", 200, `["i"]`},
		{"PUT", "/mode/t", `{"mode":"IMPORT"}`, 200, `{"mode":"IMPORT"}`},
		{"DELETE", "/mode?recursive=true", "", 200, `{"mode":"READWRITE"}`},
		{"PUT", "/mode/t", `{"mode":"READONLY"}`, 200, `{"mode":"READONLY"}`},
		{"PUT", "/mode/t", `{"mode":null}`, 200, `{"mode":null}`},
		{"GET", "/mode/t", "", 404, `{"error_code":40409,"message":"*"}`},
	})
}

func TestAPI_Contexts(t *testing.T) {
	a, b := record("a"), record("a b?")
	onEachHandler(t, []exchange{
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/contexts/x/subjects/s/versions", quoted(b), 200, registered(1, 1, b)},
		{"POST", "/subjects/:.x:only/versions", quoted(a), 200, registered(1, 2, a)},
		{"GET", "/contexts", "", 200, `[".",".x"]`},
		{"GET", "/subjects", "", 200, `[":.x:only",":.x:s","s"]`},
		{"GET", "/subjects?subjectPrefix=:.x:", "", 200, `[":.x:only",":.x:s"]`},
		{"GET", "/subjects?subjectPrefix=:*:s", "", 200, `[":.x:s","s"]`},
		{"GET", "/subjects?subjectPrefix=", "", 200, `["s"]`},
		{"GET", "/contexts/.x/subjects", "", 200, `[":.x:only",":.x:s"]`},
		{"GET", "/contexts/:.x:/subjects?subjectPrefix=o", "", 200, `[":.x:only"]`},
		{"GET", "/contexts/./subjects", "", 200, `["s"]`},
		{"GET", "/contexts/x/subjects/s/versions/1", "", 200, full(":.x:s", 1, 1, b, false)},
		{"GET", "/subjects/only/versions/1", "", 200, full(":.x:only", 1, 2, a, false)},
		{"POST", "/subjects/only", quoted(a), 200, lookedUp(":.x:only", 1, 2, a)},
		{"GET", "/subjects/:.:s/versions/1", "", 200, full("s", 1, 1, a, false)},
		{"GET", "/schemas/ids/1", "", 200, byID("s", 1, a, false)},
		{"GET", "/contexts/x/schemas/ids/1", "", 200, byID(":.x:s", 1, b, false)},
		{"GET", "/schemas/ids/1?subject=:.x:s", "", 200, byID(":.x:s", 1, b, false)},
		{"GET", "/schemas/ids/2", "", 404, fail(40403, "Schema 2 not found")},
		{"GET", "/schemas/ids/2?subject=only", "", 200, byID(":.x:only", 1, a, false)},
		{"GET", "/contexts/x/schemas/ids/2/subjects", "", 200, `[":.x:only"]`},
		{"GET", "/schemas/guids/" + guidOf(a) + "/ids", "", 200, `[{"context":".","id":1},{"context":".x","id":2}]`},
		{"GET", "/contexts/x/schemas", "", 200, "[" + lookedUp(":.x:only", 1, 2, a) + "," + lookedUp(":.x:s", 1, 1, b) + "]"},
		{"GET", "/schemas", "", 200, "[" + lookedUp("s", 1, 1, a) + "]"},
		{"PUT", "/contexts/x/config", `{"compatibility":"FULL"}`, 200, `{"compatibility":"FULL"}`},
		{"GET", "/config/:.x:", "", 200, `{"compatibilityLevel":"FULL"}`},
		{"GET", "/contexts/x/config/s?defaultToGlobal=true", "", 200, `{"compatibilityLevel":"FULL"}`},
		{"GET", "/config/s?defaultToGlobal=true", "", 200, `{"compatibilityLevel":"BACKWARD"}`},
		{"PUT", "/contexts/x/mode", `{"mode":"READONLY"}`, 200, `{"mode":"READONLY"}`},
		{"DELETE", "/contexts/x/subjects/s", "", 422, fail(42205, "Subject :.x:s in context :.x: is in read-only mode")},
		{"PUT", "/mode/:.__GLOBAL:", `{"mode":"READONLY"}`, 200, `{"mode":"READONLY"}`},
		{"POST", "/contexts/y/subjects/s/versions", quoted(b), 422, `{"error_code":42205,"message":"*"}`},
		{"DELETE", "/mode/:.__GLOBAL:", "", 200, `{"mode":"READONLY"}`},
		{"DELETE", "/contexts/x", "", 422, fail(42211, "The specified context ':.x:' is not empty.")},
		{"DELETE", "/contexts/x/mode", "", 200, `{"mode":"READONLY"}`},
		{"DELETE", "/contexts/x/subjects/s", "", 200, `[1]`},
		{"DELETE", "/contexts/x/subjects/s?permanent=true", "", 200, `[1]`},
		{"DELETE", "/contexts/x/subjects/only", "", 200, `[1]`},
		{"DELETE", "/contexts/x/subjects/only?permanent=true", "", 200, `[1]`},
		{"DELETE", "/contexts/x", "", 204, ``},
		{"GET", "/contexts", "", 200, `["."]`},
		{"POST", "/contexts/x/subjects/s/versions", quoted(b), 200, registered(1, 3, b)},
		{"GET", "/contexts/a:b/subjects", "", 400, fail(400, "Context name cannot contain a colon")},
	})
}

func TestAPI_References(t *testing.T) {
	used := `{"type":"record","name":"U","namespace":"n","fields":[{"name":"x","type":"int"}]}`
	user := `{"type":"record","name":"R","namespace":"n","fields":[{"name":"u","type":"U"}]}`
	inline := `{"type":"record","name":"R","namespace":"n","fields":[{"name":"u","type":` + strings.Replace(used, `,"namespace":"n"`, "", 1) + `}]}`
	body := func(schema string, version int) string {
		text, _ := json.Marshal(map[string]any{"schema": schema, "references": []Reference{{"n.U", "used", version}}})
		return string(text)
	}
	hash := func(version int) string {
		return newSchema(".", 1, content{Text: user, References: []Reference{{"n.U", "used", version}}}).guid
	}
	with := func(more map[string]any) string {
		more["references"] = []Reference{{"n.U", "used", 1}}
		more["guid"] = hash(1)
		return answerJSON(user, more)
	}
	onEachHandler(t, []exchange{
		{"POST", "/subjects/r/versions", body(user, 1), 422, fail(42201, `Invalid schema of type AVRO, details: No schema reference found for subject "used" and version 1`)},
		{"POST", "/subjects/used/versions", quoted(used), 200, registered(1, 1, used)},
		{"POST", "/subjects/r/versions", quoted(user), 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/subjects/r/versions", `{"schema":"\"int\"","references":[{"name":"n.U","subject":"used"}]}`, 422, `{"error_code":42201,"message":"*"}`},
		{"POST", "/subjects/r/versions", body(user, -1), 200, with(map[string]any{"id": 2, "version": 1})},
		{"POST", "/subjects/r/versions", body(user, 1), 200, with(map[string]any{"id": 2, "version": 1})},
		{"POST", "/subjects/r", quoted(inline), 200, with(map[string]any{"subject": "r", "id": 2, "version": 1})},
		{"POST", "/subjects/r/versions", quoted(inline), 200, with(map[string]any{"id": 2, "version": 1})},
		{"GET", "/subjects/r/versions/1", "", 200, with(map[string]any{"subject": "r", "id": 2, "version": 1, "ts": "*", "deleted": false})},
		{"GET", "/subjects/r/versions/1/schema?format=resolved", "", 200, inline},
		{"GET", "/subjects/used/versions/1/referencedby", "", 200, `[2]`},
		{"GET", "/subjects/used/versions/latest/referencedby", "", 200, `[2]`},
		{"GET", "/subjects/x/versions/1/referencedby", "", 404, fail(40401, "Subject 'x' not found.")},
		{"DELETE", "/subjects/used", "", 422, fail(42206, "One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=used,version=1}.")},
		{"DELETE", "/subjects/used/versions/1", "", 422, fail(42206, "One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=used,version=1}.")},
		{"DELETE", "/subjects/r", "", 200, `[1]`},
		{"GET", "/subjects/used/versions/1/referencedby", "", 200, `[]`},
		{"GET", "/subjects/used/versions/1/referencedby?deleted=true", "", 200, `[2]`},
		{"DELETE", "/subjects/used/versions/1", "", 200, `1`},
		{"GET", "/schemas/ids/2", "", 200, with(map[string]any{"subject": "r", "version": 1, "ts": "*", "deleted": true})},
		{"POST", "/subjects/r/versions", body(user, 1), 422, `{"error_code":42201,"message":"*"}`},
	})
}

func TestAPI_MetadataIsPartOfTheIdentity(t *testing.T) {
	a := record("a")
	body := func(metadata string) string {
		return strings.TrimSuffix(quoted(a), "}") + `,"metadata":` + metadata + "}"
	}
	onEachHandler(t, []exchange{
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s/versions", body(`{"properties":{"owner":"x"}}`), 200,
			answerJSON(a, map[string]any{"id": 2, "version": 2, "guid": "*", "metadata": map[string]any{"properties": map[string]any{"owner": "x"}}})},
		// What is not given is taken over from the version before.
		{"POST", "/subjects/t/versions", body(`{"properties":{"owner":"x"}}`), 200, `{"id":2,"version":1,"guid":"*","schemaType":"AVRO","schema":"*","metadata":"*"}`},
		{"POST", "/subjects/t/versions", quoted(record("a b?")), 200, `{"id":3,"version":2,"guid":"*","schemaType":"AVRO","schema":"*","metadata":{"properties":{"owner":"x"}}}`},
		{"POST", "/subjects/t", quoted(record("a b?")), 200, `{"id":3,"version":2,"subject":"t","guid":"*","schemaType":"AVRO","schema":"*","metadata":"*"}`},
		{"GET", "/subjects/s/metadata?key=owner&value=x", "", 200, `{"subject":"s","id":2,"version":2,"guid":"*","schemaType":"AVRO","schema":"*","metadata":"*","ts":"*","deleted":false}`},
		{"GET", "/subjects/s/metadata?key=owner&value=y", "", 404, fail(40403, "Schema not found")},
		{"POST", "/subjects/s/versions", `{"schema":"","metadata":{"properties":{"owner":"z"}}}`, 200, `{"id":4,"version":3,"guid":"*","schemaType":"AVRO","schema":"*","metadata":{"properties":{"owner":"z"}}}`},
	})
}

func TestAPI_ReservedFields(t *testing.T) {
	reserving := func(schemaType, schema, fields string) string {
		text, _ := json.Marshal(map[string]any{"schema": schema, "schemaType": schemaType,
			"metadata": map[string]any{"properties": map[string]any{"confluent:reserved": fields}}})
		return string(text)
	}
	const known = `{"id":"*","version":1,"guid":"*","schemaType":"AVRO","schema":"*","metadata":"*"}`
	onEachHandler(t, []exchange{
		{"POST", "/subjects/s/versions", reserving(Avro, record("a"), "a"), 200, known},
		{"PUT", "/config", `{"validateFields":true,"compatibility":"NONE"}`, 200, `{"validateFields":true,"compatibility":"NONE"}`},
		{"POST", "/subjects/t/versions", reserving(Avro, record("a"), "b, a,"), 409, fail(409, `Schema being registered is incompatible with an earlier schema for subject "t", details: [`+
			`The new schema has field 'a', which its metadata reserves., {validateFields: 'true', compatibility: 'NONE'}]`)},
		{"POST", "/subjects/t/versions", reserving(JSONSchema, `{"properties":{"a":{}}}`, "a"), 409, `{"error_code":409,"message":"*"}`},
		{"POST", "/subjects/t/versions", reserving(Protobuf, `syntax = "proto3"; message M { string a = 1; }`, "a"), 409, `{"error_code":409,"message":"*"}`},
		{"POST", "/subjects/t/versions", reserving(Avro, record("a"), "b"), 200, known},
		{"POST", "/subjects/t/versions", reserving(Avro, record("c"), "a"), 409, `{"error_code":409,"message":"*"}`},
		{"POST", "/compatibility/subjects/t/versions/latest", reserving(Avro, record("c"), "a"), 200, `{"is_compatible":false}`},
		{"POST", "/compatibility/subjects/t/versions/latest", reserving(Avro, record("c"), "a,b"), 200, `{"is_compatible":true}`},
		// What is registered already is answered.
		{"POST", "/subjects/s/versions", reserving(Avro, record("a"), "a"), 200, known},
		{"PUT", "/config/t", `{"validateFields":false}`, 200, `{"validateFields":false}`},
		{"POST", "/compatibility/subjects/t/versions/latest", reserving(Avro, record("a?"), "a"), 200, `{"is_compatible":true}`},
	})
}

func TestAPI_VersionInMetadata(t *testing.T) {
	a := record("a")
	asked := func(version int) string {
		text, _ := json.Marshal(map[string]any{"schema": a, "version": version})
		return string(text)
	}
	answer := func(id, version int) string {
		return answerJSON(a, map[string]any{"id": id, "version": version, "guid": "*", "metadata": map[string]any{"properties": map[string]any{"confluent:version": fmt.Sprint(version)}}})
	}
	onEachHandler(t, []exchange{
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s/versions", asked(-1), 200, registered(1, 1, a)},
		{"POST", "/subjects/s/versions", asked(2), 200, answer(2, 2)},
		// The latest version is the one that is asked for, though an earlier one is just like this.
		{"POST", "/subjects/s/versions", asked(-1), 200, `{"id":2,"version":2,"guid":"*","schemaType":"AVRO","schema":"*","metadata":"*"}`},
		{"POST", "/subjects/s/versions", quoted(a), 200, registered(1, 1, a)},
		{"POST", "/subjects/s/versions", asked(2), 422, fail(42201, "Version is not one more than previous version")},
	})
}

func TestAPI_Alias(t *testing.T) {
	a := record("a")
	onEachHandler(t, []exchange{
		{"PUT", "/config/old", `{"alias":"new"}`, 200, `{"alias":"new"}`},
		{"POST", "/subjects/old/versions", quoted(a), 200, registered(1, 1, a)},
		{"GET", "/subjects", "", 200, `["new"]`},
		{"GET", "/subjects/old/versions/1", "", 200, full("new", 1, 1, a, false)},
		{"GET", "/config/old", "", 200, `{"alias":"new","compatibilityLevel":"BACKWARD"}`},
		{"POST", "/compatibility/subjects/old/versions/latest", quoted(`"int"`), 200, `{"is_compatible":false}`},
	})
}

func TestAPI_Normalize(t *testing.T) {
	one := `{"type":"record","name":"r","fields":[{"name":"a","type":"int"}],"y":{"d":1,"c":2},"x":1}`
	normal := `{"type":"record","name":"r","fields":[{"name":"a","type":"int"}],"x":1,"y":{"c":2,"d":1}}`
	onEachHandler(t, []exchange{
		{"POST", "/subjects/s/versions?normalize=true", quoted(one), 200, registered(1, 1, normal)},
		{"POST", "/subjects/t/versions", quoted(one), 200, registered(1, 2, one)},
		// In one subject, schemas that mean the same are the same.
		{"POST", "/subjects/t/versions", quoted(normal), 200, registered(1, 2, one)},
		{"PUT", "/config", `{"normalize":true}`, 200, `{"normalize":true}`},
		{"POST", "/subjects/u/versions", quoted(one), 200, registered(1, 1, normal)},
	})
}

func TestAPI_RefusesMalformedRequests(t *testing.T) {
	t.Parallel()
	const path = "/subjects/s/versions"
	runScript(t, NewHandler(New(NewMemoryStore()), HandlerConfig{MaxBody: 1000}), []exchange{
		{"POST", path, ``, 422, `{"error_code":422,"message":"*"}`},
		{"POST", path, `null`, 422, `{"error_code":422,"message":"*"}`},
		{"POST", path, `{`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `{"schema":{}}`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `[]`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `{}`, 422, fail(42201, "Empty schema")},
		{"POST", path, `{"schema":"nope"}`, 422, `{"error_code":42201,"message":"*"}`},
		{"POST", path, `{"schema":123}`, 422, `{"error_code":42201,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","schemaType":"avro"}`, 422, fail(42201, "Invalid schema type avro")},
		{"POST", path, `{"schema":"\"int\"","schemaType":{}}`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","schemaType":""}`, 422, fail(42201, "Invalid schema type ")},
		{"POST", path, `{"schema":"\"int\"","references":[{"name":{}}]}`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","references":["r"]}`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","references":[null]}`, 422, `{"error_code":42201,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","metadata":{"properties":{"a":[]}}}`, 400, `{"error_code":400,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","version":3}`, 422, fail(42201, "Version is not one more than previous version")},
		{"POST", path, `{"schema":"` + strings.Repeat(" ", 1000) + `"}`, 413, `{"error_code":413,"message":"*"}`},
		{"POST", path, `{"schema":"\"int\"","references":[],"metadata":null,"id":-1,"more":1}`, 200, registered(1, 1, `"int"`)},
		{"POST", path, "\xef\xbb\xbf" + quoted(`"int"`), 200, registered(1, 1, `"int"`)},
		{"GET", "/nope", ``, 404, fail(404, "HTTP 404 Not Found")},
		{"GET", "/subjects/s/nope", ``, 404, fail(404, "HTTP 404 Not Found")},
		{"PATCH", "/subjects", ``, 405, fail(405, "HTTP 405 Method Not Allowed")},
		{"DELETE", "/schemas/types", ``, 405, fail(405, "HTTP 405 Method Not Allowed")},
		{"OPTIONS", "/subjects", ``, 200, ``},
		{"POST", "/subjects/%00/versions", `{"schema":"\"int\""}`, 422, `{"error_code":42208,"message":"*"}`},
	})
}

func TestAPI_TakesNumbersAndTextsForEachOther(t *testing.T) {
	b := `{"type":"record","name":"b","fields":[{"name":"r","type":"r"}]}`
	onEachHandler(t, []exchange{
		{"POST", "/subjects/a/versions", quoted(record("a")), 200, registered(1, 1, record("a"))},
		{"POST", "/subjects/b/versions", strings.TrimSuffix(quoted(b), "}") + `,"references":[{"name":"r","subject":"a","version":"1"}]}`, 200,
			answerJSON(b, map[string]any{"id": 2, "version": 1, "guid": "*", "references": []any{map[string]any{"name": "r", "subject": "a", "version": 1}}})},
		{"POST", "/subjects/c/versions", strings.TrimSuffix(quoted(`"int"`), "}") + `,"metadata":{"properties":{"a":1,"b":true}},"id":"-1"}`, 200,
			answerJSON(`"int"`, map[string]any{"id": 3, "version": 1, "guid": "*", "metadata": map[string]any{"properties": map[string]any{"a": "1", "b": "true"}}})},
	})
}

func TestAPI_IncompatibleCodeIsASetting(t *testing.T) {
	t.Parallel()
	runScript(t, NewHandler(New(NewMemoryStore()), HandlerConfig{IncompatibleCode: CodeIncompatibleSchema}), []exchange{
		{"POST", "/subjects/s/versions", quoted(`"int"`), 200, registered(1, 1, `"int"`)},
		{"POST", "/subjects/s/versions", quoted(`"string"`), 409, `{"error_code":40901,"message":"*"}`},
	})
}

func TestAPI_RuleSetsAreKeptOnRequest(t *testing.T) {
	t.Parallel()
	body := `{"schema":"\"int\"","ruleSet":{"domainRules":[{"name":"r","type":"CEL"}]}}`
	runScript(t, newTestHandler(), []exchange{
		{"POST", "/subjects/s/versions", body, 200, registered(1, 1, `"int"`)},
	})
	runScript(t, NewHandler(New(NewMemoryStore()), HandlerConfig{KeepRuleSets: true}), []exchange{
		{"POST", "/subjects/s/versions", body, 200, answerJSON(`"int"`, map[string]any{"id": 1, "version": 1, "guid": "*",
			"ruleSet": map[string]any{"domainRules": []any{map[string]any{"name": "r", "kind": "TRANSFORM", "mode": "WRITEREAD", "type": "CEL", "disabled": false}}}})},
		{"GET", "/schemas?ruleType=X", "", 200, `[]`},
		{"POST", "/subjects/s/versions", strings.Replace(body, `"CEL"`, `""`, 1), 422, fail(42210, "Missing rule type")},
		{"POST", "/subjects/s/versions", strings.Replace(body, `"r"`, `"1"`, 1), 422, fail(42210, "Illegal initial character in rule name: 1")},
	})
}

func TestAPI_AllowSaysWhatAPathTakes(t *testing.T) {
	t.Parallel()
	resp := httptest.NewRecorder()
	newTestHandler().ServeHTTP(resp, httptest.NewRequest(http.MethodPatch, "/config/s", nil))
	if diff := cmp.Diff("GET,PUT,DELETE,HEAD,OPTIONS", resp.Header().Get("Allow")); diff != "" {
		t.Error(diff)
	}
}

func TestAPI_LevelsLookAtTheVersionsTheyAreAbout(t *testing.T) {
	t.Parallel()
	// Each version drops the default that the next but one would need.
	chain := []string{record("a"), record("a b?"), record("a b")}
	for level, want := range map[Level]int{
		None: 200, Backward: 200, BackwardTransitive: 409, Forward: 200, ForwardTransitive: 200, Full: 200, FullTransitive: 409,
	} {
		handler := newTestHandler()
		script := []exchange{}
		for i, schema := range chain[:2] {
			script = append(script, exchange{"POST", "/subjects/s/versions", quoted(schema), 200, registered(i+1, i+1, schema)})
		}
		script = append(script, exchange{"PUT", "/config", fmt.Sprintf(`{"compatibility":%q}`, level), 200, fmt.Sprintf(`{"compatibility":%q}`, level)})
		runScript(t, handler, script)
		req := httptest.NewRequest("POST", "/subjects/s/versions", strings.NewReader(quoted(chain[2])))
		resp := httptest.NewRecorder()
		handler.ServeHTTP(resp, req)
		if resp.Code != want {
			t.Errorf("%s: status %d, want %d", level, resp.Code, want)
		}
	}
}
