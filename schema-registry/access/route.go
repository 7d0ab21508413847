package access

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A route is one path of the registry's API and what each method on it needs. A pattern's
// segments in braces stand for any one segment; {subject} is what rights are about.
type route struct {
	pattern string
	needs   map[string]need
	parts   []string // of the pattern
}

// need is what a request must be allowed.
type need struct {
	what   subjectOf
	action Action
	list   listKind // cuts the answer to what may be read
	change string   // what the log calls it; "" where nothing is changed
}

// subjectOf says which subjects a right must cover.
type subjectOf uint8

const (
	nothing    subjectOf = iota // anybody who may do anything at all
	oneSubject                  // the one in the path
	oneVersion                  // the same, and the one whose version is found
	everything                  // all of the context
	usersOfID                   // one of those that use the ID or GUID in the path
	open                        // anybody
)

func get(n need) map[string]need { return map[string]need{http.MethodGet: n} }

// level is the table of /config and /mode, whose paths are alike. Anybody may see what holds
// for all: clients ask for it before they do anything.
func level(of subjectOf, what string) map[string]need {
	see := need{what: of, action: Read}
	if of == everything {
		see = need{what: nothing}
	}
	return map[string]need{
		http.MethodGet:    see,
		http.MethodPut:    {what: of, action: Config, change: "set " + what},
		http.MethodDelete: {what: of, action: Config, change: "remove " + what},
	}
}

// routes is the whole API. What is not in it is answered with 404 or 405 by the guard.
var routes = splitPatterns([]route{
	{pattern: "/livez", needs: get(need{what: open})},
	{pattern: "/readyz", needs: get(need{what: open})},
	{pattern: "/metrics", needs: get(need{what: nothing})},

	{pattern: "/", needs: map[string]need{http.MethodGet: {what: nothing}, http.MethodPost: {what: nothing}}},
	{pattern: "/v1/metadata/id", needs: get(need{what: nothing})},
	{pattern: "/v1/metadata/version", needs: get(need{what: nothing})},
	{pattern: "/contexts", needs: get(need{what: nothing, list: listContexts})},
	{pattern: "/contexts/{context}", needs: map[string]need{
		http.MethodDelete: {what: everything, action: Delete, change: "delete context"},
	}},

	{pattern: "/subjects", needs: get(need{what: nothing, list: listSubjects})},
	{pattern: "/subjects/{subject}", needs: map[string]need{
		http.MethodPost:   {what: oneSubject, action: Read},
		http.MethodDelete: {what: oneSubject, action: Delete, change: "delete subject"},
	}},
	{pattern: "/subjects/{subject}/metadata", needs: get(need{what: oneSubject, action: Read})},
	{pattern: "/subjects/{subject}/versions", needs: map[string]need{
		http.MethodGet:  {what: oneSubject, action: Read},
		http.MethodPost: {what: oneSubject, action: Register, change: "register"},
	}},
	{pattern: "/subjects/{subject}/versions/{version}", needs: map[string]need{
		http.MethodGet:    {what: oneVersion, action: Read},
		http.MethodDelete: {what: oneSubject, action: Delete, change: "delete version"},
	}},
	{pattern: "/subjects/{subject}/versions/{version}/schema", needs: get(need{what: oneVersion, action: Read})},
	{pattern: "/subjects/{subject}/versions/{version}/referencedby", needs: get(need{what: oneVersion, action: Read, list: listIDs})},

	{pattern: "/schemas", needs: get(need{what: nothing, list: listSchemas})},
	{pattern: "/schemas/types", needs: get(need{what: nothing})},
	{pattern: "/schemas/ids/{id}", needs: get(need{what: usersOfID, action: Read})},
	{pattern: "/schemas/ids/{id}/schema", needs: get(need{what: usersOfID, action: Read})},
	{pattern: "/schemas/ids/{id}/subjects", needs: get(need{what: usersOfID, action: Read, list: listSubjects})},
	{pattern: "/schemas/ids/{id}/versions", needs: get(need{what: usersOfID, action: Read, list: listVersions})},
	{pattern: "/schemas/guids/{guid}", needs: get(need{what: usersOfID, action: Read})},
	{pattern: "/schemas/guids/{guid}/ids", needs: get(need{what: usersOfID, action: Read, list: listContextIDs})},

	{pattern: "/compatibility/subjects/{subject}/versions", needs: map[string]need{http.MethodPost: {what: oneSubject, action: Check}}},
	{pattern: "/compatibility/subjects/{subject}/versions/{version}", needs: map[string]need{http.MethodPost: {what: oneSubject, action: Check}}},

	{pattern: "/config", needs: level(everything, "level")},
	{pattern: "/config/{subject}", needs: level(oneSubject, "level")},
	{pattern: "/mode", needs: level(everything, "mode")},
	{pattern: "/mode/{subject}", needs: level(oneSubject, "mode")},
})

func splitPatterns(routes []route) []route {
	for i := range routes {
		routes[i].parts = strings.Split(routes[i].pattern[1:], "/")
	}
	return routes
}

// request is what the guard makes of a request's path.
type request struct {
	route   *route
	context string   // of /contexts/{context}/…, or the default one
	prefix  []string // the segments before the route's
	values  []string // the route's segments, decoded
}

// parsePath splits a path before it decodes its segments, as the registry does, so that a
// subject may have any characters, slashes and dots too. Empty segments mean nothing, and no
// segment means "here" or "above". It reports false for what is no path of the API.
func parsePath(escaped string) (request, bool) {
	segments := slices.DeleteFunc(strings.Split(escaped, "/"), func(s string) bool { return s == "" })
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return request{}, false
		}
		segments[i] = decoded
	}
	r := request{context: defaultContext, values: segments}
	if len(segments) >= 2 && segments[0] == "contexts" {
		var ok bool
		if r.context, ok = readContext(segments[1]); !ok {
			return request{}, false
		}
		if segments[1] = r.context; len(segments) > 2 {
			r.prefix, r.values = segments[:2], segments[2:]
		}
	}
	if len(r.values) == 0 {
		r.values = []string{""} // of the path /
	}
	for i := range routes {
		if routes[i].matches(r.values) {
			r.route = &routes[i]
			return r, r.prefix == nil || routes[i].inContext()
		}
	}
	return request{}, false
}

// readContext reads the segment behind /contexts, which may be written ".name", "name" or
// ":.name:". Colons inside would make two readings of a qualified subject.
func readContext(segment string) (string, bool) {
	if inner, ok := strings.CutPrefix(segment, ":"); ok {
		segment = strings.TrimSuffix(inner, ":")
	}
	if !strings.HasPrefix(segment, ".") {
		segment = "." + segment
	}
	return segment, !strings.ContainsAny(segment, ":*/")
}

// inContext tells whether a route can stand under /contexts/{context}.
func (r *route) inContext() bool {
	switch r.parts[0] {
	case "livez", "readyz", "metrics":
		return false
	}
	return r.parts[len(r.parts)-1] != "{context}"
}

func (r *route) matches(segments []string) bool {
	if len(r.parts) != len(segments) {
		return false
	}
	for i, part := range r.parts {
		if part != segments[i] && !strings.HasPrefix(part, "{") {
			return false
		}
	}
	return true
}

// value returns the segment that stands for a part of the pattern, "" if there is none.
func (r *request) value(part string) string {
	for i, p := range r.route.parts {
		if p == part {
			return r.values[i]
		}
	}
	return ""
}

// names returns the subjects that the path may be about: a qualified one under
// /contexts/{context} can be read in two ways, and a right must cover both.
func (r *request) names() []name {
	subject := r.value("{subject}")
	if subject == "" {
		return []name{{r.context, ""}}
	}
	names := []name{readNameIn(r.context, subject)}
	if literal := (name{r.context, subject}); r.prefix != nil && names[0] != literal {
		names = append(names, literal)
	}
	return names
}

// path writes a path that has one reading only.
func (r *request) path() (decoded, escaped string) {
	var d, e strings.Builder
	for _, segments := range [][]string{r.prefix, r.values} {
		for _, s := range segments {
			d.WriteString("/" + s)
			e.WriteString("/" + escapeSegment(s))
		}
	}
	return d.String(), e.String()
}

func escapeSegment(s string) string {
	escaped := url.PathEscape(s)
	if strings.Trim(s, ".") == "" {
		// Dots alone would mean "here" or "above" to whatever stands between.
		return strings.ReplaceAll(escaped, ".", "%2E")
	}
	return escaped
}
