package schemacheck

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
	"github.com/postrider/postrider/schema-registry/schemafiles"
)

// tree is the directory that is checked.
type tree struct {
	dir      string
	config   *Config
	naming   *naming
	parser   *schemafiles.Parser
	files    []*schemafiles.File // those first that others use
	invalid  map[string]bool     // files that are no schema, by path
	subjects []*subject
	report   *Report
	places   *locator // made when the first problem is told
}

// subject is a subject that the directory has a schema for.
type subject struct {
	name     string
	file     *schemafiles.File
	level    schemaregistry.Level // "" until the registry was asked
	versions []version            // newest first

	lacksLatest bool // its file is no schema where the latest version should be
}

// File is a schema file with the subjects that it is for.
type File struct {
	Path     string // below the directory
	Subjects []string
	Schema   *avroschema.Schema
}

// Files reads a directory for who wants to register it: every schema with its subjects, those
// first that others use. The error has every problem, one a line.
func Files(dir, template string) ([]File, error) {
	t, err := readTree(Options{Dir: dir, Subject: template})
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, p := range t.report.Problems {
		if p.Severity == SeverityError {
			problems = append(problems, errors.New(p.String()))
		}
	}
	var files []File
	for _, f := range t.files {
		file := File{Path: f.Path, Schema: f.Schema}
		for _, s := range t.subjects {
			if s.file == f {
				file.Subjects = append(file.Subjects, s.name)
			}
		}
		files = append(files, file)
	}
	return files, errors.Join(problems...)
}

// String is the problem in one line, as compilers write them.
func (p *Problem) String() string {
	where := p.File
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
	return where + ": " + p.Message
}

// readTree reads the directory and its schemas.yaml. What is wrong with single files is in
// the report; nothing to check at all is an error.
func readTree(opts Options) (*tree, error) {
	info, err := os.Stat(opts.Dir)
	switch {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a directory: give the one that has the schemas", opts.Dir)
	}
	config, err := findConfig(opts)
	if err != nil {
		return nil, err
	}
	t := &tree{
		dir: opts.Dir, config: config, parser: new(schemafiles.Parser), invalid: make(map[string]bool),
		report: &Report{Dir: opts.Dir, Against: strings.TrimSuffix(opts.Against, ":"), Schemas: []*Schema{}, Problems: []*Problem{}, Notes: []string{}},
	}
	t.naming = newNaming(config, opts.Subject)
	sources, problems, err := schemafiles.Find(os.DirFS(opts.Dir))
	if err != nil {
		return nil, err
	}
	files, invalid := t.parser.Parse(sources)
	for _, p := range append(problems, invalid...) {
		t.invalid[p.Path] = true
		t.add(p.Path, SeverityError, RuleInvalidSchema, p.Err)
	}
	for i := range files {
		t.files = append(t.files, &files[i])
	}
	t.assign(opts.Level)
	if err := t.lookForOthers(); err != nil {
		return nil, err
	}
	if len(t.files) == 0 && len(t.invalid) == 0 {
		return nil, fmt.Errorf("%s has no file that ends with %s%s", opts.Dir, schemafiles.Extension, t.unread())
	}
	return t, nil
}

func findConfig(opts Options) (*Config, error) {
	path := opts.Config
	if path == "" {
		path = filepath.Join(opts.Dir, ConfigName)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return &Config{}, nil
		}
	}
	return ReadConfig(path)
}

// add reports a problem of a file as a whole, or at the place that a parse error names.
func (t *tree) add(path, severity, rule string, err error) {
	p := &Problem{File: t.display(path), Severity: severity, Rule: rule, Message: err.Error()}
	var parse *avroschema.ParseError
	if errors.As(err, &parse) {
		p.Line, p.Column, p.Path = parse.Line, parse.Column, parse.Path
		// The place stands before the message already.
		p.Message = strings.Replace(err.Error(), parse.Error(), parse.Message, 1)
	}
	t.report.Problems = append(t.report.Problems, p)
}

// assign finds the subjects of each file.
func (t *tree) assign(level schemaregistry.Level) {
	owner := make(map[string]*schemafiles.File)
	for _, f := range t.files {
		names, err := t.naming.subjects(f.Path, f.Schema)
		if err != nil {
			t.add(f.Path, SeverityError, RuleSubject, err)
			continue
		}
		for _, name := range names {
			if other := owner[name]; other != nil {
				t.add(f.Path, SeverityError, RuleSubject, fmt.Errorf("the subject %s is that of %s too", name, t.display(other.Path)))
				continue
			}
			owner[name] = f
			s := &subject{name: name, file: f, level: t.config.Subjects[name].Level}
			for _, next := range []schemaregistry.Level{level, t.config.Level} {
				if s.level == "" {
					s.level = next
				}
			}
			t.subjects = append(t.subjects, s)
		}
	}
	for name, s := range t.config.Subjects {
		if owner[name] != nil || s.File != "" && t.invalid[s.File] {
			continue
		}
		err := fmt.Errorf("subjects.%s: no schema has this subject", name)
		if s.File != "" {
			err = fmt.Errorf("subjects.%s.file: there is no schema %s", name, t.display(s.File))
		}
		if len(t.invalid) == 0 {
			t.report.Problems = append(t.report.Problems, &Problem{File: t.config.Path, Severity: SeverityError, Rule: RuleSubject, Subject: name, Message: err.Error()})
		}
	}
}

// setDefaultLevel is for all subjects that have no level by now.
func (t *tree) setDefaultLevel() {
	for _, s := range t.subjects {
		if s.level == "" {
			s.level = schemaregistry.DefaultLevel
		}
	}
}

// configNames are what people call their schemas.yaml.
var configNames = [...]string{ConfigName, "schemas.yml"}

// others are extensions of files with Avro schemas in languages that are not read.
var others = map[string]string{
	".avdl": "Avro IDL is not read: make .avsc files of it (avro-tools idl2schemata) and check those",
	".avpr": "Avro protocols are not read: put their types into .avsc files",
}

// lookForOthers warns of files that a user may think are checked.
func (t *tree) lookForOthers() error {
	tree := os.DirFS(t.dir)
	return fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // schemafiles.Find has reported it
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && name != ".":
			return fs.SkipDir
		}
		if message := t.unreadBecause(tree, name, entry); message != "" {
			t.add(name, SeverityWarning, RuleNotRead, errors.New(message))
		}
		return nil
	})
}

// unreadBecause says why a file is not read that looks as if it were; "" for all others.
func (t *tree) unreadBecause(tree fs.FS, name string, entry fs.DirEntry) string {
	extension := path.Ext(name)
	switch {
	case entry.IsDir():
		return ""
	case entry.Type()&fs.ModeSymlink != 0:
		if info, err := fs.Stat(tree, name); err == nil && info.IsDir() {
			return "a symbolic link to a directory is not followed: check that directory too"
		}
	case extension != schemafiles.Extension && strings.EqualFold(extension, schemafiles.Extension):
		return "its name has to end with " + schemafiles.Extension + " in small letters to be read"
	case entry.Name() == configNames[0] && name != configNames[0], entry.Name() == configNames[1]:
		if t.display(name) != path.Clean(filepath.ToSlash(t.config.Path)) {
			return "only " + t.display(ConfigName) + " is read"
		}
	}
	return others[extension]
}

// unread says what was found in place of schemas.
func (t *tree) unread() string {
	for _, p := range t.report.Problems {
		return fmt.Sprintf(", but %s: %s", p.File, p.Message)
	}
	return ""
}

func (t *tree) locator() *locator {
	if t.places == nil {
		t.places = newLocator(t.files)
	}
	return t.places
}

// removed reports a schema that was there before.
func (t *tree) removed(path, subject, from string) {
	for _, s := range t.subjects {
		if s.file.Path == path {
			t.renamed(s, subject, from)
			return
		}
	}
	t.report.Problems = append(t.report.Problems, &Problem{
		File: t.display(path), Severity: SeverityWarning, Rule: RuleRemoved, Subject: subject,
		Message: fmt.Sprintf("%s is on %s and no schema has it any more", subject, from),
		Fix:     "put it back while there are readers or events of it",
	})
}

// renamed reports a schema whose file has another one now.
func (t *tree) renamed(s *subject, was, from string) {
	t.report.Problems = append(t.report.Problems, &Problem{
		File: t.display(s.file.Path), Severity: SeverityWarning, Rule: RuleRemoved, Subject: was,
		Message: fmt.Sprintf("%s is on %s and this file has %s in its place, another subject, which was not compared with it", was, from, s.name),
		Fix:     fmt.Sprintf("keep the name while there are readers or events of it, or say in %s that %s has this file", ConfigName, was),
	})
}

// naming maps files to subjects.
type naming struct {
	template string
	byFile   map[string][]string // subjects that schemas.yaml names a file for
}

func newNaming(config *Config, template string) *naming {
	n := &naming{template: template, byFile: make(map[string][]string)}
	for _, next := range []string{config.Subject, DefaultSubject} {
		if n.template == "" {
			n.template = next
		}
	}
	for subject, s := range config.Subjects {
		if s.File != "" {
			file := filepath.ToSlash(filepath.Clean(s.File))
			n.byFile[file] = append(n.byFile[file], subject)
		}
	}
	for _, subjects := range n.byFile {
		slices.Sort(subjects)
	}
	return n
}

func (n *naming) subjects(path string, schema *avroschema.Schema) ([]string, error) {
	if names := n.byFile[path]; len(names) > 0 {
		return names, nil
	}
	name, err := subjectOf(n.template, schema)
	if err != nil {
		return nil, err
	}
	return []string{name}, nil
}
