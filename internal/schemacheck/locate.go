package schemacheck

import (
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/schema-registry/avroschema"
	"github.com/postrider/postrider/schema-registry/schemafiles"
)

// place is a value in a file.
type place struct {
	file *schemafiles.File
	at   *value
}

// locator finds the places of types in the files of a tree.
type locator struct {
	documents map[string]*value            // by path
	defined   map[*avroschema.Schema]place // where a named type is defined
}

func newLocator(files []*schemafiles.File) *locator {
	l := &locator{make(map[string]*value), make(map[*avroschema.Schema]place)}
	for _, f := range files { // those first that others use
		root := parseDocument(f.Text)
		l.documents[f.Path] = root
		l.index(place{f, root}, f.Schema)
	}
	return l
}

// index notes which types are defined at p and below.
func (l *locator) index(p place, s *avroschema.Schema) {
	switch {
	case p.at == nil || s == nil || p.at.kind == '"':
	case s.Type == avroschema.Union:
		for i, branch := range s.Branches {
			l.index(place{p.file, p.at.at(i)}, branch)
		}
	case s.Name != "":
		if _, known := l.defined[s]; known || !defines(p.at) {
			return
		}
		l.defined[s] = p
		for i, f := range s.Fields {
			l.index(place{p.file, p.at.get("fields").at(i).get("type")}, f.Type)
		}
	default:
		l.index(place{p.file, p.at.get("items")}, s.Items)
		l.index(place{p.file, p.at.get("values")}, s.Values)
	}
}

// defines tells whether an object is the definition of a named type, not the mention of one.
func defines(v *value) bool {
	t := v.get("type")
	return t.is("record") || t.is("error") || t.is("enum") || t.is("fixed")
}

// definition returns where s is defined, if p only mentions it.
func (l *locator) definition(p place, s *avroschema.Schema) place {
	if s.Name != "" && !defines(p.at) {
		if d, ok := l.defined[s]; ok {
			return d
		}
	}
	return p
}

// step is a pair of types on the way to a problem, with the place of the one that the file
// has: its own type is the reader's where a new schema reads what old ones wrote.
type step struct {
	reader, writer *avroschema.Schema
	fileReads      bool
	here           place
	field          string // how a person names it: lines[].sku

	// What the whole schema had here, before a branch of a union was taken.
	readerType, writerType *avroschema.Schema
	// Where the path ends at a field of the reader, and the writer's of that name.
	readerField, writerField *avroschema.Field
}

// own is the one of a pair that the file has.
func (s *step) own(reader, writer *avroschema.Schema) *avroschema.Schema {
	if s.fileReads {
		return reader
	}
	return writer
}

// to goes on to a pair inside the present one.
func (s *step) to(reader, writer *avroschema.Schema, name string, here *value) {
	s.reader, s.writer, s.readerType, s.writerType = reader, writer, reader, writer
	s.field += name
	s.move(here)
}

// move goes to a place below, if the file has it.
func (s *step) move(here *value) {
	if here != nil {
		s.here.at = here
	}
}

// follow goes the way that a path of avroschema.CheckCompatibility describes, as far as it
// leads. Paths are those of the reader; where the file is the writer, fields are found by name.
func (l *locator) follow(s step, path string) step {
	steps := strings.Split(strings.Trim(path, "/"), "/")
	for len(steps) > 0 && steps[0] != "" {
		r, w := s.reader, s.writer
		index, _ := strconv.Atoi(steps[0])
		if w.Type == avroschema.Union {
			if index >= len(w.Branches) || r.Type == avroschema.Union {
				return s // the last step: which branch of the writer has none in the reader
			}
			s.writer = w.Branches[index]
			if !s.fileReads {
				s.move(s.here.at.at(index))
			}
			steps = steps[1:]
			continue
		}
		s.here = l.definition(s.here, s.own(r, w))
		switch {
		case r.Type == avroschema.Array && w.Type == r.Type:
			s.to(r.Items, w.Items, "[]", s.here.at.get("items"))
		case r.Type == avroschema.Map && w.Type == r.Type:
			s.to(r.Values, w.Values, "{}", s.here.at.get("values"))
		case r.Type == avroschema.Record && w.Type == r.Type && steps[0] == "fields" && len(steps) > 1:
			index, _ := strconv.Atoi(steps[1])
			if !l.toField(&s, index, len(steps) > 2) {
				return s
			}
			steps = steps[2:] // the field; its "type" is the next
		default:
			s.move(s.here.at.get(steps[0]))
			return s
		}
		steps = steps[1:]
	}
	return s
}

// toField goes to a field of the reader, and into its type if the writer has it too.
func (l *locator) toField(s *step, index int, inside bool) bool {
	if index >= len(s.reader.Fields) {
		return false
	}
	r := s.reader.Fields[index]
	var w *avroschema.Field
	writerIndex := -1
	for i, f := range s.writer.Fields {
		if f.Name == r.Name || w == nil && slices.Contains(r.Aliases, f.Name) {
			w, writerIndex = f, i
		}
	}
	own := writerIndex
	if s.fileReads {
		own = index
	}
	fields := s.here.at.get("fields")
	here := fields.at(own)
	if s.field != "" {
		s.field += "."
	}
	if inside && w != nil {
		s.to(r.Type, w.Type, r.Name, here.get("type"))
		return true
	}
	s.readerField, s.writerField = r, w
	s.field += r.Name
	if here == nil {
		here = fields // it is gone: the list that it is gone from
	}
	s.move(here)
	return false
}
