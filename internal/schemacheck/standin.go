package schemacheck

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Git may have something else in the place of a schema: the target of a symbolic link, or a
// pointer to what Git LFS keeps. Taken for schemas these are broken ones, and what they stand
// for would pass for new.

// linkMode is the mode of symbolic links in trees.
const linkMode = "120000"

// followLinks replaces the links among blobs by what they lead to at the commit.
func (r *repository) followLinks(ctx context.Context, commit string, blobs map[string]string, links []string) error {
	if len(links) == 0 {
		return nil
	}
	var questions strings.Builder
	for _, link := range links {
		fmt.Fprintf(&questions, "%s:%s\n", commit, r.prefix+link)
	}
	out, err := r.git(ctx, strings.NewReader(questions.String()), "cat-file", "--batch-check", "--follow-symlinks")
	if err != nil {
		return err
	}
	answers := bufio.NewReader(bytes.NewReader(out))
	for _, link := range links {
		answer, err := answers.ReadString('\n')
		if err != nil {
			return fmt.Errorf("git cat-file in %s: ends early", r.dir)
		}
		fields := strings.Fields(answer)
		switch {
		case len(fields) == 3 && fields[1] == "blob":
			blobs[link] = fields[0]
			continue
		case len(fields) == 2:
			// How far the link led follows, by its length.
			if length, err := strconv.Atoi(fields[1]); err == nil {
				if _, err := io.CopyN(io.Discard, answers, int64(length)+1); err != nil {
					return fmt.Errorf("git cat-file in %s: ends early", r.dir)
				}
			}
		}
		return fmt.Errorf("%s is a symbolic link at commit %.7s that leads to no file in the repository: put the schema itself there, or compare with registry:URL or dir:PATH",
			r.prefix+link, commit)
	}
	return nil
}

// noHistory is the error where earlier versions of links are asked for: git keeps those of
// what they lead to, by other names.
func (r *repository) noHistory(links []string, why string) error {
	return fmt.Errorf("%s is a symbolic link, so that git has no history of it, and %s: put the schema itself there, or compare with registry:URL or dir:PATH",
		r.prefix+slices.Min(links), why)
}

// notInLFS returns an error if one of the texts is a pointer to what Git LFS keeps.
func (r *repository) notInLFS(blobs map[string]string, texts map[string][]byte) error {
	for _, path := range slices.Sorted(maps.Keys(blobs)) {
		if bytes.HasPrefix(texts[blobs[path]], []byte("version https://git-lfs.github.com/")) {
			return fmt.Errorf("%s is kept in Git LFS, so that git does not have its versions: take schemas out of LFS (git lfs migrate export), or compare with registry:URL or dir:PATH",
				r.prefix+path)
		}
	}
	return nil
}
