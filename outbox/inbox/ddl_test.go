package inbox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox/inbox"
)

func TestTableDDL_DownRemovesWhatUpMade(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	ddl, err := inbox.TableDDL("")
	if err != nil {
		t.Fatal(err)
	}
	objects := `SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
		UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1`
	mustExec(t, pool, ddl.Down)
	if diff := cmp.Diff([]string{"effect"}, column[string](t, pool, objects)); diff != "" {
		t.Errorf("after Down (-want +got):\n%s", diff)
	}
	mustExec(t, pool, ddl.Up)
}

// Two inboxes in one schema, with names that would be keywords.
func TestTableDDL_PutsTheTableUnderAnyName(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, `CREATE SCHEMA "user"`)
	for _, table := range []string{"user.order", "user.inbox", "public.inbox_2"} {
		ddl, err := inbox.TableDDL(table)
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, pool, ddl.Up)
		box, err := inbox.New(inbox.Config{Table: table})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{true, false} {
			err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
				ran, err := box.Once(t.Context(), tx, "shipping", "order-1", succeed)
				if ran != want {
					t.Errorf("%s: ran %v, want %v", table, ran, want)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		pass(t, pool, day) // of the default inbox, which has nothing
		if err := box.Maintain(t.Context(), pool, time.Hour); err != nil {
			t.Fatal(err)
		}
		mustExec(t, pool, ddl.Down)
	}
	if got := column[int](t, pool, "SELECT count(*)::int FROM inbox")[0]; got != 0 {
		t.Errorf("the default inbox has %d marks of others", got)
	}
}

func TestNew_RefusesNamesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"inbox", "a.b.c", `public."x"`, "public.Inbox", "public.1", "x'.y", "public." + strings.Repeat("x", 46)} {
		if _, err := inbox.New(inbox.Config{Table: table}); err == nil {
			t.Errorf("New took table %q", table)
		}
		if _, err := inbox.TableDDL(table); err == nil {
			t.Errorf("TableDDL took table %q", table)
		}
	}
}
