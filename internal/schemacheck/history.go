package schemacheck

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/postrider/postrider/schema-registry/schemafiles"
)

// gitHistory compares with a revision of the repository that the directory is in: the latest
// versions are the schemas of that commit, the earlier ones those of the commits that led to
// it. A subject's versions are found by its name, so that files may move.
type gitHistory struct {
	revision string
}

func (g *gitHistory) load(ctx context.Context, t *tree) error {
	t.setDefaultLevel()
	if err := g.read(ctx, t); err != nil {
		return &UnreachableError{err}
	}
	return nil
}

func (g *gitHistory) read(ctx context.Context, t *tree) error {
	repo, err := openRepository(ctx, t.dir)
	if err != nil {
		return err
	}
	commit := repo.commit(ctx, g.revision)
	if commit == "" {
		return repo.unknown(ctx, g.revision)
	}
	tip, links, err := repo.schemas(ctx, commit)
	if err != nil {
		return err
	}
	texts, err := repo.blobs(ctx, slices.Collect(maps.Values(tip)))
	if err != nil {
		return err
	}
	if err := repo.notInLFS(tip, texts); err != nil {
		return err
	}
	moved, err := repo.renames(ctx, commit)
	if err != nil {
		return err
	}
	past := &past{tree: t, now: moved}
	broken := past.latest(g.revision, tip, texts)
	if len(tip) == 0 {
		other, err := repo.elsewhere(ctx, commit)
		if err != nil {
			return err
		}
		t.note("%s has no schema in this directory, so that all are new", g.revision)
		if other != "" {
			t.note("%s has %s: if this directory was moved, check it out (git worktree add) and compare with dir:PATH", g.revision, other)
		}
	}
	all := slices.ContainsFunc(t.subjects, func(s *subject) bool { return transitive(s.level) })
	if !all && len(broken) == 0 {
		return nil
	}
	why := "a transitive level compares with all earlier versions"
	if !all {
		why = broken[0] + " is no schema on " + g.revision + ", so that the one before it is needed"
	}
	if len(links) > 0 {
		return repo.noHistory(links, why)
	}
	oldest, err := repo.cutOff(ctx, commit)
	if err != nil {
		return err
	}
	if oldest != "" {
		return fmt.Errorf("the history of %s ends at commit %.7s, for this clone is shallow, and %s: git fetch --unshallow (in CI, a checkout with fetch-depth: 0)",
			g.revision, oldest, why)
	}
	commits, err := repo.log(ctx, commit)
	if err != nil {
		return err
	}
	return past.walk(ctx, repo, tip, texts, commits)
}

// past goes back through the states of a directory.
type past struct {
	tree *tree
	now  map[string]string // where files of the state are today, if elsewhere
}

// today returns where a file of the state is in the tree that is checked.
func (p *past) today(path string) string {
	if now, ok := p.now[path]; ok {
		return now
	}
	return path
}

// mapped returns the subjects that today's schemas.yaml gives the record of a file, wherever
// the file was then: it may have moved and changed so much that git sees no renaming.
func (p *past) mapped(f *schemafiles.File) []string {
	if f.Schema.Name == "" || len(p.tree.naming.byFile[p.today(f.Path)]) > 0 {
		return nil
	}
	var names []string
	for _, s := range p.tree.subjects {
		if s.file.Schema.Name == f.Schema.Name && len(p.tree.naming.byFile[s.file.Path]) > 0 {
			names = append(names, s.name)
		}
	}
	return names
}

// parse parses a state and returns the schemas by subject, and the files that are none.
func (p *past) parse(state map[string]string, texts map[string][]byte) (map[string][]*schemafiles.File, []*schemafiles.Problem) {
	var sources []schemafiles.Source
	for path, blob := range state {
		sources = append(sources, schemafiles.NewSource(path, texts[blob]))
	}
	files, problems := p.tree.parser.ParseAnyDefault(sources)
	subjects := make(map[string][]*schemafiles.File)
	for i := range files {
		f := &files[i]
		// A schema without a name and without a subject in today's schemas.yaml never had one.
		names, err := p.tree.naming.subjects(p.today(f.Path), f.Schema)
		if mapped := p.mapped(f); err == nil && len(mapped) > 0 {
			names = mapped
		}
		for _, name := range names {
			subjects[name] = append(subjects[name], f)
		}
	}
	return subjects, problems
}

// latest takes the versions of the revision itself. It returns the files there that are no
// schemas, as the user would write them.
func (p *past) latest(revision string, state map[string]string, texts map[string][]byte) (broken []string) {
	t := p.tree
	subjects, problems := p.parse(state, texts)
	ours := make(map[string]bool)
	for _, s := range t.subjects {
		ours[s.name] = true
		for _, f := range subjects[s.name] {
			s.add(version{label: revision, schema: f.Schema})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(subjects)) {
		if path := p.today(subjects[name][0].Path); !ours[name] && !t.invalid[path] {
			t.removed(path, name, revision)
		}
	}
	for _, problem := range problems {
		broken = append(broken, t.display(problem.Path))
		for _, s := range t.subjects {
			s.lacksLatest = s.lacksLatest || s.file.Path == p.today(problem.Path)
		}
		t.add(p.today(problem.Path), SeverityWarning, RuleOldInvalid,
			fmt.Errorf("on %s this file is no schema, so that the one before it is compared: %s", revision, problem.Error()))
	}
	return broken
}

// walk undoes one commit after the other and takes the versions of each state.
func (p *past) walk(ctx context.Context, repo *repository, state map[string]string, texts map[string][]byte, commits []commitChanges) error {
	wanted := make(map[string]bool)
	for _, c := range commits {
		for _, change := range c.changes {
			if change.before != "" && texts[change.before] == nil {
				wanted[change.before] = true
			}
		}
	}
	older, err := repo.blobs(ctx, slices.Sorted(maps.Keys(wanted)))
	if err != nil {
		return err
	}
	maps.Copy(texts, older)
	commits = slices.DeleteFunc(commits, func(c commitChanges) bool { return len(c.changes) == 0 })
	skipped := make(map[string]bool)
	for i, c := range commits {
		for _, change := range c.changes {
			delete(state, change.path)
		}
		for _, change := range c.changes {
			if change.before != "" {
				state[change.oldPath] = change.before
				p.now[change.oldPath] = p.today(change.path)
			}
		}
		if i+1 == len(commits) {
			break // before the first of them there was nothing
		}
		label := fmt.Sprintf("commit %.7s of %s", commits[i+1].commit, commits[i+1].date)
		subjects, problems := p.parse(state, texts)
		for _, s := range p.tree.subjects {
			for _, f := range subjects[s.name] {
				s.addOlder(version{label: label, schema: f.Schema})
			}
		}
		for _, problem := range problems {
			if key := problem.Path + state[problem.Path]; !skipped[key] {
				skipped[key] = true
				p.tree.note("%s was no schema in %s, which is left out", p.tree.display(problem.Path), label)
			}
		}
	}
	return nil
}

// add takes a version unless it has the text of one that is there.
func (s *subject) add(v version) {
	if !slices.ContainsFunc(s.versions, v.equals) {
		s.versions = append(s.versions, v)
	}
}

// addOlder takes a version from before the revision where they are needed. One that many
// commits have is named by the first of them, which made it.
func (s *subject) addOlder(v version) {
	if !transitive(s.level) && (!s.lacksLatest || len(s.versions) > 0 && !s.versions[0].older) {
		return
	}
	v.older = true
	if n := len(s.versions); n > 0 && s.versions[n-1].older && v.equals(s.versions[n-1]) {
		s.versions[n-1].label = v.label
		return
	}
	s.add(v)
}

func (v version) equals(other version) bool {
	return v.schema == other.schema || v.schema.Canonical() == other.schema.Canonical()
}
