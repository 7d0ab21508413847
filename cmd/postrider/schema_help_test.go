package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/postrider/postrider/internal/schemacheck"
)

func TestSchemaCheck_CompletesTheValuesOfItsFlags(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string][]string{"--level": schemacheck.Levels, "--format": schemacheck.Formats, "--against": schemacheck.AgainstPrefixes} {
		out, _, err := run(t, "__complete", "schema", "check", "schemas", flag, "")
		lines := strings.Split(out, "\n")
		if err != nil || len(lines) < len(want) || !slices.Equal(lines[:len(want)], want) {
			t.Errorf("%s: %v, %q", flag, err, lines)
		}
	}
}

// The files of deploy/ci and the page about them name commands and flags that exist.
func TestSchemaCheck_FilesForCIUseFlagsThatExist(t *testing.T) {
	t.Parallel()
	const ci = "../../deploy/ci/"
	for _, name := range []string{"github/action.yml", "gitlab/schema-check.yml", "pre-commit/pre-commit-config.yaml"} {
		text, err := os.ReadFile(ci + name)
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if err := yaml.Unmarshal(text, &tree); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	files, err := filepath.Glob(ci + "*/*")
	if err != nil || len(files) != 5 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	command := regexp.MustCompile(`postrider schema ([a-z]+)([^\n#;]*)`)
	flag := regexp.MustCompile(`--([a-z-]+)`)
	found := 0
	for _, name := range append(files, "../../docs/schema-check.md", "../../docs/registry.md", "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range command.FindAllStringSubmatch(string(text), -1) {
			cmd, _, err := newRootCommand().Find([]string{"schema", line[1]})
			if err != nil || cmd.Name() != line[1] {
				t.Errorf("%s: there is no command schema %s", name, line[1])
				continue
			}
			for _, f := range flag.FindAllStringSubmatch(line[2], -1) {
				found++
				if cmd.Flags().Lookup(f[1]) == nil {
					t.Errorf("%s: schema %s has no flag --%s", name, line[1], f[1])
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("%d flags found only", found)
	}
}
