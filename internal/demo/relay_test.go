//go:build unix

package demo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startSupervisor supervises a shell script in place of a relay, until the test ends. The error
// that ends it is sent to failed.
func startSupervisor(t *testing.T, script string) (s *supervisor, failed <-chan error) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "relay")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	// A port on which nobody listens: a script has no status.
	s, err := newSupervisor(relayConfig{program: program, dir: dir, listen: "127.0.0.1:1"}, newTestScreen(new(bytes.Buffer), 0, false))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		result <- s.run(ctx, ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return s, result
}

// awaitSupervisor returns when something is so.
func awaitSupervisor(t *testing.T, failed <-chan error, what string, is func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !is() {
		select {
		case err := <-failed:
			t.Fatalf("%s: it ended before: %v", what, err)
		case <-deadline:
			t.Fatalf("%s: not in time", what)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestSupervisor_TakesNoKillThatWasAskedForAsAFailure(t *testing.T) {
	t.Parallel()
	s, failed := startSupervisor(t, "exec sleep 1000")
	for n := 1; n <= 2*relayStarts; n++ {
		awaitSupervisor(t, failed, "the next runs", func() bool { return s.pid() != 0 && s.started() == n })
		if s.kill() == 0 {
			t.Error("there was none to kill")
		}
	}
	awaitSupervisor(t, failed, "the last runs", func() bool { return s.started() > 2*relayStarts })
}

func TestSupervisor_GivesUpARelayThatEndsByItself(t *testing.T) {
	t.Parallel()
	s, failed := startSupervisor(t, "echo no such slot >&2; exit 1")
	select {
	case err := <-failed:
		if err == nil || !strings.Contains(err.Error(), "no such slot") || s.started() != relayStarts {
			t.Errorf("it ended after %d starts with %v", s.started(), err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
	}
}
