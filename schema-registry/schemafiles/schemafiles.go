// Package schemafiles reads the Avro schemas of a directory tree.
//
// A file may use types that another file defines: it is parsed after that file, and its
// schema contains them. Each file stands for itself otherwise, so two may define a type of
// the same name differently as long as no third one refers to it.
package schemafiles

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

// Extension is what the name of a schema's file ends with.
const Extension = ".avsc"

// Source is the text of one file.
type Source struct {
	Path string // below the directory, with slashes
	Text string // without a byte order mark
}

// File is one schema file.
type File struct {
	Source
	Schema *avroschema.Schema
}

// Problem is what is wrong with one file.
type Problem struct {
	Path string
	Err  error // an *avroschema.ParseError where the text is to blame
}

func (p *Problem) Error() string {
	var place *avroschema.ParseError
	if errors.As(p.Err, &place) {
		// The usual form for editors takes the place of the sentence.
		message := strings.TrimPrefix(p.Err.Error(), fmt.Sprintf("line %d, column %d", place.Line, place.Column))
		return fmt.Sprintf("%s:%d:%d: %s", p.Path, place.Line, place.Column, strings.TrimLeft(message, ",: "))
	}
	return p.Path + ": " + p.Err.Error()
}

func (p *Problem) Unwrap() error { return p.Err }

// Load reads every file below dir whose name ends with Extension, hidden directories left
// out, and returns them with those first that others use, by path otherwise. The error joins
// a *Problem for each file that could not be read; the other files are returned with it.
func Load(dir string) ([]File, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, err // it names the directory, which errors from inside it do not
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	return load(os.DirFS(dir))
}

func load(tree fs.FS) ([]File, error) {
	sources, unreadable, err := Find(tree)
	if err != nil {
		return nil, err
	}
	files, invalid := new(Parser).Parse(sources)
	var problems []error
	for _, p := range append(unreadable, invalid...) {
		problems = append(problems, p)
	}
	slices.SortStableFunc(problems, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return files, errors.Join(problems...)
}

// Find returns the files of a tree that Load reads, by path, and those that cannot be read.
func Find(tree fs.FS) (sources []Source, unreadable []*Problem, err error) {
	err = fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && name == ".":
			return err
		case err != nil:
			unreadable = append(unreadable, &Problem{name, err})
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && name != ".":
			return fs.SkipDir
		case !entry.IsDir() && path.Ext(name) == Extension && !utf8.ValidString(name):
			unreadable = append(unreadable, &Problem{name, errors.New("the name of the file is not UTF-8: rename it")})
		case !entry.IsDir() && path.Ext(name) == Extension:
			if text, err := fs.ReadFile(tree, name); err != nil {
				unreadable = append(unreadable, &Problem{name, err})
			} else {
				sources = append(sources, NewSource(name, text))
			}
		}
		return nil
	})
	return sources, unreadable, err
}

// NewSource makes a source of a file's bytes.
func NewSource(path string, text []byte) Source {
	return Source{path, strings.TrimPrefix(string(text), "\ufeff")}
}

// Parser parses trees of schema files. It remembers what it parsed, so that a tree that
// shares most of its files with an earlier one, as the commits of a repository do, costs
// little, and what did not change is the same *Schema. The zero value is ready to use.
type Parser struct {
	known map[parsed]outcome
}

// parsed is all that the outcome of parsing depends on.
type parsed struct {
	text, refs string
	anyDefault bool
}

type outcome struct {
	schema *avroschema.Schema
	err    error
}

// Parse parses the files of one tree, those first that others use, by path otherwise, and
// says what is wrong with the rest.
func (p *Parser) Parse(sources []Source) ([]File, []*Problem) {
	return p.load(sources, false)
}

// ParseAnyDefault is Parse for what is only compared with: it also takes schemas with defaults
// that do not fit their fields. Not every library refuses those, so that they may be in use.
func (p *Parser) ParseAnyDefault(sources []Source) ([]File, []*Problem) {
	return p.load(sources, true)
}

func (p *Parser) load(sources []Source, anyDefault bool) ([]File, []*Problem) {
	l := &loader{parser: p, anyDefault: anyDefault, definers: make(map[string][]definition)}
	for _, s := range sources {
		l.waiting = append(l.waiting, &source{Source: s})
	}
	slices.SortStableFunc(l.waiting, func(a, b *source) int { return cmp.Compare(a.Path, b.Path) })
	l.run()
	var problems []*Problem
	for _, s := range l.waiting {
		problems = append(problems, &Problem{s.Path, s.err})
	}
	return l.files, problems
}

func (p *Parser) parse(text string, refs []*avroschema.Schema, anyDefault bool) (*avroschema.Schema, error) {
	key := parsed{text: text, anyDefault: anyDefault}
	for _, ref := range refs {
		key.refs += fmt.Sprintf("%p ", ref) // a schema that is remembered stays where it is
	}
	if o, ok := p.known[key]; ok {
		return o.schema, o.err
	}
	if p.known == nil {
		p.known = make(map[parsed]outcome)
	}
	parse := avroschema.Parse
	if anyDefault {
		parse = avroschema.ParseAnyDefault
	}
	schema, err := parse(text, refs...)
	p.known[key] = outcome{schema, err}
	return schema, err
}

// loader parses files in rounds: each round takes those whose types have become known.
type loader struct {
	parser     *Parser
	anyDefault bool
	waiting    []*source
	files      []File
	definers   map[string][]definition
}

type source struct {
	Source
	refs []*avroschema.Schema
	err  error // of the last attempt
}

// definition is a type in the file that defines it.
type definition struct {
	path   string
	schema *avroschema.Schema
	top    bool // it is what the file is about, not a part of it
}

func (l *loader) run() {
	for progress := true; progress; {
		progress = false
		l.waiting = slices.DeleteFunc(l.waiting, func(s *source) bool {
			done := l.parse(s)
			progress = progress || done
			return done
		})
	}
	for _, s := range l.waiting {
		s.err = l.explain(s)
	}
}

// parse tries a file with the types that are known by now.
func (l *loader) parse(s *source) bool {
	for {
		var schema *avroschema.Schema
		schema, s.err = l.parser.parse(s.Text, s.refs, false)
		if s.err != nil && l.anyDefault {
			// Only then: a schema that has not changed is the same *Schema.
			schema, s.err = l.parser.parse(s.Text, s.refs, true)
		}
		if s.err == nil {
			l.add(s, schema)
			return true
		}
		ref := l.find(s)
		if ref == nil {
			return false
		}
		s.refs = append(s.refs, ref)
	}
}

func (l *loader) add(s *source, schema *avroschema.Schema) {
	l.files = append(l.files, File{s.Source, schema})
	used := make(map[*avroschema.Schema]bool)
	for _, ref := range s.refs {
		for _, named := range ref.Named() {
			used[named] = true
		}
	}
	for _, named := range schema.Named() {
		if !used[named] {
			l.definers[named.Name] = append(l.definers[named.Name], definition{s.Path, named, named == schema})
		}
	}
}

// find returns the type that the last attempt missed; nil if it is not known or not clear.
func (l *loader) find(s *source) *avroschema.Schema {
	definers := l.candidates(s)
	if len(definers) == 0 {
		return nil
	}
	for _, other := range definers[1:] {
		if !avroschema.Equal(definers[0].schema, other.schema) {
			return nil
		}
	}
	return definers[0].schema
}

// candidates are the definitions of the type that the last attempt missed: those that have a
// file to themselves, or else all.
func (l *loader) candidates(s *source) []definition {
	var parseErr *avroschema.ParseError
	if !errors.As(s.err, &parseErr) || parseErr.UnknownType == "" {
		return nil
	}
	definers := l.definers[parseErr.UnknownType]
	if i := slices.IndexFunc(definers, func(d definition) bool { return d.top }); i >= 0 {
		return slices.DeleteFunc(slices.Clone(definers), func(d definition) bool { return !d.top })
	}
	return definers
}

// explain says more of a type that stayed unknown.
func (l *loader) explain(s *source) error {
	if definers := l.candidates(s); len(definers) > 1 {
		var paths []string
		for _, d := range definers {
			paths = append(paths, d.path)
		}
		return fmt.Errorf("%w: it is defined differently in %s", s.err, strings.Join(paths, ", "))
	}
	var parseErr *avroschema.ParseError
	if errors.As(s.err, &parseErr) && parseErr.UnknownType != "" {
		return fmt.Errorf("%w: no file that could be read defines it (two files cannot refer to each other)", s.err)
	}
	return s.err
}
