package schemacheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
	"github.com/postrider/postrider/schema-registry/schemafiles"
)

// Change is one difference between two schemas.
type Change struct {
	Kind   string `json:"kind"`  // added, removed or changed
	Field  string `json:"field"` // lines[].sku; "" is the schema itself
	Detail string `json:"detail"`
}

// Verdict says whether the second schema may follow the first at a level.
type Verdict struct {
	Level      string   `json:"level"`
	Compatible bool     `json:"compatible"`
	Problems   []string `json:"problems,omitempty"`
}

// Difference is what is different between two schemas, and what follows from it. Of two
// versions alone, a transitive level says what the other one does.
type Difference struct {
	From     string    `json:"from"`
	To       string    `json:"to"`
	Changes  []Change  `json:"changes"`
	Verdicts []Verdict `json:"verdicts"`
}

// Diff compares two schemas. Each is the path of a file, git:REVISION:PATH with the path as
// from here, or registry:SUBJECT@VERSION, where latest is a version too and may be left out.
// The error is an *UnreachableError where git or the registry is to blame.
func Diff(ctx context.Context, from, to string, connect func(url string) (*schemaregistry.Client, error)) (*Difference, error) {
	a, err := readSchema(ctx, from, connect)
	if err != nil {
		return nil, err
	}
	b, err := readSchema(ctx, to, connect)
	if err != nil {
		return nil, err
	}
	d := &differ{met: make(map[[2]*avroschema.Schema]bool), changes: []Change{}}
	d.compare("", a.Schema, b.Schema)
	result := &Difference{From: from, To: to, Changes: d.changes}
	l := newLocator([]*schemafiles.File{b})
	problems := make(map[string][]string)
	for _, direction := range []string{DirectionBackward, DirectionForward} {
		for _, f := range l.compare(place{b, l.documents[b.Path]}, b.Schema, a.Schema, direction) {
			who := "new readers cannot read old events"
			if direction == DirectionForward {
				who = "old readers cannot read new events"
			}
			problems[direction] = append(problems[direction], who+": "+f.what)
		}
	}
	for _, level := range Levels {
		v := Verdict{Level: level}
		for _, direction := range directions(schemaregistry.Level(level)) {
			v.Problems = append(v.Problems, problems[direction]...)
		}
		v.Compatible = len(v.Problems) == 0
		result.Verdicts = append(result.Verdicts, v)
	}
	return result, nil
}

func readSchema(ctx context.Context, name string, connect func(url string) (*schemaregistry.Client, error)) (*schemafiles.File, error) {
	if subject, ok := strings.CutPrefix(name, "registry:"); ok {
		return readRegistered(ctx, subject, connect)
	}
	if rest, ok := strings.CutPrefix(name, "git:"); ok {
		revision, file, ok := strings.Cut(rest, ":")
		if !ok || revision == "" || strings.HasPrefix(revision, "-") {
			return nil, fmt.Errorf("%s: want git:REVISION:PATH, such as git:origin/main:schemas/order.avsc", name)
		}
		return readCommitted(ctx, name, revision, file)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	source := schemafiles.NewSource(name, text)
	schema, err := avroschema.Parse(source.Text)
	if err == nil {
		return &schemafiles.File{Source: source, Schema: schema}, nil
	}
	var parseErr *avroschema.ParseError
	if errors.As(err, &parseErr) && parseErr.UnknownType == "" {
		return nil, &schemafiles.Problem{Path: name, Err: err}
	}
	// The types that it uses may be in files beside it.
	sources, _, err := schemafiles.Find(os.DirFS(filepath.Dir(name)))
	if err != nil {
		return nil, err
	}
	return pick(sources, filepath.Base(name), name)
}

// pick parses files together and returns one of them.
func pick(sources []schemafiles.Source, path, name string) (*schemafiles.File, error) {
	files, problems := new(schemafiles.Parser).Parse(sources)
	for i := range files {
		if files[i].Path == path {
			return &files[i], nil
		}
	}
	for _, p := range problems {
		if p.Path == path {
			return nil, &schemafiles.Problem{Path: name, Err: p.Err}
		}
	}
	return nil, fmt.Errorf("there is no %s", name)
}

func readCommitted(ctx context.Context, name, revision, file string) (*schemafiles.File, error) {
	repo, err := openRepository(ctx, ".")
	if err != nil {
		return nil, &UnreachableError{err}
	}
	full := path.Join(repo.prefix, filepath.ToSlash(file))
	commit := repo.commit(ctx, revision)
	if commit == "" {
		return nil, &UnreachableError{repo.unknown(ctx, revision)}
	}
	if repo.prefix = path.Dir(full) + "/"; repo.prefix == "./" {
		repo.prefix = ""
	}
	state, _, err := repo.schemas(ctx, commit)
	if err != nil {
		return nil, &UnreachableError{err}
	}
	var ids []string
	for _, id := range state {
		ids = append(ids, id)
	}
	texts, err := repo.blobs(ctx, ids)
	if err != nil {
		return nil, &UnreachableError{err}
	}
	var sources []schemafiles.Source
	for path, id := range state {
		sources = append(sources, schemafiles.NewSource(path, texts[id]))
	}
	return pick(sources, path.Base(full), name)
}

func readRegistered(ctx context.Context, name string, connect func(url string) (*schemaregistry.Client, error)) (*schemafiles.File, error) {
	client, err := connect("")
	if err != nil {
		return nil, err
	}
	defer client.Close()
	v, err := FindVersion(ctx, client, name)
	if err != nil {
		return nil, err
	}
	schema, err := (&registry{client}).parse(ctx, v, maxReferenceDepth)
	if err != nil {
		return nil, err
	}
	text := schema.Canonical()
	return &schemafiles.File{Source: schemafiles.Source{Path: name, Text: text}, Schema: schema}, nil
}

// FindVersion gets the version that SUBJECT@VERSION names; without @VERSION, the latest.
// The error is an *UnreachableError unless the registry says that there is none.
func FindVersion(ctx context.Context, client *schemaregistry.Client, name string) (schemaregistry.SubjectVersion, error) {
	subject, number := name, "latest"
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		subject, number = name[:i], name[i+1:]
	}
	var v schemaregistry.SubjectVersion
	var err error
	if number == "latest" {
		v, err = client.Latest(ctx, subject)
	} else {
		n, atoiErr := strconv.Atoi(number)
		if atoiErr != nil {
			return v, fmt.Errorf("%s: want SUBJECT@NUMBER or SUBJECT@latest", name)
		}
		v, err = client.Version(ctx, subject, n)
	}
	if err != nil && !schemaregistry.IsNotFound(err) {
		return v, &UnreachableError{err}
	}
	return v, err
}

// differ collects the changes between two schemas.
type differ struct {
	met     map[[2]*avroschema.Schema]bool
	changes []Change
}

func (d *differ) add(kind, field, format string, args ...any) {
	d.changes = append(d.changes, Change{kind, field, fmt.Sprintf(format, args...)})
}

func (d *differ) compare(field string, a, b *avroschema.Schema) {
	pair := [2]*avroschema.Schema{a, b}
	if d.met[pair] {
		return
	}
	d.met[pair] = true
	if a.Type != b.Type {
		d.add("changed", field, "type %s → %s", kindAndName(a), kindAndName(b))
		return
	}
	if a.Name != b.Name {
		d.add("changed", field, "name %s → %s", a.Name, b.Name)
	}
	if x, y := describeFully(a), describeFully(b); (a.Logical != nil || b.Logical != nil) && x != y {
		d.add("changed", field, "type %s → %s", x, y)
	} else if x, y := properties(a), properties(b); x != y {
		d.add("changed", field, "properties %s → %s", orNone(x), orNone(y))
	}
	if x, y := strings.Join(a.Aliases, ", "), strings.Join(b.Aliases, ", "); x != y {
		d.add("changed", field, "aliases of %s: %s → %s", b.Name, orNone(x), orNone(y))
	}
	if a.Doc != b.Doc {
		d.add("changed", field, "doc of %s", b.Name)
	}
	switch a.Type {
	case avroschema.Array:
		d.compare(field+"[]", a.Items, b.Items)
	case avroschema.Map:
		d.compare(field+"{}", a.Values, b.Values)
	case avroschema.Fixed:
		if a.Size != b.Size {
			d.add("changed", field, "size of %s: %d → %d", b.Name, a.Size, b.Size)
		}
	case avroschema.Enum:
		d.lists(field, "symbol", a.Symbols, b.Symbols)
		if a.EnumDefault != b.EnumDefault {
			d.add("changed", field, "default of %s: %s → %s", b.Name, orNone(a.EnumDefault), orNone(b.EnumDefault))
		}
	case avroschema.Union:
		d.union(field, a, b)
	case avroschema.Record:
		d.record(field, a, b)
	}
}

func (d *differ) union(field string, a, b *avroschema.Schema) {
	var x, y []string
	for _, branch := range a.Branches {
		x = append(x, describe(branch))
	}
	for i, branch := range b.Branches {
		y = append(y, describe(branch))
		if j := slices.Index(x, y[i]); j >= 0 {
			d.compare(field, a.Branches[j], branch)
		}
	}
	d.lists(field, "branch", x, y)
}

// lists compares two lists of names.
func (d *differ) lists(field, what string, a, b []string) {
	for _, name := range a {
		if !slices.Contains(b, name) {
			d.add("removed", field, "%s %s", what, name)
		}
	}
	for _, name := range b {
		if !slices.Contains(a, name) {
			d.add("added", field, "%s %s", what, name)
		}
	}
}

func (d *differ) record(field string, a, b *avroschema.Schema) {
	prefix := field
	if prefix != "" {
		prefix += "."
	}
	matched := make(map[*avroschema.Field]bool)
	for _, f := range b.Fields {
		i := slices.IndexFunc(a.Fields, func(g *avroschema.Field) bool { return g.Name == f.Name })
		if i < 0 {
			i = slices.IndexFunc(a.Fields, func(g *avroschema.Field) bool { return slices.Contains(f.Aliases, g.Name) })
		}
		if i < 0 {
			d.add("added", prefix+f.Name, "%s, %s", describeFully(f.Type), defaultOf(f))
			continue
		}
		g := a.Fields[i]
		matched[g] = true
		if g.Name != f.Name {
			d.add("changed", prefix+f.Name, "name %s → %s", g.Name, f.Name)
		}
		if string(g.Default) != string(f.Default) {
			d.add("changed", prefix+f.Name, "%s → %s", defaultOf(g), defaultOf(f))
		}
		if g.Doc != f.Doc {
			d.add("changed", prefix+f.Name, "doc")
		}
		d.compare(prefix+f.Name, g.Type, f.Type)
	}
	for _, g := range a.Fields {
		if !matched[g] {
			d.add("removed", prefix+g.Name, "%s, %s", describeFully(g.Type), defaultOf(g))
		}
	}
}

func defaultOf(f *avroschema.Field) string {
	if f.Default == nil {
		return "no default"
	}
	return "default " + string(f.Default)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// describeFully names a type with its logical type.
func describeFully(s *avroschema.Schema) string {
	if s.Logical != nil && s.Logical.Name == "decimal" {
		return fmt.Sprintf("%s (decimal %d, %d)", describe(s), s.Logical.Precision, s.Logical.Scale)
	}
	if s.Logical != nil {
		return fmt.Sprintf("%s (%s)", describe(s), s.Logical.Name)
	}
	return describe(s)
}

func kindAndName(s *avroschema.Schema) string {
	if s.Name != "" {
		return s.Type.String() + " " + s.Name
	}
	return describeFully(s)
}

func properties(s *avroschema.Schema) string {
	var list []string
	for _, p := range s.Props {
		list = append(list, p.Name+" "+string(p.Value))
	}
	return strings.Join(list, ", ")
}
