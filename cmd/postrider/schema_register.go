package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/schemacheck"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func newSchemaRegisterCommand() *cobra.Command {
	var registration schemaRegistration
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "register DIR",
		Short: "Register every .avsc file of a directory",
		Long: `Registers every .avsc file below DIR. Types that one file defines may be used in
others; each schema is registered whole, with the types it uses. Nothing is
registered while one of the files cannot be read.

The subject is the record's full name, or what schemas.yaml or --subject say.
What the registry does not take is printed with the reasons, one per line.
` + registryHelp + `

Exit code: 0 all registered or known, 1 one is not compatible or refused, 2 a
file cannot be read, 3 the registry cannot be reached.`,
		Example: `  postrider schema register ./schemas --registry http://127.0.0.1:8081
  postrider schema register ./schemas --dry-run --json`,
		Args: oneArg("schema register", "one directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := registration.plan(args[0])
			if err != nil {
				return usageError(err)
			}
			client, err := registryClient(url)
			if err != nil {
				return err
			}
			defer client.Close()
			registration.client = client
			results, trouble := registration.run(cmd.Context(), jobs)
			if err := printResults(cmd.OutOrStdout(), results, asJSON); err != nil {
				return err
			}
			if trouble != nil {
				return trouble
			}
			return refusals(results, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&url, "registry", "", "URL of the registry (default $POSTRIDER_REGISTRY_URL)")
	f.StringVar(&registration.subject, "subject", "", "template of subjects, of {full_name},\n{namespace} and {name} (default {full_name})")
	f.BoolVar(&registration.dryRun, "dry-run", false, "only ask whether each schema could be registered")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// schemaRegistration registers the files of a directory.
type schemaRegistration struct {
	client  *schemaregistry.Client
	subject string
	dryRun  bool
}

// job is one file and where it goes.
type job struct {
	path    string
	subject string
	schema  string
}

// The outcomes of a job.
const (
	schemaNew          = "new"
	schemaKnown        = "known"
	schemaWouldBeNew   = "would be new"
	schemaIncompatible = "incompatible"
	schemaRefused      = "refused"
)

// schemaResult is what became of one file.
type schemaResult struct {
	File    string `json:"file"`
	Subject string `json:"subject"`
	Status  string `json:"status"`
	Version int    `json:"version,omitempty"`
	ID      int    `json:"id,omitempty"`
	// Problems say why a schema is incompatible or refused.
	Problems []string `json:"problems,omitempty"`
}

// plan reads the files and names their subjects. Its error has every problem, one a line.
func (s *schemaRegistration) plan(dir string) ([]job, error) {
	files, err := schemacheck.Files(dir, s.subject)
	if err != nil {
		return nil, fmt.Errorf("nothing was registered:\n%w", err)
	}
	var jobs []job
	for _, file := range files {
		for _, subject := range file.Subjects {
			jobs = append(jobs, job{file.Path, subject, file.Schema.Canonical()})
		}
	}
	return jobs, nil
}

// run registers one file after the other. It ends early where the registry cannot be asked.
func (s *schemaRegistration) run(ctx context.Context, jobs []job) ([]schemaResult, error) {
	results := []schemaResult{}
	for _, j := range jobs {
		result, err := s.one(ctx, j)
		var answer *schemaregistry.Error
		switch {
		case err == nil:
		case !errors.As(err, &answer), schemaregistry.IsTemporary(err), schemaregistry.IsUnauthorized(err):
			return results, registryTrouble(fmt.Errorf("%s: %w", j.path, err))
		case schemaregistry.IsIncompatible(err):
			result.Status, result.Problems = schemaIncompatible, s.reasons(ctx, j, answer.Message)
		default:
			result.Status, result.Problems = schemaRefused, []string{answer.Error()}
		}
		results = append(results, result)
	}
	return results, nil
}

// reasons asks for the list of what is wrong, which the answer to a registration has in one
// line at best.
func (s *schemaRegistration) reasons(ctx context.Context, j job, message string) []string {
	answer, err := s.client.CheckCompatibility(ctx, j.subject, j.schema)
	if err != nil || len(answer.Messages) == 0 {
		return []string{message}
	}
	return answer.Messages
}

func (s *schemaRegistration) one(ctx context.Context, j job) (schemaResult, error) {
	result := schemaResult{File: j.path, Subject: j.subject, Status: schemaKnown}
	known, err := s.client.Lookup(ctx, j.subject, j.schema)
	if err == nil {
		result.Version, result.ID = known.Version, known.ID
		return result, nil
	}
	if !schemaregistry.IsNotFound(err) {
		return result, err
	}
	if s.dryRun {
		answer, err := s.client.CheckCompatibility(ctx, j.subject, j.schema)
		if err == nil && !answer.Compatible {
			result.Status, result.Problems = schemaIncompatible, answer.Messages
			return result, nil
		}
		result.Status = schemaWouldBeNew
		return result, err
	}
	if _, err := s.client.Register(ctx, j.subject, j.schema); err != nil {
		return result, err
	}
	// Not every registry says the version when it registers.
	v, err := s.client.Lookup(ctx, j.subject, j.schema)
	result.Status, result.Version, result.ID = schemaNew, v.Version, v.ID
	return result, err
}

func printResults(w io.Writer, results []schemaResult, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{"schemas": results})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range results {
		version := "-"
		if r.Version > 0 {
			version = fmt.Sprintf("version %d, id %d", r.Version, r.ID)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.Status, r.Subject, version, r.File)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		for _, problem := range r.Problems {
			fmt.Fprintf(w, "%s: %s: %s\n", r.File, r.Subject, strings.Join(strings.Fields(problem), " "))
		}
	}
	return nil
}

// refusals is the error where the registry did not take all.
func refusals(results []schemaResult, dir string) error {
	refused := 0
	for _, r := range results {
		if r.Status == schemaIncompatible || r.Status == schemaRefused {
			refused++
		}
	}
	if refused == 0 {
		return nil
	}
	return fmt.Errorf("the registry does not take %d of %d schemas; where the problems stand and what would mend them: postrider schema check %s --against registry:URL",
		refused, len(results), dir)
}
