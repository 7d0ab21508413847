package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newInitCommand() *cobra.Command {
	var setup repoSetup
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Put into a repository what postrider needs there",
		Long: `Writes into the repository of a service what it needs to send events: a
postrider.yaml for the relay, the migration that makes the outbox table, a
directory of schemas with an example, and a check of them in CI. Then it says
the next three steps. It reaches no server.

Nothing is ever overwritten: a file that is there is named and left alone, the
others are written. A second run finds nothing to do.

The migration has the form and the next version of the tool whose migrations it
finds (goose, tern, golang-migrate, flyway, else plain SQL), the check that of
the CI it finds (GitHub Actions, GitLab). It looks at DIR only, by default the
directory it is run in, and at what is below it: in a repository of several
services, name the directory of one.

Addresses are those of servers on this machine. POSTRIDER_POSTGRES_URL and
POSTRIDER_REGISTRY_URL, where they are set, appear in the next steps.

Exit code: 0 done or nothing to do, 1 a file could not be written, 2 wrong
usage, or what was found leaves a choice that a flag makes.`,
		Example: `  postrider init
  postrider init services/orders --name orders --dry-run
  postrider init --tool goose --migrations db/migrations --ci none`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(errors.New("init: give one directory at most (postrider init --help)"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			setup.dir = "."
			if len(args) == 1 {
				setup.dir = args[0]
			}
			report, err := setup.run()
			if err != nil {
				return usageError(fmt.Errorf("init: %w", err))
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), report)
			} else {
				err = report.print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return report.failure()
		},
	}
	f := cmd.Flags()
	f.StringVar(&setup.tool, "tool", "", "form of the migration: goose, tern,\ngolang-migrate, flyway or raw\n(default what is found, else raw)")
	f.StringVar(&setup.migrations, "migrations", "", "directory of migrations, below DIR\n(default what is found, else migrations)")
	f.StringVar(&setup.schemas, "schemas", "", "directory of schemas, below DIR\n(default what is found, else schemas)")
	f.StringVar(&setup.ci, "ci", "", "github, gitlab or none (default what is found)")
	f.StringVar(&setup.name, "name", "", "name of the relay (default that of the directory)")
	f.BoolVar(&setup.dryRun, "dry-run", false, "print what would be written, and write nothing")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	completes(cmd, "tool", migrationTools, cobra.ShellCompDirectiveNoFileComp)
	completes(cmd, "ci", []string{ciGitHub, ciGitLab, ciNone}, cobra.ShellCompDirectiveNoFileComp)
	return cmd
}

// repoReport says what init did. Its paths begin with the directory that it was told.
type repoReport struct {
	Dir    string     `json:"dir"`
	Name   string     `json:"name"`
	Tool   string     `json:"tool"`
	CI     string     `json:"ci"`
	DryRun bool       `json:"dry_run"`
	Files  []repoFile `json:"files"`
	Notes  []string   `json:"notes"`
	Next   []repoStep `json:"next"`
}

// repoFile is a file and what became of it: written, present, failed, or in a dry run missing.
type repoFile struct {
	Path  string `json:"path"`
	What  string `json:"what"`
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	Text  string `json:"text,omitempty"` // in a dry run
}

// The states of an repoFile.
const (
	fileWritten = "written"
	filePresent = "present"
	fileMissing = "missing"
	fileFailed  = "failed"
)

// repoStep is what to do next.
type repoStep struct {
	What     string   `json:"what"`
	Commands []string `json:"commands"`
}

// count returns how many files are in a state.
func (r *repoReport) count(state string) (n int) {
	for _, file := range r.Files {
		if file.State == state {
			n++
		}
	}
	return n
}

func (r *repoReport) failure() error {
	if n := r.count(fileFailed); n > 0 {
		return &exitError{exitNo, fmt.Errorf("init: %s could not be written: mend that, then run it again for the rest", count(n, "file"))}
	}
	return nil
}

func (r *repoReport) print(w io.Writer) error {
	var b strings.Builder
	states := map[string]string{fileWritten: "written", filePresent: "left as it is", fileMissing: "would be written", fileFailed: "NOT written"}
	width := 0
	for _, file := range r.Files {
		width = max(width, len(file.Path))
	}
	for _, file := range r.Files {
		fmt.Fprintf(&b, "%-*s  %s: %s\n", width, file.Path, states[file.State], file.What)
		if file.Error != "" {
			fmt.Fprintf(&b, "%-*s  → %s\n", width, "", file.Error)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	if r.DryRun {
		for _, file := range r.Files {
			if file.State == fileMissing {
				fmt.Fprintf(&b, "\n-- %s --\n%s", file.Path, file.Text)
			}
		}
	}
	switch {
	case r.DryRun && r.count(fileMissing) > 0:
		b.WriteString("\nnothing was written (--dry-run)\n")
	case r.count(filePresent) == len(r.Files):
		b.WriteString("nothing to do: everything is there already\n")
	case r.count(fileFailed) == 0:
		b.WriteString("\nnext:\n")
		for i, step := range r.Next {
			fmt.Fprintf(&b, "%d. %s\n", i+1, step.What)
			for _, command := range step.Commands {
				fmt.Fprintf(&b, "     %s\n", command)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
