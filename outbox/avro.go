package outbox

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hamba/avro/v2"
)

// hamba's parser and its mapping of Go types are used here, its encoder is not: it wraps
// integers, rounds decimals and passes invalid UTF-8 without a word, and it picks a codec
// by a fingerprint in which schemas with other defaults are equal. Checking every value
// beforehand would take the same walk that encodes it.

// An encoder appends the Avro encoding of v. It is made once for a schema and a Go type and
// is safe for concurrent use.
type encoder func(w *writer, v reflect.Value) error

type writer struct {
	b     []byte
	depth int
}

// maxDepth bounds the nesting of records: a cycle of pointers must not exhaust the stack.
const maxDepth = 500

// valueError is a refused value and the way to it from the root.
type valueError struct {
	path string
	err  error
}

func (e *valueError) Error() string {
	return fmt.Sprintf("field %s: %v", strings.TrimPrefix(e.path, "."), e.err)
}

func (e *valueError) Unwrap() error { return e.err }

// under puts a step of the way in front of err.
func under(step string, err error) error {
	var inner *valueError
	if errors.As(err, &inner) {
		// A copy: errors of compile are kept and returned again.
		return &valueError{step + inner.path, inner.err}
	}
	return &valueError{step, err}
}

// encoders makes the encoders of one schema as Go types turn up, each once.
type encoders struct {
	schema avro.Schema
	byType sync.Map // reflect.Type → compiled
}

type compiled struct {
	encode encoder
	err    error
}

func (e *encoders) get(t reflect.Type) (encoder, error) {
	if c, ok := e.byType.Load(t); ok {
		return c.(compiled).encode, c.(compiled).err
	}
	c := &compiler{records: make(map[recordKey]*encoder)}
	encode, err := c.compile(e.schema, t)
	e.byType.Store(t, compiled{encode, err})
	return encode, err
}

type recordKey struct {
	schema *avro.RecordSchema
	t      reflect.Type
}

// compiler makes an encoder out of a schema and a type. A record that contains itself is
// found in records while it is still being compiled.
type compiler struct {
	records map[recordKey]*encoder
}

var (
	ratType           = reflect.TypeFor[big.Rat]()
	timeType          = reflect.TypeFor[time.Time]()
	clockType         = reflect.TypeFor[time.Duration]()
	avroDurationType  = reflect.TypeFor[avro.LogicalDuration]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
)

func (c *compiler) compile(schema avro.Schema, t reflect.Type) (encoder, error) {
	if ref, ok := schema.(*avro.RefSchema); ok {
		schema = ref.Schema()
	}
	if union, ok := schema.(*avro.UnionSchema); ok {
		return c.union(union, t)
	}
	if t.Kind() == reflect.Interface {
		return dynamic(schema), nil
	}
	if t.Kind() == reflect.Pointer {
		return c.pointer(schema, t)
	}
	var encode encoder
	var err error
	switch s := schema.(type) {
	case *avro.PrimitiveSchema:
		encode = primitive(s, t)
	case *avro.EnumSchema:
		encode = enum(s, t)
	case *avro.FixedSchema:
		encode = fixed(s, t)
	case *avro.ArraySchema:
		encode, err = c.array(s, t)
	case *avro.MapSchema:
		encode, err = c.mapping(s, t)
	case *avro.RecordSchema:
		encode, err = c.record(s, t)
	}
	if err != nil {
		return nil, err
	}
	if encode == nil {
		return nil, fmt.Errorf("a Go %s cannot be written as Avro %s", t, describe(schema))
	}
	return encode, nil
}

// describe names a schema for a message: int, decimal(12,2), enum order.currency.
func describe(schema avro.Schema) string {
	if s, ok := schema.(avro.LogicalTypeSchema); ok && s.Logical() != nil {
		if d, ok := s.Logical().(*avro.DecimalLogicalSchema); ok {
			return fmt.Sprintf("decimal(%d,%d)", d.Precision(), d.Scale())
		}
		return string(s.Logical().Type())
	}
	if s, ok := schema.(avro.NamedSchema); ok {
		return string(schema.Type()) + " " + s.FullName()
	}
	return string(schema.Type())
}

func logicalOf(schema avro.LogicalTypeSchema) avro.LogicalType {
	if schema.Logical() == nil {
		return ""
	}
	return schema.Logical().Type()
}

// dynamic encodes what an interface holds, by a schema that is no union.
func dynamic(schema avro.Schema) encoder {
	encoders := encoders{schema: schema}
	return func(w *writer, v reflect.Value) error {
		if v.IsNil() {
			return errors.New("is nil, but its schema does not allow null")
		}
		encode, err := encoders.get(v.Elem().Type())
		if err != nil {
			return err
		}
		return encode(w, v.Elem())
	}
}

func (c *compiler) pointer(schema avro.Schema, t reflect.Type) (encoder, error) {
	encode, err := c.compile(schema, t.Elem())
	if err != nil {
		return nil, err
	}
	return func(w *writer, v reflect.Value) error {
		if v.IsNil() {
			return errors.New("is nil, but its schema does not allow null")
		}
		return encode(w, v.Elem())
	}, nil
}

// primitive returns nil if t cannot be s, as enum and fixed do.
func primitive(s *avro.PrimitiveSchema, t reflect.Type) encoder {
	logical := logicalOf(s)
	switch s.Type() {
	case avro.Boolean:
		if t.Kind() == reflect.Bool {
			return encodeBool
		}
	case avro.Int, avro.Long:
		if convert := timeUnit[logical]; convert != nil && (t == timeType || t == clockType) {
			return convert(t)
		}
		if t == clockType && logical != "" {
			return nil
		}
		return integer(t, s.Type() == avro.Int)
	case avro.Float:
		if t.Kind() == reflect.Float32 {
			return encodeFloat
		}
	case avro.Double:
		if t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64 {
			return encodeDouble
		}
	case avro.Bytes:
		if d, ok := s.Logical().(*avro.DecimalLogicalSchema); ok && t == ratType {
			return decimal(d.Precision(), d.Scale(), 0)
		}
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return encodeBytes
		}
	case avro.String:
		if text := textOf(t); text != nil {
			return encodeString(text, logical == avro.UUID)
		}
	}
	return nil
}

// timeUnit has the encoders of the logical types for times; each returns nil where the Go
// type has another meaning.
var timeUnit = map[avro.LogicalType]func(reflect.Type) encoder{
	avro.Date:                 only(timeType, encodeDate),
	avro.TimeMillis:           only(clockType, encodeClock(time.Millisecond)),
	avro.TimeMicros:           only(clockType, encodeClock(time.Microsecond)),
	avro.TimestampMillis:      only(timeType, encodeTimestamp(time.Millisecond, false)),
	avro.TimestampMicros:      only(timeType, encodeTimestamp(time.Microsecond, false)),
	avro.LocalTimestampMillis: only(timeType, encodeTimestamp(time.Millisecond, true)),
	avro.LocalTimestampMicros: only(timeType, encodeTimestamp(time.Microsecond, true)),
}

func only(want reflect.Type, encode encoder) func(reflect.Type) encoder {
	return func(t reflect.Type) encoder {
		if t != want {
			return nil
		}
		return encode
	}
}

func enum(s *avro.EnumSchema, t reflect.Type) encoder {
	text := textOf(t)
	if text == nil {
		return nil
	}
	index := make(map[string]int64, len(s.Symbols()))
	for i, symbol := range s.Symbols() {
		index[symbol] = int64(i)
	}
	return func(w *writer, v reflect.Value) error {
		symbol, err := text(v)
		if err != nil {
			return err
		}
		i, ok := index[symbol]
		if !ok {
			return fmt.Errorf("%q is not a symbol of enum %s (%s)", symbol, s.FullName(), strings.Join(s.Symbols(), ", "))
		}
		w.long(i)
		return nil
	}
}

func fixed(s *avro.FixedSchema, t reflect.Type) encoder {
	if d, ok := s.Logical().(*avro.DecimalLogicalSchema); ok && t == ratType {
		return decimal(d.Precision(), d.Scale(), s.Size())
	}
	if t == avroDurationType && logicalOf(s) == avro.Duration {
		return func(w *writer, v reflect.Value) error {
			d := v.Interface().(avro.LogicalDuration)
			w.uint32(d.Months)
			w.uint32(d.Days)
			w.uint32(d.Milliseconds)
			return nil
		}
	}
	if t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Uint8 && t.Len() == s.Size() {
		return encodeFixed
	}
	return nil
}

func (c *compiler) array(s *avro.ArraySchema, t reflect.Type) (encoder, error) {
	if t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
		return nil, nil
	}
	item, err := c.compile(s.Items(), t.Elem())
	if err != nil {
		return nil, under("[]", err)
	}
	return func(w *writer, v reflect.Value) error {
		if n := v.Len(); n > 0 {
			w.long(int64(n))
			for i := range n {
				if err := item(w, v.Index(i)); err != nil {
					return under(fmt.Sprintf("[%d]", i), err)
				}
			}
		}
		w.long(0)
		return nil
	}, nil
}

func (c *compiler) mapping(s *avro.MapSchema, t reflect.Type) (encoder, error) {
	if t.Kind() != reflect.Map || t.Key().Kind() != reflect.String {
		return nil, nil
	}
	value, err := c.compile(s.Values(), t.Elem())
	if err != nil {
		return nil, under("[]", err)
	}
	return func(w *writer, v reflect.Value) error {
		if n := v.Len(); n > 0 {
			w.long(int64(n))
			// Sorted, so that equal values have equal bytes.
			keys := v.MapKeys()
			slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
			for _, key := range keys {
				step := fmt.Sprintf("[%q]", key.String())
				if err := w.string(key.String()); err != nil {
					return under(step, err)
				}
				if err := value(w, v.MapIndex(key)); err != nil {
					return under(step, err)
				}
			}
		}
		w.long(0)
		return nil
	}, nil
}

type recordField struct {
	name   string
	index  []int
	encode encoder
}

func (c *compiler) record(s *avro.RecordSchema, t reflect.Type) (_ encoder, err error) {
	if t.Kind() != reflect.Struct {
		return nil, nil
	}
	key := recordKey{s, t}
	if self, ok := c.records[key]; ok {
		return func(w *writer, v reflect.Value) error { return (*self)(w, v) }, nil
	}
	self := new(encoder)
	c.records[key] = self
	defer func() {
		if err != nil {
			delete(c.records, key) // a union may try it again and must fail again
		}
	}()

	byName := structFields(t)
	fields := make([]recordField, 0, len(s.Fields()))
	for _, f := range s.Fields() {
		goField, ok := byName[f.Name()]
		if !ok {
			return nil, under("."+f.Name(), fmt.Errorf("has no field in Go type %s: generate the type again from the schema", t))
		}
		delete(byName, f.Name())
		encode, err := c.compile(f.Type(), goField.Type)
		if err != nil {
			return nil, under("."+f.Name(), err)
		}
		fields = append(fields, recordField{f.Name(), goField.Index, encode})
	}
	// A tagged field that is in no schema would be lost without a word.
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if _, tagged := byName[name].Tag.Lookup("avro"); tagged {
			return nil, under("."+name, fmt.Errorf("is in Go type %s, but not in record %s", t, s.FullName()))
		}
	}

	*self = func(w *writer, v reflect.Value) error {
		if w.depth++; w.depth > maxDepth {
			return fmt.Errorf("records are nested more than %d deep", maxDepth)
		}
		for i := range fields {
			f := &fields[i]
			value, err := v.FieldByIndexErr(f.index)
			if err == nil {
				err = f.encode(w, value)
			}
			if err != nil {
				return under("."+f.name, err)
			}
		}
		w.depth--
		return nil
	}
	return *self, nil
}

// structFields returns the exported fields of t by their Avro names, those of embedded
// structs included; the least nested wins.
func structFields(t reflect.Type) map[string]reflect.StructField {
	fields := make(map[string]reflect.StructField)
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("avro"), ",")
		if !f.IsExported() || f.Anonymous || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		if other, ok := fields[name]; ok && len(other.Index) <= len(f.Index) {
			continue
		}
		fields[name] = f
	}
	return fields
}
