package consumer

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox/inbox"
)

// PgxDB is a *pgxpool.Pool.
type PgxDB interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Pgx returns a Handler that runs fn once per event, in a transaction that it begins and
// commits. fn does its work in tx with ctx, which carries the record's correlation, cause and
// trace to outbox.Insert. db needs a connection for each partition that the consumer may get.
func Pgx(db PgxDB, fn func(ctx context.Context, tx pgx.Tx, r *Record) error) Handler {
	return func(ctx context.Context, box *inbox.Inbox, consumer string, r *Record) (ran bool, err error) {
		tx, err := db.BeginTx(ctx, pgx.TxOptions{})
		if err != nil {
			return false, &troubleError{fmt.Errorf("begin: %w", err)}
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			tx.Rollback(ctx) // does nothing after Commit
		}()
		var failed error
		ran, err = box.Once(ctx, tx, consumer, r.ID, func(ctx context.Context) error {
			failed = protect(func() error { return fn(ctx, tx, r) })
			if failed != nil && tx.Conn().IsClosed() {
				failed = &troubleError{failed}
			}
			return failed
		})
		if err != nil {
			return false, judge(err, failed)
		}
		// The partition may have gone to somebody else meanwhile.
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err := tx.Commit(ctx); err != nil {
			return false, judgeCommit(err)
		}
		return ran, nil
	}
}

// SQL is Pgx for database/sql, with any Postgres driver.
func SQL(db *sql.DB, fn func(ctx context.Context, tx *sql.Tx, r *Record) error) Handler {
	return func(ctx context.Context, box *inbox.Inbox, consumer string, r *Record) (ran bool, err error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return false, &troubleError{fmt.Errorf("begin: %w", err)}
		}
		defer tx.Rollback() // does nothing after Commit
		var failed error
		ran, err = box.OnceSQL(ctx, tx, consumer, r.ID, func(ctx context.Context) error {
			failed = protect(func() error { return fn(ctx, tx, r) })
			return failed
		})
		if err != nil {
			return false, judge(err, failed)
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err := tx.Commit(); err != nil {
			return false, judgeCommit(err)
		}
		return ran, nil
	}
}

const rollbackTimeout = 5 * time.Second

// protect makes an error of a panic.
func protect(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", v, debug.Stack())
		}
	}()
	return fn()
}

// judge tells trouble with the database from the handler's own failure, which is nil if the
// mark could not be written.
func judge(err, failed error) error {
	if failed == nil || passes(err) {
		return &troubleError{err}
	}
	return err
}

// judgeCommit does the same for a commit, which also fails for what the handler did: at a
// deferred constraint, or because it has passed over an error of a statement.
func judgeCommit(err error) error {
	err = fmt.Errorf("commit: %w", err)
	// What pgx returns beside the server's errors and this one comes from the connection.
	fromServer := sqlState(err) != "" || errors.Is(err, pgx.ErrTxCommitRollback)
	if passes(err) || !fromServer {
		return &troubleError{err}
	}
	return err
}

// passes tells whether an error is one of the connection, the server's state or of
// transactions in each other's way (PostgreSQL manual, appendix A).
func passes(err error) bool {
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	state := sqlState(err)
	for _, class := range []string{
		"08",    // connection
		"40",    // serialization failure, deadlock
		"53",    // out of disk, memory, connections
		"57P",   // shutting down or starting up
		"25006", // a standby
	} {
		if strings.HasPrefix(state, class) {
			return true
		}
	}
	return false
}

// sqlState is the SQLSTATE of an error of pgx or of another driver.
func sqlState(err error) string {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState()
	}
	return ""
}
