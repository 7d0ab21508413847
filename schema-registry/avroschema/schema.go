// Package avroschema reads Avro schemas by the rules of the Avro specification 1.12
// and of Avro's Java library, which every Kafka client follows in practice.
//
// It is the one schema parser of this project: the registry uses it for identity and
// compatibility, the relay to compile its JSON → Avro transcoders.
package avroschema

// Type is the kind of a schema.
type Type uint8

// The types of Avro. An error type is a Record with IsError set.
const (
	Null Type = iota + 1
	Boolean
	Int
	Long
	Float
	Double
	Bytes
	String
	Record
	Enum
	Array
	Map
	Union
	Fixed
)

// Schema is one node of a parsed schema. A named type that is referred to more than once,
// or by itself, is the same *Schema everywhere, so the graph may have cycles.
// A Schema must not be changed after Parse returned it.
type Schema struct {
	Type Type

	// Named types: Record, Enum, Fixed.
	Name    string   // full name, e.g. "order.created"; empty for unnamed types
	Aliases []string // full names
	Doc     string
	HasDoc  bool // a doc was given, if only an empty one
	IsError bool // record declared as "error"

	Fields      []*Field  // Record
	Symbols     []string  // Enum
	EnumDefault string    // Enum; "" when there is none
	Items       *Schema   // Array
	Values      *Schema   // Map
	Branches    []*Schema // Union
	Size        int       // Fixed, bytes

	// Logical is the logical type where it is valid for Type; nil otherwise. An invalid or
	// unknown logicalType stays in Props only, as the specification asks.
	Logical *Logical

	// Props are the attributes that the specification does not define for this type,
	// logicalType, precision and scale among them, in the order of the text.
	Props []Prop
}

// Logical is a logical type: decimal, uuid, date, time-millis, time-micros,
// timestamp-millis, timestamp-micros, timestamp-nanos, local-timestamp-millis,
// local-timestamp-micros, local-timestamp-nanos, duration.
type Logical struct {
	Name      string
	Precision int // decimal
	Scale     int // decimal
}

// Field is a field of a record.
type Field struct {
	Name   string
	Doc    string
	HasDoc bool // a doc was given, if only an empty one
	Type   *Schema
	// Default is the JSON text of the default; nil when there is none. For a float or double
	// it may be one of the strings "NaN", "Infinity", "-Infinity", which JSON has no number for.
	Default []byte
	Order   string // "ascending" (the default), "descending" or "ignore"
	Aliases []string
	Props   []Prop
}

// Prop is a custom attribute with its JSON text.
type Prop struct {
	Name  string
	Value []byte
}
