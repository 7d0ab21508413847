package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/schemacheck"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func newSchemaShowCommand() *cobra.Command {
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show SUBJECT[@VERSION]",
		Short: "Print a schema of a registry",
		Long: `Prints the latest version of a subject, or the one that is asked for, as
postrider schema fmt would write it, so that it can become a file.
` + registryHelp + `

Exit code: 0 printed, 1 there is no such version, 2 wrong usage, 3 the registry
cannot be reached.`,
		Example: `  postrider schema show order.created --registry http://127.0.0.1:8081
  postrider schema show order.created@2 > order.created.v2.avsc`,
		Args: oneArg("schema show", "one subject"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := registryClient(url)
			if err != nil {
				return err
			}
			defer client.Close()
			v, err := schemacheck.FindVersion(cmd.Context(), client, args[0])
			if schemaregistry.IsNotFound(err) {
				return notInRegistry(err)
			}
			if err != nil {
				return schemaError(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			text, err := schemacheck.Pretty(v.Schema)
			if err != nil {
				text = v.Schema + "\n" // as the registry has it
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringVar(&url, "registry", "", "URL of the registry (default $POSTRIDER_REGISTRY_URL)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON, with version and id")
	return cmd
}
