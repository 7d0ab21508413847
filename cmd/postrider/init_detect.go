package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// scanDepth is how deep below its directory init looks for migrations and schemas.
// src/main/resources/db/migration is five deep.
const scanDepth = 6

// markerBytes is how much of a migration is read to see whose it is.
const markerBytes = 64 << 10

// unscanned are directories whose migrations and schemas are not the repository's own. Those
// that begin with a dot are left out, too.
var unscanned = []string{"node_modules", "vendor", "testdata", "target", "build", "dist"}

// migrationSite is a directory with the migrations of a tool.
type migrationSite struct {
	dir, tool string // dir is relative to the directory of init
}

func (s migrationSite) String() string { return fmt.Sprintf("%s (%s)", s.dir, s.tool) }

// plainSQL are numbered files that show no tool. They count where nothing else is found.
const plainSQL = "plain SQL"

// findings is what init sees of a repository, all paths relative to its directory.
type repoFindings struct {
	sites      []migrationSite
	ternConfig string   // directory of tern.conf
	outbox     string   // the migration of the outbox table, where it is there
	schemas    []string // directories with .avsc files
	ci         []string
	preCommit  bool
	gitRoot    string // of the repository that the directory is in; "" for none
}

// inspectRepo looks at dir and what is below it, and for the repository that dir is in.
func inspectRepo(dir string) (repoFindings, error) {
	var found repoFindings
	dir, err := filepath.EvalSymlinks(dir) // or a link would not be entered
	if err != nil {
		return found, err
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && path == dir:
			return err
		case err != nil:
			return fs.SkipDir // who may not read a directory has no migrations in it
		case !entry.IsDir():
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if rel != "." {
			name := entry.Name()
			if strings.HasPrefix(name, ".") || slices.Contains(unscanned, name) || strings.Count(rel, string(filepath.Separator)) >= scanDepth {
				return fs.SkipDir
			}
		}
		return found.addDirectory(path, rel)
	})
	if err != nil {
		return found, err
	}
	found.addConfigured(dir)
	found.preferTools()
	if isFile(filepath.Join(dir, ".gitlab-ci.yml")) {
		found.ci = append(found.ci, ciGitLab)
	}
	if isDir(filepath.Join(dir, ".github", "workflows")) {
		found.ci = append(found.ci, ciGitHub)
	}
	found.preCommit = isFile(filepath.Join(dir, ".pre-commit-config.yaml"))
	found.gitRoot, err = gitRoot(dir)
	return found, err
}

// addDirectory notes what one directory has.
func (r *repoFindings) addDirectory(path, rel string) error {
	names, err := fileNames(path)
	if err != nil {
		return nil //nolint:nilerr // who may not read a directory has no migrations in it
	}
	tools, err := toolsOf(path, names)
	if err != nil {
		return err
	}
	for _, tool := range tools {
		r.sites = append(r.sites, migrationSite{rel, tool})
	}
	if i := slices.IndexFunc(names, migration{name: outboxMigration}.isIn); i >= 0 && r.outbox == "" {
		r.outbox = filepath.Join(rel, names[i])
	}
	if slices.Contains(names, "tern.conf") && r.ternConfig == "" {
		r.ternConfig = rel
	}
	if slices.ContainsFunc(names, func(name string) bool { return filepath.Ext(name) == ".avsc" }) {
		r.schemas = append(r.schemas, rel)
	}
	return nil
}

var (
	flywayName   = regexp.MustCompile(`^V\d[\d._]*__.+\.sql$`)
	upName       = regexp.MustCompile(`^\d+_.+\.up\.sql$`)
	numberedName = regexp.MustCompile(`^\d+_.+\.(sql|go)$`)

	// What tools want in a migration, those that outbox sql does not write for with them.
	toolMarkers = []struct {
		tool   string
		marker *regexp.Regexp
	}{
		{"goose", regexp.MustCompile(`(?m)^--\s*\+goose\s|pressly/goose`)},
		{"tern", regexp.MustCompile(`(?m)^---- create above / drop below ----`)},
		{"dbmate", regexp.MustCompile(`(?m)^--\s*migrate:up`)},
		{"sql-migrate", regexp.MustCompile(`(?m)^--\s*\+migrate\s`)},
	}
)

// toolsOf says whose migrations a directory has, by their names and what is in them.
func toolsOf(dir string, names []string) ([]string, error) {
	var tools []string
	add := func(tool string) {
		if !slices.Contains(tools, tool) {
			tools = append(tools, tool)
		}
	}
	for _, name := range names {
		switch {
		case name == "atlas.sum":
			add("atlas")
		case flywayName.MatchString(name):
			add("flyway")
		case upName.MatchString(name):
			add("golang-migrate")
		case name == outboxMigration+".sql":
			add("raw")
		case numberedName.MatchString(name) && !strings.HasSuffix(name, ".down.sql"):
			tool, err := toolOfFile(filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			if tool != "" {
				add(tool)
			}
		}
	}
	if len(tools) > 1 { // a migration that cannot be undone shows no tool
		tools = slices.DeleteFunc(tools, func(tool string) bool { return tool == plainSQL })
	}
	return tools, nil
}

// toolOfFile returns "" for a file that is no migration.
func toolOfFile(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, markerBytes))
	_ = f.Close() // it was only read
	if err != nil {
		return "", nil //nolint:nilerr // a directory that is named like a file
	}
	for _, m := range toolMarkers {
		if m.marker.Match(text) {
			return m.tool, nil
		}
	}
	if filepath.Ext(path) == ".go" {
		return "", nil
	}
	return plainSQL, nil
}

var flywayLocation = regexp.MustCompile(`filesystem:([^\s"',\]]+)`)

// addConfigured adds the directories that configuration files of tools name, where they have
// no migrations yet.
func (r *repoFindings) addConfigured(dir string) {
	if r.ternConfig != "" {
		for i := range r.sites {
			if r.sites[i].tool == plainSQL {
				r.sites[i].tool = "tern"
			}
		}
		if !r.has("tern") {
			at := r.ternConfig
			if below := filepath.Join(at, defaultMigrations); isDir(filepath.Join(dir, below)) {
				at = below
			}
			r.sites = append(r.sites, migrationSite{at, "tern"})
		}
	}
	for _, name := range []string{"flyway.toml", "flyway.conf", filepath.Join("conf", "flyway.conf")} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || r.has("flyway") {
			continue
		}
		location := defaultMigrations
		if m := flywayLocation.FindSubmatch(text); m != nil && filepath.IsLocal(string(m[1])) {
			location = filepath.Clean(string(m[1]))
		}
		r.sites = append(r.sites, migrationSite{location, "flyway"})
	}
	// goose reads its settings from the environment, and so from this file.
	text, err := os.ReadFile(filepath.Join(dir, ".env"))
	if err != nil || r.has("goose") {
		return
	}
	for line := range bytes.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "GOOSE_MIGRATION_DIR="); ok {
			if value = strings.Trim(value, `"'`); filepath.IsLocal(value) {
				r.sites = append(r.sites, migrationSite{filepath.Clean(value), "goose"})
			}
		}
	}
}

func (r *repoFindings) has(tool string) bool {
	return slices.ContainsFunc(r.sites, func(s migrationSite) bool { return s.tool == tool })
}

// preferTools leaves files that show no tool out where there are others, or where they do not
// look like migrations.
func (r *repoFindings) preferTools() {
	certain := slices.ContainsFunc(r.sites, func(s migrationSite) bool { return s.tool != plainSQL })
	r.sites = slices.DeleteFunc(r.sites, func(s migrationSite) bool {
		return s.tool == plainSQL && (certain || !strings.Contains(filepath.Base(s.dir), "migrat"))
	})
	for i := range r.sites {
		if r.sites[i].tool == plainSQL {
			r.sites[i].tool = "raw"
		}
	}
	slices.SortFunc(r.sites, func(a, b migrationSite) int { return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.tool, b.tool)) })
}

// schemaDirectory returns the directory that has all schemas, or the usual one.
func (r *repoFindings) schemaDirectory() string {
	if len(r.schemas) == 0 || slices.Contains(r.schemas, defaultSchemas) {
		return defaultSchemas
	}
	common := r.schemas[0]
	for _, dir := range r.schemas[1:] {
		for common != "." && dir != common && !strings.HasPrefix(dir, common+string(filepath.Separator)) {
			common = filepath.Dir(common)
		}
	}
	if common == "." {
		return defaultSchemas
	}
	return common
}

// gitRoot returns the work tree that dir is in, "" for none.
func gitRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", nil
		}
		dir = parent
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
