package transcode

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind says what was wrong with a document.
type Kind uint8

// The kinds of errors. All of them are the document's fault: the same document fails
// again with the same schema.
const (
	Malformed    Kind = iota + 1 // not JSON by RFC 8259
	TooDeep                      // nested deeper than MaxDepth
	UnknownField                 // the record has no field of this name
	MissingField                 // the field was not given and has no default
	GivenTwice                   // an object names the same key twice
	WrongType                    // another type of JSON value than the schema's type takes
	OutOfRange                   // a number or time that the type cannot hold
	Inexact                      // digits that the type would lose
	BadValue                     // a string of the wrong form: symbol, uuid, time, base64, length
	Ambiguous                    // an object that fits several records of a union
)

// notReady is the kind for a default that relies on one that is not encoded yet. It does not
// leave Compile.
const notReady Kind = 0

// String returns the kind in words, such as "missing field".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

var kindNames = [...]string{
	"", "malformed JSON", "nested too deep", "unknown field", "missing field", "given twice",
	"wrong type", "out of range", "would lose digits", "bad value", "ambiguous",
}

// Error says why and where a document does not fit its schema. Path names keys of the
// document; Reason never quotes its values, so that an error can be logged.
type Error struct {
	Kind   Kind
	Path   string // JSON path, such as $.lines[2].qty
	Offset int    // byte of the document at which it was found
	Reason string
}

// Error returns path, kind and reason in one line.
func (e *Error) Error() string {
	if e.Kind == Malformed || e.Kind == TooDeep {
		return fmt.Sprintf("%s: %s at byte %d: %s", e.Path, e.Kind, e.Offset, e.Reason)
	}
	return fmt.Sprintf("%s: %s: %s", e.Path, e.Kind, e.Reason)
}

// in puts key in front of the path, on the way out of an object.
func (e *Error) in(key string) *Error {
	e.Path = pathKey(key) + e.Path
	return e
}

// at puts an index in front of the path, on the way out of an array.
func (e *Error) at(index int) *Error {
	e.Path = "[" + strconv.Itoa(index) + "]" + e.Path
	return e
}

// maxPathKey bounds how much of a hostile key an error repeats.
const maxPathKey = 64

func pathKey(key string) string {
	plain := key != ""
	for i := range len(key) {
		c := key[i]
		if c != '_' && (c < '0' || c > '9' || i == 0) && (c|0x20 < 'a' || c|0x20 > 'z') {
			plain = false
			break
		}
	}
	if len(key) > maxPathKey {
		plain = false
		key = strings.ToValidUTF8(key[:maxPathKey], "") + "…"
	}
	if plain {
		return "." + key
	}
	return "[" + strconv.Quote(key) + "]"
}
