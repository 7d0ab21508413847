package schemacheck

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/postrider/postrider/schema-registry/schemafiles"
)

// repository asks git about a directory of a work tree.
type repository struct {
	dir    string // as given
	prefix string // of the directory in the repository, "" or ending with a slash
}

// openRepository finds the repository of a directory.
func openRepository(ctx context.Context, dir string) (*repository, error) {
	r := &repository{dir: dir}
	prefix, err := r.git(ctx, nil, "rev-parse", "--show-prefix")
	if err != nil {
		return nil, err
	}
	r.prefix = strings.TrimSuffix(string(prefix), "\n")
	return r, nil
}

// git runs a command of git in the directory. Paths are taken as they are, with no patterns.
func (r *repository) git(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	settings := []string{"--literal-pathspecs", "-c", "log.showRoot=true", "-c", "log.showSignature=false", "-c", "diff.relative=false"}
	cmd := exec.CommandContext(ctx, "git", append(settings, args...)...)
	cmd.Dir, cmd.Stdin = r.dir, stdin
	// Messages are repeated to the user, who may search for them; nothing is to be locked.
	cmd.Env = append(environment(), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("git was not found: install it, or compare with registry:URL or dir:PATH")
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	message := strings.TrimPrefix(strings.TrimSpace(stderr.String()), "fatal: ")
	switch {
	case message == "":
		message = err.Error()
	case strings.HasPrefix(message, "not a git repository"):
		return nil, fmt.Errorf("%s is not in a git repository: compare with registry:URL or dir:PATH", r.dir)
	}
	return nil, fmt.Errorf("git %s in %s: %s", args[0], r.dir, message)
}

// environment is that of this process without GIT_DIR where it stands alone, as git sets it
// for hooks: git would take the directory for the top of the work tree.
func environment() []string {
	env := os.Environ()
	if os.Getenv("GIT_WORK_TREE") != "" {
		return env
	}
	return slices.DeleteFunc(env, func(variable string) bool { return strings.HasPrefix(variable, "GIT_DIR=") })
}

// commit returns the commit that a revision names; "" if git knows none.
func (r *repository) commit(ctx context.Context, revision string) string {
	out, err := r.git(ctx, nil, "rev-parse", "--verify", "--quiet", revision+"^{commit}")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// schemas returns the schema files below the directory at a commit: blobs by path, and which
// of the paths are symbolic links to them.
func (r *repository) schemas(ctx context.Context, commit string) (blobs map[string]string, links []string, err error) {
	if blobs, links, err = r.list(ctx, commit); err != nil {
		return nil, nil, err
	}
	return blobs, links, r.followLinks(ctx, commit, blobs, links)
}

// elsewhere returns the first schema file that a commit has outside the directory; "" for none.
func (r *repository) elsewhere(ctx context.Context, commit string) (string, error) {
	top := &repository{dir: r.dir}
	blobs, _, err := top.list(ctx, commit)
	if err != nil {
		return "", err
	}
	for _, path := range slices.Sorted(maps.Keys(blobs)) {
		if _, ours := r.schemaPath(path); !ours {
			return path, nil
		}
	}
	return "", nil
}

// list is schemas but for links, whose blobs are where they lead.
func (r *repository) list(ctx context.Context, commit string) (blobs map[string]string, links []string, err error) {
	args := []string{"ls-tree", "-r", "-z", "--full-tree", commit}
	if r.prefix != "" {
		args = append(args, "--", r.prefix)
	}
	out, err := r.git(ctx, nil, args...)
	if err != nil {
		return nil, nil, err
	}
	blobs = make(map[string]string)
	for entry := range strings.SplitSeq(string(out), "\x00") {
		meta, name, ok := strings.Cut(entry, "\t")
		fields := strings.Fields(meta)
		if name, ours := r.schemaPath(name); ok && ours && len(fields) == 3 && fields[1] == "blob" {
			blobs[name] = fields[2]
			if fields[0] == linkMode {
				links = append(links, name)
			}
		}
	}
	return blobs, links, nil
}

// shallow tells whether the clone lacks a part of the history.
func (r *repository) shallow(ctx context.Context) bool {
	out, err := r.git(ctx, nil, "rev-parse", "--is-shallow-repository")
	return err == nil && strings.TrimSpace(string(out)) == "true"
}

// unknown is the error where git does not know a revision.
func (r *repository) unknown(ctx context.Context, revision string) error {
	if r.shallow(ctx) {
		return fmt.Errorf("git knows no revision %s here, for this clone is shallow: git fetch --unshallow (in CI, a checkout with fetch-depth: 0), and git fetch origin for a branch", revision)
	}
	return fmt.Errorf("git knows no revision %s here: commit it first, or fetch it (git fetch origin)", revision)
}

// schemaPath turns a path of the repository into one below the directory and tells whether
// schemafiles.Find would read it.
func (r *repository) schemaPath(name string) (string, bool) {
	below, ok := strings.CutPrefix(name, r.prefix)
	return below, ok && path.Ext(below) == schemafiles.Extension && !strings.HasPrefix(below, ".") && !strings.Contains(path.Dir(below), "/.")
}

// blobs reads many blobs with one process.
func (r *repository) blobs(ctx context.Context, ids []string) (map[string][]byte, error) {
	texts := make(map[string][]byte, len(ids))
	if len(ids) == 0 {
		return texts, nil
	}
	out, err := r.git(ctx, strings.NewReader(strings.Join(ids, "\n")+"\n"), "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	reader := bufio.NewReader(bytes.NewReader(out))
	for _, id := range ids {
		header, err := reader.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("git cat-file in %s: ends early", r.dir)
		}
		var name, kind string
		var size int
		if n, _ := fmt.Sscan(header, &name, &kind, &size); n != 3 {
			return nil, fmt.Errorf("git cat-file in %s: %s", r.dir, strings.TrimSpace(header)) // missing
		}
		text := make([]byte, size+1) // and a line end
		if _, err := io.ReadFull(reader, text); err != nil {
			return nil, fmt.Errorf("git cat-file in %s: ends early", r.dir)
		}
		texts[id] = text[:size]
	}
	return texts, nil
}

// change is what a commit did to a schema file. before and after are blobs, "" for none.
type change struct {
	path, oldPath string // they differ for a renamed file
	before, after string
}

// commitChanges are the changes of one commit.
type commitChanges struct {
	commit, date string
	changes      []change
}

// log returns the commits that changed schemas, the newest first, along first parents: each
// is a state that the branch itself was in.
func (r *repository) log(ctx context.Context, commit string) ([]commitChanges, error) {
	args := []string{"log", "-m", "--first-parent", "--raw", "-z", "--no-abbrev", "-M", "--format=%x01%H %cs", commit, "--", "."}
	out, err := r.git(ctx, nil, args...)
	if err != nil {
		return nil, err
	}
	var commits []commitChanges
	tokens := strings.Split(string(out), "\x00")
	for len(tokens) > 0 {
		token := strings.TrimPrefix(tokens[0], "\n")
		if header, ok := strings.CutPrefix(token, "\x01"); ok {
			hash, date, _ := strings.Cut(header, " ")
			commits = append(commits, commitChanges{commit: hash, date: strings.TrimSpace(date)})
			tokens = tokens[1:]
			continue
		}
		var c change
		if c, tokens = r.change(token, tokens[1:]); c != (change{}) && len(commits) > 0 {
			last := &commits[len(commits)-1]
			last.changes = append(last.changes, c)
		}
	}
	return commits, nil
}

// renames returns where schema files of a commit are in the work tree now.
func (r *repository) renames(ctx context.Context, commit string) (map[string]string, error) {
	out, err := r.git(ctx, nil, "diff", "--raw", "-z", "--no-abbrev", "-M", commit, "--", ".")
	if err != nil {
		return nil, err
	}
	now := make(map[string]string)
	tokens := strings.Split(string(out), "\x00")
	for len(tokens) > 0 {
		var c change
		if c, tokens = r.change(tokens[0], tokens[1:]); c.path != c.oldPath {
			now[c.oldPath] = c.path
		}
	}
	return now, nil
}

// change reads one entry of the raw format, whose paths follow it. It is empty for what is no
// schema file.
func (r *repository) change(meta string, tokens []string) (change, []string) {
	fields := strings.Fields(strings.TrimPrefix(meta, ":"))
	if len(fields) != 5 || len(tokens) == 0 {
		return change{}, tokens
	}
	c := change{before: fields[2], after: fields[3]}
	oldPath, newPath := tokens[0], tokens[0]
	tokens = tokens[1:]
	if strings.HasPrefix(fields[4], "R") && len(tokens) > 0 {
		newPath, tokens = tokens[0], tokens[1:]
	}
	var oldOurs, newOurs bool
	c.oldPath, oldOurs = r.schemaPath(oldPath)
	c.path, newOurs = r.schemaPath(newPath)
	if !oldOurs || strings.Trim(c.before, "0") == "" {
		c.oldPath, c.before = c.path, ""
	}
	if !newOurs || strings.Trim(c.after, "0") == "" && strings.HasPrefix(fields[4], "D") {
		c.path, c.after = c.oldPath, ""
	}
	if !oldOurs && !newOurs {
		return change{}, tokens
	}
	return c, tokens
}

// cutOff returns the oldest commit that a shallow clone has of the line of a commit, where
// that line goes on behind it; "" where all of it is there.
func (r *repository) cutOff(ctx context.Context, commit string) (string, error) {
	out, err := r.git(ctx, nil, "rev-parse", "--git-path", "shallow")
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(out))
	if !filepath.IsAbs(name) {
		name = filepath.Join(r.dir, name)
	}
	shallow, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	out, err = r.git(ctx, nil, "rev-list", "--first-parent", "--max-parents=0", commit)
	if err != nil {
		return "", err
	}
	if oldest := strings.TrimSpace(string(out)); oldest != "" && strings.Contains(string(shallow), oldest) {
		return oldest, nil
	}
	return "", nil
}
