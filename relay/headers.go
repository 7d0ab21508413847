package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

var errHeaders = errors.New("not a flat JSON object of strings")

// appendHeaders reads the headers column, a flat JSON object, and appends its members in
// their order. Strings are taken as their text, numbers and booleans as they are written;
// a null leaves its header out.
func appendHeaders(dst []Header, doc []byte) ([]Header, error) {
	if out, ok := appendPlainHeaders(dst, doc); ok {
		return out, nil
	}
	return appendAnyHeaders(dst, doc)
}

// appendPlainHeaders reads what headers nearly always are, strings without escapes, in
// place. It reports false for anything else.
func appendPlainHeaders(dst []Header, doc []byte) ([]Header, bool) {
	p := bytes.TrimLeft(doc, " \t\r\n")
	if len(p) < 2 || p[0] != '{' {
		return dst, false
	}
	p = bytes.TrimLeft(p[1:], " \t\r\n")
	if len(p) > 0 && p[0] == '}' {
		return dst, len(bytes.TrimLeft(p[1:], " \t\r\n")) == 0
	}
	for {
		var h Header
		var ok bool
		if h.Name, p, ok = plainString(p); !ok || len(p) == 0 || p[0] != ':' {
			return dst, false
		}
		if h.Value, p, ok = plainString(bytes.TrimLeft(p[1:], " \t\r\n")); !ok || len(p) == 0 {
			return dst, false
		}
		dst = append(dst, h)
		switch p[0] {
		case ',':
			p = bytes.TrimLeft(p[1:], " \t\r\n")
		case '}':
			return dst, len(bytes.TrimLeft(p[1:], " \t\r\n")) == 0
		default:
			return dst, false
		}
	}
}

// plainString splits a string without escapes off p, with the white space after it.
func plainString(p []byte) (s, rest []byte, ok bool) {
	if len(p) == 0 || p[0] != '"' {
		return nil, p, false
	}
	for i := 1; i < len(p); i++ {
		switch c := p[i]; {
		case c == '"':
			return p[1:i], bytes.TrimLeft(p[i+1:], " \t\r\n"), true
		case c == '\\' || c < ' ':
			return nil, p, false
		}
	}
	return nil, p, false
}

func appendAnyHeaders(dst []Header, doc []byte) ([]Header, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return dst, errHeaders
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return dst, err
		}
		value, err := dec.Token()
		if err != nil {
			return dst, err
		}
		h := Header{Name: []byte(name.(string))}
		switch v := value.(type) {
		case nil:
			continue
		case string:
			h.Value = []byte(v)
		case json.Number, bool:
			h.Value = fmt.Append(nil, v)
		default:
			return dst, fmt.Errorf("%w: %q is nested", errHeaders, name)
		}
		dst = append(dst, h)
	}
	if _, err := dec.Token(); err != nil {
		return dst, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return dst, errHeaders
	}
	return dst, nil
}
