package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/inbox"
)

func newOutboxSQLCommand() *cobra.Command {
	var tool, table, name, part, dir string
	cmd := &cobra.Command{
		Use:   "sql",
		Short: "Print the outbox table's DDL for a migration tool",
		Long: `Print the DDL in two parts: application, which belongs to the service's own
migrations (table, partitions, functions), and dba, which needs more rights (the
relay's role, its grants, the publication). A third part, inbox, is the table of
services that consume events.`,
		Example: `  postrider outbox sql | psql "$DATABASE_URL"
  postrider outbox sql --tool goose --out db/migrations
  postrider outbox sql --part dba --name orders
  postrider outbox sql --part inbox --tool goose --out db/migrations`,
		Args: usageNoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, ok := migrationFormats[tool]
			if !ok {
				return usageError(fmt.Errorf("outbox sql: --tool %q: want raw, goose, tern, golang-migrate or flyway", tool))
			}
			if part == "" {
				part = "application"
				if tool == "raw" {
					part = "all"
				}
			}
			if part == partInbox && !cmd.Flags().Changed("table") {
				table = inbox.DefaultTable
			}
			migrations, err := outboxMigrations(part, table, name)
			if err != nil {
				return usageError(fmt.Errorf("outbox sql: %w", err))
			}
			if dir == "" {
				return printMigrations(cmd.OutOrStdout(), format, migrations)
			}
			written, err := writeMigrations(dir, format, migrations)
			for _, path := range written {
				fmt.Fprintln(cmd.OutOrStdout(), path)
			}
			if err != nil {
				return fmt.Errorf("outbox sql: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&tool, "tool", "raw", "file format: raw, goose, tern, golang-migrate or flyway")
	flags.StringVar(&table, "table", outbox.DefaultTable, "outbox table, with its schema; for the inbox "+inbox.DefaultTable+" by default")
	flags.StringVar(&name, "name", defaultRelayName, "name of the relay, as in its configuration")
	flags.StringVar(&part, "part", "", "application, dba, all (both of them) or inbox (default all for raw, else application)")
	flags.StringVar(&dir, "out", "", "write files with the next free version into this directory")
	return cmd
}

// migration is one part of the DDL under the name that its file gets.
type migration struct {
	name string
	outbox.DDL
}

// outboxMigration is the name of the outbox table's migration.
const outboxMigration = "postrider_outbox"

// partInbox is no part of the outbox: all does not include it.
const partInbox = "inbox"

func outboxMigrations(part, table, name string) ([]migration, error) {
	switch part {
	case "application", "dba", "all":
	case partInbox:
		ddl, err := inbox.TableDDL(table)
		return []migration{{"postrider_inbox", ddl}}, err
	default:
		return nil, fmt.Errorf("--part %q: want application, dba, all or inbox", part)
	}
	var migrations []migration
	if part != "dba" {
		ddl, err := outbox.TableDDL(table)
		if err != nil {
			return nil, err
		}
		migrations = append(migrations, migration{outboxMigration, ddl})
	}
	if part != "application" {
		ddl, err := outbox.RelayDDL(table, name)
		if err != nil {
			return nil, err
		}
		migrations = append(migrations, migration{"postrider_relay_" + name, ddl})
	}
	return migrations, nil
}

// migrationFormat is the file format of a migration tool. The scripts go in whole: their
// functions contain semicolons, at which some tools would cut.
type migrationFormat struct {
	digits int // of a version; 0 if the files have none
	prefix string
	files  func(m migration, version string) []migrationFile
}

type migrationFile struct{ name, text string }

var migrationFormats = map[string]migrationFormat{
	// Plain files have a version where others in their directory have one.
	"raw": {files: func(m migration, version string) []migrationFile {
		if version != "" {
			version += "_"
		}
		return []migrationFile{{version + m.name + ".sql", m.Up}}
	}},
	"goose": {digits: 5, files: func(m migration, version string) []migrationFile {
		return []migrationFile{{version + "_" + m.name + ".sql",
			"-- +goose Up\n-- +goose StatementBegin\n" + m.Up + "-- +goose StatementEnd\n\n" +
				"-- +goose Down\n-- +goose StatementBegin\n" + m.Down + "-- +goose StatementEnd\n"}}
	}},
	"tern": {digits: 3, files: func(m migration, version string) []migrationFile {
		return []migrationFile{{version + "_" + m.name + ".sql", m.Up + "\n---- create above / drop below ----\n\n" + m.Down}}
	}},
	"golang-migrate": {digits: 6, files: func(m migration, version string) []migrationFile {
		return []migrationFile{
			{version + "_" + m.name + ".up.sql", m.Up},
			{version + "_" + m.name + ".down.sql", m.Down},
		}
	}},
	// Undo migrations are not part of Flyway's free edition.
	"flyway": {digits: 1, prefix: "V", files: func(m migration, version string) []migrationFile {
		return []migrationFile{{"V" + version + "__" + m.name + ".sql", m.Up}}
	}},
}

func printMigrations(w io.Writer, format migrationFormat, migrations []migration) error {
	var files []migrationFile
	for i, m := range migrations {
		files = append(files, format.files(m, formatVersion(format.digits, int64(i+1)))...)
	}
	var b strings.Builder
	for i, file := range files {
		if i > 0 {
			b.WriteByte('\n')
		}
		if len(files) > 1 {
			fmt.Fprintf(&b, "-- file: %s\n\n", file.name)
		}
		b.WriteString(file.text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// plannedMigration is a migration's files with their version, or the file that has it already.
type plannedMigration struct {
	files   []migrationFile
	present string
}

// planMigrations names the files of migrations in a directory that has these names already.
func planMigrations(names []string, format migrationFormat, migrations []migration) []plannedMigration {
	version := newVersions(format, names)
	var planned []plannedMigration
	for _, m := range migrations {
		if i := slices.IndexFunc(names, m.isIn); i >= 0 {
			planned = append(planned, plannedMigration{present: names[i]})
			continue
		}
		planned = append(planned, plannedMigration{files: format.files(m, version())})
	}
	return planned
}

// isIn reports whether a file of this name has the migration.
func (m migration) isIn(name string) bool {
	stem, ext, _ := strings.Cut(name, ".")
	return strings.HasSuffix("."+ext, ".sql") && (stem == m.name || strings.HasSuffix(stem, "_"+m.name))
}

// writeMigrations returns the files it wrote, also when it fails half-way. It overwrites
// none.
func writeMigrations(dir string, format migrationFormat, migrations []migration) (written []string, err error) {
	names, err := fileNames(dir)
	if err != nil {
		return nil, usageError(err)
	}
	for _, m := range planMigrations(names, format, migrations) {
		if m.present != "" {
			return written, fmt.Errorf("%s is there already: delete it first if it was never applied", filepath.Join(dir, m.present))
		}
		for _, file := range m.files {
			path := filepath.Join(dir, file.name)
			if err := writeNewFile(path, file.text); err != nil {
				return written, err
			}
			written = append(written, path)
		}
	}
	return written, nil
}

func fileNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, err
}

// timestampDigits is the length of versions such as 20060102150405.
const timestampDigits = 14

// newVersions returns a function that gives the next free version at each call, in the
// manner of the files that are there: as many digits, or the time where they have it.
func newVersions(format migrationFormat, names []string) func() string {
	pattern := regexp.MustCompile(`^` + format.prefix + `(\d+)[._].*\.(sql|go)$`)
	digits, last := format.digits, int64(0)
	for _, name := range names {
		if m := pattern.FindStringSubmatch(name); m != nil {
			if n, err := strconv.ParseInt(m[1], 10, 64); err == nil && n >= last {
				last, digits = n, len(m[1])
			}
		}
	}
	if digits == timestampDigits {
		now, err := strconv.ParseInt(time.Now().UTC().Format("20060102150405"), 10, 64)
		if err == nil {
			last = max(last, now-1)
		}
	}
	return func() string {
		last++
		return formatVersion(digits, last)
	}
}

// formatVersion gives files of a format without digits no version.
func formatVersion(digits int, version int64) string {
	if digits == 0 {
		return ""
	}
	return fmt.Sprintf("%0*d", digits, version)
}
