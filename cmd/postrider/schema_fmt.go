package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/schemacheck"
	"github.com/postrider/postrider/schema-registry/schemafiles"
)

func newSchemaFmtCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt PATH...",
		Short: "Write .avsc files in one form",
		Long: `Writes the .avsc files that are named, or are below the directories that are
named, in one form: attributes in the order in which registries keep them, two
blanks of indentation, one field to a line. The schema itself stays the same.
The names of files that change are printed. "-" reads standard input and writes
to standard output.

Exit code: 0 done, 1 with --check if a file is not in this form, 2 wrong usage
or a file that cannot be formatted.`,
		Example: `  postrider schema fmt ./schemas
  postrider schema fmt --check ./schemas
  postrider schema fmt - < order.avsc`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(errors.New("schema fmt: give files or directories (postrider schema fmt --help)"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "-" {
				return formatStream(cmd.InOrStdin(), cmd.OutOrStdout())
			}
			return formatFiles(cmd.OutOrStdout(), args, check)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "only print the names of files that are not in this form")
	return cmd
}

func formatStream(in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	pretty, err := schemacheck.Pretty(string(text))
	if err != nil {
		return usageError(&schemafiles.Problem{Path: "standard input", Err: err})
	}
	_, err = io.WriteString(out, pretty)
	return err
}

func formatFiles(out io.Writer, paths []string, check bool) error {
	files, err := schemaFiles(paths)
	if err != nil {
		return usageError(err)
	}
	changed := 0
	var problems []error
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		pretty, err := schemacheck.Pretty(string(text))
		if err != nil {
			problems = append(problems, &schemafiles.Problem{Path: name, Err: err})
			continue
		}
		if pretty == string(text) {
			continue
		}
		changed++
		fmt.Fprintln(out, name)
		if !check {
			if err := replaceFile(name, pretty); err != nil {
				problems = append(problems, err)
			}
		}
	}
	switch {
	case len(problems) > 0:
		return usageError(errors.Join(problems...))
	case check && changed > 0:
		return &exitError{exitNo, fmt.Errorf("schema fmt: %s not formatted: postrider schema fmt %s", are(changed), strings.Join(paths, " "))}
	}
	return nil
}

func are(files int) string {
	if files == 1 {
		return "1 file is"
	}
	return fmt.Sprintf("%d files are", files)
}

// schemaFiles lists the files that paths name, and those below paths that are directories.
func schemaFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		before := len(files)
		err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && name != path && strings.HasPrefix(entry.Name(), "."):
				return fs.SkipDir
			case !entry.IsDir() && filepath.Ext(name) == schemafiles.Extension:
				files = append(files, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(files) == before {
			return nil, fmt.Errorf("%s has no file that ends with %s", path, schemafiles.Extension)
		}
	}
	return files, nil
}

// replaceFile writes a file so that it is either the old or the new one, whatever happens.
func replaceFile(name, text string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(target), ".postrider-fmt-*")
	if err != nil {
		return err
	}
	_, err = temporary.WriteString(text)
	err = errors.Join(err, temporary.Chmod(info.Mode().Perm()), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}
