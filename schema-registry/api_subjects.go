package schemaregistry

import (
	"errors"
)

func (h *handler) subjects(c *call) (any, error) {
	prefix := contextWildcard
	if c.query.Has("subjectPrefix") {
		prefix = c.query.Get("subjectPrefix")
	}
	names, err := h.registry.Subjects(c.Context(), prefix, c.deletion())
	if err != nil {
		return nil, err
	}
	return page(c, names, anyLength)
}

func (h *handler) lookup(c *call) (any, error) {
	submission, err := c.submission()
	if err != nil {
		return nil, err
	}
	subject, err := c.subject()
	if err != nil {
		return nil, err
	}
	v, err := h.registry.Lookup(c.Context(), subject, submission, c.flag("deleted"))
	if err != nil {
		return nil, err
	}
	if err := h.render(c, &v); err != nil {
		return nil, err
	}
	return v.withSubject(), nil
}

func (h *handler) withMetadata(c *call) (any, error) {
	subject, err := c.subject()
	if err != nil {
		return nil, err
	}
	properties := map[string]string{}
	keys, values := c.query["key"], c.query["value"]
	for i := range min(len(keys), len(values)) {
		properties[keys[i]] = values[i]
	}
	v, err := h.registry.WithMetadata(c.Context(), subject, properties, c.flag("deleted"))
	if err != nil {
		return nil, err
	}
	return v.full(), h.render(c, &v)
}

func (h *handler) register(c *call) (any, error) {
	submission, err := c.submission()
	if err != nil {
		return nil, err
	}
	subject, err := c.subject()
	if err != nil {
		return nil, err
	}
	v, added, err := h.registry.Register(c.Context(), subject, submission)
	if err != nil {
		return nil, err
	}
	if added {
		h.log.InfoContext(c.Context(), "schema registered", "subject", v.Subject, "version", v.Version, "schema_id", v.ID)
	}
	if err := h.render(c, &v); err != nil {
		return nil, err
	}
	return v.answer(), nil
}

func (h *handler) deleteSubject(c *call) (any, error) {
	subject, err := c.subject()
	if err != nil {
		return nil, err
	}
	permanent := c.flag("permanent")
	numbers, err := h.registry.DeleteSubject(c.Context(), subject, permanent)
	if err != nil {
		return nil, err
	}
	h.log.InfoContext(c.Context(), "subject deleted", "subject", subject, "versions", numbers, "permanent", permanent)
	return numbers, nil
}

func (h *handler) versions(c *call) (any, error) {
	subject, err := c.subject()
	if err != nil {
		return nil, err
	}
	numbers, err := h.registry.Versions(c.Context(), subject, c.deletion())
	if err != nil {
		return nil, err
	}
	return page(c, numbers, anyLength)
}

// subjectVersion reads what a path to a version says.
func (h *handler) subjectVersion(c *call) (subject string, number int, err error) {
	if number, err = parseVersion(c.value(1)); err != nil {
		return "", 0, err
	}
	subject, err = c.subject()
	return subject, number, err
}

func (h *handler) find(c *call) (Version, error) {
	subject, number, err := h.subjectVersion(c)
	if err != nil {
		return Version{}, err
	}
	v, err := h.registry.Version(c.Context(), subject, number, c.flag("deleted"))
	if err != nil {
		return Version{}, err
	}
	return v, h.render(c, &v)
}

func (h *handler) version(c *call) (any, error) {
	v, err := h.find(c)
	return v.full(), err
}

func (h *handler) versionSchema(c *call) (any, error) {
	v, err := h.find(c)
	return text(v.Schema), err
}

func (h *handler) referencedBy(c *call) (any, error) {
	subject, number, err := h.subjectVersion(c)
	if err != nil {
		return nil, err
	}
	ids, err := h.registry.ReferencedBy(c.Context(), subject, number, c.flag("deleted"))
	if err != nil {
		return nil, err
	}
	return page(c, ids, longestSchemas)
}

func (h *handler) deleteVersion(c *call) (any, error) {
	subject, number, err := h.subjectVersion(c)
	if err != nil {
		return nil, err
	}
	permanent := c.flag("permanent")
	number, err = h.registry.DeleteVersion(c.Context(), subject, number, permanent)
	if err != nil {
		return nil, err
	}
	h.log.InfoContext(c.Context(), "version deleted", "subject", subject, "version", number, "permanent", permanent)
	return number, nil
}

func (h *handler) compatibility(c *call) (any, error) {
	version := AnyVersion
	if len(c.values) > 1 {
		var err error
		if version, err = parseVersion(c.values[1]); err != nil {
			return nil, err
		}
	}
	submission, err := c.submission()
	if err != nil {
		return nil, err
	}
	subject, err := c.subject()
	if err != nil {
		return nil, err
	}
	type answer struct {
		Compatible bool      `json:"is_compatible"`
		Messages   *[]string `json:"messages,omitempty"`
	}
	messages, err := h.registry.CheckCompatibility(c.Context(), subject, version, submission)
	verbose := c.flag("verbose")
	var invalid *Error
	if verbose && errors.As(err, &invalid) && invalid.Code == CodeInvalidSchema {
		messages, err = []string{invalid.Message}, nil
	}
	if err != nil {
		return nil, err
	}
	a := answer{Compatible: len(messages) == 0}
	if verbose {
		messages = append([]string{}, messages...)
		a.Messages = &messages
	}
	return a, nil
}
