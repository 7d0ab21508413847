package inbox

import (
	"embed"
	"fmt"
	"regexp"
	"strings"

	"github.com/postrider/postrider/outbox"
)

// DefaultTable is the table that an Inbox writes to if it is not told otherwise.
const DefaultTable = "public.inbox"

//go:embed migrations/*.sql
var migrations embed.FS

// TableDDL returns what the application's own migrations apply: the table of marks with its
// partitions and functions. The empty table means DefaultTable; its schema must exist.
func TableDDL(table string) (outbox.DDL, error) {
	name, err := parseTable(table)
	if err != nil {
		return outbox.DDL{}, err
	}
	up, err := migrations.ReadFile("migrations/0001_inbox.up.sql")
	if err != nil {
		return outbox.DDL{}, fmt.Errorf("inbox: %w", err)
	}
	down, err := migrations.ReadFile("migrations/0001_inbox.down.sql")
	if err != nil {
		return outbox.DDL{}, fmt.Errorf("inbox: %w", err)
	}
	return outbox.DDL{Up: name.rewrite(string(up)), Down: name.rewrite(string(down))}, nil
}

// tableName is the inbox table's name; the other objects are named after it.
type tableName struct{ schema, table string }

// maxTableName leaves room for the longest suffix in the 63 bytes of a name.
const maxTableName = 63 - len("_create_partitions")

// Lower case only, so that no name needs quotes anywhere in the functions.
var tablePattern = regexp.MustCompile(`^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$`)

func parseTable(table string) (tableName, error) {
	if table == "" {
		table = DefaultTable
	}
	if !tablePattern.MatchString(table) {
		return tableName{}, fmt.Errorf("inbox: table %q: want schema.table, each of lower-case letters, digits and _", table)
	}
	schema, name, _ := strings.Cut(table, ".")
	if len(name) > maxTableName || len(schema) > 63 {
		return tableName{}, fmt.Errorf("inbox: table %q: the name is longer than %d bytes", table, maxTableName)
	}
	return tableName{schema, name}, nil
}

// sql is the name of the table, or of what is named after it. Quotes keep a name such as
// "user" from being a keyword.
func (n tableName) sql(suffix string) string {
	if n.schema+"."+n.table == DefaultTable {
		return DefaultTable + suffix
	}
	return fmt.Sprintf(`"%s"."%s%s"`, n.schema, n.table, suffix)
}

var placeholder = regexp.MustCompile(`public\.inbox(_[a-z_]+)?`)

// rewrite puts the name into the text of a migration, which is valid SQL for the default one.
func (n tableName) rewrite(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		return n.sql(strings.TrimPrefix(found, DefaultTable))
	})
}
