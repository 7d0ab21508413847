package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/schema-registry/transfer"
)

// The environment names the registry that is asked, and the one that is moved from.
const (
	registryPrefix     = "POSTRIDER_REGISTRY"
	registryFromPrefix = "POSTRIDER_REGISTRY_FROM"
)

const transferHelp = `
Credentials come from the environment: POSTRIDER_REGISTRY_AUTH_USERNAME and
_AUTH_PASSWORD, or _AUTH_TOKEN; files for TLS from _TLS_CA_FILE, _TLS_CERT_FILE
and _TLS_KEY_FILE.`

func newRegistryExportCommand() *cobra.Command {
	var url, out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export --out FILE",
		Short: "Write all that a registry knows to a file",
		Long: `Writes all versions of all subjects and contexts, soft-deleted ones too, with
their IDs, references, levels and modes, as JSON lines. The registry is asked by
its API, so it may be Confluent's or another one that speaks it. The same
content makes the same file, byte for byte.
` + transferHelp + `

Exit code: 0 done, 1 the registry says no, 2 wrong usage, 3 it cannot be
reached.`,
		Example: `  postrider registry export --url http://127.0.0.1:8081 --out schemas.jsonl
  postrider registry export --url http://127.0.0.1:8081 --out - | gzip > s.gz`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usageError(errors.New("registry export: say where to with --out FILE, or --out - for standard output"))
			}
			if out == "-" && asJSON {
				return usageError(errors.New("registry export: --json and --out - would both write to standard output"))
			}
			client, err := newRegistryClient(url, "url", registryPrefix)
			if err != nil {
				return err
			}
			defer client.Close()
			bar := newWorkBar(cmd.ErrOrStderr())
			content, err := transfer.Read(cmd.Context(), client, bar.show)
			bar.end()
			if err != nil {
				return transferTrouble(fmt.Errorf("registry export: %w", err), registryPrefix)
			}
			if out == "-" {
				return content.Write(cmd.OutOrStdout())
			}
			if err := writeWhole(out, content.Write); err != nil {
				return fmt.Errorf("registry export: %w", err)
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
					"file": out, "schemas": len(content.Schemas), "configs": len(content.Configs), "modes": len(content.Modes),
				})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d versions, %d levels, %d modes\n", out, len(content.Schemas), len(content.Configs), len(content.Modes))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&url, "url", "", "URL of the registry (default $POSTRIDER_REGISTRY_URL)")
	f.StringVar(&out, "out", "", "file to write, - for standard output")
	f.BoolVar(&asJSON, "json", false, "print the counts as JSON")
	return cmd
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // it is gone when all went well
	err = errors.Join(write(file), file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
