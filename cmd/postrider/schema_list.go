package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func newSchemaListCommand() *cobra.Command {
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [SUBJECT]",
		Short: "List the subjects of a registry, or the versions of one",
		Long: `Lists the subjects of a registry with their latest versions, or all versions of
one subject.
` + registryHelp,
		Example: `  postrider schema list --registry http://127.0.0.1:8081
  postrider schema list order.created --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(errors.New("schema list: give one subject at most (postrider schema list --help)"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := registryClient(url)
			if err != nil {
				return err
			}
			defer client.Close()
			var versions []schemaregistry.SubjectVersion
			if len(args) == 0 {
				versions, err = latestVersions(cmd.Context(), client)
			} else {
				versions, err = allVersions(cmd.Context(), client, args[0])
			}
			if schemaregistry.IsNotFound(err) {
				return notInRegistry(err)
			}
			if err != nil {
				return registryTrouble(err)
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"subjects": versions})
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, v := range versions {
				fmt.Fprintf(table, "%s\tversion %d, id %d\n", v.Subject, v.Version, v.ID)
			}
			return table.Flush()
		},
	}
	cmd.Flags().StringVar(&url, "registry", "", "URL of the registry (default $POSTRIDER_REGISTRY_URL)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON, with the schemas")
	return cmd
}

func allVersions(ctx context.Context, client *schemaregistry.Client, subject string) ([]schemaregistry.SubjectVersion, error) {
	numbers, err := client.Versions(ctx, subject)
	if err != nil {
		return nil, err
	}
	versions := []schemaregistry.SubjectVersion{}
	for _, number := range numbers {
		v, err := client.Version(ctx, subject, number)
		if schemaregistry.IsNotFound(err) {
			continue // deleted since
		}
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, nil
}

func latestVersions(ctx context.Context, client *schemaregistry.Client) ([]schemaregistry.SubjectVersion, error) {
	subjects, err := client.Subjects(ctx)
	if err != nil {
		return nil, err
	}
	versions := []schemaregistry.SubjectVersion{}
	for _, subject := range subjects {
		v, err := client.Latest(ctx, subject)
		if schemaregistry.IsNotFound(err) {
			continue // deleted since
		}
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, nil
}

// notInRegistry is the error for a subject or a version that there is not.
func notInRegistry(err error) error {
	return &exitError{exitNo, fmt.Errorf("%w (postrider schema list shows what there is)", err)}
}
