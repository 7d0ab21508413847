package schemaregistry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

func parse(t testing.TB, text string) *avroschema.Schema {
	t.Helper()
	s, err := avroschema.Parse(text)
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return s
}

func refuseSecret(t *testing.T, err error) {
	t.Helper()
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error shows a secret: %v", err)
	}
}

// record is a schema with fields of type int; one with a question mark has a default.
func record(fields string) string {
	var list []string
	for _, f := range strings.Fields(fields) {
		name, optional := strings.CutSuffix(f, "?")
		text := fmt.Sprintf(`{"name":%q,"type":"int"}`, name)
		if optional {
			text = fmt.Sprintf(`{"name":%q,"type":"int","default":0}`, name)
		}
		list = append(list, text)
	}
	return `{"type":"record","name":"r","fields":[` + strings.Join(list, ",") + `]}`
}

func TestRegistry_Levels(t *testing.T) {
	t.Parallel()
	// Each line is a history of records; the last one is what is registered.
	cases := map[string]struct {
		history []string
		refused []Level
	}{
		"required field added":   {[]string{"a", "a b"}, []Level{Backward, BackwardTransitive, Full, FullTransitive}},
		"required field removed": {[]string{"a b", "a"}, []Level{Forward, ForwardTransitive, Full, FullTransitive}},
		"optional field added":   {[]string{"a", "a b?"}, nil},
		"optional field removed": {[]string{"a b?", "a"}, nil},
		"fine with the latest only, backward": {
			// b becomes required: fine for what the second wrote, not for the first.
			[]string{"a", "a b?", "a b"}, []Level{BackwardTransitive, FullTransitive}},
		"fine with the latest only, forward": {
			// the first reader needs b, which the second dropped the need for.
			[]string{"a b", "a b?", "a"}, []Level{ForwardTransitive, FullTransitive}},
		"first version": {[]string{"a"}, nil},
	}
	all := []Level{None, Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive}
	for name, c := range cases {
		for _, level := range all {
			t.Run(fmt.Sprintf("%s/%s", name, level), func(t *testing.T) {
				t.Parallel()
				r := New(NewMemoryStore())
				last := len(c.history) - 1
				must(t, r.SetLevel(t.Context(), "s", None))
				for _, fields := range c.history[:last] {
					register(t, r, "s", record(fields))
				}
				must(t, r.SetLevel(t.Context(), "s", level))
				schema := parse(t, record(c.history[last]))
				want := true
				for _, l := range c.refused {
					want = want && l != level
				}
				messages, err := r.CheckCompatibility(t.Context(), "s", AnyVersion, schema)
				must(t, err)
				if got := len(messages) == 0; got != want {
					t.Errorf("compatible = %v, want %v: %v", got, want, messages)
				}
				_, _, err = r.Register(t.Context(), "s", schema)
				if got := err == nil; got != want || err != nil && !IsIncompatible(err) {
					t.Errorf("registered = %v, want %v: %v", got, want, err)
				}
			})
		}
	}
}

func TestRegistry_KnownSchemaIsReturnedEvenIfIncompatible(t *testing.T) {
	t.Parallel()
	r := New(NewMemoryStore())
	must(t, r.SetLevel(t.Context(), "", None))
	first := register(t, r, "s", record("a b"))
	register(t, r, "s", record("a"))
	must(t, r.SetLevel(t.Context(), "", FullTransitive))
	v, added, err := r.Register(t.Context(), "s", parse(t, "{\"name\":\"r\", \"type\":\"record\",\n\"fields\":[{\"type\":\"int\",\"name\":\"a\"},{\"type\":{\"type\":\"int\"},\"name\":\"b\"}]}"))
	must(t, err)
	if added || v != first {
		t.Errorf("got %v, new: %v, want the known %v", v, added, first)
	}
}

func TestRegistry_SoftDeletedVersionsDoNotCountForCompatibility(t *testing.T) {
	t.Parallel()
	r := New(NewMemoryStore())
	register(t, r, "s", record("a"))
	_, err := r.DeleteVersion(t.Context(), "s", 1, false)
	must(t, err)
	if v := register(t, r, "s", record("b")); v.Version != 2 {
		t.Errorf("version = %d, want 2: numbers of soft-deleted versions are not given again", v.Version)
	}
	_, err = r.DeleteSubject(t.Context(), "s", false)
	must(t, err)
	if v := register(t, r, "s", record("a")); v.Version != 3 || v.ID != 1 {
		t.Errorf("got version %d, ID %d, want a soft-deleted schema back as version 3 with its ID 1", v.Version, v.ID)
	}
}

func TestRegistry_Deletion(t *testing.T) {
	t.Parallel()
	r := New(NewMemoryStore())
	register(t, r, "s", record("a"))
	register(t, r, "s", record("a b?"))
	steps := []struct {
		name string
		do   func() (any, error)
		want any
		code int
	}{
		{"permanent before soft", func() (any, error) { return r.DeleteSubject(t.Context(), "s", true) }, nil, CodeSubjectNotSoftDeleted},
		{"permanent version before soft", func() (any, error) { return r.DeleteVersion(t.Context(), "s", 1, true) }, nil, CodeVersionNotSoftDeleted},
		{"unknown version", func() (any, error) { return r.DeleteVersion(t.Context(), "s", 9, false) }, nil, CodeVersionNotFound},
		{"unknown subject", func() (any, error) { return r.DeleteSubject(t.Context(), "x", false) }, nil, CodeSubjectNotFound},
		{"version", func() (any, error) { return r.DeleteVersion(t.Context(), "s", 1, false) }, 1, 0},
		{"version again", func() (any, error) { return r.DeleteVersion(t.Context(), "s", 1, false) }, nil, CodeVersionSoftDeleted},
		{"subject", func() (any, error) { return r.DeleteSubject(t.Context(), "s", false) }, []int{2}, 0},
		{"subject again", func() (any, error) { return r.DeleteSubject(t.Context(), "s", false) }, nil, CodeSubjectSoftDeleted},
		{"latest of none", func() (any, error) { return r.DeleteVersion(t.Context(), "s", Latest, false) }, nil, CodeSubjectNotFound},
		{"version for ever", func() (any, error) { return r.DeleteVersion(t.Context(), "s", 1, true) }, 1, 0},
		{"subject for ever", func() (any, error) { return r.DeleteSubject(t.Context(), "s", true) }, []int{2}, 0},
		{"gone", func() (any, error) { return r.DeleteSubject(t.Context(), "s", true) }, nil, CodeSubjectNotFound},
	}
	for _, step := range steps {
		got, err := step.do()
		if step.code != 0 {
			if !isCode(err, step.code) {
				t.Errorf("%s: error = %v, want code %d", step.name, err, step.code)
			}
			continue
		}
		if diff := cmp.Diff(step.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", step.name, err, diff)
		}
	}
}

func TestRegistry_RefusesSubjectsThatNoStoreCanKeep(t *testing.T) {
	t.Parallel()
	r := New(NewMemoryStore())
	for _, subject := range []string{"", "a\x00", "a\nb", "\x7f", "\xff", strings.Repeat("x", maxSubject+1)} {
		_, _, err := r.Register(t.Context(), subject, parse(t, `"int"`))
		if !isCode(err, CodeInvalidSubject) {
			t.Errorf("Register(%.20q) error = %v, want code %d", subject, err, CodeInvalidSubject)
		}
	}
}

func register(t *testing.T, r *Registry, subject, schema string) Version {
	t.Helper()
	v, added, err := r.Register(t.Context(), subject, parse(t, schema))
	must(t, err)
	if !added {
		t.Errorf("%s is not new", schema)
	}
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			t.Fatalf("%v (code %d)", err, e.Code)
		}
		t.Fatal(err)
	}
}
