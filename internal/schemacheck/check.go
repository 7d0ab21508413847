package schemacheck

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
)

// Options say what to check, and against what.
type Options struct {
	// Dir is the directory of the schemas. In problems, paths are below it as it is written.
	Dir string
	// Against is git:REVISION, registry:URL or dir:PATH.
	Against string
	// Level holds for subjects that schemas.yaml gives none of their own. Defaults to the
	// file's general level, then that of the registry, then schemaregistry.DefaultLevel.
	Level schemaregistry.Level
	// Subject is the template of subjects. Defaults to that of schemas.yaml.
	Subject string
	// Config is the path of schemas.yaml. Defaults to the one in Dir, if there is one.
	Config string
	// Registry connects to the registry at a URL, which may be empty.
	Registry func(url string) (*schemaregistry.Client, error)
	// Go are directories of Go code, dir/... for all below, whose generated structs are compared
	// with the schemas that they were made from. Defaults to none.
	Go []string
	// Now is when waivers are judged. Defaults to the present.
	Now time.Time
}

// UnreachableError says that git or the registry could not be asked.
type UnreachableError struct{ Err error }

func (e *UnreachableError) Error() string { return e.Err.Error() }
func (e *UnreachableError) Unwrap() error { return e.Err }

// version is what a subject had before.
type version struct {
	label  string // as it is listed: version 3, origin/main, commit 1a2b3c4 of 2026-11-21
	schema *avroschema.Schema
	older  bool // from before the git revision
}

// against is where earlier versions come from.
type against interface {
	// load gives the subjects of t their versions, newest first: all of them where the level
	// is transitive, else the latest at least. It notes what was there and is no more.
	load(ctx context.Context, t *tree) error
}

// AgainstPrefixes are what Options.Against can begin with.
var AgainstPrefixes = []string{"git:", "registry:", "dir:"}

func parseAgainst(opts Options) (against, error) {
	kind, where, _ := strings.Cut(opts.Against, ":")
	switch {
	case kind == "git" && where != "" && !strings.HasPrefix(where, "-"):
		return &gitHistory{revision: where}, nil
	case kind == "dir" && where != "":
		return &directory{where}, nil
	case kind == "registry" && opts.Registry != nil:
		client, err := opts.Registry(where)
		if err != nil {
			return nil, err
		}
		return &registry{client}, nil
	case opts.Against == "":
		return nil, errors.New("say what to compare with: --against git:origin/main, registry:URL or dir:PATH")
	}
	return nil, fmt.Errorf("--against %s is not usable, want git:REVISION, registry:URL or dir:PATH", opts.Against)
}

// Run checks a directory. The report has all problems of the schemas; the error says why
// nothing could be checked, an *UnreachableError where git or the registry is to blame.
func Run(ctx context.Context, opts Options) (*Report, error) {
	if opts.Now.IsZero() {
		opts.Now = time.Now()
	}
	source, err := parseAgainst(opts)
	if err != nil {
		return nil, err
	}
	if r, ok := source.(*registry); ok {
		defer r.client.Close()
	}
	t, err := readTree(opts)
	if err != nil {
		return nil, err
	}
	if err := source.load(ctx, t); err != nil {
		return nil, err
	}
	for _, s := range t.subjects {
		t.check(s)
	}
	for _, pattern := range opts.Go {
		problems, checked, err := checkGo(pattern)
		if err != nil {
			return nil, err
		}
		t.report.Problems = append(t.report.Problems, problems...)
		t.note("%s: %s compared with the schemas they were made from", pattern, count(checked, "generated Go file"))
	}
	t.waive(opts.Now)
	t.report.sort()
	return t.report, nil
}

// check compares a subject with its earlier versions.
func (t *tree) check(s *subject) {
	result := &Schema{File: t.display(s.file.Path), Subject: s.name, Level: string(s.level), Status: StatusCompatible, Versions: []string{}}
	t.report.Schemas = append(t.report.Schemas, result)
	versions := s.versions
	if !transitive(s.level) && len(versions) > 1 {
		versions = versions[:1]
	}
	text := s.file.Schema.Canonical()
	switch {
	case len(versions) == 0:
		result.Status = StatusNew
		return
	case s.level == schemaregistry.None:
		result.Status = StatusUnchecked
		return
	case text == versions[0].schema.Canonical():
		result.Status = StatusSame
	}
	var problems []*Problem
	type cause struct {
		finding   finding
		direction string
	}
	merged := make(map[cause]*Problem) // the same for several versions is one problem
	for _, v := range versions {
		result.Versions = append(result.Versions, v.label)
		for _, direction := range directions(s.level) {
			if fits(s.file.Schema, v.schema, direction) {
				continue // places are looked for only where there is something to tell
			}
			here := place{s.file, t.locator().documents[s.file.Path]}
			for _, f := range t.locator().compare(here, s.file.Schema, v.schema, direction) {
				c := cause{f, direction}
				c.finding.fix = "" // of the newest, where it depends on the version
				p := merged[c]
				if p == nil {
					p = t.problem(s, f, direction)
					merged[c] = p
					problems = append(problems, p)
				}
				p.Versions = append(p.Versions, v.label)
			}
		}
	}
	for c, p := range merged {
		p.Message = breaks(c.direction, p.Versions) + ": " + c.finding.what
	}
	if len(problems) > 0 {
		result.Status = StatusIncompatible
	}
	t.report.Problems = append(t.report.Problems, problems...)
}

func fits(now, earlier *avroschema.Schema, direction string) bool {
	if direction == DirectionForward {
		now, earlier = earlier, now
	}
	return len(avroschema.CheckCompatibility(now, earlier)) == 0
}

// problem makes a problem of a finding, all but its message.
func (t *tree) problem(s *subject, f finding, direction string) *Problem {
	p := &Problem{
		File: t.display(f.place.file.Path), Severity: SeverityError, Rule: f.rule, Subject: s.name, Level: string(s.level),
		Direction: direction, Path: f.place.at.pointer(), Field: f.field, Fix: f.fix,
	}
	text := f.place.file.Text
	p.Line, p.Column = lineColumn(text, f.start)
	p.EndLine, p.EndColumn = lineColumn(text, f.place.at.end)
	p.source = strings.Split(text, "\n")[p.Line-1]
	return p
}

// breaks says who cannot go on.
func breaks(direction string, versions []string) string {
	if direction == DirectionForward {
		return "readers on " + listVersions(versions) + " cannot read new events"
	}
	return "new readers cannot read events of " + listVersions(versions)
}

// listVersions names versions, the newest three where there are many.
func listVersions(versions []string) string {
	const few = 3
	shown := slices.Clone(versions[:min(len(versions), few)])
	if word, _, ok := strings.Cut(versions[0], " "); ok && len(versions) > 1 {
		for i, v := range shown {
			shown[i] = strings.TrimPrefix(v, word+" ")
		}
		shown[0] = word + "s " + shown[0]
	}
	switch more := len(versions) - len(shown); {
	case more > 0:
		return fmt.Sprintf("%s and %d earlier ones", strings.Join(shown, ", "), more)
	case len(shown) == 1:
		return shown[0]
	}
	last := len(shown) - 1
	return strings.Join(shown[:last], ", ") + " and " + shown[last]
}

// waive lets problems pass that schemas.yaml excuses, and looks after the waivers themselves.
func (t *tree) waive(now time.Time) {
	for _, p := range t.report.Problems {
		for i := range t.config.Waivers {
			if w := &t.config.Waivers[i]; w.covers(p) {
				w.used = true
				if !w.expired(now) {
					p.Waived = &Waived{w.Reason, w.Expires}
				}
			}
		}
	}
	for i := range t.config.Waivers {
		w := &t.config.Waivers[i]
		p := &Problem{File: t.config.Path, Line: w.line, Column: w.column, Subject: w.Subject, Path: fmt.Sprintf("/waivers/%d", i)}
		about := fmt.Sprintf("the waiver of %s for %s", w.Rule, w.Subject)
		switch {
		case w.expired(now):
			p.Severity, p.Rule = SeverityError, RuleExpiredWaiver
			p.Message = fmt.Sprintf("%s has ended on %s", about, w.Expires)
			p.Fix = "remove it; if the problem is still there, mend it or agree on a new day"
		case !w.used:
			p.Severity, p.Rule = SeverityWarning, RuleUnusedWaiver
			p.Message, p.Fix = about+" covers no problem", "remove it"
		default:
			continue
		}
		t.report.Problems = append(t.report.Problems, p)
	}
	for _, s := range t.report.Schemas {
		if s.Status == StatusIncompatible && !slices.ContainsFunc(t.report.Problems, func(p *Problem) bool { return p.Subject == s.Subject && p.Direction != "" && p.Fails() }) {
			s.Status = StatusWaived
		}
	}
}

// display is a path below the directory as the user would write it.
func (t *tree) display(path string) string {
	return filepath.ToSlash(filepath.Join(t.dir, filepath.FromSlash(path)))
}

func (t *tree) note(format string, args ...any) {
	t.report.Notes = append(t.report.Notes, fmt.Sprintf(format, args...))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
