package avroschema

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// IncompatibilityType names a rule of schema resolution. The values are those of Avro's Java
// library, which registry clients know.
type IncompatibilityType string

// The rules that a pair of schemas can break.
const (
	NameMismatch                   IncompatibilityType = "NAME_MISMATCH"
	FixedSizeMismatch              IncompatibilityType = "FIXED_SIZE_MISMATCH"
	MissingEnumSymbols             IncompatibilityType = "MISSING_ENUM_SYMBOLS"
	ReaderFieldMissingDefaultValue IncompatibilityType = "READER_FIELD_MISSING_DEFAULT_VALUE"
	TypeMismatch                   IncompatibilityType = "TYPE_MISMATCH"
	MissingUnionBranch             IncompatibilityType = "MISSING_UNION_BRANCH"
	// AmbiguousField is a reader's field whose name and aliases match several fields of the
	// writer. Java gives up the whole check at the first of them with an exception.
	AmbiguousField IncompatibilityType = "AMBIGUOUS_FIELD"
	// TooComplex means that the check was given up undecided after maxComparisons, which
	// takes unions of several hundred records on both sides.
	TooComplex IncompatibilityType = "TOO_COMPLEX"
)

const maxComparisons = 1 << 19

// Incompatibility is one reason why a reader cannot read what a writer wrote.
type Incompatibility struct {
	Type IncompatibilityType
	Path string // JSON pointer into the reader's schema, "/" for its root; a writer's union adds the index of its branch
	// Location is what Java gives for Path. It differs where the pair was met inside a
	// reader's union before: Java starts there anew, at that branch.
	Location string
	Message  string  // what is wrong, without the place
	Detail   string  // the same in the words of Avro's Java library, which registry clients know
	Reader   *Schema // the two parts that do not fit
	Writer   *Schema
}

func (i Incompatibility) String() string {
	return fmt.Sprintf("%s at %s: %s", i.Type, i.Path, i.Message)
}

// CheckCompatibility returns every reason why data written with the schema writer cannot be
// read with the schema reader; none means that all of it can. The verdict is that of
// SchemaCompatibility in Avro's Java library: names of types compare without namespace, only
// the reader's aliases count, logical types do not, and a default is never looked into.
//
// What is wrong between two types is told once, for the first place where they meet.
func CheckCompatibility(reader, writer *Schema) []Incompatibility {
	return list(reader, writer, &collection{told: make(map[*result]bool), limit: math.MaxInt})
}

// MaxRepeated bounds what RepeatedIncompatibilities returns, which could double with every
// level of types in types.
const MaxRepeated = 1000

// RepeatedIncompatibilities is CheckCompatibility as Java lists it: what is wrong between two
// types is told again for each place where they meet, always with the Location of the first.
// It returns MaxRepeated of them at most, and where Java gives up only why.
func RepeatedIncompatibilities(reader, writer *Schema) []Incompatibility {
	return list(reader, writer, &collection{limit: MaxRepeated})
}

func list(reader, writer *Schema, found *collection) []Incompatibility {
	c := &checker{results: make(map[[2]*Schema]*result)}
	root := c.check(reader, writer, nil)
	if c.verdict != nil && (c.verdict.Type == TooComplex || found.told == nil) {
		return []Incompatibility{*c.verdict}
	}
	found.add(root, nil)
	if c.verdict != nil && len(found.list) == 0 {
		found.list = append(found.list, *c.verdict)
	}
	return found.list
}

// checker keeps one result per pair of schemas, so that recursive types end and types that
// are used many times are compared once.
type checker struct {
	results     map[[2]*Schema]*result
	comparisons int
	verdict     *Incompatibility // set where the whole pair is incompatible, even if a union has another branch to try
}

// result is what was found for a pair: its own problems and those of the pairs inside it.
// Paths become absolute only in the end, since a pair can be reached in several ways.
type result struct {
	done  bool
	parts []part // none where the pair fits
}

// part is a problem of a pair, or the result of a pair inside it by the steps that lead there.
type part struct {
	problem *Incompatibility // its Path is the rest of the way from the pair
	steps   []string
	result  *result
}

func (r *result) failed() bool { return len(r.parts) > 0 }

// check compares a pair. One that is being compared already counts as compatible: it is,
// unless the comparison under way proves otherwise. at is where Java has it.
func (c *checker) check(reader, writer *Schema, at *path) *result {
	pair := [2]*Schema{reader, writer}
	if known := c.results[pair]; known != nil {
		if !known.done {
			return &result{done: true}
		}
		return known
	}
	r := &result{}
	if c.comparisons++; c.comparisons > maxComparisons {
		r.fail(TooComplex, reader, writer, at, "", "too many comparisons", "the schemas take more than %d comparisons", maxComparisons)
		c.settle(r)
		return r
	}
	if reader.shared() || writer.shared() {
		c.results[pair] = r
	}
	c.compare(r, reader, writer, at)
	r.done = true
	return r
}

// settle makes the last problem of r that of the whole check.
func (c *checker) settle(r *result) {
	if c.verdict == nil {
		problem := *r.parts[len(r.parts)-1].problem
		problem.Path = "/" // inside a union's branch there is no path to it that a user would know
		c.verdict = &problem
	}
}

// shared tells whether s can be met again in the same check: by a reference, or by way of
// the schemas inside it.
func (s *Schema) shared() bool {
	return s.Name != "" || s.Items != nil || s.Values != nil || len(s.Branches) > 0
}

// add makes the problems of a pair inside r those of r too.
func (r *result) add(inside *result, steps ...string) {
	if inside.failed() {
		r.parts = append(r.parts, part{steps: steps, result: inside})
	}
}

// fail adds a problem at a path below r, with what Java says of it and what we do.
func (r *result) fail(typ IncompatibilityType, reader, writer *Schema, at *path, below, detail, format string, args ...any) {
	location := at.String() + below
	if location == "" {
		location = "/"
	}
	r.parts = append(r.parts, part{problem: &Incompatibility{
		Type: typ, Path: below, Location: location, Message: fmt.Sprintf(format, args...), Detail: detail, Reader: reader, Writer: writer,
	}})
}

// collection gathers the problems of a result and of those below it.
type collection struct {
	list  []Incompatibility
	told  map[*result]bool // whose problems are not told again; nil tells all again
	limit int
}

func (c *collection) add(r *result, at *path) {
	if c.told[r] {
		return
	}
	if c.told != nil {
		c.told[r] = true
	}
	for _, part := range r.parts {
		if len(c.list) >= c.limit {
			return
		}
		if part.problem != nil {
			problem := *part.problem
			problem.Path = at.String() + problem.Path
			if problem.Path == "" {
				problem.Path = "/"
			}
			c.list = append(c.list, problem)
			continue
		}
		below := at
		for _, step := range part.steps {
			below = below.key(step)
		}
		c.add(part.result, below)
	}
}

func (c *checker) compare(r *result, reader, writer *Schema, at *path) {
	switch {
	case writer.Type == Union && reader.Type == Union:
		for i, branch := range writer.Branches {
			if c.check(reader, branch, nil).failed() {
				r.fail(MissingUnionBranch, reader, writer, at, "/"+fmt.Sprint(i), lacking(branch), "the reader's union has no branch that can read the writer's %s", branch.fullName())
			}
		}
	case writer.Type == Union:
		for i, branch := range writer.Branches {
			r.add(c.check(reader, branch, at.index(i)), fmt.Sprint(i))
		}
	case reader.Type == Union:
		for _, branch := range reader.Branches {
			if !c.check(branch, writer, nil).failed() {
				return
			}
		}
		r.fail(MissingUnionBranch, reader, writer, at, "", lacking(writer), "the reader's union has no branch that can read the writer's %s", writer.fullName())
	case reader.Type != writer.Type:
		if !promotable(writer.Type, reader.Type) {
			r.fail(TypeMismatch, reader, writer, at, "", mismatch(reader, writer), "the reader's %s cannot read the writer's %s", reader.fullName(), writer.fullName())
		}
	case reader.Type == Array:
		r.add(c.check(reader.Items, writer.Items, at.key("items")), "items")
	case reader.Type == Map:
		r.add(c.check(reader.Values, writer.Values, at.key("values")), "values")
	case reader.Type == Fixed:
		compareNames(r, reader, writer, at)
		if reader.Size != writer.Size {
			r.fail(FixedSizeMismatch, reader, writer, at, "/size", fmt.Sprintf("expected: %d, found: %d", writer.Size, reader.Size), "the reader's size is %d, the writer's %d", reader.Size, writer.Size)
		}
	case reader.Type == Enum:
		compareNames(r, reader, writer, at)
		compareSymbols(r, reader, writer, at)
	case reader.Type == Record:
		compareNames(r, reader, writer, at)
		c.compareFields(r, reader, writer, at)
	}
}

// promotable tells whether a reader of another type can take the writer's values.
func promotable(writer, reader Type) bool {
	switch reader {
	case Long:
		return writer == Int
	case Float:
		return writer == Int || writer == Long
	case Double:
		return writer == Int || writer == Long || writer == Float
	case Bytes:
		return writer == String
	case String:
		return writer == Bytes
	}
	return false
}

func compareNames(r *result, reader, writer *Schema, at *path) {
	if unqualified(reader.Name) == unqualified(writer.Name) {
		return
	}
	for _, alias := range reader.Aliases {
		// Java does not find an alias of the null namespace on a type that has a namespace.
		if alias == writer.Name && (namespace(alias) != "" || namespace(reader.Name) == "") {
			return
		}
	}
	r.fail(NameMismatch, reader, writer, at, "/name", "expected: "+writer.Name, "the reader's %s is neither called %s nor has it as an alias", reader.Name, writer.Name)
}

func compareSymbols(r *result, reader, writer *Schema, at *path) {
	if reader.EnumDefault != "" {
		return // stands in for every symbol the reader does not know
	}
	known := make(map[string]bool, len(reader.Symbols))
	for _, symbol := range reader.Symbols {
		known[symbol] = true
	}
	var missing []string
	for _, symbol := range writer.Symbols {
		if !known[symbol] {
			missing = append(missing, symbol)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		list := strings.Join(missing, ", ")
		r.fail(MissingEnumSymbols, reader, writer, at, "/symbols", "["+list+"]", "the reader's enum has no default and lacks the writer's symbols %s", list)
	}
}

func (c *checker) compareFields(r *result, reader, writer *Schema, at *path) {
	written := make(map[string]*Field, len(writer.Fields))
	for _, f := range writer.Fields {
		written[f.Name] = f
	}
	for i, f := range reader.Fields {
		below := fmt.Sprintf("/fields/%d", i)
		var found []*Field
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			if w := written[name]; w != nil {
				found = append(found, w)
			}
		}
		switch {
		case len(found) > 1:
			detail := ""
			if c.verdict == nil { // the text is long, and only the first counts
				detail = fmt.Sprintf("Reader record field %s type:%s pos:%d matches multiple fields in writer record schema %s",
					f.Name, strings.ToUpper(f.Type.Type.String()), i, writer.Canonical())
			}
			r.fail(AmbiguousField, reader, writer, at, below, detail, "the reader's field %s and its aliases match several fields of the writer's %s", f.Name, writer.Name)
			c.settle(r)
		case len(found) == 1:
			r.add(c.check(f.Type, found[0].Type, at.key("fields").index(i).key("type")), "fields", fmt.Sprint(i), "type")
		case f.Default != nil:
		case f.Type.Type == Enum && f.Type.EnumDefault != "":
			// Java compares the enum with the whole record, which never fits, once for all fields of it.
			never := c.check(f.Type, writer, at.key("fields").index(i).key("type"))
			r.fail(TypeMismatch, f.Type, writer, nil, below+"/type", mismatch(f.Type, writer), "the reader's field %s has no default of its own and the writer does not write it; the default of its enum does not count here", f.Name)
			r.parts[len(r.parts)-1].problem.Location = never.parts[0].problem.Location
		default:
			r.fail(ReaderFieldMissingDefaultValue, reader, writer, at, below, f.Name, "the reader's field %s has no default and the writer does not write it", f.Name)
		}
	}
}

func lacking(writer *Schema) string {
	return "reader union lacking writer type: " + strings.ToUpper(writer.Type.String())
}

func mismatch(reader, writer *Schema) string {
	return fmt.Sprintf("reader type: %s not compatible with writer type: %s",
		strings.ToUpper(reader.Type.String()), strings.ToUpper(writer.Type.String()))
}
