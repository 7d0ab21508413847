package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/schema-registry/transfer"
)

func newRegistryImportCommand() *cobra.Command {
	var run registryImport
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Put what was exported into a registry, IDs kept",
		Long: `Gives a registry all that is in FILE (- for standard input), or all that the
registry of --from knows: versions with their numbers and IDs, soft-deleted ones
too, references, levels and modes. What the registry has beside it stays. Where
it has another schema in the same place, nothing is changed.

An import that was broken off is begun again; importing twice changes nothing.
Subjects that get versions are in mode IMPORT meanwhile and have the mode of
the export afterwards, or else the one they had. In the end the registry is
asked again for everything and compared.
` + transferHelp + ` For --from they begin with
POSTRIDER_REGISTRY_FROM_ instead.

Exit code: 0 done and compared, 1 the registry has something else or says no,
2 wrong usage or a bad file, 3 a registry cannot be reached.`,
		Example: `  postrider registry import schemas.jsonl --url http://127.0.0.1:8081 --dry-run
  postrider registry import schemas.jsonl --url http://127.0.0.1:8081
  postrider registry import --from http://old:8081 --url http://127.0.0.1:8081`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (run.from != "") || len(args) > 1 {
				return usageError(errors.New("registry import: give either one FILE (- for standard input) or --from URL"))
			}
			return run.run(cmd, strings.Join(args, ""))
		},
	}
	f := cmd.Flags()
	f.StringVar(&run.url, "url", "", "URL of the registry to import into\n(default $POSTRIDER_REGISTRY_URL)")
	f.StringVar(&run.from, "from", "", "URL of the registry to import from, in place of FILE")
	f.BoolVar(&run.dryRun, "dry-run", false, "only say what would be done")
	f.BoolVar(&run.asJSON, "json", false, "print as JSON")
	return cmd
}

type registryImport struct {
	url, from      string
	dryRun, asJSON bool
}

func (r *registryImport) run(cmd *cobra.Command, file string) error {
	client, err := newRegistryClient(r.url, "url", registryPrefix)
	if err != nil {
		return err
	}
	defer client.Close()
	bar := newWorkBar(cmd.ErrOrStderr())
	defer bar.end()
	content, err := r.content(cmd, file, bar)
	if err != nil {
		return err
	}
	report, err := transfer.Import(cmd.Context(), client, content, transfer.Options{DryRun: r.dryRun, Progress: bar.show})
	bar.end()
	told := errors.Is(err, transfer.ErrConflicts) || errors.Is(err, transfer.ErrNotVerified)
	if err != nil && !told {
		return transferTrouble(fmt.Errorf("registry import: %w", err), registryPrefix)
	}
	if r.asJSON {
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(report); err != nil {
			return err
		}
	} else {
		printReport(cmd.OutOrStdout(), report)
	}
	if err != nil {
		return fmt.Errorf("registry import: %w", err)
	}
	return nil
}

// content reads what is to be imported.
func (r *registryImport) content(cmd *cobra.Command, file string, bar *workBar) (*transfer.Content, error) {
	if r.from != "" {
		source, err := newRegistryClient(r.from, "from", registryFromPrefix)
		if err != nil {
			return nil, err
		}
		defer source.Close()
		content, err := transfer.Read(cmd.Context(), source, bar.show)
		if err != nil {
			return nil, transferTrouble(fmt.Errorf("registry import: read the registry of --from: %w", err), registryFromPrefix)
		}
		return content, nil
	}
	in := cmd.InOrStdin()
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, usageError(fmt.Errorf("registry import: %w", err))
		}
		defer opened.Close()
		in = opened
	}
	content, err := transfer.ReadFile(in)
	if err != nil {
		return nil, usageError(fmt.Errorf("registry import: %s: %w", file, err))
	}
	return content, nil
}

// maxListed is how many conflicts are worth reading; the rest is counted.
const maxListed = 20

func printReport(w io.Writer, r transfer.Report) {
	list := func(lines []string) {
		for _, text := range lines[:min(len(lines), maxListed)] {
			fmt.Fprintln(w, " ", text)
		}
		if more := len(lines) - maxListed; more > 0 {
			fmt.Fprintf(w, "  and %d more (--json has all)\n", more)
		}
	}
	if len(r.Conflicts) > 0 {
		fmt.Fprintln(w, "the target differs:")
		list(r.Conflicts)
		return
	}
	verb := "were"
	if r.DryRun {
		verb = "would be"
	}
	fmt.Fprintf(w, "%d versions of %d subjects: %d %s added, %d were there\n", r.Schemas, r.Subjects, r.Added, verb, r.Schemas-r.Added)
	fmt.Fprintf(w, "%d versions %s deleted softly, %d levels and %d modes %s set\n", r.Deleted, verb, r.Configs, r.Modes, verb)
	switch {
	case r.DryRun:
		fmt.Fprintln(w, "nothing was changed (--dry-run)")
	case r.Verified:
		fmt.Fprintln(w, "compared afterwards: everything is there")
	default:
		fmt.Fprintln(w, "compared afterwards, this is not as it should be:")
		list(r.Missing)
	}
}
