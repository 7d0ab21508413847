package schemaregistry

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

// chainSchema makes records that differ in what compatibility is about.
func chainSchema(t *rapid.T) string {
	types := []string{`"int"`, `"long"`, `"string"`, `"bytes"`, `["null","int"]`, `{"type":"enum","name":"E","symbols":["A","B"]}`,
		`{"type":"enum","name":"E","symbols":["A"],"default":"A"}`, `{"type":"array","items":"int"}`}
	var fields []string
	for _, name := range []string{"a", "b", "c"} {
		if !rapid.Bool().Draw(t, name) {
			continue
		}
		field := fmt.Sprintf(`"name":%q,"type":%s`, name, `"int"`)
		switch name {
		case "a":
			field = fmt.Sprintf(`"name":"a","type":%s`, rapid.SampledFrom(types).Draw(t, "type"))
		case "b":
			if rapid.Bool().Draw(t, "default") {
				field += `,"default":0`
			}
		case "c":
			field += `,"aliases":["b"]`
		}
		fields = append(fields, "{"+field+"}")
	}
	return `{"type":"record","name":"r","fields":[` + strings.Join(fields, ",") + `]}`
}

func TestRegistry_ChainsFitByThePairsThatTheLevelIsAbout(t *testing.T) {
	t.Parallel()
	levels := []Level{None, Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive}
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		r := New(NewMemoryStore())
		if err := r.SetLevel(ctx, "", None); err != nil {
			t.Fatal(err)
		}
		chain := rapid.SliceOfN(rapid.Custom(chainSchema), 1, 4).Draw(t, "chain")
		var live []*avroschema.Schema
		for i, text := range chain {
			v, added, err := r.Register(ctx, "s", avro(text))
			if err != nil {
				t.Fatal(err)
			}
			if !added {
				continue
			}
			if i < len(chain)-1 && rapid.IntRange(0, 4).Draw(t, "delete") == 0 {
				if _, err := r.DeleteVersion(ctx, "s", v.Version, false); err != nil {
					t.Fatal(err)
				}
				continue
			}
			schema, err := avroschema.Parse(v.Schema)
			if err != nil {
				t.Fatal(err)
			}
			live = append(live, schema)
		}
		text := chainSchema(t)
		next, err := avroschema.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		drawn := rapid.SampledFrom(levels).Draw(t, "level of the registration")
		var fits bool
		for _, level := range append(levels, drawn) {
			if err := r.SetLevel(ctx, "", level); err != nil {
				t.Fatal(err)
			}
			earlier := live
			if !strings.HasSuffix(string(level), "_TRANSITIVE") && len(live) > 0 {
				earlier = live[len(live)-1:]
			}
			want := true
			for _, old := range earlier {
				backward := len(avroschema.CheckCompatibility(next, old)) == 0
				forward := len(avroschema.CheckCompatibility(old, next)) == 0
				switch strings.TrimSuffix(string(level), "_TRANSITIVE") {
				case "BACKWARD":
					want = want && backward
				case "FORWARD":
					want = want && forward
				case "FULL":
					want = want && backward && forward
				}
			}
			messages, err := r.CheckCompatibility(ctx, "s", AnyVersion, avro(text))
			if err != nil || (len(messages) == 0) != want {
				t.Fatalf("%s: %q, %v, want compatible = %v", level, messages, err, want)
			}
			fits = want
		}
		_, added, err := r.Register(ctx, "s", avro(text))
		switch refused := IsIncompatible(err); {
		case err != nil && !refused, refused && fits, added && !fits:
			t.Fatalf("registration at %s: added %v, %v, want compatible = %v", drawn, added, err, fits)
		}
	})
}

func TestShown_CutsLongSchemasBetweenCharacters(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", largestShown-1)
	for _, tt := range []struct{ schema, want string }{
		{"a", "'a'"},
		{long + "é", "'" + long + "é'"},
		{long + "😀", "<truncated> '" + long + "...'"}, // two units
		{long + "éb", "<truncated> '" + long + "é...'"},
	} {
		if got := shown(tt.schema); got != tt.want {
			t.Errorf("%.20q… of %d bytes: ends with %q", tt.schema, len(tt.schema), got[len(got)-20:])
		}
	}
}
