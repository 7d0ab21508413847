package inbox_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/inbox"
)

const day = 24 * time.Hour

// pass lets time pass for all marks: what was handled now was handled d ago. It is what the
// table would look like if the clock had been moved by d.
func pass(t testing.TB, pool *pgxpool.Pool, d time.Duration) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), "UPDATE inbox SET handled_at = handled_at - $1::bigint * interval '1 microsecond'", d.Microseconds()); err != nil {
		t.Fatal(err)
	}
}

func partitions(t testing.TB, pool *pgxpool.Pool) []string {
	t.Helper()
	return column[string](t, pool, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'inbox'::regclass ORDER BY 1")
}

func addPartition(t testing.TB, pool *pgxpool.Pool, of time.Time) string {
	t.Helper()
	name := of.UTC().Format("inbox_p20060102")
	mustExec(t, pool, fmt.Sprintf("CREATE TABLE %s PARTITION OF inbox FOR VALUES IN ('%s')", name, of.UTC().Format(time.DateOnly)))
	return name
}

// The keys of events that were made at any time: partitions for some of their days exist.
func TestOnce_RecognizesADuplicateOnAnyLaterDay(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	handle := drivers(t, pool)["pgx"]
	midnight := time.Now().UTC().Truncate(day)
	addPartition(t, pool, midnight.Add(-day))
	keys := map[string]string{
		"made today":                        uuidv7(time.Now()),
		"made by outbox":                    uuid.UUID(outbox.NewID()).String(),
		"made in yesterday's last moment":   uuidv7(midnight.Add(-time.Millisecond)),
		"made in today's first moment":      uuidv7(midnight),
		"made long ago, without partition":  uuidv7(midnight.Add(-400 * day)),
		"made tomorrow, by a clock ahead":   uuidv7(midnight.Add(day)),
		"made in a far future":              "ffffffff-ffff-7fff-bfff-ffffffffffff",
		"made at the beginning of time":     "00000000-0000-7000-8000-000000000000",
		"a random UUID":                     uuid.NewString(),
		"a UUIDv7 in upper case":            "01990000-0000-7ABC-8DEF-0123456789AB",
		"a UUIDv7 of another variant":       "01990000-0000-7abc-0def-0123456789ab",
		"no UUID":                           "order-1/paid",
		"a UUIDv7 with something behind it": uuidv7(time.Now()) + "x",
	}
	for name, key := range keys {
		if ran, err := handle("shipping", key, succeed); !ran || err != nil {
			t.Errorf("%s: first time: %v, %v", name, ran, err)
		}
	}
	for range 3 {
		pass(t, pool, day)
		if err := inbox.Maintain(t.Context(), pool, 7*day); err != nil {
			t.Fatal(err)
		}
		for name, key := range keys {
			if ran, err := handle("shipping", key, succeed); ran || err != nil {
				t.Errorf("%s: a day later: %v, %v", name, ran, err)
			}
		}
	}
}

func TestDay_IsTheDayInTheID(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	rapid.Check(t, func(rt *rapid.T) {
		times := rapid.SliceOfN(rapid.Int64Range(0, 1<<48-1), 1, 100).Draw(rt, "milliseconds")
		keys, want := make([]string, len(times)), make([]int64, len(times))
		for i, ms := range times {
			keys[i], want[i] = uuidv7(time.UnixMilli(ms)), ms/day.Milliseconds()
		}
		got := column[int64](t, pool, "SELECT inbox_day(key) - date '1970-01-01' FROM unnest($1::text[]) key", keys)
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Errorf("days (-want +got):\n%s", diff)
		}
	})
}

// Whatever partitions come and go meanwhile, a key is handled again only when its mark is
// past the retention.
func TestOnce_AgreesWithASetOfKeys(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	handle := drivers(t, pool)["pgx"]
	const retention = 3 * day
	rapid.Check(t, func(rt *rapid.T) {
		consumer := uuid.NewString()
		handled := map[string]time.Duration{} // key → age of its mark
		var keys []string
		rt.Repeat(map[string]func(*rapid.T){
			"new key": func(rt *rapid.T) {
				key := uuid.NewString()
				if rapid.Bool().Draw(rt, "timed") {
					key = uuidv7(time.Now().Add(-time.Duration(rapid.IntRange(-24, 24*6).Draw(rt, "age")) * time.Hour))
				}
				if ran, err := handle(consumer, key, succeed); !ran || err != nil {
					rt.Fatalf("new key %s: %v, %v", key, ran, err)
				}
				keys, handled[key] = append(keys, key), 0
			},
			"known key": func(rt *rapid.T) {
				if len(keys) == 0 {
					rt.Skip("none")
				}
				key := rapid.SampledFrom(keys).Draw(rt, "key")
				ran, err := handle(consumer, key, succeed)
				if err != nil || ran && handled[key] < retention {
					rt.Fatalf("known key %s: %v, %v", key, ran, err)
				}
				if ran {
					handled[key] = 0
				}
			},
			"time passes": func(rt *rapid.T) {
				d := time.Duration(rapid.IntRange(1, 30).Draw(rt, "hours")) * time.Hour
				pass(t, pool, d)
				for key := range handled {
					handled[key] += d
				}
			},
			"a day gets a partition": func(rt *rapid.T) {
				of := time.Now().AddDate(0, 0, -rapid.IntRange(1, 6).Draw(rt, "days ago"))
				// Only where the default partition has no mark of that day; an error otherwise.
				_, _ = pool.Exec(t.Context(), fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF inbox FOR VALUES IN ('%s')",
					of.UTC().Format("inbox_p20060102"), of.UTC().Format(time.DateOnly)))
			},
			"maintenance": func(rt *rapid.T) {
				if err := inbox.Maintain(t.Context(), pool, retention); err != nil {
					rt.Fatal(err)
				}
			},
		})
	})
}

func TestMaintain_RemovesMarksPastTheirRetentionOnly(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	handle := drivers(t, pool)["pgx"]
	now := time.Now()
	old, older, oldest := addPartition(t, pool, now.Add(-10*day)), addPartition(t, pool, now.Add(-11*day)), addPartition(t, pool, now.Add(-12*day))
	mustExec(t, pool, "CREATE TABLE mine PARTITION OF inbox FOR VALUES IN ('2020-01-01')")
	mark := func(keys ...string) {
		t.Helper()
		for _, key := range keys {
			if ran, err := handle("shipping", key, succeed); !ran || err != nil {
				t.Fatal(ran, err)
			}
		}
	}
	late := uuidv7(now.Add(-11 * day)) // made long ago, handled today
	mark(uuidv7(now.Add(-10*day)), uuidv7(now.Add(-11*day)), uuidv7(now.Add(-90*day)), uuidv7(now), "order-1")
	pass(t, pool, 8*day)
	mark(late, uuidv7(now.Add(-91*day)), "order-2")

	if err := inbox.MaintainSQL(t.Context(), db, 7*day); err != nil {
		t.Fatal(err)
	}
	got := partitions(t, pool)
	for name, want := range map[string]bool{old: false, oldest: false, older: true, "mine": true, now.UTC().Format("inbox_p20060102"): true} {
		if slices.Contains(got, name) != want {
			t.Errorf("partition %s is there: %v", name, !want)
		}
	}
	// The day's marks go together: one that is past its retention stays with the late one.
	if got := column[int](t, pool, "SELECT count(*)::int FROM "+older)[0]; got != 2 {
		t.Errorf("the partition with a late mark has %d marks", got)
	}
	if diff := cmp.Diff([]int{1, 1}, column[int](t, pool, "SELECT count(*)::int FROM inbox_untimed UNION ALL SELECT count(*)::int FROM inbox_default")); diff != "" {
		t.Errorf("marks of untimed and default (-want +got):\n%s", diff)
	}
	if ran, err := handle("shipping", late, succeed); ran || err != nil {
		t.Errorf("an old event that was handled lately: %v, %v", ran, err)
	}
	// Past its retention a duplicate is handled again.
	if ran, err := handle("shipping", "order-1", succeed); !ran || err != nil {
		t.Errorf("a duplicate past the retention: %v, %v", ran, err)
	}

	pass(t, pool, 8*day)
	if err := inbox.Maintain(t.Context(), pool, 7*day); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(partitions(t, pool), older) {
		t.Error("the partition whose last mark is past its retention is still there")
	}
}

func TestMaintain_DeletesMoreThanABatch(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	mustExec(t, pool, `INSERT INTO inbox SELECT 'shipping', 'order-' || n, '-infinity', now() - interval '1 day' FROM generate_series(1, 2500) n`)
	if err := inbox.Maintain(t.Context(), pool, time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := column[int](t, pool, "SELECT count(*)::int FROM inbox")[0]; got != 0 {
		t.Errorf("%d marks are left", got)
	}
}

func TestMaintain_EmptiesAPartitionWhileConsumersAreAtWork(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	old := addPartition(t, pool, time.Now().Add(-10*day))
	if ran, err := drivers(t, pool)["pgx"]("shipping", uuidv7(time.Now().Add(-10*day)), succeed); !ran || err != nil {
		t.Fatal(ran, err)
	}
	pass(t, pool, 10*day)

	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if ran, err := inbox.Once(t.Context(), tx, "shipping", "in hand", succeed); !ran || err != nil {
		t.Fatal(ran, err)
	}
	if err := inbox.Maintain(t.Context(), pool, 7*day); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(partitions(t, pool), old) || column[int](t, pool, "SELECT count(*)::int FROM "+old)[0] != 0 {
		t.Error("the old partition was not emptied")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := inbox.Maintain(t.Context(), pool, 7*day); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(partitions(t, pool), old) {
		t.Error("the empty partition was not dropped when it could be")
	}
}

func TestMaintain_MakesThePartitionsOfTheComingWeek(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	now := time.Now().UTC()
	week := []string{"inbox_default"}
	for d := range 8 {
		week = append(week, now.AddDate(0, 0, d).Format("inbox_p20060102"))
	}
	week = append(week, "inbox_untimed")
	if diff := cmp.Diff(week, partitions(t, pool)); diff != "" {
		t.Errorf("partitions after the migration (-want +got):\n%s", diff)
	}
	mustExec(t, pool, "DROP TABLE "+week[6])
	mustExec(t, pool, "DROP TABLE "+week[8])
	// A day with marks in the default partition stays there.
	if ran, err := drivers(t, pool)["pgx"]("shipping", uuidv7(now.AddDate(0, 0, 5)), succeed); !ran || err != nil {
		t.Fatal(ran, err)
	}
	if err := inbox.Maintain(t.Context(), pool, 7*day); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Delete(slices.Clone(week), 6, 7), partitions(t, pool)); diff != "" {
		t.Errorf("partitions after Maintain (-want +got):\n%s", diff)
	}
}

func TestMaintain_RefusesARetentionThatKeepsNothing(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	for _, retention := range []time.Duration{0, -time.Hour, 1} {
		if err := inbox.Maintain(t.Context(), pool, retention); err == nil {
			t.Errorf("retention %s was taken", retention)
		}
	}
}
