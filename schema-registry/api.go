package schemaregistry

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// api lists what the registry answers to.
func (h *handler) api() []route {
	return []route{
		{"GET", "/", nothing},
		{"POST", "/", nothing},
		{"GET", "/subjects", h.subjects},
		{"POST", "/subjects/{subject}", h.lookup},
		{"DELETE", "/subjects/{subject}", h.deleteSubject},
		{"GET", "/subjects/{subject}/metadata", h.withMetadata},
		{"GET", "/subjects/{subject}/versions", h.versions},
		{"POST", "/subjects/{subject}/versions", h.register},
		{"GET", "/subjects/{subject}/versions/{version}", h.version},
		{"DELETE", "/subjects/{subject}/versions/{version}", h.deleteVersion},
		{"GET", "/subjects/{subject}/versions/{version}/schema", h.versionSchema},
		{"GET", "/subjects/{subject}/versions/{version}/referencedby", h.referencedBy},
		{"GET", "/schemas", h.schemas},
		{"GET", "/schemas/types", h.schemaTypes},
		{"GET", "/schemas/ids/{id}", h.schema},
		{"GET", "/schemas/ids/{id}/schema", h.schemaText},
		{"GET", "/schemas/ids/{id}/subjects", h.schemaSubjects},
		{"GET", "/schemas/ids/{id}/versions", h.schemaVersions},
		{"GET", "/schemas/guids/{guid}", h.schemaByGUID},
		{"GET", "/schemas/guids/{guid}/ids", h.idsOfGUID},
		{"POST", "/compatibility/subjects/{subject}/versions", h.compatibility},
		{"POST", "/compatibility/subjects/{subject}/versions/{version}", h.compatibility},
		{"GET", "/config", h.config},
		{"PUT", "/config", h.setConfig},
		{"DELETE", "/config", h.unsetConfig},
		{"GET", "/config/{subject}", h.config},
		{"PUT", "/config/{subject}", h.setConfig},
		{"DELETE", "/config/{subject}", h.unsetConfig},
		{"GET", "/mode", h.mode},
		{"PUT", "/mode", h.setMode},
		{"DELETE", "/mode", h.unsetMode},
		{"GET", "/mode/{subject}", h.mode},
		{"PUT", "/mode/{subject}", h.setMode},
		{"DELETE", "/mode/{subject}", h.unsetMode},
		{"GET", "/contexts", h.contexts},
		{"DELETE", "/contexts/{context}", h.deleteContext},
		{"GET", "/v1/metadata/id", h.serverID},
		{"GET", "/v1/metadata/version", h.serverVersion},
	}
}

func nothing(*call) (any, error) { return struct{}{}, nil }

// call is a request with what was found in its path.
type call struct {
	*http.Request
	*handler
	target
	values []string // of the pattern's variables, in their order
}

// value returns a variable of the path, "" where there is none.
func (c *call) value(i int) string {
	if i < len(c.values) {
		return c.values[i]
	}
	return ""
}

func (c *call) flag(name string) bool { return strings.EqualFold(c.query.Get(name), "true") }

// deletion says what a list is asked to have.
func (c *call) deletion() Deletion {
	switch {
	case c.flag("deletedOnly"):
		return OnlyDeleted
	case c.flag("deleted"):
		return WithDeleted
	}
	return WithoutDeleted
}

// subject returns the subject of a path, or the one that stands for it.
func (c *call) subject() (string, error) { return c.registry.aliasOf(c.Context(), c.value(0)) }

// parseVersion reads the version in a path: a number, "latest", or -1, which means the same.
func parseVersion(value string) (int, error) {
	value = strings.TrimSpace(value)
	if strings.EqualFold(value, "latest") {
		return Latest, nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 1 && n != Latest {
		return 0, unprocessable(CodeInvalidVersion, fmt.Sprintf(
			"The specified version '%.100s' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"", value))
	}
	return int(n), nil
}

// parseNumber reads a number of the path or the query. What is none makes another path.
func parseNumber(value string) (int, error) {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return 0, httpError(http.StatusNotFound, "HTTP 404 Not Found")
	}
	return int(n), nil
}

// page cuts a list by the parameters offset and limit. A limit that is not from 1 to
// largest means largest.
func page[T any](c *call, list []T, largest int) (any, error) {
	numbers := map[string]int{"offset": 0, "limit": -1}
	for name := range numbers {
		if value := c.query.Get(name); value != "" {
			n, err := parseNumber(value)
			if err != nil {
				return nil, err
			}
			numbers[name] = n
		}
	}
	limit := numbers["limit"]
	if limit <= 0 || limit > largest {
		limit = largest
	}
	from := min(max(numbers["offset"], 0), len(list))
	return list[from : from+min(limit, len(list)-from)], nil
}

// The longest lists. That of schemas is long in bytes already.
const (
	anyLength      = math.MaxInt32
	longestSchemas = 1000
)
