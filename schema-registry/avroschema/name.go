package avroschema

import (
	"strings"
	"unicode"
)

var primitives = map[string]Type{
	"null": Null, "boolean": Boolean, "int": Int, "long": Long,
	"float": Float, "double": Double, "bytes": Bytes, "string": String,
}

var typeNames = [...]string{
	Null: "null", Boolean: "boolean", Int: "int", Long: "long", Float: "float", Double: "double",
	Bytes: "bytes", String: "string", Record: "record", Enum: "enum", Array: "array", Map: "map",
	Union: "union", Fixed: "fixed",
}

// String returns the type's name as schemas write it.
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return "invalid"
}

// fullName is the name by which a union tells its branches apart.
func (s *Schema) fullName() string {
	if s.Name != "" {
		return s.Name
	}
	return s.Type.String()
}

// namespace returns the namespace of a full name; "" is the null namespace.
func namespace(full string) string {
	return full[:max(strings.LastIndexByte(full, '.'), 0)]
}

// unqualified returns a full name without its namespace.
func unqualified(full string) string {
	return full[strings.LastIndexByte(full, '.')+1:]
}

// qualify makes a full name. A dot in name means that it has its own namespace.
func qualify(name, space string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name, space = name[i+1:], name[:i]
	}
	if space == "" {
		return name
	}
	return space + "." + name
}

// checkName says what is wrong with a name without namespace; "" if nothing. Java looks at
// UTF-16 units, so letters beyond the basic plane do not count as letters.
func checkName(name string) string {
	if name == "" {
		return "is empty"
	}
	for i, r := range name {
		letter := r == '_' || r <= 0xFFFF && unicode.IsLetter(r)
		if !letter && i == 0 {
			return "does not start with a letter or underscore"
		}
		if !letter && !(r <= 0xFFFF && unicode.IsDigit(r)) {
			return "has a character other than letters, digits and underscores"
		}
	}
	return ""
}

// checkFullName says what is wrong with the full name of a type.
func checkFullName(full, written string) string {
	if _, ok := primitives[full]; ok {
		return "is that of a primitive type"
	}
	if strings.HasSuffix(written, ".") {
		return "ends with a dot"
	}
	for _, part := range strings.Split(full, ".") {
		if problem := checkName(part); problem != "" {
			return problem
		}
	}
	return ""
}
