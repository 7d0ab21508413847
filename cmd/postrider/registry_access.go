package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postrider/postrider/schema-registry/access"
)

func newRegistryTokenCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token for a client, and its line for the access file",
		Long: `Makes a random token for a client, such as a CI job. The token itself is kept
nowhere: give it to the client, and put the line, which has only its hash,
under "tokens:" in the access file. To replace a token, list both hashes until
every client has the new one: ci: [sha256:…, sha256:…].`,
		Example: `  postrider registry token ci
  postrider registry token ci --json | jq -r .token`,
		Args: usageOneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			token, digest := access.NewToken()
			line := fmt.Sprintf("%s: %s", args[0], digest)
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"name": args[0], "token": token, "line": line})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), `token, shown this once, for the client:
  %s

line for the access file, under "tokens:":
  %s
`, token, line)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func newRegistryPasswordCommand() *cobra.Command {
	var htpasswd bool
	cmd := &cobra.Command{
		Use:   "password NAME",
		Short: "Hash a password for the access file",
		Long: `Asks for a password, or reads it from the first line of standard input, and
prints the line for the access file, under "users:". With --htpasswd it is one
for a file that the access file names as "htpasswd:".`,
		Example: `  postrider registry password alice
  postrider registry password alice --htpasswd < secret >> users.htpasswd`,
		Args: usageOneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := readPassword(cmd.InOrStdin(), cmd.ErrOrStderr(), args[0])
			if err != nil {
				return usageError(err)
			}
			hash, err := access.HashPassword(password)
			if err != nil {
				return usageError(fmt.Errorf("registry password: %w", err))
			}
			format := "%s: \"%s\"\n"
			if htpasswd {
				format = "%s:%s\n"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), format, args[0], hash)
			return err
		},
	}
	cmd.Flags().BoolVar(&htpasswd, "htpasswd", false, "print a line of an htpasswd file")
	return cmd
}

// usageOneName takes one argument that can be a name in an access file.
func usageOneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError(fmt.Errorf("%s: give one name, such as: %s ci", cmd.CommandPath(), cmd.CommandPath()))
	}
	if err := access.CheckName(args[0]); err != nil {
		return usageError(fmt.Errorf("%s: %w", cmd.CommandPath(), err))
	}
	return nil
}

// readPassword asks twice on a terminal, without showing what is typed.
func readPassword(in io.Reader, prompt io.Writer, name string) (string, error) {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("registry password: read standard input: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	ask := func(what string) (string, error) {
		fmt.Fprint(prompt, what)
		text, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(prompt)
		return string(text), err
	}
	password, err := ask("Password of " + name + ": ")
	if err != nil {
		return "", err
	}
	again, err := ask("Again: ")
	if err != nil {
		return "", err
	}
	if again != password {
		return "", errors.New("registry password: the two were not the same, try again")
	}
	return password, nil
}
