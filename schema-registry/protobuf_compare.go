package schemaregistry

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// The changes of a Protobuf schema that make data unreadable, by the rules and in the words
// of Confluent's registry; %[1]s is the new schema, %[2]s the old one and %[3]s the path.
var protobufChanges = map[string]string{
	"PACKAGE_CHANGED":                "The package at '%[3]s' in the %[1]s schema does not match the package in the %[2]s schema",
	"MESSAGE_REMOVED":                "The %[1]s schema is missing a MESSAGE type at path '%[3]s' in the %[2]s schema",
	"FIELD_KIND_CHANGED":             "The type of a field at path '%[3]s' in the %[1]s schema does not match the %[2]s schema",
	"FIELD_SCALAR_KIND_CHANGED":      "The kind of a SCALAR field at path '%[3]s' in the %[1]s schema does not match its kind in the %[2]s schema",
	"FIELD_NAMED_TYPE_CHANGED":       "The type of a MESSAGE field at path '%[3]s' in the %[1]s schema does not match its type in the %[2]s schema",
	"FIELD_NUMERIC_LABEL_CHANGED":    "The label for a NUMERIC field at path '%[3]s' in the %[1]s schema does not match its label in the %[2]s schema",
	"REQUIRED_FIELD_ADDED":           "A required field  at path '%[3]s' in the %[1]s schema is missing in the %[2]s schema",
	"REQUIRED_FIELD_REMOVED":         "The %[1]s schema is missing a required field at path: '%[3]s' in the %[2]s schema",
	"ONEOF_FIELD_REMOVED":            "The %[1]s schema is missing a oneof field at path '%[3]s' in the %[2]s schema",
	"MULTIPLE_FIELDS_MOVED_TO_ONEOF": "Multiple fields in the oneof at path '%[3]s' in the %[1]s schema are outside a oneof in the %[2]s schema",
	"FIELD_MOVED_TO_EXISTING_ONEOF":  "A field in the oneof at path '%[3]s' in the %[1]s schema is outside an existing oneof in the %[2]s schema",
}

// protobufComparison goes over two schemas side by side.
type protobufComparison struct {
	path     []string
	visited  map[protoreflect.FullName]bool // messages of the old schema
	problems []string
}

func compareProtobuf(old, updated protoreflect.FileDescriptor) []string {
	c := &protobufComparison{visited: map[protoreflect.FullName]bool{}}
	if old.Package() != updated.Package() {
		c.fail("PACKAGE_CHANGED")
	}
	c.messages(old.Messages(), updated.Messages())
	return c.problems
}

func (c *protobufComparison) fail(change string) {
	path := escapePercent("#/" + strings.Join(c.path, "/"))
	description := strings.ReplaceAll(protobufChanges[change], "%[3]s", path)
	c.problems = append(c.problems, fmt.Sprintf("{errorType:%q, description:\"%s\"}", change, description))
}

// at runs do one step further down.
func (c *protobufComparison) at(step string, do func()) {
	c.path = append(c.path, step)
	do()
	c.path = c.path[:len(c.path)-1]
}

// messages compares the messages of a file or in a message. New ones, and enums, do no harm.
func (c *protobufComparison) messages(old, updated protoreflect.MessageDescriptors) {
	for i := range old.Len() {
		message := old.Get(i)
		if message.IsMapEntry() {
			continue
		}
		c.at(string(message.Name()), func() {
			if now := updated.ByName(message.Name()); now != nil {
				c.message(message, now)
			} else {
				c.fail("MESSAGE_REMOVED")
			}
		})
	}
}

func (c *protobufComparison) message(old, updated protoreflect.MessageDescriptor) {
	if c.visited[old.FullName()] {
		return
	}
	c.visited[old.FullName()] = true
	alone, inOneofs := protobufFields(old)
	nowAlone, _ := protobufFields(updated)
	c.movedToOneofs(alone, inOneofs, updated)
	for i := range old.Oneofs().Len() {
		oneof := old.Oneofs().Get(i)
		now := updated.Oneofs().ByName(oneof.Name())
		if oneof.IsSynthetic() || now == nil || now.IsSynthetic() {
			continue
		}
		c.at(string(oneof.Name()), func() { c.oneof(oneof, now) })
	}
	numbers := maps.Clone(alone)
	maps.Copy(numbers, nowAlone)
	for _, number := range slices.Sorted(maps.Keys(numbers)) {
		c.at(strconv.Itoa(int(number)), func() { c.fields(alone[number], nowAlone[number]) })
	}
	c.messages(old.Messages(), updated.Messages())
}

// protobufFields returns the fields of a message by number, those in a oneof by themselves.
func protobufFields(m protoreflect.MessageDescriptor) (alone, inOneofs map[protoreflect.FieldNumber]protoreflect.FieldDescriptor) {
	alone, inOneofs = map[protoreflect.FieldNumber]protoreflect.FieldDescriptor{}, map[protoreflect.FieldNumber]protoreflect.FieldDescriptor{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if oneof := f.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
			inOneofs[f.Number()] = f
		} else {
			alone[f.Number()] = f
		}
	}
	return alone, inOneofs
}

// movedToOneofs takes out of alone what a oneof of the new schema has, and compares no
// further: one field may move into a new oneof.
func (c *protobufComparison) movedToOneofs(alone, inOneofs map[protoreflect.FieldNumber]protoreflect.FieldDescriptor, updated protoreflect.MessageDescriptor) {
	for i := range updated.Oneofs().Len() {
		oneof := updated.Oneofs().Get(i)
		if oneof.IsSynthetic() {
			continue
		}
		moved, existing := 0, 0
		for j := range oneof.Fields().Len() {
			number := oneof.Fields().Get(j).Number()
			switch {
			case alone[number] != nil:
				moved++
				delete(alone, number)
			case inOneofs[number] != nil:
				existing++
			}
		}
		c.at(string(oneof.Name()), func() {
			switch {
			case moved > 1:
				c.fail("MULTIPLE_FIELDS_MOVED_TO_ONEOF")
			case moved == 1 && existing > 0:
				c.fail("FIELD_MOVED_TO_EXISTING_ONEOF")
			}
		})
	}
}

func (c *protobufComparison) oneof(old, updated protoreflect.OneofDescriptor) {
	for i := range old.Fields().Len() {
		f := old.Fields().Get(i)
		c.at(strconv.Itoa(int(f.Number())), func() {
			if now := updated.Fields().ByNumber(f.Number()); now != nil {
				c.fields(f, now)
			} else {
				c.fail("ONEOF_FIELD_REMOVED")
			}
		})
	}
}

// fields compares a field with what it has become; one of the two may be nil.
func (c *protobufComparison) fields(old, updated protoreflect.FieldDescriptor) {
	switch {
	case updated == nil:
		if old.Cardinality() == protoreflect.Required {
			c.fail("REQUIRED_FIELD_REMOVED")
		}
	case old == nil:
		if updated.Cardinality() == protoreflect.Required {
			c.fail("REQUIRED_FIELD_ADDED")
		}
	case old.IsMap() && updated.IsMap():
		c.types(old.MapKey(), updated.MapKey(), false)
		c.types(old.MapValue(), updated.MapValue(), false)
	case old.IsMap() || updated.IsMap():
		c.fail("FIELD_KIND_CHANGED")
	default:
		c.types(old, updated, true)
	}
}

func (c *protobufComparison) types(old, updated protoreflect.FieldDescriptor, labels bool) {
	kind, now := protobufKind(old.Kind()), protobufKind(updated.Kind())
	switch {
	case (kind == "message") != (now == "message"):
		c.fail("FIELD_KIND_CHANGED")
	case kind == "message":
		c.messageTypes(old.Message(), updated.Message())
	case kind != now:
		c.fail("FIELD_SCALAR_KIND_CHANGED")
	case labels && kind != "string or bytes" && protobufLabel(old) != "" && protobufLabel(updated) != "" && protobufLabel(old) != protobufLabel(updated):
		c.fail("FIELD_NUMERIC_LABEL_CHANGED")
	}
}

func (c *protobufComparison) messageTypes(old, updated protoreflect.MessageDescriptor) {
	local := func(m protoreflect.MessageDescriptor) string {
		return strings.TrimPrefix(string(m.FullName()), string(m.ParentFile().Package())+".")
	}
	if local(old) != local(updated) {
		c.fail("FIELD_NAMED_TYPE_CHANGED")
		return
	}
	inside := &protobufComparison{path: []string{local(old)}, visited: c.visited}
	inside.message(old, updated)
	if len(inside.problems) > 0 {
		c.problems = append(c.problems, inside.problems...)
		c.fail("FIELD_NAMED_TYPE_CHANGED")
	}
}

// protobufKind groups the kinds that are read alike, see "Updating a message type" in
// Protobuf's language guide.
func protobufKind(kind protoreflect.Kind) string {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.BoolKind, protoreflect.EnumKind:
		return "number"
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return "signed number"
	case protoreflect.StringKind, protoreflect.BytesKind:
		return "string or bytes"
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind:
		return "fixed32"
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return "fixed64"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return "message"
	}
	return kind.String() // float, double
}

// protobufLabel is the label that is written before a field, "" where there is none.
func protobufLabel(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Cardinality() != protoreflect.Optional, f.HasOptionalKeyword():
		return f.Cardinality().String()
	}
	return ""
}
