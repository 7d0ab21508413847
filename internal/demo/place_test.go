package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlace_RemembersWhatItBelongsTo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "kept")
	cfg := Config{Keep: dir, PostgresURL: "postgres://me:secret@db:5432/app", Brokers: []string{"b:9092"}}
	first, err := openPlace(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openPlace(cfg); err == nil || !strings.Contains(err.Error(), "end the other demo") {
		t.Errorf("a second one at a time: %v", err)
	}
	first.memory.Made = true
	if err := first.remember(); err != nil {
		t.Fatal(err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, memoryFile))
	if err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("the memory is %s, %v", text, err)
	}
	next, err := openPlace(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if next.memory.ID != first.memory.ID || !next.memory.Made {
		t.Errorf("the next has the memory %+v, want %+v", next.memory, first.memory)
	}
	if err := next.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openPlace(Config{Keep: dir}); err == nil || !strings.Contains(err.Error(), "give the same flags") {
		t.Errorf("with other servers: %v", err)
	}
}
