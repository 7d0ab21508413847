package transcode

import (
	"bytes"
	"slices"
)

// mapping encodes an object as a map, in one block.
func (e *encoder) mapping(dst []byte, n *node) ([]byte, *Error) {
	if err := e.enter('{', n); err != nil {
		return dst, err
	}
	at, base := len(dst), len(e.spans)
	dst = append(dst, 0)
	if e.empty('}') {
		return dst, nil
	}
	for count := 1; ; count++ {
		if e.peek() != '"' {
			return dst, e.unexpected()
		}
		keyFrom := e.pos
		from := len(dst)
		var err *Error
		if dst, err = e.appendString(dst); err != nil {
			return dst, err
		}
		// The span includes the length in front; equal keys have equal ones.
		e.spans = append(e.spans, span{from: from, to: len(dst)})
		if err = e.colon(); err == nil {
			dst, err = e.value(dst, n.item)
		}
		if err != nil {
			return dst, err.in(e.keyAt(keyFrom))
		}
		more, err := e.more('}')
		if err != nil {
			return dst, err
		}
		if !more {
			err = e.distinct(dst, e.spans[base:], n)
			e.spans = e.spans[:base]
			return append(putCount(dst, at, count), 0), err
		}
	}
}

// keyAt reads the key at pos again, for the path of an error.
func (e *encoder) keyAt(pos int) string {
	e.pos = pos
	key, _ := e.str()
	return string(key)
}

// fewKeys is up to where comparing each key with each other beats sorting them.
const fewKeys = 12

// distinct fails when two of the keys are the same. It puts them in another order.
func (e *encoder) distinct(dst []byte, keys []span, n *node) *Error {
	if len(keys) > fewKeys {
		slices.SortFunc(keys, func(a, b span) int {
			return bytes.Compare(dst[a.from:a.to], dst[b.from:b.to])
		})
	}
	for i, a := range keys {
		for j, b := range keys[i+1:] {
			if j > 0 && len(keys) > fewKeys {
				break
			}
			if bytes.Equal(dst[a.from:a.to], dst[b.from:b.to]) {
				key := dst[a.from:a.to]
				for key[0]&0x80 != 0 { // the length in front
					key = key[1:]
				}
				return e.fail(GivenTwice, "a key of "+n.name).in(string(key[1:]))
			}
		}
	}
	return nil
}
