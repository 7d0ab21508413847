package schemaregistry

import (
	"fmt"
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
	differ   map[messagePair]bool // what was found; false while a pair is compared
	problems []string
}

type messagePair struct{ old, updated protoreflect.FullName }

func compareProtobuf(old, updated protoreflect.FileDescriptor) []string {
	c := &protobufComparison{differ: map[messagePair]bool{}}
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

// message compares field by field, by number, in a oneof or not: a field that moves is still
// that field.
func (c *protobufComparison) message(old, updated protoreflect.MessageDescriptor) {
	before := len(c.problems)
	c.differ[messagePair{old.FullName(), updated.FullName()}] = false
	c.movedToOneofs(old, updated)
	for _, number := range fieldNumbers(old, updated) {
		c.field(number, old, updated)
	}
	c.messages(old.Messages(), updated.Messages())
	c.differ[messagePair{old.FullName(), updated.FullName()}] = len(c.problems) > before
}

// fieldNumbers returns those of both messages in order.
func fieldNumbers(messages ...protoreflect.MessageDescriptor) []protoreflect.FieldNumber {
	var numbers []protoreflect.FieldNumber
	for _, m := range messages {
		for i := range m.Fields().Len() {
			numbers = append(numbers, m.Fields().Get(i).Number())
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// oneofOf returns the oneof that a field is written in, "" where there is none.
func oneofOf(f protoreflect.FieldDescriptor) protoreflect.Name {
	if oneof := f.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		return oneof.Name()
	}
	return ""
}

// movedToOneofs looks for fields that exclude each other now and did not before.
func (c *protobufComparison) movedToOneofs(old, updated protoreflect.MessageDescriptor) {
	for i := range updated.Oneofs().Len() {
		oneof := updated.Oneofs().Get(i)
		if oneof.IsSynthetic() {
			continue
		}
		alone, from := 0, map[protoreflect.Name]bool{}
		for j := range oneof.Fields().Len() {
			switch was := old.Fields().ByNumber(oneof.Fields().Get(j).Number()); {
			case was == nil:
			case oneofOf(was) == "":
				alone++
			default:
				from[oneofOf(was)] = true
			}
		}
		c.at(string(oneof.Name()), func() {
			switch {
			case alone > 1:
				c.fail("MULTIPLE_FIELDS_MOVED_TO_ONEOF")
			case alone+len(from) > 1:
				c.fail("FIELD_MOVED_TO_EXISTING_ONEOF")
			}
		})
	}
}

// field compares what has a number in one of the messages or in both.
func (c *protobufComparison) field(number protoreflect.FieldNumber, old, updated protoreflect.MessageDescriptor) {
	was, now := old.Fields().ByNumber(number), updated.Fields().ByNumber(number)
	place := now
	if now == nil {
		place = was
	}
	steps := len(c.path)
	defer func() { c.path = c.path[:steps] }()
	if oneof := oneofOf(place); oneof != "" {
		c.path = append(c.path, string(oneof))
	}
	c.path = append(c.path, strconv.Itoa(int(number)))
	switch {
	case now == nil && oneofOf(was) != "":
		if !oneofIsGone(was.ContainingOneof(), updated) {
			c.fail("ONEOF_FIELD_REMOVED")
		}
	case now == nil:
		if was.Cardinality() == protoreflect.Required {
			c.fail("REQUIRED_FIELD_REMOVED")
		}
	case was == nil:
		if now.Cardinality() == protoreflect.Required {
			c.fail("REQUIRED_FIELD_ADDED")
		}
	case was.IsMap() && now.IsMap():
		c.types(was.MapKey(), now.MapKey(), false)
		c.types(was.MapValue(), now.MapValue(), false)
	case was.IsMap() || now.IsMap():
		c.fail("FIELD_KIND_CHANGED")
	default:
		c.types(was, now, true)
	}
}

// oneofIsGone tells whether nothing is left of a oneof, neither its name nor a field.
func oneofIsGone(oneof protoreflect.OneofDescriptor, updated protoreflect.MessageDescriptor) bool {
	if now := updated.Oneofs().ByName(oneof.Name()); now != nil && !now.IsSynthetic() {
		return false
	}
	for i := range oneof.Fields().Len() {
		if updated.Fields().ByNumber(oneof.Fields().Get(i).Number()) != nil {
			return false
		}
	}
	return true
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
	if old.ParentFile().Path() == protobufRoot && updated.ParentFile().Path() == protobufRoot {
		return // compared where they are defined
	}
	pair := messagePair{old.FullName(), updated.FullName()}
	if _, known := c.differ[pair]; !known {
		inside := &protobufComparison{path: strings.Split(local(old), "."), differ: c.differ}
		inside.message(old, updated)
		c.problems = append(c.problems, inside.problems...)
	}
	if c.differ[pair] {
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
