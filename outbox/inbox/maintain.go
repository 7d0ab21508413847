package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// daysAhead is for how many days there are partitions: an hourly call may fail for a week.
	daysAhead = 7
	// trimBatch bounds the rows that one statement deletes.
	trimBatch = 1000
)

// PgxDB is a *pgxpool.Pool or a *pgx.Conn that is in no transaction.
type PgxDB interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Maintain keeps public.inbox; see [Inbox.Maintain].
func Maintain(ctx context.Context, db PgxDB, retention time.Duration) error {
	return std.Maintain(ctx, db, retention)
}

// MaintainSQL is Maintain for database/sql.
func MaintainSQL(ctx context.Context, db *sql.DB, retention time.Duration) error {
	return std.MaintainSQL(ctx, db, retention)
}

// Maintain makes the partitions of the coming week and removes the marks of events that were
// handled longer than retention ago: from then on a duplicate of them is handled again. Marks
// can stay longer: a day's go together, when the last of them is past its retention.
//
// Call it when the service starts and about once an hour, from as many processes as there
// are. It waits for nobody for long and makes no consumer fail: what is locked is left for
// the next call. It needs EXECUTE on the table's functions.
func (i *Inbox) Maintain(ctx context.Context, db PgxDB, retention time.Duration) error {
	return i.maintain(retention, func(dest any, query string, args ...any) error {
		return db.QueryRow(ctx, query, args...).Scan(dest)
	})
}

// MaintainSQL is Maintain for database/sql.
func (i *Inbox) MaintainSQL(ctx context.Context, db *sql.DB, retention time.Duration) error {
	return i.maintain(retention, func(dest any, query string, args ...any) error {
		return db.QueryRowContext(ctx, query, args...).Scan(dest)
	})
}

func (i *Inbox) maintain(retention time.Duration, query func(dest any, query string, args ...any) error) error {
	if retention < time.Microsecond {
		return fmt.Errorf("inbox: retention must be positive, not %s", retention)
	}
	// One that fails does not keep the others from their work.
	return errors.Join(
		i.hinted("make partitions", i.createPartitions(query)),
		i.hinted("drop partitions", i.dropPartitions(retention, query)),
		i.hinted("delete marks", i.deleteMarks(retention, query)),
	)
}

func (i *Inbox) hinted(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("inbox: %s of %s: %w%s", what, i.table, err, missingTableHint(err))
}

func (i *Inbox) createPartitions(query func(any, string, ...any) error) error {
	var made int
	return query(&made, i.create, daysAhead)
}

func (i *Inbox) dropPartitions(retention time.Duration, query func(any, string, ...any) error) error {
	for {
		var name *string
		if err := query(&name, i.drop, retention.Microseconds()); err != nil || name == nil {
			return err
		}
	}
}

func (i *Inbox) deleteMarks(retention time.Duration, query func(any, string, ...any) error) error {
	for {
		var deleted int64
		if err := query(&deleted, i.trim, retention.Microseconds(), trimBatch); err != nil || deleted < trimBatch {
			return err
		}
	}
}
