package relay

import (
	"fmt"
	"strings"
)

// template builds a topic or a subject from an event: {aggregate_type}, {event_type} and
// {header:NAME} are replaced, the rest stands as it is.
type template []templatePart

type templatePart struct {
	literal string
	field   string // aggregate_type, event_type or header
	header  string
}

func parseTemplate(text string) (template, error) {
	var t template
	for rest := text; rest != ""; {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			open = len(rest)
		}
		if open > 0 {
			t = append(t, templatePart{literal: rest[:open]})
			rest = rest[open:]
			continue
		}
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return nil, fmt.Errorf("template %q: %q is not closed", text, rest)
		}
		field := rest[1:end]
		name, isHeader := strings.CutPrefix(field, "header:")
		switch {
		case isHeader && name != "":
			t = append(t, templatePart{field: "header", header: name})
		case field == "aggregate_type" || field == "event_type":
			t = append(t, templatePart{field: field})
		default:
			return nil, fmt.Errorf("template %q: {%s} is not one of {aggregate_type}, {event_type}, {header:NAME}", text, field)
		}
		rest = rest[end+1:]
	}
	if len(t) == 0 {
		return nil, fmt.Errorf("template is empty")
	}
	return t, nil
}

// appendTo renders the template for e. A header that the event does not have is an error.
func (t template) appendTo(dst []byte, e *Event) ([]byte, error) {
	for i := range t {
		switch p := &t[i]; p.field {
		case "":
			dst = append(dst, p.literal...)
		case "aggregate_type":
			dst = append(dst, e.AggregateType...)
		case "event_type":
			dst = append(dst, e.Type...)
		default:
			v, ok := e.header(p.header)
			if !ok {
				return dst, fmt.Errorf("header %q, which the template needs, is missing", p.header)
			}
			dst = append(dst, v...)
		}
	}
	return dst, nil
}

// validTopic reports whether Kafka accepts name as a topic: 1 to 249 of letters, digits,
// '.', '_' and '-', but not "." and "..".
func validTopic[T string | []byte](name T) bool {
	if len(name) == 0 || len(name) > 249 || string(name) == "." || string(name) == ".." {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
