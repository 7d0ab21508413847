package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postrider/postrider/internal/schemacheck"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func newSchemaCheckCommand() *cobra.Command {
	var opts schemacheck.Options
	var format, level, out string
	cmd := &cobra.Command{
		Use:   "check DIR --against git:REV|registry:URL|dir:PATH",
		Short: "Say who breaks when the schemas of a directory go live",
		Long: `Compares every .avsc file below DIR with the versions that were there before and
reports every problem with its file, line and column, who breaks, and what would
mend it. A schema that was not there before is fine, and said to be new.

What it compares with:
  git:REV        the schemas of a commit of this repository, e.g. origin/main;
                 for transitive levels also those of the commits before it.
                 Needs the history, but no network.
  registry:URL   the versions in a registry, by the level that it has for each
                 subject. Without URL that of POSTRIDER_REGISTRY_URL.
                 Credentials: POSTRIDER_REGISTRY_AUTH_USERNAME and _PASSWORD, or
                 POSTRIDER_REGISTRY_AUTH_TOKEN.
  dir:PATH       the schemas of another directory

DIR/schemas.yaml, if it is there, gives subjects another name or level than the
usual, and lets known problems pass until a day (docs/schema-check.md).

Exit code: 0 compatible, 1 not compatible, 2 wrong usage or a file that is no
schema, 3 git or the registry cannot be reached, or lacks the history.`,
		Example: `  postrider schema check ./schemas --against git:origin/main
  postrider schema check ./schemas --against registry:http://127.0.0.1:8081
  postrider schema check ./schemas --against git:v1.4.0 --level FULL_TRANSITIVE
  postrider schema check ./schemas --against dir:./released --format sarif`,
		Args: oneArg("schema check", "one directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Dir, opts.Registry = args[0], registryClient
			var ok bool
			if opts.Level, ok = schemaregistry.ParseLevel(level); level != "" && !ok {
				return usageError(fmt.Errorf("--level %s: want one of %s", level, strings.Join(schemacheck.Levels, ", ")))
			} else if level == "" {
				opts.Level = ""
			}
			if !slices.Contains(schemacheck.Formats, format) {
				return usageError(fmt.Errorf("--format %s: want one of %s", format, strings.Join(schemacheck.Formats, ", ")))
			}
			report, err := schemacheck.Run(cmd.Context(), opts)
			if err != nil {
				return schemaError(err)
			}
			if err := writeReport(cmd.OutOrStdout(), report, format, out); err != nil {
				return err
			}
			return verdict(report)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Against, "against", "", "what to compare with, see above")
	f.StringVar(&level, "level", "", "level of subjects without one of their own in\nschemas.yaml (default the registry's, or BACKWARD)")
	f.StringVar(&format, "format", "text", "how to write it: text, json, github, gitlab,\njunit or sarif")
	f.StringVar(&out, "out", "", "write the report to this file, and text to the\nterminal")
	f.StringVar(&opts.Config, "config", "", "path of schemas.yaml (default DIR/schemas.yaml)")
	f.StringVar(&opts.Subject, "subject", "", "template of subjects, of {full_name}, {namespace}\nand {name} (default {full_name})")
	f.StringArrayVar(&opts.Go, "go", nil, "also compare generated structs in a directory of\nGo code, dir/... for all below (repeatable)")
	completes(cmd, "level", schemacheck.Levels, cobra.ShellCompDirectiveNoFileComp)
	completes(cmd, "format", schemacheck.Formats, cobra.ShellCompDirectiveNoFileComp)
	completes(cmd, "against", schemacheck.AgainstPrefixes, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)
	return cmd
}

// writeReport writes a report in a format, to a file beside the terminal if one is named.
func writeReport(w io.Writer, report *schemacheck.Report, format, out string) error {
	screen := schemacheck.WriteOptions{Format: format}
	if out != "" {
		file, err := os.Create(out)
		if err != nil {
			return usageError(err)
		}
		if err := errors.Join(report.Write(file, screen), file.Close()); err != nil {
			return err
		}
		screen.Format = "text"
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		screen.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			screen.Width = min(max(width, 40), 120)
		}
	}
	return report.Write(w, screen)
}

func verdict(report *schemacheck.Report) error {
	switch {
	case report.Invalid():
		return usageError(errors.New("schema check: not every schema could be checked, mend the files first"))
	case report.Failed():
		return &exitError{exitNo, errors.New("schema check: not compatible")}
	}
	return nil
}
