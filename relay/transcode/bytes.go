package transcode

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// alphabet refuses stray bits, so that each value has one spelling. It passes over line
// breaks, which Postgres' encode(…, 'base64') puts after every 76 characters.
var alphabet = base64.StdEncoding.Strict()

// bytes encodes a base64 string as bytes.
func (e *encoder) bytes(dst []byte, n *node) ([]byte, *Error) {
	at := len(dst)
	dst, err := e.base64(append(dst, 0), n)
	if err != nil {
		return dst, err
	}
	return putCount(dst, at, len(dst)-at-1), nil
}

// fixed encodes a base64 string as a fixed.
func (e *encoder) fixed(dst []byte, n *node) ([]byte, *Error) {
	e.peek()
	from, at := e.pos, len(dst)
	dst, err := e.base64(dst, n)
	if err != nil {
		return dst, err
	}
	return dst, e.checkSize(len(dst)-at, from, n)
}

func (e *encoder) checkSize(size, from int, n *node) *Error {
	if size == n.size {
		return nil
	}
	return e.failAt(from, BadValue, "want the "+strconv.Itoa(n.size)+" bytes of "+n.name+", got "+strconv.Itoa(size))
}

func (e *encoder) base64(dst []byte, n *node) ([]byte, *Error) {
	if e.peek() != '"' {
		return dst, e.wrongType(n)
	}
	from := e.pos
	s, err := e.str()
	if err != nil {
		return dst, err
	}
	dst, bad := alphabet.AppendDecode(dst, s)
	if bad != nil {
		return dst, e.failAt(from, BadValue, "want "+n.name+" as base64 (standard alphabet, padded with =)")
	}
	return dst, nil
}

// codePoints encodes a string of the code points 0 to 255, one for each byte. Schemas
// write the defaults of bytes and fixed in this way.
func (e *encoder) codePoints(dst []byte, n *node) ([]byte, *Error) {
	if e.peek() != '"' {
		return dst, e.wrongType(n)
	}
	from := e.pos
	s, err := e.str()
	if err != nil {
		return dst, err
	}
	size := utf8.RuneCount(s)
	if n.isFixed {
		err = e.checkSize(size, from, n)
	} else {
		dst = binary.AppendVarint(dst, int64(size))
	}
	for _, r := range string(s) {
		if r > 0xff {
			return dst, e.failAt(from, BadValue, "want the bytes of "+n.name+" as code points up to 255")
		}
		dst = append(dst, byte(r))
	}
	return dst, err
}

// enum encodes a symbol as its place in the schema.
func (e *encoder) enum(dst []byte, n *node) ([]byte, *Error) {
	if e.peek() != '"' {
		return dst, e.wrongType(n)
	}
	from := e.pos
	s, err := e.str()
	if err != nil {
		return dst, err
	}
	i, ok := n.symbols[string(s)]
	if !ok {
		return dst, e.failAt(from, BadValue, "not a symbol of "+n.name)
	}
	return binary.AppendVarint(dst, int64(i)), nil
}

// uuid encodes a UUID in its canonical form: as the string that it is, or as 16 bytes.
func (e *encoder) uuid(dst []byte, n *node) ([]byte, *Error) {
	if e.peek() != '"' {
		return dst, e.wrongType(n)
	}
	from := e.pos
	s, err := e.str()
	if err != nil {
		return dst, err
	}
	id, ok := parseUUID(s)
	if !ok {
		return dst, e.failAt(from, BadValue, "want a uuid such as 0190163d-8694-739b-aea5-966c26f8ad91")
	}
	if n.isFixed {
		return append(dst, id[:]...), nil
	}
	return append(binary.AppendVarint(dst, int64(len(s))), s...), nil
}

// parseUUID reads 8-4-4-4-12 hexadecimal digits of either case.
func parseUUID(s []byte) (id [16]byte, ok bool) {
	if len(s) != 36 {
		return id, false
	}
	p := 0
	for i := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			if s[p] != '-' {
				return id, false
			}
			p++
		}
		high, ok1 := hexDigit(s[p])
		low, ok2 := hexDigit(s[p+1])
		if !ok1 || !ok2 {
			return id, false
		}
		id[i] = high<<4 | low
		p += 2
	}
	return id, true
}
