package embedded

import (
	"os"
	"path/filepath"
	"testing"
)

// fakeServer makes the directory of a server whose programs do nothing.
func fakeServer(t *testing.T, bin string, programs ...string) {
	t.Helper()
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
}

func TestInstalledBinaries_TakesNewestCompleteVersion(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	root := t.TempDir()
	fakeServer(t, filepath.Join(root, "9.6", "bin"), "initdb", "postgres")
	fakeServer(t, filepath.Join(root, "15", "bin"), "initdb", "postgres")
	fakeServer(t, filepath.Join(root, "17", "bin"), "pg_dump") // the client's package alone
	pattern := filepath.Join(root, "*", "bin")
	if got, _ := installedBinaries(pattern); got != filepath.Join(root, "15", "bin") {
		t.Errorf("got %s, want version 15", got)
	}
	if got, ok := installedBinaries(filepath.Join(root, "17", "*")); ok {
		t.Errorf("got %s, want none", got)
	}
}

func TestInstalledBinaries_PrefersPath(t *testing.T) {
	root := t.TempDir()
	onPath := filepath.Join(root, "path")
	fakeServer(t, onPath, "initdb", "postgres")
	fakeServer(t, filepath.Join(root, "99", "bin"), "initdb", "postgres")
	t.Setenv("PATH", onPath)
	if got, _ := installedBinaries(filepath.Join(root, "*", "bin")); got != onPath {
		t.Errorf("got %s, want %s", got, onPath)
	}
}
