package schemaregistry

import (
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// route is one method on one path. A pattern's segments in braces are variables.
type route struct {
	method  string
	pattern string
	handle  func(*call) (any, error)
}

// match finds the route of a request. It splits the path before it decodes the segments, so
// that a subject may have any characters, slashes too.
func match(routes []route, method, escapedPath string) (*route, []string, error) {
	segments := strings.Split(strings.Trim(escapedPath, "/"), "/")
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return nil, nil, &Error{http.StatusBadRequest, http.StatusBadRequest, "Malformed path"}
		}
		segments[i] = decoded
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	found := false
	for i := range routes {
		values, ok := routes[i].values(segments)
		if ok && routes[i].method == method {
			return &routes[i], values, nil
		}
		found = found || ok
	}
	if found {
		return nil, nil, &Error{http.StatusMethodNotAllowed, http.StatusMethodNotAllowed, "HTTP 405 Method Not Allowed"}
	}
	return nil, nil, &Error{http.StatusNotFound, http.StatusNotFound, "HTTP 404 Not Found"}
}

func (r *route) values(segments []string) ([]string, bool) {
	parts := strings.Split(strings.Trim(r.pattern, "/"), "/")
	if len(parts) != len(segments) {
		return nil, false
	}
	var values []string
	for i, part := range parts {
		if strings.HasPrefix(part, "{") {
			values = append(values, segments[i])
		} else if part != segments[i] {
			return nil, false
		}
	}
	return values, true
}

// answerTypes are the content types of answers, the default first.
var answerTypes = []string{contentType, "application/vnd.schemaregistry+json", "application/json"}

// negotiate chooses the content type of the answer by the Accept headers: the one with the
// highest quality, and of equal ones the first asked for.
func negotiate(accept []string) (string, bool) {
	best, bestQuality := answerTypes[0], 0.0
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		mediaType, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		quality := 1.0
		if q, ok := params["q"]; ok {
			if quality, err = strconv.ParseFloat(q, 64); err != nil {
				continue
			}
		}
		if quality <= bestQuality {
			continue
		}
		switch {
		case mediaType == "*/*" || mediaType == "application/*":
			best, bestQuality = answerTypes[0], quality
		case slices.Contains(answerTypes, mediaType):
			best, bestQuality = mediaType, quality
		}
	}
	nothingAsked := strings.TrimSpace(strings.Join(accept, "")) == ""
	return best, bestQuality > 0 || nothingAsked
}

// checkContentType refuses bodies that do not claim to be JSON. Octet-stream is taken too,
// for clients that say nothing better.
func (c *call) checkContentType() error {
	header := c.Header.Get("Content-Type")
	if header == "" {
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(header)
	if err == nil && (slices.Contains(answerTypes, mediaType) || mediaType == "application/octet-stream") {
		return nil
	}
	return &Error{http.StatusUnsupportedMediaType, http.StatusUnsupportedMediaType, "HTTP 415 Unsupported Media Type"}
}
