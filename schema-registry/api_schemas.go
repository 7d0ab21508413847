package schemaregistry

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// schemaAnswer is a schema as clients know it.
type schemaAnswer struct {
	Subject    string      `json:"subject,omitempty"`
	Version    int         `json:"version,omitempty"`
	ID         *int        `json:"id,omitempty"`
	GUID       string      `json:"guid"`
	SchemaType string      `json:"schemaType"`
	References []Reference `json:"references,omitempty"`
	Metadata   *Metadata   `json:"metadata,omitempty"`
	RuleSet    *RuleSet    `json:"ruleSet,omitempty"`
	Schema     string      `json:"schema"`
	MaxID      *int        `json:"maxId,omitempty"`
	Time       int64       `json:"ts,omitempty"`
	Deleted    *bool       `json:"deleted,omitempty"`
}

// answer has all but the subject, which registering leaves out, and what changes with time.
func (v Version) answer() schemaAnswer {
	return schemaAnswer{
		Version: v.Version, ID: &v.ID, GUID: v.GUID, SchemaType: v.Type,
		References: v.References, Metadata: v.Metadata, RuleSet: v.RuleSet, Schema: v.Schema,
	}
}

func (v Version) withSubject() schemaAnswer {
	a := v.answer()
	a.Subject = v.Subject
	return a
}

func (v Version) full() schemaAnswer {
	a := v.withSubject()
	a.Time, a.Deleted = v.Time, &v.Deleted
	return a
}

// render puts a schema into the form that the parameter format asks for, and its references
// into that of referenceFormat.
func (h *handler) render(c *call, v *Version) error {
	if form := strings.TrimSpace(c.query.Get("format")); form != "" {
		text, err := h.registry.Formatted(c.Context(), *v, form)
		if err != nil {
			return err
		}
		v.Schema = text
	}
	if c.query.Get("referenceFormat") == "qualified" {
		v.References = slices.Clone(v.References)
		for i := range v.References {
			v.References[i].Subject = inContextOf(v.Subject, v.References[i].Subject)
		}
	}
	return nil
}

// Formatted returns the text of a version in another form: for Avro "resolved", with all
// that it refers to in it. An unknown form means the canonical text.
func (r *Registry) Formatted(ctx context.Context, v Version, form string) (string, error) {
	if err := r.Load(ctx); err != nil {
		return "", err
	}
	c := content{Type: v.Type, Text: v.Schema, References: v.References}
	_, parsed, err := r.parseContent(r.published, v.Subject, c, false)
	if err != nil {
		return "", err
	}
	return parsed.formatted(form), nil
}

// byID is the schema of the ID in the path.
func (h *handler) byID(c *call) (Version, error) {
	id, err := parseNumber(c.value(0))
	if err != nil {
		return Version{}, err
	}
	subject, err := h.registry.aliasOf(c.Context(), c.query.Get("subject"))
	if err != nil {
		return Version{}, err
	}
	v, err := h.registry.SchemaByID(c.Context(), id, subject)
	if isCode(err, CodeSchemaNotFound) {
		err = notFound(CodeSchemaNotFound, "Schema "+c.value(0)+" not found")
	}
	if err != nil {
		return Version{}, err
	}
	return v, h.render(c, &v)
}

// encodedByID returns the answer for an ID of the default context as it was given before,
// nil where there is none.
func (r *Registry) encodedByID(id int) (body encoded) {
	r.published(func(s *state) {
		ctx := s.contexts[defaultContext]
		if ctx == nil || ctx.schemas[id] == nil {
			return
		}
		e := ctx.schemas[id]
		if kept := e.body.Load(); kept != nil {
			body = *kept
			return
		}
		name, v, ok := s.use(e, "")
		if !ok {
			return
		}
		answer := v.export(name).full()
		answer.ID = nil
		text, err := encode(answer)
		if err != nil {
			return
		}
		body = text
		e.body.Store(&text)
	})
	return body
}

func (h *handler) schema(c *call) (any, error) {
	v, err := h.byID(c)
	if err != nil {
		return nil, err
	}
	answer := v.full()
	answer.ID = nil
	if c.flag("fetchMaxId") {
		last, err := h.registry.LastID(c.Context(), v.Subject)
		if err != nil {
			return nil, err
		}
		answer.MaxID = &last
	}
	return answer, nil
}

func (h *handler) schemaText(c *call) (any, error) {
	v, err := h.byID(c)
	return text(v.Schema), err
}

func (h *handler) uses(c *call) ([]Use, error) {
	id, err := parseNumber(c.value(0))
	if err != nil {
		return nil, err
	}
	subject, err := h.registry.aliasOf(c.Context(), c.query.Get("subject"))
	if err != nil {
		return nil, err
	}
	return h.registry.UsesOfID(c.Context(), id, subject, c.flag("deleted"))
}

func (h *handler) schemaVersions(c *call) (any, error) {
	uses, err := h.uses(c)
	if err != nil {
		return nil, err
	}
	return page(c, uses, anyLength)
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
	return page(c, slices.Compact(subjects), anyLength)
}

func (h *handler) schemaByGUID(c *call) (any, error) {
	ids, err := h.registry.IDsOfGUID(c.Context(), c.value(0))
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, notFound(CodeSchemaNotFound, "Schema "+c.value(0)+" not found")
	}
	v, err := h.registry.SchemaByID(c.Context(), ids[0].ID, joinName(ids[0].Context, ""))
	if err != nil {
		return nil, err
	}
	if err := h.render(c, &v); err != nil {
		return nil, err
	}
	answer := v.full()
	answer.ID, answer.Subject, answer.Version = nil, "", 0
	return answer, nil
}

func (h *handler) idsOfGUID(c *call) (any, error) {
	return h.registry.IDsOfGUID(c.Context(), c.value(0))
}

func (h *handler) schemas(c *call) (any, error) {
	versions, err := h.registry.Schemas(c.Context(), c.query.Get("subjectPrefix"), c.flag("deleted"), c.flag("latestOnly"))
	if err != nil {
		return nil, err
	}
	if rule := c.query.Get("ruleType"); rule != "" {
		versions = slices.DeleteFunc(versions, func(v Version) bool {
			return v.RuleSet == nil || !slices.ContainsFunc(v.RuleSet.all(), func(r Rule) bool { return r.Type == rule })
		})
	}
	answers := make([]schemaAnswer, len(versions))
	for i, v := range versions {
		answers[i] = v.withSubject()
	}
	return page(c, answers, longestSchemas)
}

func (h *handler) schemaTypes(*call) (any, error) {
	return []string{JSONSchema, Protobuf, Avro}, nil
}

func (h *handler) contexts(c *call) (any, error) {
	names, err := h.registry.Contexts(c.Context())
	if err != nil {
		return nil, err
	}
	prefix := c.query.Get("contextPrefix")
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	return page(c, names, anyLength)
}

func (h *handler) deleteContext(c *call) (any, error) {
	name := c.value(0)
	if err := h.registry.DeleteContext(c.Context(), name); err != nil {
		return nil, err
	}
	h.log.InfoContext(c.Context(), "context deleted", "context", name)
	return noContent{}, nil
}

// noContent is an answer without a body.
type noContent struct{}

func (h *handler) serverID(*call) (any, error) {
	type clusters struct {
		Kafka    string `json:"kafka-cluster"`
		Registry string `json:"schema-registry-cluster"`
	}
	type scope struct {
		Path     []string `json:"path"`
		Clusters clusters `json:"clusters"`
	}
	return struct {
		Scope scope  `json:"scope"`
		ID    string `json:"id,omitempty"`
	}{Scope: scope{Path: []string{}, Clusters: clusters{Kafka: "postrider", Registry: "schema-registry"}}}, nil
}

func (h *handler) serverVersion(*call) (any, error) {
	return struct {
		Version string `json:"version"`
		Commit  string `json:"commitId"`
	}{h.Version, h.Commit}, nil
}

// statusOf is the HTTP status of an answer that is no error.
func statusOf(answer any) int {
	if _, ok := answer.(noContent); ok {
		return http.StatusNoContent
	}
	return http.StatusOK
}
