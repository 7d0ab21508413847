package access

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// usesTTL is how long it is remembered which subjects use a schema, or else each look at
	// a schema would cost a search. A schema that is read for that much longer after the
	// subject that opened it was removed for ever has told nothing new.
	usesTTL = 10 * time.Second
	// maxUses bounds what is remembered; beyond it everything is asked for again.
	maxUses = 50_000
)

// useCache knows the subjects that use a schema, by the path and query that ask for it.
type useCache struct {
	mu      sync.Mutex
	entries map[string]uses
}

type uses struct {
	names []name
	until time.Time
}

func newUseCache() *useCache { return &useCache{entries: make(map[string]uses)} }

// any tells whether one of the subjects that use the schema of a request is open, and whether
// the registry knows the schema at all. The parameter subject makes the registry look in that
// subject's context, so it is part of the question.
func (c *useCache) any(r *http.Request, req *request, next http.Handler, open func(name) bool) (allowed, exists bool, err error) {
	subject := r.URL.Query().Get("subject")
	key := fmt.Sprintf("%q %q %q", req.prefix, req.values[1:3], subject)
	c.mu.Lock()
	found, ok := c.entries[key]
	c.mu.Unlock()
	if ok && time.Now().Before(found.until) && anyOpen(found.names, open) {
		return true, true, nil
	}
	// A refusal is never given on what is only remembered: the schema may have been
	// registered for another subject since.
	names, exists, err := findUses(r, req, next, subject)
	if err != nil || !exists {
		return false, false, err
	}
	c.mu.Lock()
	if len(c.entries) >= maxUses {
		clear(c.entries)
	}
	c.entries[key] = uses{names, time.Now().Add(usesTTL)}
	c.mu.Unlock()
	return anyOpen(names, open), true, nil
}

func anyOpen(names []name, open func(name) bool) bool {
	for _, n := range names {
		if open(n) {
			return true
		}
	}
	return false
}

// findUses asks the registry for the subjects that use a schema, soft-deleted ones too. It
// reports false for a schema that does not exist.
func findUses(r *http.Request, req *request, next http.Handler, subject string) (names []name, exists bool, err error) {
	if req.values[1] == "guids" {
		return findGUIDUses(r, req, next)
	}
	return findIDUses(r, req.prefix, req.context, req.values[2], subject, next)
}

func findIDUses(r *http.Request, prefix []string, context, id, subject string, next http.Handler) ([]name, bool, error) {
	query := url.Values{"deleted": {"true"}}
	if subject != "" {
		query.Set("subject", subject)
	}
	var versions []struct {
		Subject string `json:"subject"`
	}
	exists, err := askJSON(r, next, append(prefix[:len(prefix):len(prefix)], "schemas", "ids", id, "versions"), query, &versions)
	var names []name
	for _, v := range versions {
		names = append(names, readNameIn(context, v.Subject))
	}
	return names, exists, err
}

func findGUIDUses(r *http.Request, req *request, next http.Handler) ([]name, bool, error) {
	var ids []contextID
	exists, err := askJSON(r, next, append(req.prefix[:len(req.prefix):len(req.prefix)], "schemas", "guids", req.values[2], "ids"), nil, &ids)
	if err != nil || !exists || len(ids) == 0 {
		return nil, false, err
	}
	var names []name
	for _, id := range ids {
		uses, _, err := id.uses(r, next)
		if err != nil {
			return nil, true, err
		}
		names = append(names, uses...)
	}
	return names, true, nil
}

// contextID is an ID of one context.
type contextID struct {
	Context string `json:"context"`
	ID      int    `json:"id"`
}

func (c contextID) uses(r *http.Request, next http.Handler) ([]name, bool, error) {
	context, _ := readContext(c.Context)
	var prefix []string
	if context != defaultContext {
		prefix = []string{"contexts", context}
	}
	return findIDUses(r, prefix, context, fmt.Sprint(c.ID), "", next)
}

// askJSON reports false where the registry does not find what is asked for, or says that the
// question is none.
func askJSON(r *http.Request, next http.Handler, segments []string, query url.Values, into any) (bool, error) {
	var path strings.Builder
	for _, s := range segments {
		path.WriteString("/" + escapeSegment(s))
	}
	answer, err := ask(r.Context(), next, path.String(), query)
	switch {
	case err != nil:
		return false, err
	case answer.status >= http.StatusInternalServerError:
		return false, fmt.Errorf("status %d", answer.status)
	case answer.status != http.StatusOK:
		return false, nil
	}
	return true, json.Unmarshal(answer.body.Bytes(), into)
}

// foundSubject asks in which subject the registry finds the version of a request: an alias
// stands for another, and a subject without a context is looked for in all of them. It
// reports false where there is no such version.
func foundSubject(r *http.Request, req *request, next http.Handler) (name, bool, error) {
	query := url.Values{}
	if deleted := r.URL.Query().Get("deleted"); deleted != "" {
		query.Set("deleted", deleted)
	}
	if len(req.values) > 4 && req.values[4] == "referencedby" {
		query.Set("deleted", "true") // as the registry does
	}
	var version struct {
		Subject string `json:"subject"`
	}
	exists, err := askJSON(r, next, append(req.prefix[:len(req.prefix):len(req.prefix)], req.values[:4]...), query, &version)
	return readNameIn(req.context, version.Subject), exists, err
}
