package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

func runSchema(t *testing.T, args ...string) (stdout string, code int, err error) {
	t.Helper()
	return run(t, append([]string{"schema"}, args...)...)
}

func newRegistryServer(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(schemaregistry.NewHandler(schemaregistry.New(schemaregistry.NewMemoryStore()), schemaregistry.HandlerConfig{}))
	t.Cleanup(server.Close)
	return server.URL
}

// schemaDir writes files into a new directory.
func schemaDir(t *testing.T, files map[string]string) string {
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

const (
	addressSchema = `{"type":"record","name":"shop.address","fields":[{"name":"street","type":"string"}]}`
	orderSchema   = `{"type":"record","name":"order.created","fields":[{"name":"to","type":"shop.address"}]}`
)

func TestSchemaRegister_RegistersFilesAfterThoseTheyUse(t *testing.T) {
	t.Parallel()
	url := newRegistryServer(t)
	dir := schemaDir(t, map[string]string{"a/order.avsc": orderSchema, "b/address.avsc": addressSchema})
	for _, run := range []struct {
		args []string
		want string
	}{
		{[]string{"--dry-run"}, "would be new  shop.address   -  b/address.avsc\nwould be new  order.created  -  a/order.avsc\n"},
		{nil, "new  shop.address   version 1, id 1  b/address.avsc\nnew  order.created  version 1, id 2  a/order.avsc\n"},
		{nil, "known  shop.address   version 1, id 1  b/address.avsc\nknown  order.created  version 1, id 2  a/order.avsc\n"},
	} {
		out, code, err := runSchema(t, append([]string{"register", dir, "--registry", url}, run.args...)...)
		if diff := cmp.Diff(run.want, out); code != 0 || diff != "" {
			t.Errorf("%v: exit %d, %v\n%s", run.args, code, err, diff)
		}
	}
	out, code, err := runSchema(t, "list", "--registry", url)
	if want := "order.created  version 1, id 2\nshop.address   version 1, id 1\n"; code != 0 || out != want {
		t.Errorf("list: exit %d, %v\n%s", code, err, out)
	}
	out, _, _ = runSchema(t, "list", "--registry", url, "--json")
	var list struct {
		Subjects []schemaregistry.SubjectVersion
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Subjects) != 2 || !strings.Contains(list.Subjects[0].Schema, "street") {
		t.Errorf("list --json: %v, %s", err, out)
	}
}

func TestSchemaRegister_SaysEveryIncompatibility(t *testing.T) {
	t.Parallel()
	url := newRegistryServer(t)
	if out, code, err := runSchema(t, "register", schemaDir(t, map[string]string{"a.avsc": addressSchema, "o.avsc": orderSchema}), "--registry", url); code != 0 {
		t.Fatal(out, err)
	}
	changed := schemaDir(t, map[string]string{
		"a.avsc":   strings.Replace(addressSchema, `"string"`, `"int"`, 1),
		"o.avsc":   orderSchema,
		"new.avsc": `{"type":"record","name":"new","fields":[]}`,
	})
	for _, flag := range []string{"--dry-run=true", "--dry-run=false"} {
		out, code, err := runSchema(t, "register", changed, "--registry", url, "--json", flag)
		if code != exitNo {
			t.Fatalf("%s: exit %d, want %d: %v", flag, code, exitNo, err)
		}
		var got struct{ Schemas []schemaResult }
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		status := map[string]string{}
		for _, r := range got.Schemas {
			status[r.File] = r.Status
			if r.Status == schemaIncompatible && len(r.Problems) == 0 {
				t.Errorf("%s: %s has no problems", flag, r.File)
			}
		}
		want := map[string]string{"a.avsc": schemaIncompatible, "o.avsc": schemaIncompatible, "new.avsc": schemaWouldBeNew}
		if flag == "--dry-run=false" {
			want["new.avsc"] = schemaNew
		}
		if diff := cmp.Diff(want, status); diff != "" {
			t.Error(flag, diff)
		}
		out, _, _ = runSchema(t, "register", changed, "--registry", url, flag)
		for _, line := range []string{"a.avsc: shop.address: ", "o.avsc: order.created: "} {
			if !strings.Contains(out, "\n"+line) || strings.Count(out, "TYPE_MISMATCH") != 2 {
				t.Errorf("%s: no line %q with its reason in\n%s", flag, line, out)
			}
		}
	}
}

func TestSchemaRegister_UnreadableFileStopsAll(t *testing.T) {
	t.Parallel()
	url := newRegistryServer(t)
	dir := schemaDir(t, map[string]string{
		"fine.avsc": addressSchema, "twin.avsc": addressSchema, "broken.avsc": `{"type":`, "nameless.avsc": `["int"]`,
	})
	_, code, err := runSchema(t, "register", dir, "--registry", url)
	if code != exitUsage {
		t.Fatalf("exit %d, want %d: %v", code, exitUsage, err)
	}
	for _, part := range []string{"broken.avsc:1:9: ", "nameless.avsc: a schema of type union", "twin.avsc: the subject shop.address is that of " + dir + "/fine.avsc too"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not mention %q: %v", part, err)
		}
	}
	if out, _, _ := runSchema(t, "list", "--registry", url); out != "" {
		t.Errorf("something was registered: %s", out)
	}
}

func TestSchemaRegister_SubjectTemplate(t *testing.T) {
	t.Parallel()
	url := newRegistryServer(t)
	dir := schemaDir(t, map[string]string{"a.avsc": addressSchema})
	out, code, err := runSchema(t, "register", dir, "--registry", url, "--subject", "{namespace}/{name}-value")
	if code != 0 || !strings.Contains(out, "shop/address-value") {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	if _, code, _ := runSchema(t, "register", dir, "--registry", url, "--subject", "{topic}"); code != exitUsage {
		t.Errorf("unknown field: exit %d, want %d", code, exitUsage)
	}
}

func TestSchemaCommands_ExitCodes(t *testing.T) {
	t.Parallel()
	dir := schemaDir(t, map[string]string{"a.avsc": addressSchema})
	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(locked.Close)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	t.Cleanup(page.Close)
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"register", dir, "--registry", "http://127.0.0.1:1"}, exitUnreachable},
		{[]string{"register", dir, "--registry", locked.URL}, exitUnreachable},
		{[]string{"register", dir, "--registry", page.URL}, exitUnreachable},
		{[]string{"list", "--registry", "http://127.0.0.1:1"}, exitUnreachable},
		{[]string{"list", "--registry", "nonsense"}, exitUsage},
		{[]string{"list", "--nonsense"}, exitUsage},
		{[]string{"register", "--registry", "http://127.0.0.1:1"}, exitUsage},
		{[]string{"register", dir + "/none", "--registry", "http://127.0.0.1:1"}, exitUsage},
		{[]string{"register", t.TempDir(), "--registry", "http://127.0.0.1:1"}, exitUsage},
		{nil, exitUsage},
	} {
		if _, code, err := runSchema(t, c.args...); code != c.want || err == nil {
			t.Errorf("schema %v: exit %d, want %d: %v", c.args, code, c.want, err)
		}
	}
}
