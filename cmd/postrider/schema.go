package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
	"github.com/postrider/postrider/schema-registry/schemafiles"
)

func newSchemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Register and list the schemas of events",
		Args:  usageNoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError(errors.New("schema: say register or list (postrider schema --help)"))
		},
	}
	cmd.AddCommand(newSchemaRegisterCommand(), newSchemaListCommand())
	return cmd
}

// registryHelp says how the commands that ask a registry find it.
const registryHelp = `
The registry is that of --registry or POSTRIDER_REGISTRY_URL. Credentials come from the
environment: POSTRIDER_REGISTRY_AUTH_USERNAME and _PASSWORD, or POSTRIDER_REGISTRY_AUTH_TOKEN.`

// registryClient connects to the registry that the flags and the environment name.
func registryClient(url string) (*schemaregistry.Client, error) {
	if url == "" {
		url = os.Getenv("POSTRIDER_REGISTRY_URL")
	}
	if url == "" {
		return nil, usageError(errors.New("no registry given: use --registry http://127.0.0.1:8081 or set POSTRIDER_REGISTRY_URL"))
	}
	client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{
		URL:         url,
		Username:    os.Getenv("POSTRIDER_REGISTRY_AUTH_USERNAME"),
		Password:    os.Getenv("POSTRIDER_REGISTRY_AUTH_PASSWORD"),
		BearerToken: os.Getenv("POSTRIDER_REGISTRY_AUTH_TOKEN"),
	})
	if err != nil {
		return nil, usageError(err)
	}
	return client, nil
}

// registryTrouble marks an error after which there is no point in going on: no answer, or
// none to these credentials.
func registryTrouble(err error) error {
	if schemaregistry.IsUnauthorized(err) {
		return unreachable(fmt.Errorf("%w (check POSTRIDER_REGISTRY_AUTH_USERNAME and _PASSWORD, or _TOKEN)", err))
	}
	return unreachable(fmt.Errorf("%w (is the registry up, and is the URL right?)", err))
}

func newSchemaRegisterCommand() *cobra.Command {
	var registration schemaRegistration
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "register DIR",
		Short: "Register every .avsc file of a directory",
		Long: `Registers every .avsc file below DIR. Types that one file defines may be used in others;
each schema is registered whole, with the types it uses. Nothing is registered while one
of the files cannot be read.
` + registryHelp + `

Exit code: 0 all registered or known, 1 one is not compatible or refused, 2 a file cannot be
read, 3 the registry cannot be reached.`,
		Example: `  postrider schema register ./schemas --registry http://127.0.0.1:8081
  postrider schema register ./schemas --dry-run --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError(errors.New("schema register: give one directory (postrider schema register --help)"))
			}
			return nil
		},
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
			return refusals(results)
		},
	}
	f := cmd.Flags()
	f.StringVar(&url, "registry", "", "URL of the registry (default $POSTRIDER_REGISTRY_URL)")
	f.StringVar(&registration.subject, "subject", "{full_name}", "template of the subject, of {full_name}, {namespace} and {name}")
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
	files, err := schemafiles.Load(dir)
	problems := []error{}
	if err != nil {
		problems = append(problems, err)
	}
	var jobs []job
	owner := make(map[string]string)
	for _, file := range files {
		subject, err := s.subjectOf(file.Schema)
		switch other := owner[subject]; {
		case err != nil:
			problems = append(problems, &schemafiles.Problem{Path: file.Path, Err: err})
		case other != "":
			problems = append(problems, &schemafiles.Problem{Path: file.Path, Err: fmt.Errorf("subject %s is that of %s too", subject, other)})
		default:
			owner[subject] = file.Path
			jobs = append(jobs, job{file.Path, subject, file.Schema.Canonical()})
		}
	}
	switch {
	case len(problems) > 0:
		return nil, fmt.Errorf("nothing was registered, for %s has problems:\n%w", dir, errors.Join(problems...))
	case len(jobs) == 0:
		return nil, fmt.Errorf("%s has no file that ends with %s", dir, schemafiles.Extension)
	}
	return jobs, nil
}

func (s *schemaRegistration) subjectOf(schema *avroschema.Schema) (string, error) {
	if schema.Name == "" {
		return "", fmt.Errorf("the schema is of type %s, which has no name to make a subject of: wrap it in a record", schema.Type)
	}
	dot := strings.LastIndexByte(schema.Name, '.')
	subject := strings.NewReplacer("{full_name}", schema.Name, "{namespace}", schema.Name[:max(dot, 0)], "{name}", schema.Name[dot+1:]).Replace(s.subject)
	if subject == "" || strings.ContainsAny(subject, "{}") {
		return "", fmt.Errorf("--subject %s: fields are {full_name}, {namespace} and {name}", s.subject)
	}
	return subject, nil
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
			result.Status, result.Problems = schemaIncompatible, []string{answer.Message}
		default:
			result.Status, result.Problems = schemaRefused, []string{answer.Error()}
		}
		results = append(results, result)
	}
	return results, nil
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
	return table.Flush()
}

// refusals makes one error of all that the registry did not take.
func refusals(results []schemaResult) error {
	var lines []string
	for _, r := range results {
		for _, problem := range r.Problems {
			lines = append(lines, fmt.Sprintf("%s: %s", r.File, problem))
		}
		if len(r.Problems) == 0 && (r.Status == schemaIncompatible || r.Status == schemaRefused) {
			lines = append(lines, fmt.Sprintf("%s: %s", r.File, r.Status))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("the registry does not take all schemas:\n%s\n"+
		"Mend them, for readers or writers of earlier versions would break, or change the subject's level: PUT /config/SUBJECT", strings.Join(lines, "\n"))
}

func newSchemaListCommand() *cobra.Command {
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the subjects of a registry with their latest versions",
		Long:  "Lists the subjects of a registry with their latest versions.\n" + registryHelp,
		Example: `  postrider schema list --registry http://127.0.0.1:8081
  postrider schema list --json`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := registryClient(url)
			if err != nil {
				return err
			}
			defer client.Close()
			versions, err := latestVersions(cmd.Context(), client)
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
