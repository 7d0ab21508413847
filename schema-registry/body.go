package schemaregistry

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
)

// object is the JSON body of a request, by attribute. Attributes that nobody asks for are
// ignored.
type object map[string]json.RawMessage

func (c *call) object() (object, error) {
	raw, err := c.readBody()
	if err != nil {
		return nil, err
	}
	return parseObject(raw)
}

func (c *call) readBody() ([]byte, error) {
	raw := bytes.NewBuffer(make([]byte, 0, min(max(c.ContentLength, 0), largestParsed)+bytes.MinRead))
	_, err := raw.ReadFrom(c.Body)
	var large *http.MaxBytesError
	if err != nil && !errors.As(err, &large) {
		err = httpError(http.StatusBadRequest, "Request body cannot be read")
	}
	return raw.Bytes(), err
}

// byteOrderMark is what some programs begin UTF-8 with.
const byteOrderMark = "\xef\xbb\xbf"

func parseObject(raw []byte) (object, error) {
	raw = bytes.TrimPrefix(raw, []byte(byteOrderMark))
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil, httpError(http.StatusUnprocessableEntity, "Request body must not be empty or null")
	}
	var body object
	// Only the first value counts, whatever comes behind it.
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&body); err != nil {
		return nil, malformed(err)
	}
	if body == nil {
		return nil, httpError(http.StatusUnprocessableEntity, "Request body must not be empty or null")
	}
	return body, nil
}

func malformed(err error) error {
	return httpError(http.StatusBadRequest, fmt.Sprintf("Malformed JSON: %v", err))
}

// has tells whether an attribute is given and not null.
func (o object) has(name string) bool {
	raw, ok := o[name]
	return ok && string(raw) != "null"
}

// text reads a string; a number or true stands for its text, as in the original.
func (o object) text(name string) (string, error) {
	if !o.has(name) {
		return "", nil
	}
	raw := o[name]
	switch raw[0] {
	case '{', '[':
		return "", httpError(http.StatusBadRequest, fmt.Sprintf("Malformed JSON: %q is not a string", name))
	case '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return "", malformed(err)
		}
		return text, nil
	}
	return string(raw), nil
}

// optionalText reads a string that may be absent.
func (o object) optionalText(name string) (*string, error) {
	text, err := o.text(name)
	if err != nil || !o.has(name) {
		return nil, err
	}
	return &text, nil
}

// number reads an integer of 32 bits, or returns otherwise where there is none. One in
// quotes counts too.
func (o object) number(name string, otherwise int) (int, error) {
	if !o.has(name) {
		return otherwise, nil
	}
	var n int
	err := json.Unmarshal(bytes.Trim(o[name], `"`), &n)
	if err == nil && (n > math.MaxInt32 || n < math.MinInt32) {
		err = fmt.Errorf("%d is out of range", n)
	}
	if err != nil {
		return 0, malformed(fmt.Errorf("%q: %w", name, err))
	}
	return n, nil
}

// flag reads a boolean that may be absent.
func (o object) flag(name string) (*bool, error) {
	if !o.has(name) {
		return nil, nil
	}
	var flag bool
	if err := json.Unmarshal(bytes.Trim(o[name], `"`), &flag); err != nil {
		return nil, malformed(fmt.Errorf("%q: %w", name, err))
	}
	return &flag, nil
}

// into reads any other attribute; nothing happens where it is absent.
func (o object) into(name string, value any) error {
	if !o.has(name) {
		return nil
	}
	if err := json.Unmarshal(o[name], value); err != nil {
		return malformed(fmt.Errorf("%q: %w", name, err))
	}
	return nil
}

func (o object) metadata(name string) (*Metadata, error) {
	if !o.has(name) {
		return nil, nil
	}
	var parts, properties object
	metadata := &Metadata{}
	err := errors.Join(o.into(name, &parts), parts.into("tags", &metadata.Tags),
		parts.into("properties", &properties), parts.into("sensitive", &metadata.Sensitive))
	if properties != nil {
		metadata.Properties = map[string]string{}
	}
	for key := range properties {
		text, problem := properties.text(key)
		metadata.Properties[key] = text
		err = errors.Join(err, problem)
	}
	metadata.normalize()
	return metadata, err
}

func (o object) references() (references []Reference, err error) {
	var list []object
	err = o.into("references", &list)
	for _, one := range list {
		name, noName := one.text("name")
		subject, noSubject := one.text("subject")
		version, noVersion := one.number("version", 0)
		err = errors.Join(err, noName, noSubject, noVersion)
		references = append(references, Reference{name, subject, version})
	}
	return references, err
}

func (o object) ruleSet(name string) (*RuleSet, error) {
	if !o.has(name) {
		return nil, nil
	}
	rules := &RuleSet{}
	if err := o.into(name, rules); err != nil {
		return nil, err
	}
	return rules, rules.normalize()
}

// submission reads a schema with all that belongs to it. Producers send the same one again
// and again, so what was read lately is kept.
func (c *call) submission() (Submission, error) {
	raw, err := c.readBody()
	if err != nil {
		return Submission{}, err
	}
	key := sha256.Sum256(raw)
	s, known := c.submissions.get(key)
	if !known {
		if s, err = c.parseSubmission(raw); err != nil {
			return Submission{}, err
		}
		if len(raw) <= largestParsed {
			c.submissions.put(key, s)
		}
	}
	s.Normalize = c.flag("normalize")
	return s, nil
}

func (c *call) parseSubmission(raw []byte) (s Submission, err error) {
	body, err := parseObject(raw)
	if err != nil {
		return s, err
	}
	var problems [7]error
	s.Schema, problems[0] = body.text("schema")
	s.Type, problems[1] = body.text("schemaType")
	id, problem := body.number("id", -1)
	s.ID, problems[2] = &id, problem
	s.Version, problems[3] = body.number("version", 0)
	s.Metadata, problems[4] = body.metadata("metadata")
	if c.KeepRuleSets {
		s.RuleSet, problems[5] = body.ruleSet("ruleSet")
	}
	s.References, problems[6] = body.references()
	for _, problem := range problems {
		if problem != nil {
			return s, problem
		}
	}
	switch {
	case s.Type == Avro:
		s.Type = ""
	case s.Type == "" && body.has("schemaType"):
		return s, invalidSchema("Invalid schema type ")
	}
	return s, nil
}
