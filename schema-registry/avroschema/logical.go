package avroschema

import (
	"math"
	"strconv"
)

// logicalType returns the logical type that s declares, where it is a known one and valid
// for the type and attributes of s; nil otherwise.
func logicalType(s *Schema) *Logical {
	name, ok := s.textProp("logicalType")
	if !ok {
		return nil
	}
	valid := false
	switch name {
	case "decimal":
		return decimal(s)
	case "uuid":
		valid = s.Type == String || s.Type == Fixed && s.Size == 16
	case "duration":
		valid = s.Type == Fixed && s.Size == 12
	case "date", "time-millis":
		valid = s.Type == Int
	case "time-micros", "timestamp-millis", "timestamp-micros", "timestamp-nanos",
		"local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos":
		valid = s.Type == Long
	}
	if !valid {
		return nil
	}
	return &Logical{Name: name}
}

func decimal(s *Schema) *Logical {
	precision, ok := s.intProp("precision")
	if !ok || precision <= 0 {
		return nil
	}
	scale := 0
	if s.prop("scale") != nil {
		if scale, ok = s.intProp("scale"); !ok || scale < 0 || scale > precision {
			return nil
		}
	}
	switch s.Type {
	case Bytes:
	case Fixed:
		// Digits that fit a signed integer of that many bytes.
		if float64(precision) > math.Floor(math.Log10(2)*float64(8*int64(s.Size)-1)) {
			return nil
		}
	default:
		return nil
	}
	return &Logical{Name: "decimal", Precision: precision, Scale: scale}
}

// prop returns the JSON text of a property; nil where s has none of that name.
func (s *Schema) prop(name string) []byte {
	for _, p := range s.Props {
		if p.Name == name {
			return p.Value
		}
	}
	return nil
}

func (s *Schema) textProp(name string) (string, bool) {
	n, err := readJSON(string(s.prop(name)))
	if err != nil || n.kind != kindString {
		return "", false
	}
	return n.text, true
}

func (s *Schema) intProp(name string) (int, bool) {
	v, err := strconv.ParseInt(string(s.prop(name)), 10, 32)
	return int(v), err == nil
}
