package avroread

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/hamba/avro/v2"
)

const (
	// maxDepth bounds records within records: as deep as package outbox encodes them.
	maxDepth = 500
	// maxEmptyItems bounds the items of arrays that take no byte each.
	maxEmptyItems = 1 << 16
)

// check tells whether b is one value of schema, and nothing behind it (Avro 1.12, "Binary
// Encoding").
func check(schema avro.Schema, b []byte) error {
	w := walker{b: b, items: len(b) + maxEmptyItems}
	if err := w.walk(schema); err != nil {
		return err
	}
	if len(w.b) > 0 {
		return fmt.Errorf("%d bytes are left over", len(w.b))
	}
	return nil
}

// walker goes over a value.
type walker struct {
	b     []byte // what is left
	depth int
	items int // that arrays and maps may still have
}

func (w *walker) walk(schema avro.Schema) error {
	switch s := schema.(type) {
	case *avro.RefSchema:
		return w.walk(s.Schema())
	case *avro.RecordSchema:
		return w.record(s)
	case *avro.ArraySchema:
		return w.blocks(func() error { return w.walk(s.Items()) })
	case *avro.MapSchema:
		return w.blocks(func() error {
			if err := w.text(); err != nil {
				return err
			}
			return w.walk(s.Values())
		})
	case *avro.UnionSchema:
		n, err := w.index(len(s.Types()), "branches")
		if err != nil {
			return err
		}
		return w.walk(s.Types()[n])
	case *avro.EnumSchema:
		_, err := w.index(len(s.Symbols()), "symbols")
		return err
	case *avro.FixedSchema:
		return w.skip(int64(s.Size()))
	case *avro.NullSchema:
		return nil
	}
	switch schema.Type() {
	case avro.Boolean:
		if len(w.b) > 0 && w.b[0] > 1 {
			return fmt.Errorf("%d is no boolean", w.b[0])
		}
		return w.skip(1)
	case avro.Int:
		n, err := w.long()
		if err == nil && (n < math.MinInt32 || n > math.MaxInt32) {
			err = fmt.Errorf("%d is no int", n)
		}
		return err
	case avro.Long:
		_, err := w.long()
		return err
	case avro.Float:
		return w.skip(4)
	case avro.Double:
		return w.skip(8)
	case avro.Bytes, avro.String:
		return w.text()
	}
	return fmt.Errorf("the schema has a %s", schema.Type())
}

func (w *walker) record(s *avro.RecordSchema) error {
	if w.depth++; w.depth > maxDepth {
		return fmt.Errorf("more than %d records within records", maxDepth)
	}
	defer func() { w.depth-- }()
	for _, field := range s.Fields() {
		if err := w.walk(field.Type()); err != nil {
			return under(field.Name(), err)
		}
	}
	return nil
}

// blocks goes over the blocks of an array or a map.
func (w *walker) blocks(item func() error) error {
	for {
		n, err := w.long()
		if err != nil || n == 0 {
			return err
		}
		count := n
		if n < 0 { // then the block's length in bytes follows
			if _, err := w.long(); err != nil {
				return err
			}
			count = -n // the least number stays negative
		}
		if count < 0 || count > int64(w.items) {
			return fmt.Errorf("%d items are said to follow, more than the value can hold", n)
		}
		w.items -= int(count)
		for range count {
			if err := item(); err != nil {
				return err
			}
		}
	}
}

func (w *walker) text() error {
	n, err := w.long()
	if err != nil {
		return err
	}
	return w.skip(n)
}

func (w *walker) index(n int, of string) (int, error) {
	i, err := w.long()
	if err == nil && (i < 0 || i >= int64(n)) {
		err = fmt.Errorf("%d is none of the %d %s", i, n, of)
	}
	return int(i), err
}

func (w *walker) long() (int64, error) {
	v, n := binary.Varint(w.b)
	if n <= 0 {
		return 0, errors.New("a number does not end")
	}
	w.b = w.b[n:]
	return v, nil
}

func (w *walker) skip(n int64) error {
	if n < 0 {
		return fmt.Errorf("a length of %d", n)
	}
	if n > int64(len(w.b)) {
		return fmt.Errorf("%d bytes are said to follow, and %d do", n, len(w.b))
	}
	w.b = w.b[n:]
	return nil
}

// pathError is a broken place in a value and the way to it.
type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

// under puts a field's name in front of the way.
func under(field string, err error) error {
	var inner *pathError
	if errors.As(err, &inner) {
		return &pathError{field + "." + inner.path, inner.err}
	}
	return &pathError{field, err}
}
