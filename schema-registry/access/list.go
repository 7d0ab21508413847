package access

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// listKind is what the elements of a list are.
type listKind uint8

const (
	notAList       listKind = iota
	listSubjects            // subjects
	listVersions            // objects with a subject
	listSchemas             // the same, which the registry gives page by page
	listContexts            // contexts
	listIDs                 // schema IDs of one context
	listContextIDs          // objects with context and ID
)

// schemasPage is how many schemas are asked for at a time.
const schemasPage = 1000

// reader is somebody who does not read everything.
type reader struct {
	policy *Policy
	who    string
}

func (rd reader) reads(n name) bool { return rd.policy.allows(rd.who, Read, n) }

// serveList answers with what somebody may see of a list. It asks the registry for the whole
// of it and cuts out the page that was asked for itself, since the registry would count what
// they may not see.
func (g *Guard) serveList(w http.ResponseWriter, r *http.Request, req *request, kind listKind, rd reader) {
	query := r.URL.Query()
	offset, limit, ok := readPage(query)
	if !ok {
		g.refuse(w, refusal{status: http.StatusNotFound, reason: "path", message: "HTTP 404 Not Found"})
		return
	}
	query.Del("offset")
	query.Del("limit")
	answer, elements, err := g.wholeList(r, kind, query)
	if err != nil {
		g.log.Error("a list of the registry cannot be read", "path", r.URL.Path, "error", err)
		g.refuse(w, storeFailed)
		return
	}
	if answer.status != http.StatusOK {
		answer.send(w, answer.body.Bytes())
		return
	}
	seen := []json.RawMessage{}
	for _, element := range elements {
		if visible, err := g.visible(r, req, kind, element, rd); err == nil && visible {
			seen = append(seen, element)
		}
	}
	if kind == listSchemas && limit <= 0 {
		limit = schemasPage
	}
	seen = seen[min(offset, len(seen)):]
	if limit >= 0 {
		seen = seen[:min(limit, len(seen))]
	}
	text, err := json.Marshal(seen)
	if err != nil {
		g.refuse(w, storeFailed)
		return
	}
	answer.send(w, append(text, '\n'))
}

// readPage reads offset and limit; a limit of -1 is none.
func readPage(query url.Values) (offset, limit int, ok bool) {
	limit = -1
	var err error
	if value := query.Get("offset"); value != "" {
		if offset, err = strconv.Atoi(value); err != nil {
			return 0, 0, false
		}
	}
	if value := query.Get("limit"); value != "" {
		if limit, err = strconv.Atoi(value); err != nil {
			return 0, 0, false
		}
	}
	return max(offset, 0), max(limit, -1), true
}

// wholeList asks for all of a list; the answer is the last one.
func (g *Guard) wholeList(r *http.Request, kind listKind, query url.Values) (*capture, []json.RawMessage, error) {
	var elements []json.RawMessage
	for {
		if kind == listSchemas {
			query.Set("offset", strconv.Itoa(len(elements)))
			query.Set("limit", strconv.Itoa(schemasPage))
		}
		page, u := *r, *r.URL
		u.RawQuery = query.Encode()
		page.URL, page.RequestURI, page.Method = &u, u.RequestURI(), http.MethodGet
		answer := newCapture()
		g.next.ServeHTTP(answer, &page)
		if answer.status != http.StatusOK {
			return answer, nil, nil
		}
		var more []json.RawMessage
		if err := json.Unmarshal(answer.body.Bytes(), &more); err != nil {
			return nil, nil, err
		}
		elements = append(elements, more...)
		if kind != listSchemas || len(more) < schemasPage {
			return answer, elements, nil
		}
	}
}

// visible tells whether somebody may see one element of a list.
func (g *Guard) visible(r *http.Request, req *request, kind listKind, element json.RawMessage, rd reader) (bool, error) {
	var object struct {
		Subject *string `json:"subject"`
		contextID
	}
	switch kind {
	case listSubjects:
		var subject string
		err := json.Unmarshal(element, &subject)
		return rd.reads(readNameIn(req.context, subject)), err
	case listVersions, listSchemas:
		if err := json.Unmarshal(element, &object); err != nil || object.Subject == nil {
			return false, err
		}
		return rd.reads(readNameIn(req.context, *object.Subject)), nil
	case listContexts:
		var text string
		if err := json.Unmarshal(element, &text); err != nil {
			return false, err
		}
		context, ok := readContext(text)
		return ok && rd.policy.seesContext(rd.who, context), nil
	case listIDs:
		object.Context = req.names()[0].context
		if err := json.Unmarshal(element, &object.ID); err != nil {
			return false, err
		}
	case listContextIDs:
		if err := json.Unmarshal(element, &object); err != nil {
			return false, err
		}
	default:
		return false, nil
	}
	names, _, err := object.uses(r, g.next)
	return slices.ContainsFunc(names, rd.reads), err
}
