package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/relay"
)

const (
	configName        = "postrider.yaml"
	defaultMigrations = "migrations"
	defaultSchemas    = "schemas"

	ciGitHub = "github"
	ciGitLab = "gitlab"
	ciNone   = "none"
)

// migrationTools are the formats of outbox sql.
var migrationTools = []string{"goose", "tern", "golang-migrate", "flyway", "raw"}

//go:embed init_files
var initFiles embed.FS

var initTemplates = template.Must(template.ParseFS(initFiles, "init_files/*"))

// repoSetup is what init is told, and then what it decided.
type repoSetup struct {
	dir                             string
	tool, migrations, schemas, name string
	ci                              string
	dryRun                          bool

	repo     repoFindings
	existing relay.Config // of the postrider.yaml that is there
	report   *repoReport
	current  string // the outbox migration that is there, or is being written
}

var (
	relayName    = regexp.MustCompile(`^[a-z0-9_]{1,50}$`)
	notInName    = regexp.MustCompile(`[^a-z0-9]+`)
	releaseBuild = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)
)

// run decides, writes and reports. Its errors are all of wrong usage, and leave nothing behind.
func (s *repoSetup) run() (*repoReport, error) {
	if info, err := os.Stat(s.dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", s.dir)
	}
	if err := s.checkFlags(); err != nil {
		return nil, err
	}
	var err error
	if s.repo, err = inspectRepo(s.dir); err != nil {
		return nil, err
	}
	// What is wrong with it is the relay's to say.
	s.existing, _ = relay.LoadConfig(filepath.Join(s.dir, configName), os.Environ(), nil)
	if err := errors.Join(s.chooseName(), s.chooseMigrations(), s.chooseCI()); err != nil {
		return nil, err
	}
	if s.schemas == "" {
		s.schemas = s.repo.schemaDirectory()
	}
	s.report = &repoReport{Dir: s.dir, Name: s.name, Tool: s.tool, CI: s.ci, DryRun: s.dryRun, Notes: []string{}}
	if err := s.writeAll(); err != nil {
		return nil, err
	}
	s.addNotes()
	s.report.Next = s.next()
	return s.report, nil
}

func (s *repoSetup) checkFlags() error {
	var problems []error
	if s.tool != "" && !slices.Contains(migrationTools, s.tool) {
		problems = append(problems, fmt.Errorf("--tool %q: want goose, tern, golang-migrate, flyway or raw", s.tool))
	}
	if s.ci != "" && !slices.Contains([]string{ciGitHub, ciGitLab, ciNone}, s.ci) {
		problems = append(problems, fmt.Errorf("--ci %q: want github, gitlab or none", s.ci))
	}
	for flag, path := range map[string]*string{"migrations": &s.migrations, "schemas": &s.schemas} {
		switch {
		case *path == "":
		case !filepath.IsLocal(*path):
			problems = append(problems, fmt.Errorf("--%s %s: is not below %s", flag, *path, s.dir))
		default:
			*path = filepath.Clean(*path)
		}
	}
	return errors.Join(problems...)
}

// chooseName takes the name that is configured, else the directory's in the letters that a
// slot may have.
func (s *repoSetup) chooseName() error {
	if s.name != "" {
		if !relayName.MatchString(s.name) {
			return fmt.Errorf("--name %q: want 1 to 50 of a-z, 0-9 and _", s.name)
		}
		return nil
	}
	if s.name = s.existing.Name; relayName.MatchString(s.name) {
		return nil
	}
	path, err := filepath.Abs(s.dir)
	if err != nil {
		return err
	}
	name := notInName.ReplaceAllString(strings.ToLower(filepath.Base(path)), "_")
	s.name = strings.Trim(name[:min(len(name), 50)], "_")
	if s.name == "" {
		return fmt.Errorf("no name for the relay can be made of %s: give --name", path)
	}
	return nil
}

// chooseMigrations decides on tool and directory: by the flags, else by what is there.
func (s *repoSetup) chooseMigrations() error {
	toolAsked := s.tool != ""
	if s.migrations == "" && s.repo.outbox != "" {
		s.current = s.repo.outbox
		s.migrations = filepath.Dir(s.repo.outbox)
	}
	sites := slices.DeleteFunc(slices.Clone(s.repo.sites), func(site migrationSite) bool {
		return s.migrations != "" && site.dir != s.migrations || toolAsked && site.tool != s.tool
	})
	switch {
	case len(sites) > 1:
		names := make([]string, len(sites))
		for i, site := range sites {
			names[i] = site.String()
		}
		flag := "--migrations"
		if slices.ContainsFunc(sites, func(site migrationSite) bool { return site.tool != sites[0].tool }) {
			flag = "--tool or --migrations"
			if sites[0].dir == sites[len(sites)-1].dir {
				flag = "--tool"
			}
		}
		return fmt.Errorf("there are several sets of migrations, %s: say which to take with %s", strings.Join(names, " and "), flag)
	case len(sites) == 1:
		s.tool, s.migrations = sites[0].tool, sites[0].dir
	case !toolAsked && len(s.repo.sites) == 1 && s.current == "":
		s.tool = s.repo.sites[0].tool // what is used elsewhere, for another directory
	}
	if s.tool == "" {
		s.tool = "raw"
	}
	if s.migrations == "" {
		s.migrations = s.usualMigrations()
	}
	if !slices.Contains(migrationTools, s.tool) {
		return fmt.Errorf("%s has migrations of %s, in whose form the outbox table's is not to be had: give --tool raw --migrations DIR, and take the SQL over by hand", s.migrations, s.tool)
	}
	return nil
}

// usualMigrations is where a tool without migrations here puts its first.
func (s *repoSetup) usualMigrations() string {
	usual := []string{filepath.Join("db", "migrations")}
	if s.tool == "flyway" {
		usual = []string{filepath.Join("src", "main", "resources", "db", "migration")}
	}
	for _, dir := range usual {
		taken := slices.ContainsFunc(s.repo.sites, func(site migrationSite) bool { return site.dir == dir })
		if !taken && isDir(filepath.Join(s.dir, dir)) {
			return dir
		}
	}
	return defaultMigrations
}

func (s *repoSetup) chooseCI() error {
	if s.ci != "" {
		return nil
	}
	switch len(s.repo.ci) {
	case 0:
		s.ci = ciNone
	case 1:
		s.ci = s.repo.ci[0]
	default:
		return errors.New("there are .gitlab-ci.yml and .github/workflows: say which to take with --ci gitlab, --ci github or --ci none")
	}
	return nil
}

// writeAll writes what is missing. What cannot be written is a file's failure; the error is
// for what makes the whole impossible.
func (s *repoSetup) writeAll() error {
	config, err := s.render(configName)
	if err != nil {
		return err
	}
	s.write("the relay's configuration", newText{configName, config})
	if err := s.writeMigration(); err != nil {
		return err
	}
	s.writeSchema()
	return s.writeCI()
}

// newText is a file that may have to be written.
type newText struct{ path, text string }

func (s *repoSetup) writeMigration() error {
	const what = "the outbox table"
	if s.current != "" {
		s.present(what, s.current)
		return nil
	}
	ddl, err := outbox.TableDDL(outbox.DefaultTable)
	if err != nil {
		return err
	}
	names, err := fileNames(filepath.Join(s.dir, s.migrations))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	planned := planMigrations(names, migrationFormats[s.tool], []migration{{outboxMigration, ddl}})[0]
	if planned.present != "" {
		s.current = filepath.Join(s.migrations, planned.present)
		s.present(what, s.current)
		return nil
	}
	texts := make([]newText, len(planned.files))
	for i, file := range planned.files {
		texts[i] = newText{filepath.Join(s.migrations, file.name), file.text}
	}
	s.current = texts[0].path
	s.write(what, texts...)
	return nil
}

// writeSchema writes the example, unless there are schemas.
func (s *repoSetup) writeSchema() {
	for _, dir := range s.repo.schemas {
		if s.schemas == dir || s.schemas == "." || strings.HasPrefix(dir, s.schemas+string(filepath.Separator)) {
			s.present("the schemas of events", s.schemas)
			return
		}
	}
	text, err := initFiles.ReadFile("init_files/" + exampleSchema)
	if err != nil {
		panic(err) // it is not in the binary: a mistake in this program
	}
	s.write("an example of a schema", newText{filepath.Join(s.schemas, exampleSchema), string(text)})
}

// exampleSchema is the file of the example, whose name is the subject's.
const exampleSchema = "order.created.avsc"

// includeFile is the job for a repository that has a .gitlab-ci.yml.
const includeFile = ".gitlab/postrider-schemas.yml"

func (s *repoSetup) writeCI() error {
	const what = "a check of the schemas in CI"
	var path string
	switch s.ci {
	case ciNone:
		return nil
	case ciGitHub:
		path = ".github/workflows/postrider-schemas.yml"
	case ciGitLab:
		path = ".gitlab-ci.yml"
		if existing, err := os.ReadFile(filepath.Join(s.dir, path)); err == nil && !strings.Contains(string(existing), "deploy/ci/gitlab/schema-check.yml") {
			path = includeFile
			if !strings.Contains(string(existing), includeFile) {
				s.note("add to .gitlab-ci.yml: include: [{local: %s}]", includeFile)
			}
		}
	}
	text, err := s.render(s.ci + ".yml")
	if err != nil {
		return err
	}
	s.write(what, newText{path, text})
	return nil
}

func (s *repoSetup) render(name string) (string, error) {
	values := struct{ Name, PostgresURL, RegistryURL, Schemas, Ref string }{
		s.name, s.localPostgres(), defaultRegistryURL, filepath.ToSlash(s.schemas), "main",
	}
	if version := buildVersion(); releaseBuild.MatchString(version) {
		values.Ref = version
	}
	// In CI a path begins where the repository does.
	if s.repo.gitRoot != "" {
		if dir, err := filepath.Abs(s.dir); err == nil {
			if rel, err := filepath.Rel(s.repo.gitRoot, filepath.Join(dir, s.schemas)); err == nil && filepath.IsLocal(rel) {
				values.Schemas = filepath.ToSlash(rel)
			}
		}
	}
	var b bytes.Buffer
	err := initTemplates.ExecuteTemplate(&b, name, values)
	return b.String(), err
}

// write writes files that belong together: all of them or none.
func (s *repoSetup) write(what string, texts ...newText) {
	var written []string
	for _, t := range texts {
		file := repoFile{Path: filepath.Join(s.dir, t.path), What: what, State: fileWritten}
		_, err := os.Lstat(file.Path)
		switch {
		case err == nil:
			file.State = filePresent
		case s.dryRun:
			file.State, file.Text = fileMissing, t.text
		default:
			if err = os.MkdirAll(filepath.Dir(file.Path), 0o755); err == nil {
				err = writeNewFile(file.Path, t.text)
			}
			if errors.Is(err, fs.ErrExist) {
				file.State, err = filePresent, nil
			}
			if err != nil {
				file.State, file.Error = fileFailed, err.Error()
				for _, path := range written {
					_ = os.Remove(path)
				}
				s.report.Files = append(s.report.Files[:len(s.report.Files)-len(written)], file)
				return
			}
			written = append(written, file.Path)
		}
		s.report.Files = append(s.report.Files, file)
	}
}

func (s *repoSetup) present(what, path string) {
	s.report.Files = append(s.report.Files, repoFile{Path: filepath.Join(s.dir, path), What: what, State: filePresent})
}

func (s *repoSetup) note(format string, args ...any) {
	s.report.Notes = append(s.report.Notes, fmt.Sprintf(format, args...))
}

// addNotes says what init leaves to others.
func (s *repoSetup) addNotes() {
	dir, err := filepath.Abs(s.dir)
	if resolved, linkErr := filepath.EvalSymlinks(dir); linkErr == nil {
		dir = resolved
	}
	root := s.repo.gitRoot
	switch {
	case root == "":
		s.note("%s is in no git repository, which schema checks against git need", s.dir)
	case err == nil && root != dir && s.ci != ciNone:
		s.note("CI reads its files in the root of the repository, %s: move them there", root)
	}
	check := fmt.Sprintf("postrider schema check %s --against git:HEAD", shellQuote(filepath.Join(s.dir, s.schemas)))
	switch {
	case s.ci != ciNone:
	case s.repo.preCommit:
		s.note("for .pre-commit-config.yaml there is a hook in deploy/ci/pre-commit of postrider; it runs %s", check)
	case root != "":
		s.note("no CI is known here (--ci); in a script or a commit hook: %s", check)
	}
}
