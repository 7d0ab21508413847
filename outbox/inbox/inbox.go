package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Config configures an Inbox. The zero value is what the package's functions use.
type Config struct {
	// Table is the inbox table, with its schema. Defaults to DefaultTable.
	Table string
}

// Inbox is one inbox table of one database. It is safe for concurrent use.
type Inbox struct {
	table  string
	once   string
	create string
	drop   string
	trim   string
}

// New returns an Inbox. It does not touch the database.
func New(config Config) (*Inbox, error) {
	name, err := parseTable(config.Table)
	if err != nil {
		return nil, err
	}
	return &Inbox{
		table:  name.schema + "." + name.table,
		once:   "SELECT " + name.sql("_once") + "($1::text, $2::text)",
		create: "SELECT " + name.sql("_create_partitions") + "($1::int)",
		drop:   "SELECT " + name.sql("_drop_partition") + "($1::bigint * interval '1 microsecond')",
		trim:   "SELECT " + name.sql("_trim") + "($1::bigint * interval '1 microsecond', $2::int)",
	}, nil
}

var std = func() *Inbox {
	i, err := New(Config{})
	if err != nil {
		panic(err)
	}
	return i
}()

// Once runs fn unless consumer has handled the event dedupeKey, with public.inbox; see
// [Inbox.Once].
func Once(ctx context.Context, tx pgx.Tx, consumer, dedupeKey string, fn func(context.Context) error) (ran bool, err error) {
	return std.Once(ctx, tx, consumer, dedupeKey, fn)
}

// SQLTx is a transaction of database/sql: a *sql.Tx, or what a library has around one, as for
// outbox.InsertSQL. Commit is not called; it keeps out what is no transaction.
type SQLTx interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	Commit() error
	Rollback() error
}

// OnceSQL is Once for a transaction of database/sql.
func OnceSQL(ctx context.Context, tx SQLTx, consumer, dedupeKey string, fn func(context.Context) error) (ran bool, err error) {
	return std.OnceSQL(ctx, tx, consumer, dedupeKey, fn)
}

// Once runs fn unless a committed transaction has handled the event dedupeKey for consumer.
// The mark that says so becomes part of tx; fn does its work in tx too. It reports whether
// fn ran: false without an error means that the event was handled before, and its offset
// can be committed once tx has ended.
//
// After an error nothing remains: tx has been rolled back (a nested one to its savepoint),
// whether the mark could not be written or fn failed, whose error is returned as it is. The
// same holds when fn panics.
//
// If another transaction has the same event in hand, Once waits for its end: if that
// commits, fn does not run; if it is rolled back, fn runs. Above READ COMMITTED the former
// is a serialization failure (SQLSTATE 40001), as with any row. Two transactions that handle
// the same events in different orders can be a deadlock (40P01). Both are worth a retry.
//
// consumer and dedupeKey are valid UTF-8 of 1 to 256 bytes. Keys are compared byte by byte.
func (i *Inbox) Once(ctx context.Context, tx pgx.Tx, consumer, dedupeKey string, fn func(context.Context) error) (ran bool, err error) {
	mark := func() (isNew bool, err error) {
		err = tx.QueryRow(ctx, i.once, consumer, dedupeKey).Scan(&isNew)
		return isNew, err
	}
	rollback := func() {
		// The usual reason to be here is that ctx has ended.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		tx.Rollback(ctx)
	}
	return i.run(ctx, consumer, dedupeKey, mark, rollback, fn)
}

// OnceSQL is Once for a transaction of database/sql, with any Postgres driver.
func (i *Inbox) OnceSQL(ctx context.Context, tx SQLTx, consumer, dedupeKey string, fn func(context.Context) error) (ran bool, err error) {
	mark := func() (isNew bool, err error) {
		err = tx.QueryRowContext(ctx, i.once, consumer, dedupeKey).Scan(&isNew)
		return isNew, err
	}
	return i.run(ctx, consumer, dedupeKey, mark, func() { _ = tx.Rollback() }, fn)
}

// rollbackTimeout bounds a rollback whose context has ended. A transaction that cannot be
// rolled back in time loses its connection, which has the same effect.
const rollbackTimeout = 5 * time.Second

func (i *Inbox) run(ctx context.Context, consumer, dedupeKey string, mark func() (bool, error), rollback func(), fn func(context.Context) error) (ran bool, err error) {
	done := false
	defer func() {
		// Also if fn panics: whoever recovers must not commit a mark without the work.
		if !done {
			rollback()
		}
	}()
	if err := checkName("consumer", consumer); err != nil {
		return false, err
	}
	if err := checkName("dedupe key", dedupeKey); err != nil {
		return false, err
	}
	isNew, err := mark()
	if err != nil {
		return false, fmt.Errorf("inbox: mark %q for %q in %s: %w%s", dedupeKey, consumer, i.table, err, missingTableHint(err))
	}
	if isNew {
		if err := fn(ctx); err != nil {
			return false, err
		}
	}
	done = true
	return isNew, nil
}

// maxName is the length that the table's constraint allows.
const maxName = 256

func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("inbox: the %s is empty: give the record's header ce_id, and a consumer's name of your choice", what)
	case len(name) > maxName:
		return fmt.Errorf("inbox: the %s is %d bytes long, more than %d: %.40q…", what, len(name), maxName, name)
	case !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("inbox: the %s %q is not what a Postgres text can hold", what, name)
	}
	return nil
}

// missingTableHint says what to do about the one error that everybody meets once.
func missingTableHint(err error) string {
	switch sqlState(err) {
	case "42P01", "42883", "3F000":
		return " (apply the migration first: postrider outbox sql --part inbox)"
	}
	return ""
}

// sqlState is the SQLSTATE of an error of pgx or of another driver.
func sqlState(err error) string {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState()
	}
	return ""
}
