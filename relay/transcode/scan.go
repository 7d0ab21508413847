package transcode

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// peek skips white space and returns the byte that follows, or 0 at the end of the document.
func (e *encoder) peek() byte {
	for e.pos < len(e.doc) {
		c := e.doc[e.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		e.pos++
	}
	return 0
}

// fail makes an error at the current position. The path is put together on the way out.
func (e *encoder) fail(kind Kind, reason string) *Error {
	return &Error{Kind: kind, Offset: e.pos, Reason: reason}
}

// failAt is fail for a value that started at pos.
func (e *encoder) failAt(pos int, kind Kind, reason string) *Error {
	return &Error{Kind: kind, Offset: pos, Reason: reason}
}

func (e *encoder) tooDeep() *Error {
	return e.fail(TooDeep, "objects and arrays may nest "+strconv.Itoa(MaxDepth)+" deep")
}

// unexpected is the error for a byte that JSON does not allow here.
func (e *encoder) unexpected() *Error {
	if e.pos >= len(e.doc) {
		return e.fail(Malformed, "the document ends early")
	}
	if c := e.doc[e.pos]; c > ' ' && c < utf8.RuneSelf-1 {
		return e.fail(Malformed, "unexpected character '"+string(rune(c))+"'")
	}
	return e.fail(Malformed, "unexpected character")
}

// form is a form of JSON value.
type form uint8

const (
	formNone form = iota // no JSON value starts with this byte
	formNull
	formBoolean
	formNumber
	formString
	formArray
	formObject
	forms
)

var formNames = [forms]string{"", "null", "boolean", "number", "string", "array", "object"}

// formOf returns the form of the value that starts with c.
func formOf(c byte) form {
	switch c {
	case '"':
		return formString
	case '{':
		return formObject
	case '[':
		return formArray
	case 'n':
		return formNull
	case 't', 'f':
		return formBoolean
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return formNumber
	}
	return formNone
}

// wrongType is the error for a value, which starts at the next byte, that n does not take.
func (e *encoder) wrongType(n *node) *Error {
	return e.wrongForm(n.name)
}

func (e *encoder) wrongForm(want string) *Error {
	f := formOf(e.peek())
	if f == formNone {
		return e.unexpected()
	}
	return e.fail(WrongType, "want "+want+", got "+formNames[f])
}

// literal reads word, which is null, true or false.
func (e *encoder) literal(word string, n *node) *Error {
	if e.peek() != word[0] {
		return e.wrongType(n)
	}
	if rest := e.doc[e.pos:]; len(rest) < len(word) || string(rest[:len(word)]) != word {
		return e.unexpected()
	}
	e.pos += len(word)
	return nil
}

// colon reads the colon between a key and its value.
func (e *encoder) colon() *Error {
	if e.peek() != ':' {
		return e.unexpected()
	}
	e.pos++
	return nil
}

// key reads the key of an object's member. It is valid until the next string is read.
func (e *encoder) key() ([]byte, *Error) {
	if e.peek() != '"' {
		return nil, e.unexpected()
	}
	return e.str()
}

// str reads the string whose opening quote is the next byte. What it returns is a part of
// the document, or e.text where escapes had to be decoded: valid until the next call.
func (e *encoder) str() ([]byte, *Error) {
	e.pos++
	run, err := e.plain()
	if err != nil || e.doc[e.pos] == '"' {
		e.pos++
		return run, err
	}
	e.text, err = e.unescape(append(e.text[:0], run...))
	return e.text, err
}

// string encodes a string. Escapes are decoded straight into dst.
func (e *encoder) string(dst []byte, n *node) ([]byte, *Error) {
	if e.peek() != '"' {
		return dst, e.wrongType(n)
	}
	return e.appendString(dst)
}

// appendString appends the string whose opening quote is the next byte: length, then bytes.
func (e *encoder) appendString(dst []byte) ([]byte, *Error) {
	e.pos++
	run, err := e.plain()
	if err != nil {
		return dst, err
	}
	if e.doc[e.pos] == '"' {
		e.pos++
		return append(binary.AppendVarint(dst, int64(len(run))), run...), nil
	}
	at := len(dst)
	dst = append(dst, 0)
	if dst, err = e.unescape(append(dst, run...)); err != nil {
		return dst, err
	}
	return putCount(dst, at, len(dst)-at-1), nil
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain reads a string up to its next escape or closing quote, which is left to be read.
// Eight bytes are looked at together: a byte b below m leaves its high bit set in
// (b-m)&^b; the bits above the lowest one may be wrong by a borrow, the lowest never is.
func (e *encoder) plain() ([]byte, *Error) {
	doc, from := e.doc, e.pos
	p, wide := from, uint64(0)
	for ; p+8 <= len(doc); p += 8 {
		x := binary.LittleEndian.Uint64(doc[p:])
		quote, escape := x^('"'*ones), x^('\\'*ones)
		found := ((x-' '*ones)&^x | (quote-ones)&^quote | (escape-ones)&^escape) & highs
		if found != 0 {
			n := bits.TrailingZeros64(found) &^ 7
			wide |= x & (1<<n - 1)
			p += n / 8
			return e.endPlain(from, p, wide)
		}
		wide |= x
	}
	for ; p < len(doc); p++ {
		c := doc[p]
		if c < ' ' || c == '"' || c == '\\' {
			return e.endPlain(from, p, wide)
		}
		wide |= uint64(c)
	}
	e.pos = len(doc)
	return nil, e.fail(Malformed, "the document ends inside a string")
}

// endPlain returns the run doc[from:to], whose bytes are or-ed together in wide.
func (e *encoder) endPlain(from, to int, wide uint64) ([]byte, *Error) {
	run := e.doc[from:to]
	e.pos = to
	if wide&highs != 0 && !utf8.Valid(run) {
		return nil, e.fail(Malformed, "a string that is not UTF-8")
	}
	if e.doc[to] < ' ' {
		return nil, e.fail(Malformed, "a control character in a string")
	}
	return run, nil
}

// unescape decodes a string from an escape on to its closing quote, and appends it to dst.
func (e *encoder) unescape(dst []byte) ([]byte, *Error) {
	for e.doc[e.pos] == '\\' {
		r, err := e.escape()
		if err != nil {
			return dst, err
		}
		dst = utf8.AppendRune(dst, r)
		run, err := e.plain()
		if err != nil {
			return dst, err
		}
		dst = append(dst, run...)
	}
	e.pos++
	return dst, nil
}

// escape reads one escape, or the two that make a character beyond U+FFFF.
func (e *encoder) escape() (rune, *Error) {
	if e.pos+1 >= len(e.doc) {
		e.pos = len(e.doc)
		return 0, e.fail(Malformed, "the document ends inside a string")
	}
	c := e.doc[e.pos+1]
	if c == 'u' {
		return e.unicodeEscape()
	}
	var r rune
	switch c {
	case '"', '\\', '/':
		r = rune(c)
	case 'b':
		r = '\b'
	case 'f':
		r = '\f'
	case 'n':
		r = '\n'
	case 'r':
		r = '\r'
	case 't':
		r = '\t'
	default:
		return 0, e.fail(Malformed, "an escape that JSON does not know")
	}
	e.pos += 2
	return r, nil
}

func (e *encoder) unicodeEscape() (rune, *Error) {
	r, ok := hex4(e.doc[e.pos:])
	if !ok {
		return 0, e.fail(Malformed, `an escape \u without four hexadecimal digits`)
	}
	if r < 0xD800 || r > 0xDFFF {
		e.pos += 6
		return r, nil
	}
	low, ok := hex4(e.doc[e.pos+6:])
	if !ok || r > 0xDBFF || low < 0xDC00 || low > 0xDFFF {
		return 0, e.fail(Malformed, "half of a surrogate pair")
	}
	e.pos += 12
	return 0x10000 + (r-0xD800)<<10 + (low - 0xDC00), nil
}

// hex4 returns the value of the escape \uXXXX at the start of b.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		d, ok := hexDigit(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// skip passes over the next value without checking it: what is skipped to look ahead is
// read again, and checked, when it is encoded.
func (e *encoder) skip() *Error {
	open := 0
	for {
		switch c := e.peek(); c {
		case 0:
			return e.unexpected()
		case '"':
			if err := e.skipString(); err != nil {
				return err
			}
		case '{', '[':
			open++
			e.pos++
		case '}', ']':
			open--
			e.pos++
		case ',', ':':
			e.pos++
		default:
			for e.pos < len(e.doc) && isWord(e.doc[e.pos]) {
				e.pos++
			}
			if !isWord(c) {
				return e.unexpected()
			}
		}
		if open <= 0 {
			return nil
		}
	}
}

// isWord reports whether c can be a part of a number or literal.
func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' || c == '+' || c == '.'
}

func (e *encoder) skipString() *Error {
	e.pos++
	for {
		if _, err := e.plain(); err != nil {
			return err
		}
		if e.doc[e.pos] == '"' {
			e.pos++
			return nil
		}
		if e.pos += 2; e.pos > len(e.doc) {
			return e.unexpected()
		}
	}
}
