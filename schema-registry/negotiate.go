package schemaregistry

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// answerTypes are the content types of answers, the best liked first.
var answerTypes = []string{contentType, "application/vnd.schemaregistry+json", "application/json"}

// negotiate chooses the content type of the answer by the Accept headers: that with the
// highest quality, and of equal ones the best liked.
func negotiate(accept []string) (string, bool) {
	header := strings.TrimSpace(strings.Join(accept, ","))
	if header == "" || header == "*/*" || header == contentType {
		return contentType, true
	}
	qualities := make([]float64, len(answerTypes))
	for _, part := range strings.Split(header, ",") {
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
		for i, answerType := range answerTypes {
			if mediaType == answerType || mediaType == "*/*" || mediaType == "application/*" {
				qualities[i] = max(qualities[i], quality)
			}
		}
	}
	best := slices.Index(qualities, slices.Max(qualities))
	return answerTypes[best], qualities[best] > 0
}

// checkContentType refuses what does not claim to be JSON, in requests without a body too, as
// JAX-RS does. Octet-stream is taken as well, for clients that say nothing better.
func checkContentType(header string) error {
	if header == "" || header == contentType || header == "application/json" {
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(header)
	if err == nil && (slices.Contains(answerTypes, mediaType) || mediaType == "application/octet-stream") {
		return nil
	}
	return httpError(http.StatusUnsupportedMediaType, "HTTP 415 Unsupported Media Type")
}
