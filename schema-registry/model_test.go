package schemaregistry

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is what registering and deleting must come to, as plainly as it can be said. All
// subjects have the level NONE.
type model struct {
	subjects map[string][]modelVersion
	ids      map[string]int // of the schemas that some version has
	lastID   int
}

type modelVersion struct {
	number  int
	schema  string
	deleted bool
}

func (m *model) register(subject, schema string) (number, id int) {
	versions := m.subjects[subject]
	next := 1
	for _, v := range versions {
		if v.schema == schema && !v.deleted {
			return v.number, m.ids[schema]
		}
		next = max(next, v.number+1)
	}
	if m.ids[schema] == 0 {
		m.lastID++
		m.ids[schema] = m.lastID
	}
	// The deleted version that had this schema gives its place up.
	versions = slices.DeleteFunc(versions, func(v modelVersion) bool { return v.schema == schema })
	m.subjects[subject] = append(versions, modelVersion{next, schema, false})
	return next, m.ids[schema]
}

// remove deletes the versions that are chosen and tells which.
func (m *model) remove(subject string, permanent bool, chosen func(modelVersion) bool) []int {
	numbers := []int{}
	kept := []modelVersion{}
	for _, v := range m.subjects[subject] {
		if !chosen(v) {
			kept = append(kept, v)
			continue
		}
		numbers = append(numbers, v.number)
		if !permanent {
			v.deleted = true
			kept = append(kept, v)
		}
	}
	m.subjects[subject] = kept
	for schema := range m.ids {
		used := false
		for _, versions := range m.subjects {
			used = used || slices.ContainsFunc(versions, func(v modelVersion) bool { return v.schema == schema })
		}
		if !used {
			delete(m.ids, schema) // the number is never given again
		}
	}
	return numbers
}

func TestRegistry_BehavesLikeTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		r := New(NewMemoryStore())
		if err := r.SetLevel(ctx, "", None); err != nil {
			t.Fatal(err)
		}
		m := &model{subjects: map[string][]modelVersion{}, ids: map[string]int{}}
		subject := rapid.SampledFrom([]string{"a", "b"})
		schema := rapid.Map(rapid.IntRange(0, 3), func(i int) string { return record(fmt.Sprint("f", i)) })
		t.Repeat(map[string]func(*rapid.T){
			"register": func(t *rapid.T) {
				s, text := subject.Draw(t, "subject"), schema.Draw(t, "schema")
				number, id := m.register(s, text)
				v, _, err := r.Register(ctx, s, avro(text))
				if err != nil || v.Version != number || v.ID != id {
					t.Fatalf("registered version %d with ID %d, %v, want %d with %d", v.Version, v.ID, err, number, id)
				}
			},
			"delete version": func(t *rapid.T) {
				s, number, permanent := subject.Draw(t, "subject"), rapid.IntRange(1, 6).Draw(t, "version"), rapid.Bool().Draw(t, "permanent")
				at := slices.IndexFunc(m.subjects[s], func(v modelVersion) bool { return v.number == number && v.deleted == permanent })
				_, err := r.DeleteVersion(ctx, s, number, permanent)
				if (err == nil) != (at >= 0) {
					t.Fatalf("deletion: %v, in the model %v", err, m.subjects[s])
				}
				if err == nil {
					m.remove(s, permanent, func(v modelVersion) bool { return v.number == number })
				}
			},
			"delete subject": func(t *rapid.T) {
				s, permanent := subject.Draw(t, "subject"), rapid.Bool().Draw(t, "permanent")
				live := slices.ContainsFunc(m.subjects[s], func(v modelVersion) bool { return !v.deleted })
				can := live != permanent && len(m.subjects[s]) > 0
				numbers, err := r.DeleteSubject(ctx, s, permanent)
				if (err == nil) != can {
					t.Fatalf("deletion: %v, in the model %v", err, m.subjects[s])
				}
				if can {
					want := m.remove(s, permanent, func(v modelVersion) bool { return permanent || !v.deleted })
					if diff := cmp.Diff(want, numbers); diff != "" {
						t.Fatal(diff)
					}
				}
			},
			"": func(t *rapid.T) {
				for s, versions := range m.subjects {
					for _, want := range versions {
						v, err := r.Version(ctx, s, want.number, true)
						if err != nil || v.Schema != want.schema || v.Deleted != want.deleted || v.ID != m.ids[want.schema] {
							t.Fatalf("%s version %d: %v, %v, want %v with ID %d", s, want.number, v, err, want, m.ids[want.schema])
						}
					}
				}
				for id := 1; id <= m.lastID; id++ {
					v, err := r.SchemaByID(ctx, id, "")
					if used := m.ids[v.Schema] == id; (err == nil) != used {
						t.Fatalf("ID %d: %v, %v", id, v, err)
					}
				}
			},
		})
	})
}
