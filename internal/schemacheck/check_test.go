package schemacheck

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/avroschema"
	"github.com/postrider/postrider/schema-registry/schemafiles"
)

// writeDir writes files into a new directory.
func writeDir(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func parse(t testing.TB, text string) *schemafiles.File {
	t.Helper()
	schema, err := avroschema.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return &schemafiles.File{Source: schemafiles.Source{Path: "x.avsc", Text: text}, Schema: schema}
}

// findings compares two schemas and tells each finding in a line: rule, what it stands at in
// the new text, and the words.
func findings(t testing.TB, before, now, direction string) []string {
	t.Helper()
	file := parse(t, now)
	l := newLocator([]*schemafiles.File{file})
	lines := []string{}
	for _, f := range l.compare(place{file, l.documents["x.avsc"]}, file.Schema, parse(t, before).Schema, direction) {
		lines = append(lines, fmt.Sprintf("%s %s: %s → %s", f.rule, now[f.start:f.place.at.end], f.what, f.fix))
	}
	return lines
}

func recordOf(fields string) string { return `{"type":"record","name":"r","fields":[` + fields + `]}` }

func TestCompare_SaysWhereAndWhyAndWhatMendsIt(t *testing.T) {
	t.Parallel()
	const (
		address    = `{"type":"record","name":"a.address","fields":[{"name":"street","type":"string"}]}`
		newAddress = `{"type":"record","name":"a.address","fields":[{"name":"street","type":"string"},{"name":"zip","type":"string"}]}`
		node       = `{"type":"record","name":"node","fields":[{"name":"next","type":["null","node"]}]}`
		newNode    = `{"type":"record","name":"node","fields":[{"name":"next","type":["null","node"]},{"name":"v","type":"int"}]}`
	)
	for _, c := range []struct {
		name, before, now, direction string
		want                         []string
	}{
		{"nothing is wrong", recordOf(``), recordOf(`{"name":"x","type":"int","default":0}`), "backward", []string{}},
		{"added without a default", recordOf(``), recordOf(`{"name":"x","type":"boolean"}`), "backward",
			[]string{"READER_FIELD_MISSING_DEFAULT_VALUE {\"name\":\"x\",\"type\":\"boolean\"}: field `x` has no default, and those events do not have it → give it one, such as \"default\": false"}},
		{"renamed without an alias", recordOf(`{"name":"x","type":"int"}`), recordOf(`{"name":"y","type":"long"}`), "backward",
			[]string{"READER_FIELD_MISSING_DEFAULT_VALUE {\"name\":\"y\",\"type\":\"long\"}: field `y` has no default, and those events do not have it → give it one, such as \"default\": 0; if it is `x` by a new name, \"aliases\": [\"x\"]"}},
		{"removed, wanted by old readers", recordOf(`{"name":"x","type":"int"}`), recordOf(``), "forward",
			[]string{"READER_FIELD_MISSING_DEFAULT_VALUE \"fields\":[]: field `x` has no default there, and is not written any more → keep it until all readers are on a version that gives it a default"}},
		{"another type", recordOf(`{"name":"x","type":"string"}`), recordOf(`{"name":"x","type":"int"}`), "backward",
			[]string{"TYPE_MISMATCH \"int\": field `x` was string and is int now → keep string, or add a new field of type int beside it"}},
		{"another type by name for old readers, fields in another order", recordOf(`{"name":"x","type":"int"},{"name":"y","type":"int"}`),
			recordOf(`{"name":"y","type":"long"},{"name":"x","type":"int"}`), "forward",
			[]string{"TYPE_MISMATCH \"long\": field `y` was int and is long now → keep int, or add a new field of type long beside it"}},
		{"may be null now", recordOf(`{"name":"x","type":"int"}`), recordOf(`{"name":"x","type":["null","int"]}`), "forward",
			[]string{"TYPE_MISMATCH \"null\": field `x` was int and may be null now → let all readers have a version that takes null before it is written"}},
		{"may not be null any more", recordOf(`{"name":"x","type":["null","int"]}`), recordOf(`{"name":"x","type":"int"}`), "backward",
			[]string{"TYPE_MISMATCH \"int\": field `x` was [null, int] and is int now → keep [null, int], or add a new field of type int beside it"}},
		{"a branch less", recordOf(`{"name":"x","type":["null","int","string"]}`), recordOf(`{"name":"x","type":["null","int"]}`), "backward",
			[]string{"MISSING_UNION_BRANCH [\"null\",\"int\"]: field `x` was [null, int, string] and is [null, int] now → keep string in the union"}},
		{"a branch more", recordOf(`{"name":"x","type":["null","int"]}`), recordOf(`{"name":"x","type":["null","int","string"]}`), "forward",
			[]string{"MISSING_UNION_BRANCH [\"null\",\"int\",\"string\"]: field `x` may be string now, which is not in the union there → let all readers have a version with string in the union before it is written"}},
		{"inside a branch", recordOf(`{"name":"to","type":["null",` + address + `]}`), recordOf(`{"name":"to","type":["null",` + newAddress + `]}`), "backward",
			[]string{"READER_FIELD_MISSING_DEFAULT_VALUE {\"name\":\"zip\",\"type\":\"string\"}: field `to.zip` has no default, and those events do not have it → give it one, such as \"default\": \"\""}},
		{"inside a type that is mentioned by name", recordOf(`{"name":"a","type":` + address + `},{"name":"b","type":{"type":"array","items":"a.address"}}`),
			recordOf(`{"name":"b","type":{"type":"array","items":` + newAddress + `}},{"name":"a","type":"a.address"}`), "backward",
			[]string{"READER_FIELD_MISSING_DEFAULT_VALUE {\"name\":\"zip\",\"type\":\"string\"}: field `b[].zip` has no default, and those events do not have it → give it one, such as \"default\": \"\""}},
		{"in a type that holds itself", node, newNode, "backward",
			[]string{"READER_FIELD_MISSING_DEFAULT_VALUE {\"name\":\"v\",\"type\":\"int\"}: field `v` has no default, and those events do not have it → give it one, such as \"default\": 0"}},
		{"a symbol less", `{"type":"enum","name":"e","symbols":["A","B","C"]}`, `{"type":"enum","name":"e","symbols":["A"]}`, "backward",
			[]string{"MISSING_ENUM_SYMBOLS [\"A\"]: enum `e` has no B, C any more, and no default → keep what was there, or give the enum a \"default\" to stand for it"}},
		{"a symbol more", `{"type":"map","values":{"type":"enum","name":"e","symbols":["A"]}}`, `{"type":"map","values":{"type":"enum","name":"e","symbols":["A","B"]}}`, "forward",
			[]string{"MISSING_ENUM_SYMBOLS [\"A\",\"B\"]: enum `e` may be B now, which it does not know there → let all readers have a version that knows it, or gives the enum a default, before it is written"}},
		{"another size", `{"type":"fixed","name":"f","size":8}`, `{"type":"fixed","name":"f","size":16}`, "forward",
			[]string{"FIXED_SIZE_MISMATCH 16: fixed `f` was 8 bytes and is 16 now → keep the size, or make a fixed of another name for a new field"}},
		{"another name", recordOf(``), `{"type":"record","name":"s","fields":[]}`, "backward",
			[]string{"NAME_MISMATCH \"s\": record `s` was called `r` → keep the name, or add \"aliases\": [\"r\"]"}},
		{"another name for old readers", recordOf(``), `{"type":"record","name":"s","fields":[]}`, "forward",
			[]string{"NAME_MISMATCH \"s\": record `s` was called `r` → keep the name: no reader there knows another one"}},
		{"another kind", recordOf(``), `{"type":"enum","name":"r","symbols":["A"]}`, "backward",
			[]string{"TYPE_MISMATCH {\"type\":\"enum\",\"name\":\"r\",\"symbols\":[\"A\"]}: the schema was record r and is enum r now → keep record r, or take another subject for it"}},
		{"an enum's default does not count for the field", recordOf(``), recordOf(`{"name":"x","type":{"type":"enum","name":"e","symbols":["A"],"default":"A"}}`), "backward",
			[]string{"TYPE_MISMATCH {\"name\":\"x\",\"type\":{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\"],\"default\":\"A\"}}: field `x` has no default; that of its enum does not count here → give the field itself a \"default\""}},
		{"aliases that match twice", recordOf(`{"name":"x","type":"int"},{"name":"y","type":"int"}`), recordOf(`{"name":"x","type":"int","aliases":["y"]}`), "backward",
			[]string{"AMBIGUOUS_FIELD {\"name\":\"x\",\"type\":\"int\",\"aliases\":[\"y\"]}: a field and its aliases match several fields of r → take aliases away until each field matches one"}},
		{"several at once", recordOf(`{"name":"x","type":"int"},{"name":"y","type":"int"}`), recordOf(`{"name":"x","type":"string"},{"name":"y","type":"bytes"}`), "backward",
			[]string{"TYPE_MISMATCH \"string\": field `x` was int and is string now → keep int, or add a new field of type string beside it",
				"TYPE_MISMATCH \"bytes\": field `y` was int and is bytes now → keep int, or add a new field of type bytes beside it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, findings(t, c.before, c.now, c.direction)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// schemaText draws schemas that are much alike, so that pairs fit now and then.
func schemaText(random *rand.Rand, depth int, used map[string]bool) string {
	kind := random.IntN(12)
	if depth == 0 {
		kind = random.IntN(5)
	}
	named := func(name string) (string, bool) {
		known := used[name]
		used[name] = true
		return name, known
	}
	switch kind {
	case 0, 1, 2, 3:
		return []string{`"int"`, `"long"`, `"string"`, `{"type":"bytes"}`}[kind]
	case 4:
		name, known := named([]string{"e", "f"}[random.IntN(2)])
		if known {
			return `"` + name + `"`
		}
		return fmt.Sprintf(`{"type":"enum","name":%q,"symbols":%s}`, name, []string{`["A"]`, `["A","B"]`, `["B"],"default":"B"`}[random.IntN(3)])
	case 5:
		return fmt.Sprintf(`{"type":"array","items":%s}`, schemaText(random, depth-1, used))
	case 6:
		return fmt.Sprintf(`{"type":"map","values":%s}`, schemaText(random, depth-1, used))
	case 7, 8:
		other := schemaText(random, 0, used)
		if random.IntN(2) == 0 && depth > 1 {
			other = recordText(random, depth-1, used)
		}
		return `["null",` + other + `]`
	}
	return recordText(random, depth, used)
}

func recordText(random *rand.Rand, depth int, used map[string]bool) string {
	name := []string{"r", "s", "n.r", "n.s"}[random.IntN(4)]
	if used[name] {
		return `"` + name + `"`
	}
	used[name] = true
	var fields []string
	for _, f := range []string{"x", "y", "z"} {
		if random.IntN(3) == 0 {
			continue
		}
		typ := schemaText(random, depth-1, used)
		more := ""
		if random.IntN(3) == 0 && strings.HasPrefix(typ, `["null"`) {
			more = `,"default":null`
		}
		fields = append(fields, fmt.Sprintf(`{"name":%q,"type":%s%s}`, f, typ, more))
	}
	return fmt.Sprintf(`{"type":"record","name":%q,"fields":[%s]}`, name, strings.Join(fields, ","))
}

func TestCompare_FindsSomethingExactlyWhereTheRulesDo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		random := rand.New(rand.NewPCG(seed, 0))
		texts := []string{schemaText(random, 4, map[string]bool{}), schemaText(random, 4, map[string]bool{})}
		var schemas []*avroschema.Schema
		for _, text := range texts {
			schema, err := avroschema.Parse(text)
			if err != nil {
				t.Skip("a name that means two types")
			}
			schemas = append(schemas, schema)
		}
		file := &schemafiles.File{Source: schemafiles.Source{Path: "x.avsc", Text: texts[0]}, Schema: schemas[0]}
		l := newLocator([]*schemafiles.File{file})
		for direction, want := range map[string][]avroschema.Incompatibility{
			DirectionBackward: avroschema.CheckCompatibility(schemas[0], schemas[1]),
			DirectionForward:  avroschema.CheckCompatibility(schemas[1], schemas[0]),
		} {
			found := l.compare(place{file, l.documents["x.avsc"]}, schemas[0], schemas[1], direction)
			if (len(found) > 0) != (len(want) > 0) {
				t.Fatalf("%s of %s and %s: %d findings, the rules say %v", direction, texts[0], texts[1], len(found), want)
			}
			for _, f := range found {
				if f.start < 0 || f.start > f.place.at.end || f.place.at.end > len(texts[0]) || f.what == "" || f.fix == "" {
					t.Fatalf("%s of %s and %s: %+v", direction, texts[0], texts[1], f)
				}
			}
		}
	})
}

func TestRun_PointsIntoTheFileThatDefinesTheType(t *testing.T) {
	t.Parallel()
	order := `{"type":"record","name":"order","fields":[{"name":"to","type":"address"}]}`
	old := writeDir(t, map[string]string{"order.avsc": order, "address.avsc": `{"type":"record","name":"address","fields":[]}`})
	now := writeDir(t, map[string]string{"order.avsc": order, "address.avsc": "\ufeff{\"type\":\"record\",\"name\":\"address\",\"fields\":[\r\n{\"name\":\"zip\",\"type\":\"int\"}]}"})
	report, err := Run(t.Context(), Options{Dir: now, Against: "dir:" + old})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range report.Problems {
		got = append(got, fmt.Sprintf("%s %s:%d:%d-%d:%d %s %s", p.Subject, filepath.Base(p.File), p.Line, p.Column, p.EndLine, p.EndColumn, p.Path, p.Field))
	}
	want := []string{"address address.avsc:2:1-2:28 /fields/0 zip", "order address.avsc:2:1-2:28 /fields/0 to.zip"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRun_Waivers(t *testing.T) {
	t.Parallel()
	old := writeDir(t, map[string]string{"a.avsc": recordOf(`{"name":"x","type":"int"}`)})
	day := time.Date(2026, 11, 21, 23, 59, 0, 0, time.UTC)
	waiver := "waivers:\n  - {subject: r, rule: TYPE_MISMATCH, field: x, reason: nobody reads it, expires: 2026-11-21}\n"
	for _, c := range []struct {
		name   string
		config string
		now    time.Time
		failed bool
		rules  []string
	}{
		{"lets a problem pass on its last day", waiver, day, false, []string{"TYPE_MISMATCH"}},
		{"ends after it, and is a problem itself", waiver, day.Add(time.Minute), true, []string{"TYPE_MISMATCH", RuleExpiredWaiver}},
		{"of another field covers nothing", strings.Replace(waiver, "field: x", "field: y", 1), day, true, []string{"TYPE_MISMATCH", RuleUnusedWaiver}},
		{"of every field covers", strings.Replace(waiver, "field: x, ", "", 1), day, false, []string{"TYPE_MISMATCH"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := writeDir(t, map[string]string{"a.avsc": recordOf(`{"name":"x","type":"string"}`), ConfigName: c.config})
			report, err := Run(t.Context(), Options{Dir: now, Against: "dir:" + old, Now: c.now})
			if err != nil {
				t.Fatal(err)
			}
			var rules []string
			for _, p := range report.Problems {
				rules = append(rules, p.Rule)
				if p.File == "" || p.Line == 0 {
					t.Errorf("%s has no place: %+v", p.Rule, p)
				}
			}
			slices.Sort(rules)
			if diff := cmp.Diff(c.rules, rules); report.Failed() != c.failed || diff != "" {
				t.Errorf("failed %v, want %v\n%s", report.Failed(), c.failed, diff)
			}
			if waived := report.Schemas[0].Status == StatusWaived; waived == c.failed {
				t.Errorf("status %s", report.Schemas[0].Status)
			}
		})
	}
}

func TestRun_SubjectsAndLevelsOfTheirOwn(t *testing.T) {
	t.Parallel()
	old := writeDir(t, map[string]string{"a.avsc": recordOf(`{"name":"x","type":"int"}`), "u.avsc": `["null","int"]`, "s.avsc": `{"type":"record","name":"s","fields":[]}`})
	now := writeDir(t, map[string]string{
		"a.avsc": recordOf(``), "u.avsc": `["null","int"]`, "s.avsc": `{"type":"record","name":"s","fields":[]}`,
		ConfigName: "level: FORWARD\nsubjects:\n  u-value: {file: u.avsc, level: NONE}\n  r: {level: backward}\n  r-again: {file: a.avsc}\n  r-key: {file: a.avsc, level: FULL}\n",
	})
	report, err := Run(t.Context(), Options{Dir: now, Against: "dir:" + old})
	if err != nil {
		t.Fatal(err)
	}
	// A file that schemas.yaml names is not the subject of its record any more.
	if !slices.ContainsFunc(report.Problems, func(p *Problem) bool { return p.Subject == "r" && p.Rule == RuleSubject }) || !report.Invalid() {
		t.Errorf("a subject that no schema has was taken: %v", report.Problems)
	}
	config := "level: FORWARD\nsubjects:\n  u-value: {file: u.avsc, level: NONE}\n  r-again: {file: a.avsc}\n  r-key: {file: ./a.avsc, level: backward}\n"
	if err := os.WriteFile(filepath.Join(now, ConfigName), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	for level, want := range map[schemaregistry.Level]string{
		"":                      "r-again FORWARD incompatible, r-key BACKWARD compatible, s FORWARD same, u-value NONE unchecked",
		schemaregistry.Backward: "r-again BACKWARD compatible, r-key BACKWARD compatible, s BACKWARD same, u-value NONE unchecked",
	} {
		report, err := Run(t.Context(), Options{Dir: now, Against: "dir:" + old, Level: level})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range report.Schemas {
			got = append(got, fmt.Sprintf("%s %s %s", s.Subject, s.Level, s.Status))
		}
		if diff := cmp.Diff(want, strings.Join(got, ", ")); diff != "" {
			t.Error(diff)
		}
	}
}

func TestReadConfig_ReportsEveryProblem(t *testing.T) {
	t.Parallel()
	dir := writeDir(t, map[string]string{
		"bad.yaml":     "subject: '{topic}'\nlevel: SIDEWAYS\nsubjects:\n  a: {}\n  b: {level: UP}\nwaivers:\n  - {rule: TYPO, expires: soon}\n",
		"unknown.yaml": "levels: FULL\n",
		"twice.yaml":   "subjects:\n  a: {level: FULL}\n  a: {level: NONE}\n",
		"empty.yaml":   "",
		"null.yaml":    "waivers:\n- null\n",
		"two.yaml":     "level: FULL\n---\nlevel: NONE\n",
	})
	_, err := ReadConfig(filepath.Join(dir, "bad.yaml"))
	if err == nil {
		t.Fatal("no error")
	}
	var keys []string
	for _, line := range strings.Split(err.Error(), "\n")[1:] {
		key, _, _ := strings.Cut(line, ": ")
		keys = append(keys, key)
	}
	want := []string{"level", "subject", "subjects.a", "subjects.b.level", "waivers[0].expires", "waivers[0].reason", "waivers[0].rule", "waivers[0].subject"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff, err)
	}
	for _, name := range []string{"unknown.yaml", "twice.yaml"} {
		if _, err := ReadConfig(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"unknown.yaml": "unknown.yaml is not usable: line 1: there is no key levels",
		"null.yaml":    "null.yaml is not usable: line 2: a waiver says nothing",
		"two.yaml":     "two.yaml is not usable: it has several documents, of which only the first would count",
	} {
		if _, err := ReadConfig(filepath.Join(dir, name)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if _, err := ReadConfig(filepath.Join(dir, "empty.yaml")); err != nil {
		t.Error(err)
	}
}
