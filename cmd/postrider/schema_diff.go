package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/schemacheck"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func newSchemaDiffCommand() *cobra.Command {
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff FROM TO",
		Short: "Show what changed between two schemas, and who could live with it",
		Long: `Shows which fields, symbols and types were added, removed or changed from one
schema to another, and at which levels the second may follow the first.

FROM and TO are each a file, git:REVISION:PATH (the path as from here), or
registry:SUBJECT@VERSION (registry:SUBJECT is the latest). Types that a file
does not define are looked for in the files beside it.
` + registryHelp + `

Exit code: 0 whatever the difference, 2 wrong usage or no schema, 3 git or the
registry cannot be reached.`,
		Example: `  postrider schema diff old/order.created.avsc schemas/order.created.avsc
  postrider schema diff git:origin/main:schemas/order.avsc schemas/order.avsc
  postrider schema diff registry:order.created@3 registry:order.created`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError(errors.New("schema diff: give two schemas (postrider schema diff --help)"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			connect := func(string) (*schemaregistry.Client, error) { return registryClient(url) }
			difference, err := schemacheck.Diff(cmd.Context(), args[0], args[1], connect)
			if err != nil {
				return schemaError(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), difference)
			}
			printDifference(cmd.OutOrStdout(), difference)
			return nil
		},
	}
	cmd.Flags().StringVar(&url, "registry", "", "URL of the registry (default $POSTRIDER_REGISTRY_URL)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// schemaError gives an error of package schemacheck its exit code.
func schemaError(err error) error {
	var lost *schemacheck.UnreachableError
	if !errors.As(err, &lost) {
		return usageError(err)
	}
	if schemaregistry.IsTemporary(err) || schemaregistry.IsUnauthorized(err) {
		return registryTrouble(err)
	}
	return unreachable(err)
}

func printDifference(w io.Writer, d *schemacheck.Difference) {
	fmt.Fprintf(w, "%s → %s\n", d.From, d.To)
	marks := map[string]string{"added": "+", "removed": "-", "changed": "~"}
	for _, c := range d.Changes {
		where := c.Field
		if where == "" {
			where = "(schema)"
		}
		fmt.Fprintf(w, "  %s %s: %s\n", marks[c.Kind], where, c.Detail)
	}
	if len(d.Changes) == 0 {
		fmt.Fprintln(w, "  no difference")
	}
	fmt.Fprintln(w)
	for _, v := range d.Verdicts {
		word := "yes"
		if !v.Compatible {
			word = "no"
		}
		fmt.Fprintf(w, "%-20s %s\n", v.Level, word)
	}
	// FULL has the problems of both directions.
	for _, v := range d.Verdicts {
		if v.Level == string(schemaregistry.Full) {
			for _, problem := range v.Problems {
				fmt.Fprintf(w, "  %s\n", problem)
			}
		}
	}
}
