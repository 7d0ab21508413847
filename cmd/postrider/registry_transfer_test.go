package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	schemaregistry "github.com/postrider/postrider/schema-registry"
	"github.com/postrider/postrider/schema-registry/transfer"
)

func TestRegistryExportImport_MovesARegistryByFileAndDirectly(t *testing.T) {
	t.Parallel()
	source, stopSource := startRegistryURL(t)
	client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: source})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, schema := range []string{`"int"`, `"long"`} {
		if _, err := client.Register(t.Context(), "numbers", schema); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.DeleteSubject(t.Context(), "numbers", false); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Register(t.Context(), "texts", `"string"`); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "schemas.jsonl")
	if out, err := command(t, "", "registry", "export", "--url", source, "--out", file); err != nil || !strings.Contains(out, "3 versions") {
		t.Fatal(out, err)
	}
	exported, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, "", "registry", "export", "--url", source, "--out", "-"); err != nil || out != string(exported) {
		t.Errorf("to standard output: %v\n%s", err, out)
	}

	for name, args := range map[string][]string{"file": {file}, "standard input": {"-"}, "directly": {"--from", source}} {
		store := "file:" + filepath.Join(t.TempDir(), "registry.db")
		target, stop := startRegistryURL(t, "--store", store)
		args = append([]string{"registry", "import", "--url", target, "--json"}, args...)
		if out, err := command(t, string(exported), append(args, "--dry-run")...); err != nil || !strings.Contains(out, `"added":3`) {
			t.Errorf("%s, dry run: %s %v", name, out, err)
		}
		for _, added := range []int{3, 0} {
			out, err := command(t, string(exported), args...)
			var report transfer.Report
			if json.Unmarshal([]byte(out), &report) != nil || err != nil || report.Added != added || !report.Verified {
				t.Errorf("%s: %s %v", name, out, err)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		// What was imported is there after a restart.
		target, stop = startRegistryURL(t, "--store", store)
		if out, err := command(t, "", "registry", "export", "--url", target, "--out", "-"); err != nil || out != string(exported) {
			t.Errorf("%s: exports otherwise than its source, %v:\n%s", name, err, out)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	if err := stopSource(); err != nil {
		t.Error(err)
	}
}

func TestRegistryExportImport_ExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.jsonl")
	writeText(t, bad, "{}\n")
	target, stop := startRegistryURL(t)
	for _, c := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"export", "--url", target}, exitUsage, "--out FILE"},
		{[]string{"export", "--url", target, "--out", "-", "--json"}, exitUsage, "--json"},
		{[]string{"export", "--url", "nonsense", "--out", "-"}, exitUsage, "http://"},
		{[]string{"export", "--url", "http://u:hunter2@127.0.0.1:1", "--out", "-"}, exitUnreachable, "is the registry up"},
		{[]string{"import", "--url", target}, exitUsage, "either one FILE"},
		{[]string{"import", "--url", target, "a", "b"}, exitUsage, "either one FILE"},
		{[]string{"import", "--url", target, bad, "--from", target}, exitUsage, "either one FILE"},
		{[]string{"import", "--url", target, filepath.Join(dir, "none")}, exitUsage, "no such file"},
		{[]string{"import", "--url", target, bad}, exitUsage, "line 1"},
		{[]string{"import", "--url", target, "--from", "http://127.0.0.1:1"}, exitUnreachable, "read the registry of --from"},
	} {
		_, err := command(t, "", append([]string{"registry"}, c.args...)...)
		var coded *exitError
		if !errors.As(err, &coded) || coded.code != c.want || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("registry %v: %v, want exit %d and %q", c.args, err, c.want, c.says)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestRegistryImport_TellsConflicts(t *testing.T) {
	t.Parallel()
	source, stopSource := startRegistryURL(t)
	target, stopTarget := startRegistryURL(t)
	for url, schema := range map[string]string{source: `"int"`, target: `"string"`} {
		client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Register(t.Context(), "s", schema); err != nil {
			t.Fatal(err)
		}
		client.Close()
	}
	out, err := command(t, "", "registry", "import", "--from", source, "--url", target)
	var coded *exitError
	if !errors.Is(err, transfer.ErrConflicts) || errors.As(err, &coded) || !strings.Contains(out, `subject "s" version 1`) {
		t.Errorf("%s %v", out, err)
	}
	for _, stop := range []func() error{stopSource, stopTarget} {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}
