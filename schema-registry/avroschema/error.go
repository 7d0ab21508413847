package avroschema

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ParseError says why a text is no Avro schema, and where.
type ParseError struct {
	Path    string // JSON pointer of the place in the text, e.g. /fields/2/type; "" is the whole text
	Offset  int    // byte offset in the text, from 0
	Line    int    // from 1
	Column  int    // in characters, from 1
	Message string
	// UnknownType is the full name of the type that is not defined, where that is what is
	// wrong: Parse may succeed with a reference that defines it.
	UnknownType string
}

func (e *ParseError) Error() string {
	at := ""
	if e.Path != "" {
		at = ", at " + e.Path
	}
	return fmt.Sprintf("line %d, column %d%s: %s", e.Line, e.Column, at, e.Message)
}

func errorAt(text string, offset int, at *path, format string, args ...any) *ParseError {
	before := text[:min(offset, len(text))]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return &ParseError{Path: at.String(), Offset: offset, Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
}

// path is a JSON pointer under construction. It costs one small allocation per step and is
// spelled out only for errors.
type path struct {
	parent *path
	step   string
}

func (p *path) key(name string) *path { return &path{p, name} }
func (p *path) index(i int) *path     { return &path{p, fmt.Sprint(i)} }

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func (p *path) String() string {
	var steps []string
	for ; p != nil; p = p.parent {
		steps = append(steps, pointerEscapes.Replace(p.step))
	}
	var b strings.Builder
	for i := len(steps) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(steps[i])
	}
	return b.String()
}
