package embedded

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMakeTempDir_RemovesThoseOfTheDeadAndNoOther(t *testing.T) {
	if !locks {
		t.Skip("nobody can tell whose directory it is on this system")
	}
	t.Setenv("TMPDIR", t.TempDir())
	const prefix = "postrider-test-"
	alive, err := MakeTempDir(prefix)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := MakeTempDir(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.lock.Close(); err != nil { // as the kernel does when a process ends
		t.Fatal(err)
	}
	other := filepath.Join(os.TempDir(), "other-")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	next, err := MakeTempDir(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if exists(dead.Path()) {
		t.Error("the directory of the dead is still there")
	}
	for _, path := range []string{alive.Path(), next.Path(), other} {
		if !exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
	for _, dir := range []*TempDir{alive, next} {
		if err := dir.Remove(); err != nil {
			t.Error(err)
		}
		if exists(dir.Path()) {
			t.Errorf("%s is still there", dir.Path())
		}
	}
}

func TestLockDir_KeepsOthersOut(t *testing.T) {
	if !locks {
		t.Skip("nobody can tell whose directory it is on this system")
	}
	t.Parallel()
	dir := t.TempDir()
	unlock, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(dir); err == nil {
		t.Error("the directory was locked twice")
	}
	unlock()
	unlock, err = LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
