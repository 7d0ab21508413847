package schemacheck

import (
	"strings"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
)

// Levels are the names of all levels, from the most lenient.
var Levels = []string{
	string(schemaregistry.None),
	string(schemaregistry.Backward), string(schemaregistry.BackwardTransitive),
	string(schemaregistry.Forward), string(schemaregistry.ForwardTransitive),
	string(schemaregistry.Full), string(schemaregistry.FullTransitive),
}

func transitive(l schemaregistry.Level) bool { return strings.HasSuffix(string(l), "_TRANSITIVE") }

// The directions in which a pair of versions must fit.
const (
	DirectionBackward = "backward" // the new schema reads what the old one wrote
	DirectionForward  = "forward"  // the old schema reads what the new one wrote
)

func directions(l schemaregistry.Level) []string {
	switch {
	case strings.HasPrefix(string(l), "FULL"):
		return []string{DirectionBackward, DirectionForward}
	case strings.HasPrefix(string(l), "BACKWARD"):
		return []string{DirectionBackward}
	case strings.HasPrefix(string(l), "FORWARD"):
		return []string{DirectionForward}
	}
	return nil
}

// The rules. Those of schema resolution have the names that registries give them.
const (
	RuleInvalidSchema = "INVALID_SCHEMA"
	RuleSubject       = "SUBJECT"
	RuleRemoved       = "SCHEMA_REMOVED"
	RuleExpiredWaiver = "WAIVER_EXPIRED"
	RuleUnusedWaiver  = "WAIVER_UNUSED"
	RuleNotRead       = "NOT_READ"
	RuleOldInvalid    = "OLD_VERSION_INVALID"
	RuleGoStruct      = "GO_STRUCT"
)

// Rules are all rules with what they mean.
var Rules = []struct{ Name, Meaning string }{
	{string(avroschema.ReaderFieldMissingDefaultValue), "Readers want a field that is not written and that they have no default for."},
	{string(avroschema.TypeMismatch), "Readers cannot take values of the type that is written."},
	{string(avroschema.MissingUnionBranch), "Readers have no branch in a union for what is written."},
	{string(avroschema.MissingEnumSymbols), "Readers do not know a symbol that is written, and their enum has no default."},
	{string(avroschema.NameMismatch), "Readers know a type by another name, and have no alias for it."},
	{string(avroschema.FixedSizeMismatch), "Readers expect a fixed of another size."},
	{string(avroschema.AmbiguousField), "A field and its aliases match several fields of what is written."},
	{string(avroschema.TooComplex), "The schemas are too large to be compared."},
	{RuleInvalidSchema, "The file is no Avro schema."},
	{RuleSubject, "The file has no subject, or that of another file."},
	{RuleRemoved, "A schema that was there before is gone."},
	{RuleExpiredWaiver, "A waiver in schemas.yaml is past its last day."},
	{RuleUnusedWaiver, "A waiver in schemas.yaml covers no problem."},
	{RuleNotRead, "A file may hold schemas in a language that is not read."},
	{RuleOldInvalid, "An earlier version is no Avro schema, and was left out of the comparison."},
	{RuleGoStruct, "Generated Go code does not fit the schema that it was made from."},
}

// waivable are the rules that a waiver may name.
var waivable = []string{
	string(avroschema.ReaderFieldMissingDefaultValue), string(avroschema.TypeMismatch), string(avroschema.MissingUnionBranch),
	string(avroschema.MissingEnumSymbols), string(avroschema.NameMismatch), string(avroschema.FixedSizeMismatch),
	string(avroschema.AmbiguousField), string(avroschema.TooComplex), RuleRemoved,
}
