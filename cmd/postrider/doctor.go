package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/relay"
)

func newDoctorCommand() *cobra.Command {
	var (
		config configFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "doctor -c FILE",
		Short: "Check everything that the relay needs, and change nothing",
		Long: `Checks configuration, Postgres, Kafka and the schema registry for what the relay
needs of them, before its first start or beside a running relay, with the
relay's own credentials. It changes nothing. Each line is ok, warn or FAIL, the
latter two with what to do. Server, slot, publication and table are compared
with what the relay remembers in Kafka, so that what it would halt for at its
start fails here. Topics and subjects are those that the rows of the last day
name.

Exits 0 when nothing failed, 1 when something did, 2 when the configuration is
wrong, 3 when a server could not be reached.`,
		Example: `  postrider doctor -c postrider.yaml
  postrider doctor -c postrider.yaml --json |
      jq '.checks[] | select(.result != "ok")'`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.load()
			if err != nil {
				return err
			}
			warnOfVariables(cmd.ErrOrStderr())
			diagnosis, err := relay.Diagnose(cmd.Context(), cfg, nil)
			if err != nil {
				return usageError(configProblems(err))
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				if err := enc.Encode(diagnosis); err != nil {
					return err
				}
			} else if err := printDiagnosis(cmd.OutOrStdout(), diagnosis); err != nil {
				return err
			}
			switch {
			case diagnosis.Unreachable:
				return unreachable(errors.New("doctor: a server could not be reached"))
			case diagnosis.Failed:
				return &exitError{exitNo, errors.New("doctor: the relay cannot work like this")}
			}
			return nil
		},
	}
	config.addFile(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func printDiagnosis(w io.Writer, d relay.Diagnosis) error {
	for _, c := range d.Checks {
		if _, err := fmt.Fprintf(w, "%-4s  %-8s  %s: %s\n", c.Result, c.Area, c.Name, c.Message); err != nil {
			return err
		}
		if c.Hint != "" && c.Result != relay.CheckOK {
			if _, err := fmt.Fprintf(w, "                → %s\n", c.Hint); err != nil {
				return err
			}
		}
	}
	return nil
}
