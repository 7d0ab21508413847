package schemacheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

// finding is one reason why two versions do not fit, told about the file's own schema.
type finding struct {
	rule  string
	place place
	start int // where in the file; more exact than place for what has no value of its own
	field string
	what  string // why the readers break; both versions are named by "here" and "there"
	fix   string
}

// explainer turns what avroschema finds between two schemas into findings.
type explainer struct {
	locator  *locator
	findings []finding
	met      map[[2]*avroschema.Schema]bool // pairs inside unions that were looked into
}

// compare returns why the file does not fit an earlier version in a direction.
func (l *locator) compare(p place, schema, earlier *avroschema.Schema, direction string) []finding {
	e := &explainer{locator: l, met: make(map[[2]*avroschema.Schema]bool)}
	s := step{reader: schema, writer: earlier, fileReads: true, here: p}
	if direction == DirectionForward {
		s.reader, s.writer, s.fileReads = earlier, schema, false
	}
	s.readerType, s.writerType = s.reader, s.writer
	e.pair(s)
	return e.findings
}

// pair adds the findings of a pair of types and tells whether there are any.
func (e *explainer) pair(s step) bool {
	problems := avroschema.CheckCompatibility(s.reader, s.writer)
	for _, p := range problems {
		at := e.locator.follow(s, p.Path)
		if p.Type == avroschema.MissingUnionBranch && e.intoBranch(at, p) {
			continue
		}
		e.add(at, p)
	}
	return len(problems) > 0
}

// intoBranch looks for the branch of the reader's union that was meant for the writer's type,
// one of the same name or kind: what is wrong with it says more than that there is none.
func (e *explainer) intoBranch(s step, p avroschema.Incompatibility) bool {
	writer, index := writerBranch(s, p)
	if s.reader.Type != avroschema.Union {
		return false
	}
	for i, branch := range s.reader.Branches {
		if branch.Type != writer.Type || branch.Name == "" && branch.Items == nil && branch.Values == nil ||
			unqualified(branch.Name) != unqualified(writer.Name) {
			continue
		}
		pair := [2]*avroschema.Schema{branch, writer}
		if e.met[pair] {
			return true // told already
		}
		e.met[pair] = true
		inside := s
		inside.reader, inside.writer = branch, writer
		inside.readerType, inside.writerType = branch, writer
		if s.fileReads {
			inside.move(s.here.at.at(i))
		} else {
			inside.move(s.here.at.at(index))
		}
		return e.pair(inside)
	}
	return false
}

// writerBranch is the type of the writer that finds no branch in the reader's union.
func writerBranch(s step, p avroschema.Incompatibility) (*avroschema.Schema, int) {
	if s.writer.Type == avroschema.Union {
		var index int
		if _, err := fmt.Sscanf(p.Path[strings.LastIndexByte(p.Path, '/')+1:], "%d", &index); err == nil && index < len(s.writer.Branches) {
			return s.writer.Branches[index], index
		}
	}
	return s.writer, -1
}

func (e *explainer) add(s step, p avroschema.Incompatibility) {
	f := finding{rule: string(p.Type), place: s.here, field: s.field}
	f.start = s.here.at.start
	if s.readerField != nil && s.writerField == nil && !s.fileReads {
		// A field that is gone is gone from its record's list.
		f.start = keyStart(s.here.at)
	}
	f.what, f.fix = words(s, p)
	if !slices.Contains(e.findings, f) {
		e.findings = append(e.findings, f)
	}
}

// keyStart is where the attribute's name stands that v is the value of.
func keyStart(v *value) int {
	if v.parent != nil {
		for _, k := range v.parent.keys {
			if k.name == v.step {
				return k.start
			}
		}
	}
	return v.start
}

// words say what is wrong and what would mend it. A reader that is the file's is new.
func words(s step, p avroschema.Incompatibility) (what, fix string) {
	backward := s.fileReads
	subject := "the schema"
	if s.field != "" {
		subject = "field `" + s.field + "`"
	}
	was, is := s.writerType, s.readerType // earlier, in the file
	before, now := s.writer, s.reader     // the same, one branch of a union
	if !backward {
		was, is = is, was
		before, now = now, before
	}
	named := now.Type.String() + " `" + now.Name + "`"
	switch p.Type {
	case avroschema.ReaderFieldMissingDefaultValue:
		if backward {
			return subject + " has no default, and those events do not have it", fixMissingDefault(s)
		}
		return subject + " has no default there, and is not written any more",
			"keep it until all readers are on a version that gives it a default"
	case avroschema.TypeMismatch:
		switch {
		case s.readerField != nil:
			return subject + " has no default; that of its enum does not count here", `give the field itself a "default"`
		case isNullable(is) && !isNullable(was):
			return fmt.Sprintf("%s was %s and may be null now", subject, describe(was)),
				"let all readers have a version that takes null before it is written"
		}
		x, y := describe(was), describe(is)
		if x == y {
			x, y = was.Type.String()+" "+x, is.Type.String()+" "+y
		}
		fix = fmt.Sprintf("keep %s, or add a new field of type %s beside it", x, y)
		if s.field == "" {
			fix = fmt.Sprintf("keep %s, or take another subject for it", x)
		}
		return fmt.Sprintf("%s was %s and is %s now", subject, x, y), fix
	case avroschema.MissingUnionBranch:
		branch, _ := writerBranch(s, p)
		if backward {
			return fmt.Sprintf("%s was %s and is %s now", subject, describe(was), describe(is)),
				fmt.Sprintf("keep %s in the union", describe(branch))
		}
		return fmt.Sprintf("%s may be %s now, which is not in the union there", subject, describe(branch)),
			fmt.Sprintf("let all readers have a version with %s in the union before it is written", describe(branch))
	case avroschema.MissingEnumSymbols:
		missing := missingSymbols(s.reader, s.writer)
		if backward {
			return fmt.Sprintf("%s has no %s any more, and no default", named, missing),
				`keep what was there, or give the enum a "default" to stand for it`
		}
		return fmt.Sprintf("%s may be %s now, which it does not know there", named, missing),
			"let all readers have a version that knows it, or gives the enum a default, before it is written"
	case avroschema.FixedSizeMismatch:
		return fmt.Sprintf("%s was %d bytes and is %d now", named, before.Size, now.Size),
			"keep the size, or make a fixed of another name for a new field"
	case avroschema.NameMismatch:
		fix = "keep the name: no reader there knows another one"
		if backward {
			fix = fmt.Sprintf(`keep the name, or add "aliases": [%q]`, before.Name)
		}
		return fmt.Sprintf("%s was called `%s`", named, before.Name), fix
	case avroschema.AmbiguousField:
		return "a field and its aliases match several fields of " + before.Name, "take aliases away until each field matches one"
	}
	return p.Message, ""
}

// fixMissingDefault proposes a default for the reader's field, and an alias where a field of
// the same type has gone.
func fixMissingDefault(s step) string {
	f := s.readerField
	if f == nil {
		return `give it a "default"`
	}
	fix := `make it optional: "type": ["null", …], "default": null`
	if value := exampleDefault(f.Type); value != "" {
		fix = `give it one, such as "default": ` + value
	}
	for _, old := range s.writer.Fields {
		gone := !slices.ContainsFunc(s.reader.Fields, func(g *avroschema.Field) bool {
			return g.Name == old.Name || slices.Contains(g.Aliases, old.Name)
		})
		if gone && len(avroschema.CheckCompatibility(f.Type, old.Type)) == 0 {
			return fix + fmt.Sprintf("; if it is `%s` by a new name, \"aliases\": [%q]", old.Name, old.Name)
		}
	}
	return fix
}

// exampleDefault is a default that fits a type, "" where none is short.
func exampleDefault(s *avroschema.Schema) string {
	switch s.Type {
	case avroschema.Null:
		return "null"
	case avroschema.Boolean:
		return "false"
	case avroschema.Int, avroschema.Long, avroschema.Float, avroschema.Double:
		return "0"
	case avroschema.String, avroschema.Bytes:
		return `""`
	case avroschema.Array:
		return "[]"
	case avroschema.Map:
		return "{}"
	case avroschema.Enum:
		if len(s.Symbols) > 0 {
			return fmt.Sprintf("%q", s.Symbols[0])
		}
	case avroschema.Union:
		if len(s.Branches) > 0 {
			return exampleDefault(s.Branches[0])
		}
	}
	return ""
}

func isNullable(s *avroschema.Schema) bool {
	return s.Type == avroschema.Null ||
		s.Type == avroschema.Union && slices.ContainsFunc(s.Branches, func(b *avroschema.Schema) bool { return b.Type == avroschema.Null })
}

func missingSymbols(reader, writer *avroschema.Schema) string {
	var missing []string
	for _, symbol := range writer.Symbols {
		if !slices.Contains(reader.Symbols, symbol) {
			missing = append(missing, symbol)
		}
	}
	return strings.Join(missing, ", ")
}

// describe names a type as a person would: order.line, array of string, ["null", "long"].
func describe(s *avroschema.Schema) string {
	switch {
	case s.Name != "":
		return s.Name
	case s.Type == avroschema.Array:
		return "array of " + describe(s.Items)
	case s.Type == avroschema.Map:
		return "map of " + describe(s.Values)
	case s.Type == avroschema.Union:
		var names []string
		for _, branch := range s.Branches {
			names = append(names, describe(branch))
		}
		return "[" + strings.Join(names, ", ") + "]"
	}
	return s.Type.String()
}

func unqualified(full string) string { return full[strings.LastIndexByte(full, '.')+1:] }
