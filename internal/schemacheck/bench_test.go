package schemacheck

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// largeRepository has n schemas of thirty fields, some of which use a type of another file,
// and commits that change one each.
func largeRepository(b *testing.B, n, commits int) string {
	b.Helper()
	dir := b.TempDir()
	git := func(args ...string) {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x@example.com",
			"GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x@example.com")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	write := func(i, version int) {
		var fields []string
		for f := range 30 {
			fields = append(fields, fmt.Sprintf("\n    {\"name\": \"field_%d\", \"type\": [\"null\", \"string\"], \"default\": null, \"doc\": \"version %d of it\"}", f, version))
		}
		if i%10 == 0 {
			fields = append(fields, fmt.Sprintf("\n    {\"name\": \"other\", \"type\": [\"null\", \"bench.event_%d\"], \"default\": null}", i+1))
		}
		text := fmt.Sprintf("{\n  \"type\": \"record\", \"name\": \"event_%d\", \"namespace\": \"bench\", \"fields\": [%s\n  ]\n}\n", i, strings.Join(fields, ","))
		path := filepath.Join(dir, "schemas", fmt.Sprintf("team_%d", i%20), fmt.Sprintf("event_%d.avsc", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for i := range n {
		write(i, 0)
	}
	git("init", "-q", "-b", "main")
	git("add", "-A")
	git("commit", "-q", "-m", "all")
	for c := range commits {
		write(c%n, c+1)
		git("commit", "-q", "-a", "-m", "one")
	}
	for i := range n / 2 {
		write(i, -1) // a change of each second schema that is not committed
	}
	return filepath.Join(dir, "schemas")
}

func BenchmarkRun_500SchemasAgainstGit(b *testing.B) {
	dir := largeRepository(b, 500, 100)
	for _, level := range []schemaregistry.Level{schemaregistry.Full, schemaregistry.FullTransitive} {
		b.Run(string(level), func(b *testing.B) {
			for b.Loop() {
				report, err := Run(b.Context(), Options{Dir: dir, Against: "git:main", Level: level})
				if err != nil || report.Failed() || len(report.Schemas) != 500 || report.Count(StatusCompatible) != 250 {
					b.Fatalf("%+v, %v", report.Problems, err)
				}
			}
		})
	}
}
