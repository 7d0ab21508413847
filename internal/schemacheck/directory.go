package schemacheck

import (
	"context"
	"fmt"
	"os"

	"github.com/postrider/postrider/schema-registry/schemafiles"
)

// directory compares with the schemas of another directory, one version of each.
type directory struct {
	path string
}

func (d *directory) load(_ context.Context, t *tree) error {
	t.setDefaultLevel()
	if info, err := os.Stat(d.path); err != nil {
		return fmt.Errorf("--against dir:%s: %w", d.path, err)
	} else if !info.IsDir() {
		return fmt.Errorf("--against dir:%s is not a directory", d.path)
	}
	sources, unreadable, err := schemafiles.Find(os.DirFS(d.path))
	if err != nil {
		return fmt.Errorf("--against dir:%s: %w", d.path, err)
	}
	files, invalid := t.parser.ParseAnyDefault(sources)
	for _, p := range append(unreadable, invalid...) {
		// Without it, what it defines would pass for new.
		return fmt.Errorf("--against dir:%s: %w", d.path, p)
	}
	if len(files) == 0 {
		t.note("%s has no schema, so that all are new", d.path)
	}
	ours := make(map[string]*subject)
	for _, s := range t.subjects {
		ours[s.name] = s
	}
	for _, f := range files {
		names, err := t.naming.subjects(f.Path, f.Schema)
		if err != nil {
			return fmt.Errorf("--against dir:%s: %s: %w", d.path, f.Path, err)
		}
		for _, name := range names {
			if s := ours[name]; s != nil {
				s.add(version{label: d.path, schema: f.Schema})
			} else if !t.invalid[f.Path] {
				t.removed(f.Path, name, d.path)
			}
		}
	}
	return nil
}
