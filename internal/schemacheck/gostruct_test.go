package schemacheck

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// generatedCode copies the project's own generated structs with their schemas.
func generatedCode(t *testing.T) string {
	t.Helper()
	const source = "../../testdata/schemas"
	files := make(map[string]string)
	for _, name := range []string{"schemas.go", "generated.go", "order.created.avsc", "order.paid.avsc", "order.cancelled.avsc", "sample.everything.avsc"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		files["events/"+name] = string(text)
	}
	return writeDir(t, files)
}

func replaceIn(t *testing.T, path, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, replacement, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCheckGo_SaysHowGeneratedCodeIsBehindItsSchema(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, old, replacement string
		want                         []string
	}{
		{"fits", "order.paid.avsc", `"doc": "The`, `"doc": "That the`, nil},
		{"a field more", "order.paid.avsc", `{"name": "order_id", "type": "string"}`, `{"name": "order_id", "type": "string"}, {"name": "by", "type": "string"}`,
			[]string{"generated.go:30:6 OrderPaid.By: OrderPaid has no field for `by` of order.paid.avsc"}},
		{"a field less", "order.created.avsc", `{"name": "currency", "type": {"type": "enum", "name": "currency", "symbols": ["EUR", "USD", "GBP"]}},`, ``,
			[]string{"generated.go:21:2 OrderCreated.Currency: order.created.avsc has no field `currency`, which OrderCreated.Currency is for"}},
		{"another type, in a nested record", "order.created.avsc", `{"name": "quantity", "type": "int"}`, `{"name": "quantity", "type": ["null", "long"]}`,
			[]string{"generated.go:14:2 OrderLine.Quantity: `quantity` of order.created.avsc is Quantity int here and would be Quantity *int64"}},
		{"a record more", "order.paid.avsc", `{"name": "order_id", "type": "string"}`, `{"name": "order_id", "type": "string"}, {"name": "by", "type": {"type": "record", "name": "person", "fields": []}}`,
			[]string{"generated.go:1:1 OrderPerson: OrderPerson of order.paid.avsc is missing", "generated.go:30:6 OrderPaid.By: OrderPaid has no field for `by` of order.paid.avsc"}},
		{"a record that the line does not name any more", "schemas.go", ` order.cancelled.avsc sample`, ` sample`,
			[]string{"generated.go:38:6 OrderCancelled: OrderCancelled is made from none of order.created.avsc, order.paid.avsc, sample.everything.avsc"}},
		{"no line for it", "schemas.go", "//go:generate", "// go:generate",
			[]string{"generated.go:1:1 : no //go:generate line beside it says which schemas this file is made from"}},
		{"a schema that is no file", "schemas.go", " order.paid.avsc", " nowhere.avsc", []string{"schemas.go:9:1 : open "}},
		{"a generator that cannot be followed", "schemas.go", "-fullname", "-template-filename t.tmpl",
			[]string{"schemas.go:9:1 : code made by a template or from a registry cannot be compared with a file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := generatedCode(t)
			replaceIn(t, filepath.Join(dir, "events", c.file), c.old, c.replacement)
			problems, checked, err := checkGo(dir + "/...")
			if err != nil || checked == 0 {
				t.Fatalf("%d checked: %v", checked, err)
			}
			report := &Report{Problems: problems}
			report.sort()
			var got []string
			for i, p := range report.Problems {
				line := fmt.Sprintf("%s:%d:%d %s: %s", filepath.Base(p.File), p.Line, p.Column, p.Field, p.Message)
				if i < len(c.want) && strings.HasPrefix(line, c.want[i]) {
					line = c.want[i]
				}
				got = append(got, line)
				if !p.Fails() || p.Rule != RuleGoStruct {
					t.Errorf("%+v does not fail", p)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheckGo_NothingGeneratedIsAnError(t *testing.T) {
	t.Parallel()
	dir := writeDir(t, map[string]string{"a.go": "package a\n", "b/b.go": "package b\n"})
	for _, pattern := range []string{dir, dir + "/...", dir + "/none"} {
		if _, _, err := checkGo(pattern); err == nil {
			t.Errorf("%s: no error", pattern)
		}
	}
	if _, _, err := checkGo(filepath.Dir(generatedCode(t)) + "/none"); err == nil {
		t.Error("no error")
	}
}

func TestCheckGo_WithoutDotsStaysInTheDirectory(t *testing.T) {
	t.Parallel()
	dir := generatedCode(t)
	if _, _, err := checkGo(dir); err == nil {
		t.Error("looked below")
	}
	if _, checked, err := checkGo(filepath.Join(dir, "events")); err != nil || checked != 1 {
		t.Errorf("%d checked: %v", checked, err)
	}
}
