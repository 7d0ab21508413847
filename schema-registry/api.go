package schemaregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

// api lists what the registry answers to.
func (h *handler) api() []route {
	return []route{
		{"GET", "/", func(*call) (any, error) { return struct{}{}, nil }},
		{"GET", "/subjects", h.subjects},
		{"POST", "/subjects/{subject}", h.lookup},
		{"DELETE", "/subjects/{subject}", h.deleteSubject},
		{"GET", "/subjects/{subject}/versions", h.versions},
		{"POST", "/subjects/{subject}/versions", h.register},
		{"GET", "/subjects/{subject}/versions/{version}", h.version},
		{"DELETE", "/subjects/{subject}/versions/{version}", h.deleteVersion},
		{"GET", "/subjects/{subject}/versions/{version}/schema", h.versionSchema},
		{"GET", "/schemas/types", func(*call) (any, error) { return []string{avro}, nil }},
		{"GET", "/schemas/ids/{id}", h.schema},
		{"GET", "/schemas/ids/{id}/schema", h.schemaText},
		{"GET", "/schemas/ids/{id}/subjects", h.schemaSubjects},
		{"GET", "/schemas/ids/{id}/versions", h.schemaVersions},
		{"POST", "/compatibility/subjects/{subject}/versions", h.compatibility},
		{"POST", "/compatibility/subjects/{subject}/versions/{version}", h.compatibility},
		{"GET", "/config", h.globalLevel},
		{"PUT", "/config", h.setLevel},
		{"DELETE", "/config", h.unsetLevel},
		{"GET", "/config/{subject}", h.subjectLevel},
		{"PUT", "/config/{subject}", h.setLevel},
		{"DELETE", "/config/{subject}", h.unsetLevel},
	}
}

const avro = "AVRO"

// schemaBody is how a request gives a schema.
type schemaBody struct {
	Schema     string            `json:"schema"`
	SchemaType string            `json:"schemaType"`
	References []json.RawMessage `json:"references"`
	Metadata   json.RawMessage   `json:"metadata"`
	RuleSet    json.RawMessage   `json:"ruleSet"`
	ID         *int              `json:"id"`
	Version    *int              `json:"version"`
}

// schemaOf reads the schema of a request. What this registry does not know yet it refuses:
// a schema registered without its references or rules would be another schema.
func (c *call) schemaOf() (*avroschema.Schema, error) {
	var body schemaBody
	if err := c.body(&body); err != nil {
		return nil, err
	}
	given := func(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
	switch {
	case body.SchemaType != "" && !strings.EqualFold(body.SchemaType, avro):
		return nil, invalidSchema("Schema type %.40q is not supported, this registry takes AVRO only", body.SchemaType)
	case len(body.References) > 0:
		return nil, invalidSchema("References are not supported yet, register a schema that contains the types it uses")
	case given(body.Metadata) || given(body.RuleSet):
		return nil, invalidSchema("Metadata and rules are not supported")
	case body.ID != nil && *body.ID >= 0, body.Version != nil && *body.Version > 0:
		return nil, &Error{http.StatusUnprocessableEntity, CodeNotPermitted, "An ID or version of one's own needs import mode, which is not supported yet"}
	case strings.TrimSpace(body.Schema) == "":
		return nil, invalidSchema("Empty schema")
	}
	schema, err := avroschema.Parse(body.Schema)
	if err != nil {
		return nil, invalidSchema("Invalid schema of type AVRO, details: %v", err)
	}
	return schema, nil
}

func invalidSchema(format string, args ...any) error {
	return &Error{http.StatusUnprocessableEntity, CodeInvalidSchema, fmt.Sprintf(format, args...)}
}

// versionAnswer is one version of a subject as clients know it.
type versionAnswer struct {
	Subject    string            `json:"subject,omitempty"`
	Version    int               `json:"version,omitempty"`
	ID         int               `json:"id,omitempty"`
	GUID       string            `json:"guid"`
	SchemaType string            `json:"schemaType"`
	Schema     string            `json:"schema"`
	References []json.RawMessage `json:"references,omitempty"`
}

func (v Version) answer(subject string) versionAnswer {
	return versionAnswer{Subject: subject, Version: v.Version, ID: v.ID, GUID: guid(v.Schema), SchemaType: avro, Schema: v.Schema}
}

func (h *handler) subjects(c *call) (any, error) {
	prefix, deletedOnly, deleted := c.URL.Query().Get("subjectPrefix"), c.flag("deletedOnly"), c.flag("deleted")
	names, err := h.registry.Subjects(c.Context(), func(versions []Version) bool {
		inUse := len(live(versions)) > 0
		return inUse && !deletedOnly || !inUse && (deleted || deletedOnly)
	})
	if err != nil {
		return nil, err
	}
	matching := []string{}
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			matching = append(matching, name)
		}
	}
	return page(c, matching)
}

// page cuts a list by the parameters offset and limit.
func page[T any](c *call, list []T) (any, error) {
	for _, name := range []string{"offset", "limit"} {
		value := c.URL.Query().Get(name)
		if value == "" {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return nil, &Error{http.StatusNotFound, http.StatusNotFound, "HTTP 404 Not Found"}
		}
		switch {
		case name == "offset":
			list = list[min(max(n, 0), len(list)):]
		case n >= 0:
			list = list[:min(n, len(list))]
		}
	}
	return list, nil
}

func (h *handler) register(c *call) (any, error) {
	schema, err := c.schemaOf()
	if err != nil {
		return nil, err
	}
	v, added, err := h.registry.Register(c.Context(), c.values[0], schema)
	if err != nil {
		return nil, err
	}
	if added {
		h.log.InfoContext(c.Context(), "schema registered", "subject", c.values[0], "version", v.Version, "schema_id", v.ID)
	}
	return v.answer(""), nil
}

func (h *handler) lookup(c *call) (any, error) {
	schema, err := c.schemaOf()
	if err != nil {
		return nil, err
	}
	v, err := h.registry.Lookup(c.Context(), c.values[0], schema, c.flag("deleted"))
	return v.answer(c.values[0]), err
}

func (h *handler) versions(c *call) (any, error) {
	versions, err := h.registry.Versions(c.Context(), c.values[0], c.flag("deleted") || c.flag("deletedOnly"))
	if err != nil {
		return nil, err
	}
	numbers := []int{}
	for _, v := range versions {
		if v.Deleted || !c.flag("deletedOnly") {
			numbers = append(numbers, v.Version)
		}
	}
	return page(c, numbers)
}

func (h *handler) findVersion(c *call) (Version, error) {
	n, err := parseVersion(c.values[1])
	if err != nil {
		return Version{}, err
	}
	return h.registry.Version(c.Context(), c.values[0], n, c.flag("deleted"))
}

func (h *handler) version(c *call) (any, error) {
	v, err := h.findVersion(c)
	return v.answer(c.values[0]), err
}

func (h *handler) versionSchema(c *call) (any, error) {
	v, err := h.findVersion(c)
	return text(v.Schema), err
}

func (h *handler) deleteSubject(c *call) (any, error) {
	permanent := c.flag("permanent")
	numbers, err := h.registry.DeleteSubject(c.Context(), c.values[0], permanent)
	if err == nil {
		h.log.InfoContext(c.Context(), "subject deleted", "subject", c.values[0], "versions", numbers, "permanent", permanent)
	}
	return numbers, err
}

func (h *handler) deleteVersion(c *call) (any, error) {
	n, err := parseVersion(c.values[1])
	if err != nil {
		return nil, err
	}
	permanent := c.flag("permanent")
	number, err := h.registry.DeleteVersion(c.Context(), c.values[0], n, permanent)
	if err == nil {
		h.log.InfoContext(c.Context(), "version deleted", "subject", c.values[0], "version", number, "permanent", permanent)
	}
	return number, err
}

// id reads the schema ID in a path.
func (c *call) id() (int, error) {
	id, err := strconv.ParseInt(c.values[0], 10, 32)
	if err != nil {
		return 0, &Error{http.StatusNotFound, http.StatusNotFound, "HTTP 404 Not Found"}
	}
	return int(id), nil
}

func (h *handler) findSchema(c *call) (string, error) {
	id, err := c.id()
	if err != nil {
		return "", err
	}
	return h.registry.SchemaByID(c.Context(), id)
}

func (h *handler) schema(c *call) (any, error) {
	schema, err := h.findSchema(c)
	return versionAnswer{GUID: guid(schema), SchemaType: avro, Schema: schema}, err
}

func (h *handler) schemaText(c *call) (any, error) {
	schema, err := h.findSchema(c)
	return text(schema), err
}

func (h *handler) uses(c *call) ([]Use, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	uses, err := h.registry.UsesOfID(c.Context(), id, c.flag("deleted"))
	if subject := c.URL.Query().Get("subject"); subject != "" {
		uses = slices.DeleteFunc(uses, func(u Use) bool { return u.Subject != subject })
	}
	return uses, err
}

func (h *handler) schemaVersions(c *call) (any, error) {
	uses, err := h.uses(c)
	if err != nil {
		return nil, err
	}
	return page(c, uses)
}

func (h *handler) schemaSubjects(c *call) (any, error) {
	uses, err := h.uses(c)
	if err != nil {
		return nil, err
	}
	subjects := []string{}
	for _, u := range uses {
		subjects = append(subjects, u.Subject)
	}
	return page(c, slices.Compact(subjects))
}

func (h *handler) compatibility(c *call) (any, error) {
	version := AnyVersion
	if len(c.values) > 1 {
		var err error
		if version, err = parseVersion(c.values[1]); err != nil {
			return nil, err
		}
	}
	type answer struct {
		Compatible bool     `json:"is_compatible"`
		Messages   []string `json:"messages,omitempty"`
	}
	verbose := c.flag("verbose")
	schema, err := c.schemaOf()
	var invalid *Error
	if verbose && errors.As(err, &invalid) && invalid.Code == CodeInvalidSchema {
		return answer{false, []string{invalid.Message}}, nil
	}
	if err != nil {
		return nil, err
	}
	messages, err := h.registry.CheckCompatibility(c.Context(), c.values[0], version, schema)
	if err != nil {
		return nil, err
	}
	if !verbose {
		return answer{Compatible: len(messages) == 0}, nil
	}
	return answer{len(messages) == 0, messages}, nil
}

// parseVersion reads the version in a path: a number, "latest", or -1, which means the same.
func parseVersion(value string) (int, error) {
	if value == "latest" {
		return Latest, nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n > math.MaxInt32 || n < 1 && n != Latest {
		return 0, &Error{http.StatusUnprocessableEntity, CodeInvalidVersion, fmt.Sprintf(
			"The specified version '%.40s' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"", value)}
	}
	return int(n), nil
}

type levelAnswer struct {
	Level Level `json:"compatibilityLevel"`
}

func (h *handler) globalLevel(c *call) (any, error) {
	level, err := h.registry.Level(c.Context(), "")
	return levelAnswer{level}, err
}

func (h *handler) subjectLevel(c *call) (any, error) {
	level, err := h.registry.SubjectLevel(c.Context(), c.values[0])
	if c.flag("defaultToGlobal") && isCode(err, CodeLevelNotConfigured) {
		return h.globalLevel(c)
	}
	return levelAnswer{level}, err
}

func (h *handler) setLevel(c *call) (any, error) {
	var body struct {
		Level Level `json:"compatibility"`
	}
	if err := c.body(&body); err != nil {
		return nil, err
	}
	level, ok := ParseLevel(string(body.Level))
	if !ok {
		return nil, &Error{http.StatusUnprocessableEntity, CodeInvalidLevel,
			"Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive"}
	}
	if err := h.registry.SetLevel(c.Context(), c.levelScope(), level); err != nil {
		return nil, err
	}
	h.log.InfoContext(c.Context(), "compatibility level set", "subject", c.levelScope(), "level", level)
	body.Level = level
	return body, nil
}

func (h *handler) unsetLevel(c *call) (any, error) {
	level, err := h.registry.UnsetLevel(c.Context(), c.levelScope())
	if err == nil {
		h.log.InfoContext(c.Context(), "compatibility level removed", "subject", c.levelScope(), "was", level)
	}
	return levelAnswer{level}, err
}

// levelScope is the subject whose level is meant; "" is the global one.
func (c *call) levelScope() string {
	if len(c.values) == 0 {
		return ""
	}
	return c.values[0]
}
