package avroschema

import (
	"fmt"
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
	// writer. Java gives up the whole check there, without a type of its own for it.
	AmbiguousField IncompatibilityType = "AMBIGUOUS_FIELD"
	// TooComplex means that the check was given up undecided after maxComparisons, which
	// takes unions of several hundred records on both sides.
	TooComplex IncompatibilityType = "TOO_COMPLEX"
)

const maxComparisons = 1 << 19

// Incompatibility is one reason why a reader cannot read what a writer wrote.
type Incompatibility struct {
	Type    IncompatibilityType
	Path    string  // JSON pointer into the reader's schema, "/" for its root; a writer's union adds the index of its branch
	Message string  // what is wrong, without the place
	Detail  string  // the same in the words of Avro's Java library, which registry clients know
	Reader  *Schema // the two parts that do not fit
	Writer  *Schema
}

func (i Incompatibility) String() string {
	return fmt.Sprintf("%s at %s: %s", i.Type, i.Path, i.Message)
}

// CheckCompatibility returns every reason why data written with the schema writer cannot be
// read with the schema reader; none means that all of it can. The verdict is that of
// SchemaCompatibility in Avro's Java library: names of types compare without namespace, only
// the reader's aliases count, logical types do not, and a default is never looked into.
func CheckCompatibility(reader, writer *Schema) []Incompatibility {
	c := &checker{results: make(map[[2]*Schema]*result)}
	root := c.check(reader, writer)
	if c.verdict != nil && c.verdict.Type == TooComplex {
		return []Incompatibility{*c.verdict}
	}
	var list []Incompatibility
	root.collect(nil, make(map[*result]bool), &list)
	if c.verdict != nil && len(list) == 0 {
		list = append(list, *c.verdict)
	}
	return list
}

// checker keeps one result per pair of schemas, so that recursive types end and types that
// are used many times are compared once.
type checker struct {
	results     map[[2]*Schema]*result
	comparisons int
	verdict     *Incompatibility // set where the whole pair is incompatible, even if a union has another branch to try
}

// result is what was found for a pair: its own problems and those of the pairs inside it,
// each by its path from here. Paths become absolute only in the end, since a pair can be
// reached in several ways.
type result struct {
	done   bool
	failed bool
	own    []Incompatibility
	parts  []part
}

type part struct {
	steps  []string
	result *result
}

// check compares a pair. One that is being compared already counts as compatible: it is,
// unless the comparison under way proves otherwise.
func (c *checker) check(reader, writer *Schema) *result {
	pair := [2]*Schema{reader, writer}
	if known := c.results[pair]; known != nil {
		if !known.done {
			return &result{done: true}
		}
		return known
	}
	r := &result{}
	if c.comparisons++; c.comparisons > maxComparisons {
		r.fail(TooComplex, reader, writer, "", "too many comparisons", "the schemas take more than %d comparisons", maxComparisons)
		c.settle(r)
		return r
	}
	if reader.shared() || writer.shared() {
		c.results[pair] = r
	}
	c.compare(r, reader, writer)
	r.done = true
	return r
}

// settle makes the last problem of r that of the whole check.
func (c *checker) settle(r *result) {
	if c.verdict == nil {
		problem := r.own[len(r.own)-1]
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
	if inside.failed {
		r.failed = true
		r.parts = append(r.parts, part{steps, inside})
	}
}

// fail adds a problem at a path below r, with what Java says of it and what we do.
func (r *result) fail(typ IncompatibilityType, reader, writer *Schema, path, detail, format string, args ...any) {
	r.failed = true
	r.own = append(r.own, Incompatibility{Type: typ, Path: path, Message: fmt.Sprintf(format, args...), Detail: detail, Reader: reader, Writer: writer})
}

// collect appends the problems of r and below, each pair at the first place it is met.
func (r *result) collect(at *path, seen map[*result]bool, list *[]Incompatibility) {
	if seen[r] {
		return
	}
	seen[r] = true
	for _, problem := range r.own {
		problem.Path = at.String() + problem.Path
		if problem.Path == "" {
			problem.Path = "/"
		}
		*list = append(*list, problem)
	}
	for _, part := range r.parts {
		below := at
		for _, step := range part.steps {
			below = below.key(step)
		}
		part.result.collect(below, seen, list)
	}
}

func (c *checker) compare(r *result, reader, writer *Schema) {
	switch {
	case writer.Type == Union && reader.Type == Union:
		for i, branch := range writer.Branches {
			if c.check(reader, branch).failed {
				r.fail(MissingUnionBranch, reader, writer, "/"+fmt.Sprint(i), lacking(branch), "the reader's union has no branch that can read the writer's %s", branch.fullName())
			}
		}
	case writer.Type == Union:
		for i, branch := range writer.Branches {
			r.add(c.check(reader, branch), fmt.Sprint(i))
		}
	case reader.Type == Union:
		for _, branch := range reader.Branches {
			if !c.check(branch, writer).failed {
				return
			}
		}
		r.fail(MissingUnionBranch, reader, writer, "", lacking(writer), "the reader's union has no branch that can read the writer's %s", writer.fullName())
	case reader.Type != writer.Type:
		if !promotable(writer.Type, reader.Type) {
			r.fail(TypeMismatch, reader, writer, "", mismatch(reader, writer), "the reader's %s cannot read the writer's %s", reader.fullName(), writer.fullName())
		}
	case reader.Type == Array:
		r.add(c.check(reader.Items, writer.Items), "items")
	case reader.Type == Map:
		r.add(c.check(reader.Values, writer.Values), "values")
	case reader.Type == Fixed:
		compareNames(r, reader, writer)
		if reader.Size != writer.Size {
			r.fail(FixedSizeMismatch, reader, writer, "/size", fmt.Sprintf("expected: %d, found: %d", writer.Size, reader.Size), "the reader's size is %d, the writer's %d", reader.Size, writer.Size)
		}
	case reader.Type == Enum:
		compareNames(r, reader, writer)
		compareSymbols(r, reader, writer)
	case reader.Type == Record:
		compareNames(r, reader, writer)
		c.compareFields(r, reader, writer)
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

func compareNames(r *result, reader, writer *Schema) {
	if unqualified(reader.Name) == unqualified(writer.Name) {
		return
	}
	for _, alias := range reader.Aliases {
		// Java does not find an alias of the null namespace on a type that has a namespace.
		if alias == writer.Name && (namespace(alias) != "" || namespace(reader.Name) == "") {
			return
		}
	}
	r.fail(NameMismatch, reader, writer, "/name", "expected: "+writer.Name, "the reader's %s is neither called %s nor has it as an alias", reader.Name, writer.Name)
}

func compareSymbols(r *result, reader, writer *Schema) {
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
		r.fail(MissingEnumSymbols, reader, writer, "/symbols", "["+list+"]", "the reader's enum has no default and lacks the writer's symbols %s", list)
	}
}

func (c *checker) compareFields(r *result, reader, writer *Schema) {
	written := make(map[string]*Field, len(writer.Fields))
	for _, f := range writer.Fields {
		written[f.Name] = f
	}
	for i, f := range reader.Fields {
		at := fmt.Sprintf("/fields/%d", i)
		var found []*Field
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			if w := written[name]; w != nil {
				found = append(found, w)
			}
		}
		switch {
		case len(found) > 1:
			r.fail(AmbiguousField, reader, writer, at, f.Name, "the reader's field %s and its aliases match several fields of the writer's %s", f.Name, writer.Name)
			c.settle(r)
		case len(found) == 1:
			r.add(c.check(f.Type, found[0].Type), "fields", fmt.Sprint(i), "type")
		case f.Default != nil:
		case f.Type.Type == Enum && f.Type.EnumDefault != "":
			// Java compares the enum with the whole record, which never fits.
			r.fail(TypeMismatch, f.Type, writer, at+"/type", mismatch(f.Type, writer), "the reader's field %s has no default of its own and the writer does not write it; the default of its enum does not count here", f.Name)
		default:
			r.fail(ReaderFieldMissingDefaultValue, reader, writer, at, f.Name, "the reader's field %s has no default and the writer does not write it", f.Name)
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
