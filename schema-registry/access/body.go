package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// judgeBody sees that the subjects that a body names are open too: what a schema refers to
// must be readable, since its types become part of what the registry tells of the schema,
// and the settings of what an alias stands for must be theirs to change.
func judgeBody(policy *Policy, who string, r *http.Request, req *request) *refusal {
	action, attribute := Read, "references"
	if r.Method == http.MethodPut {
		action, attribute = Config, "alias"
	}
	if policy.allowsEverywhere(who, action) {
		return nil
	}
	text, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &refusal{status: http.StatusRequestEntityTooLarge, reason: "body",
			message: fmt.Sprintf("The request body is longer than the limit of %d bytes", large.Limit)}
	case err != nil:
		return &refusal{status: http.StatusBadRequest, reason: "body", message: "The request body cannot be read"}
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	subjects, err := namedSubjects(text, attribute)
	if err != nil {
		return &refusal{status: http.StatusBadRequest, reason: "body", message: "Malformed JSON: " + err.Error()}
	}
	for _, subject := range subjects {
		if subject == "" {
			continue
		}
		// Without a context it may be one of the default context or of the path's subject.
		for _, context := range []string{defaultContext, req.context, req.names()[0].context} {
			if n := readNameIn(context, subject); !policy.allows(who, action, n) {
				return denied(who, fmt.Sprintf("%s subject %q, which the request names", action, displayName(n)))
			}
		}
	}
	return nil
}

// namedSubjects returns every text that stands in the attribute of a JSON object, at any
// depth. An attribute that is there twice counts twice, in any case of its letters: nobody
// shall have to know which one the registry takes. An empty body names none.
func namedSubjects(text []byte, attribute string) ([]string, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	first, err := decoder.Token()
	if errors.Is(err, io.EOF) || err == nil && first != json.Delim('{') {
		return nil, nil // the registry refuses it
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		if name, _ := key.(string); !strings.EqualFold(name, attribute) {
			continue
		}
		texts, err := allTexts(value)
		if err != nil {
			return nil, err
		}
		found = append(found, texts...)
	}
	_, err = decoder.Token()
	return found, err
}

// allTexts returns what a value has of texts: itself, or what stands under "subject" in it.
func allTexts(value json.RawMessage) ([]string, error) {
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	var texts []string
	var isSubject bool    // the text that comes next stands under "subject"
	var inObject []bool   // of what is open
	var expectKey = false // in an object, a key comes next
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return texts, nil
		}
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case json.Delim:
			if token == '{' || token == '[' {
				inObject = append(inObject, token == '{')
			} else {
				inObject = inObject[:len(inObject)-1]
			}
			isSubject = false
			expectKey = len(inObject) > 0 && inObject[len(inObject)-1]
			continue
		case string:
			if expectKey {
				isSubject, expectKey = strings.EqualFold(token, "subject"), false
				continue
			}
			if isSubject || len(inObject) == 0 {
				texts = append(texts, token)
			}
		case json.Number:
			if isSubject || len(inObject) == 0 {
				texts = append(texts, token.String())
			}
		}
		isSubject = false
		expectKey = len(inObject) > 0 && inObject[len(inObject)-1]
	}
}
