package outbox

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/hamba/avro/v2"
)

// union compiles the Go forms of a union: a pointer, slice or map whose nil is null, an
// interface that holds the value, a map[string]any with the branch's name as its only key,
// or a plain value of the one branch that it fits.
func (c *compiler) union(s *avro.UnionSchema, t reflect.Type) (encoder, error) {
	null := nullBranch(s)
	switch {
	case t.Kind() == reflect.Interface:
		encoders := encoders{schema: s}
		return func(w *writer, v reflect.Value) error {
			if v.IsNil() {
				return w.null(null)
			}
			encode, err := encoders.get(v.Elem().Type())
			if err != nil {
				return err
			}
			return encode(w, v.Elem())
		}, nil

	case t.Kind() == reflect.Pointer:
		encode, err := c.union(s, t.Elem())
		if err != nil {
			return nil, err
		}
		return func(w *writer, v reflect.Value) error {
			if v.IsNil() {
				return w.null(null)
			}
			return encode(w, v.Elem())
		}, nil

	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && t.Elem().Kind() == reflect.Interface:
		return named(s, null), nil
	}
	return c.branch(s, t, null)
}

// branch picks the branch for a plain value by its Go type. An integer goes to long if it
// has 64 bits, else to int, where the union has both.
func (c *compiler) branch(s *avro.UnionSchema, t reflect.Type, null int) (encoder, error) {
	chosen, ambiguous := -1, false
	var encode encoder
	var refusal error
	for i, candidate := range s.Types() {
		if i == null {
			continue
		}
		e, err := c.compile(candidate, t)
		if err != nil {
			refusal = err
			continue
		}
		switch {
		case chosen < 0 || closer(t, candidate, s.Types()[chosen]):
			chosen, encode = i, e
		case candidate.Type() == s.Types()[chosen].Type() || isText(candidate) && isText(s.Types()[chosen]):
			// Two records, enums or fixed of one shape, or an enum beside a string.
			ambiguous = true
		}
	}
	switch {
	case chosen < 0 && len(s.Types()) == 2 && null >= 0 && refusal != nil:
		return nil, refusal
	case chosen < 0:
		return nil, fmt.Errorf("a Go %s fits no branch of its union", t)
	case ambiguous:
		return nil, fmt.Errorf("a Go %s fits more than one branch of its union: use map[string]any with the branch's full name as key", t)
	}
	nilIsNull := null >= 0 && (t.Kind() == reflect.Slice || t.Kind() == reflect.Map)
	return func(w *writer, v reflect.Value) error {
		if nilIsNull && v.IsNil() {
			return w.null(null)
		}
		w.long(int64(chosen))
		return encode(w, v)
	}, nil
}

// closer says whether a numeric branch is nearer to the Go type than the one chosen.
func closer(t reflect.Type, candidate, chosen avro.Schema) bool {
	switch t.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return candidate.Type() == avro.Long && chosen.Type() == avro.Int
	case reflect.Float32:
		return candidate.Type() == avro.Float && chosen.Type() == avro.Double
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint8, reflect.Uint16:
		return candidate.Type() == avro.Int && chosen.Type() == avro.Long
	}
	return false
}

func isText(s avro.Schema) bool { return s.Type() == avro.String || s.Type() == avro.Enum }

// named encodes {"branch name": value}.
func named(s *avro.UnionSchema, null int) encoder {
	branches := make([]encoder, len(s.Types()))
	for i, branch := range s.Types() {
		branches[i] = dynamic(branch)
	}
	return func(w *writer, v reflect.Value) error {
		if v.IsNil() {
			return w.null(null)
		}
		if v.Len() != 1 {
			return fmt.Errorf("a union as map[string]any has one key, the branch's name, not %d", v.Len())
		}
		name := v.MapKeys()[0].String()
		for i, branch := range s.Types() {
			if branchName(branch) != name {
				continue
			}
			if i == null {
				return w.null(null)
			}
			w.long(int64(i))
			return branches[i](w, v.MapIndex(v.MapKeys()[0]))
		}
		return fmt.Errorf("%q is not a branch of its union", name)
	}
}

func branchName(s avro.Schema) string {
	if ref, ok := s.(*avro.RefSchema); ok {
		s = ref.Schema()
	}
	if s, ok := s.(avro.NamedSchema); ok {
		return s.FullName()
	}
	return string(s.Type())
}

func nullBranch(s *avro.UnionSchema) int {
	for i, branch := range s.Types() {
		if branch.Type() == avro.Null {
			return i
		}
	}
	return -1
}

func (w *writer) null(branch int) error {
	if branch < 0 {
		return errors.New("is nil, but its union has no null")
	}
	w.long(int64(branch))
	return nil
}
