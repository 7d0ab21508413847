package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func newSchemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Check, compare, register and format the schemas of events",
		Args:  usageNoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError(errors.New("schema: say check, diff, register, list, show or fmt (postrider schema --help)"))
		},
	}
	cmd.AddCommand(newSchemaCheckCommand(), newSchemaDiffCommand(), newSchemaRegisterCommand(), newSchemaListCommand(),
		newSchemaShowCommand(), newSchemaFmtCommand())
	return cmd
}

// oneArg demands one argument and says which.
func oneArg(command, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError(fmt.Errorf("%s: give %s (postrider %s --help)", command, what, command))
		}
		return nil
	}
}

// completes makes the shell propose the values of a flag.
func completes(cmd *cobra.Command, flag string, values []string, directive cobra.ShellCompDirective) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, directive)); err != nil {
		panic(err) // there is no such flag: a mistake in this program
	}
}

// registryHelp says how the commands that ask a registry find it.
const registryHelp = `
The registry is that of --registry or POSTRIDER_REGISTRY_URL. Credentials come
from the environment: POSTRIDER_REGISTRY_AUTH_USERNAME and _PASSWORD, or
POSTRIDER_REGISTRY_AUTH_TOKEN; a file of authorities to trust for https from
POSTRIDER_REGISTRY_TLS_CA_FILE.`

// registryClient connects to the registry that the flags and the environment name.
func registryClient(url string) (*schemaregistry.Client, error) {
	return newRegistryClient(url, "registry", registryPrefix)
}

// registryTrouble marks an error after which there is no point in going on: no answer, or
// none to these credentials.
func registryTrouble(err error) error {
	if schemaregistry.IsUnauthorized(err) {
		return unreachable(fmt.Errorf("%w (check POSTRIDER_REGISTRY_AUTH_USERNAME and _PASSWORD, or _TOKEN)", err))
	}
	return unreachable(fmt.Errorf("%w (%s)", err, registryHint(err)))
}

// registryHint is what to look at where a registry does not do what it should.
func registryHint(err error) string {
	var answer *schemaregistry.Error
	if errors.As(err, &answer) { // such as a full disk
		return "the registry is up, but cannot do it now: its log says why"
	}
	return "is the registry up, and is the URL right?"
}
