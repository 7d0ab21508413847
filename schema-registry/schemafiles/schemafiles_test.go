package schemafiles

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/schema-registry/avroschema"
)

func tree(files map[string]string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestLoad_OrdersFilesByTheTypesTheyUse(t *testing.T) {
	t.Parallel()
	files, err := load(tree(map[string]string{
		"a/order.avsc":   `{"type":"record","name":"shop.order","fields":[{"name":"to","type":"address"},{"name":"by","type":"shop.address"}]}`,
		"b/address.avsc": `{"type":"record","name":"shop.address","fields":[{"name":"kind","type":"kind"}]}`,
		"c/kind.avsc":    "\ufeff" + `{"type":"enum","name":"shop.kind","symbols":["HOME"]}`,
		"a.avsc":         `{"type":"record","name":"alone","fields":[]}`,
		"notes.txt":      `no schema`,
		".git/x.avsc":    `no schema`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, f := range files {
		order = append(order, f.Path)
	}
	if diff := cmp.Diff([]string{"a.avsc", "c/kind.avsc", "b/address.avsc", "a/order.avsc"}, order); diff != "" {
		t.Error(diff)
	}
	want := `{"type":"record","name":"order","namespace":"shop","fields":[{"name":"to","type":{"type":"record","name":"address",` +
		`"fields":[{"name":"kind","type":{"type":"enum","name":"kind","symbols":["HOME"]}}]}},{"name":"by","type":"address"}]}`
	if got := files[3].Schema.Canonical(); got != want {
		t.Errorf("order does not contain the types it uses: %s", got)
	}
}

func TestLoad_FilesMayDefineTheirOwnTypesOfTheSameName(t *testing.T) {
	t.Parallel()
	files, err := load(tree(map[string]string{
		"a.avsc": `{"type":"record","name":"a","fields":[{"name":"s","type":{"type":"enum","name":"status","symbols":["A"]}}]}`,
		"b.avsc": `{"type":"record","name":"b","fields":[{"name":"s","type":{"type":"enum","name":"status","symbols":["B"]}}]}`,
	}))
	if err != nil || len(files) != 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

func TestLoad_ReportsEveryProblem(t *testing.T) {
	t.Parallel()
	files, err := load(tree(map[string]string{
		"fine.avsc":    `{"type":"record","name":"fine","fields":[]}`,
		"broken.avsc":  "{\n \"type\": \"rec",
		"missing.avsc": `{"type":"array","items":"nowhere"}`,
		"x.avsc":       `{"type":"record","name":"x","fields":[{"name":"y","type":"y"}]}`,
		"y.avsc":       `{"type":"record","name":"y","fields":[{"name":"x","type":"x"}]}`,
		"one.avsc":     `{"type":"array","items":{"type":"fixed","name":"twice","size":1}}`,
		"two.avsc":     `{"type":"array","items":{"type":"fixed","name":"twice","size":2}}`,
		"uses.avsc":    `{"type":"array","items":"twice"}`,
	}))
	if len(files) != 3 {
		t.Errorf("%d files could be read, want 3", len(files))
	}
	want := []string{
		"broken.avsc:2:14: string is not closed",
		"missing.avsc:1:25: at /items: unknown type nowhere: no file that could be read defines it (two files cannot refer to each other)",
		"uses.avsc:1:25: at /items: unknown type twice: it is defined differently in one.avsc, two.avsc",
		"x.avsc:1:58: at /fields/0/type: unknown type y: no file that could be read defines it (two files cannot refer to each other)",
		"y.avsc:1:58: at /fields/0/type: unknown type x: no file that could be read defines it (two files cannot refer to each other)",
	}
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
	var problem *Problem
	var place *avroschema.ParseError
	if !errors.As(err, &problem) || !errors.As(err, &place) {
		t.Errorf("%T is no Problem with a ParseError", err)
	}
}

func TestLoad_MissingDirectory(t *testing.T) {
	t.Parallel()
	if _, err := Load(t.TempDir() + "/none"); err == nil {
		t.Error("no error")
	}
}
