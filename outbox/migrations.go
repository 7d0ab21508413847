package outbox

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed migrations/*.sql
var migrations embed.FS

// DDL is one step of the database's set-up and its undoing. Both are scripts of several
// statements.
type DDL struct {
	Up, Down string
}

// TableDDL returns what the application's own migrations apply: the outbox table with its
// partitions, the schema table and the functions. The empty table means DefaultTable; its
// schema must exist.
func TableDDL(table string) (DDL, error) {
	return readDDL("0001_outbox", table, "name")
}

// RelayDDL returns what a DBA applies after TableDDL, for the relay called name: its role,
// its rights and the publication, postrider_<name> both. The slot is not in it, since the
// relay makes that itself.
func RelayDDL(table, name string) (DDL, error) {
	if !regexp.MustCompile(`^[a-z0-9_]{1,53}$`).MatchString(name) {
		return DDL{}, fmt.Errorf("outbox: relay name %q: only lower-case letters, digits and _ can be in the name of a slot, and no more than 53 of them here", name)
	}
	return readDDL("dba", table, name)
}

func readDDL(file, table, name string) (DDL, error) {
	if table == "" {
		table = DefaultTable
	}
	parsed, err := parseTable(table)
	if err != nil {
		return DDL{}, err
	}
	var ddl DDL
	for _, part := range []struct {
		suffix string
		text   *string
	}{{".up.sql", &ddl.Up}, {".down.sql", &ddl.Down}} {
		text, err := migrations.ReadFile("migrations/" + file + part.suffix)
		if err != nil {
			return DDL{}, fmt.Errorf("outbox: %w", err)
		}
		*part.text = parsed.rewrite(string(text), name)
	}
	return ddl, nil
}

// tableName is the outbox table's name; the other objects are named after it.
type tableName struct{ schema, table string }

// maxTableName leaves room for the longest suffix in the 63 bytes of a name.
const maxTableName = 63 - len("_create_partitions")

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func parseTable(s string) (tableName, error) {
	schema, table, ok := strings.Cut(s, ".")
	if !ok || !identifier.MatchString(schema) || !identifier.MatchString(table) {
		return tableName{}, fmt.Errorf("outbox: table %q: want schema.table, each of letters, digits and _", s)
	}
	if len(table) > maxTableName || len(schema) > 63 {
		return tableName{}, fmt.Errorf("outbox: table %q: the name is longer than %d bytes", s, maxTableName)
	}
	return tableName{schema, table}, nil
}

// sql is the quoted name of the table, or of what is named after it.
func (n tableName) sql(suffix string) string {
	return n.quotedSchema() + "." + quoteUnless(n.table+suffix, "outbox"+suffix)
}

func (n tableName) quotedSchema() string { return quoteUnless(n.schema, "public") }

// quoteUnless quotes a name unless it is the plain one, to keep the usual text readable. A
// parsed name has no quotes in it.
func quoteUnless(name, plain string) string {
	if name == plain {
		return name
	}
	return `"` + name + `"`
}

var placeholder = regexp.MustCompile(`public\.outbox(_[a-z_]+)?|\bSCHEMA public\b|postrider_name\b|postrider_<name>|<name>`)

// rewrite puts names into the text of a migration, which is valid SQL for the default ones.
func (n tableName) rewrite(text, name string) string {
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		switch {
		case found == "SCHEMA public":
			return "SCHEMA " + n.quotedSchema()
		case strings.HasPrefix(found, "public.outbox"):
			return n.sql(strings.TrimPrefix(found, "public.outbox"))
		case name == "name":
			return found
		case found == "<name>":
			return name
		}
		return "postrider_" + name
	})
}
