package schemaregistry

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// route is one method on one path. A pattern's segments in braces are variables.
type route struct {
	method  string
	pattern string
	handle  func(*call) (any, error)
}

// routes are a table of routes by the first segment of their patterns.
type routes map[string][]compiledRoute

type compiledRoute struct {
	route
	parts []string
}

func newRoutes(list []route) routes {
	table := routes{}
	for _, r := range list {
		parts := splitPath(r.pattern)
		first := ""
		if len(parts) > 0 {
			first = parts[0]
		}
		table[first] = append(table[first], compiledRoute{r, parts})
	}
	return table
}

// splitPath leaves out empty segments: a slash at the end, or two of them, mean nothing.
func splitPath(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" })
}

// target is what a request asks for.
type target struct {
	segments []string // of the path, decoded
	query    url.Values
}

// parseTarget splits the path before it decodes the segments, so that a subject may have any
// characters, slashes too.
func parseTarget(u *url.URL) (target, error) {
	t := target{segments: splitPath(u.EscapedPath())}
	for i, s := range t.segments {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return t, httpError(http.StatusBadRequest, "Malformed path")
		}
		t.segments[i] = decoded
	}
	if u.RawQuery != "" {
		t.query = u.Query() // what is malformed is left out
	}
	return t, t.enterContext()
}

// enterContext turns a path under /contexts/NAME into the same one without, in which the
// subject, or the parameter that stands for one, is of that context.
func (t *target) enterContext() error {
	if len(t.segments) < 2 || t.segments[0] != "contexts" {
		return nil
	}
	name := strings.TrimSuffix(strings.TrimPrefix(t.segments[1], ":"), ":")
	if strings.Contains(name, ":") {
		return httpError(http.StatusBadRequest, "Context name cannot contain a colon")
	}
	context := "." + strings.TrimPrefix(name, ".")
	qualify := func(name string) string {
		if strings.HasPrefix(name, contextPrefix) || strings.HasPrefix(name, contextWildcard) {
			return name
		}
		return joinName(context, name)
	}
	rest := t.segments[2:]
	if len(rest) == 0 {
		t.segments = []string{"contexts"}
		if context != defaultContext {
			t.segments = append(t.segments, joinName(context, ""))
		}
		return nil
	}
	if (rest[0] == "config" || rest[0] == "mode") && len(rest) == 1 && context != defaultContext {
		rest = append(rest, "")
	}
	for i, s := range rest[:len(rest)-1] {
		if s == "subjects" || i == 0 && (s == "config" || s == "mode") {
			rest[i+1] = qualify(rest[i+1])
			break
		}
	}
	t.segments = rest
	if t.query == nil {
		t.query = url.Values{}
	}
	switch {
	case len(rest) > 1 && rest[0] == "schemas" && rest[1] == "ids":
		t.query.Set("subject", qualify(t.query.Get("subject")))
	case len(rest) == 1 && (rest[0] == "schemas" || rest[0] == "subjects"):
		t.query.Set("subjectPrefix", qualify(t.query.Get("subjectPrefix")))
	}
	return nil
}

// match finds the route of a request, and the values of its variables.
func (table routes) match(method string, segments []string) (*compiledRoute, []string, error) {
	first := ""
	if len(segments) > 0 {
		first = segments[0]
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	allowed := allowedMethods{}
	candidates := table[first]
	for i := range candidates {
		r := &candidates[i]
		values, ok := r.values(segments)
		if !ok {
			continue
		}
		if r.method == method {
			return r, values, nil
		}
		allowed = append(allowed, r.method)
	}
	if len(allowed) == 0 {
		return nil, nil, httpError(http.StatusNotFound, "HTTP 404 Not Found")
	}
	return nil, nil, allowed
}

func (r *compiledRoute) values(segments []string) ([]string, bool) {
	if len(r.parts) != len(segments) {
		return nil, false
	}
	var values []string
	for i, part := range r.parts {
		if part[0] == '{' {
			values = append(values, segments[i])
		} else if part != segments[i] {
			return nil, false
		}
	}
	return values, true
}

// allowedMethods is the error for a path that has other methods than the one asked for.
type allowedMethods []string

func (m allowedMethods) Error() string { return "method not allowed" }

// header is the value of Allow.
func (m allowedMethods) header() string {
	list := slices.Clone(m)
	if slices.Contains(list, http.MethodGet) {
		list = append(list, http.MethodHead)
	}
	return strings.Join(append(list, http.MethodOptions), ",")
}

func httpError(status int, message string) error { return &Error{status, status, message} }
