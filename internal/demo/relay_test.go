//go:build unix

package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
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
	s = newSupervisor(relayConfig{program: program, dir: dir, listen: "127.0.0.1:1"}, newTestScreen(new(bytes.Buffer), 0, false))
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

// takenPort is a relay that finds the port it is told taken by somebody else, as all but any free one.
const takenPort = `
if grep -q 'listen: 127.0.0.1:0' "$3"; then
	echo '{"msg":"serving","address":"127.0.0.1:2"}' >&2
	exec sleep 1000
elif grep -q 'listen: 127.0.0.1:2' "$3"; then
	echo '{"msg":"serving","address":"127.0.0.1:2"}' >&2
	exec sleep 1000
fi
echo 'postrider: http.listen: listen tcp 127.0.0.1:1: bind: address already in use' >&2
exit 3`

func TestSupervisor_MovesToAFreePortWhenItsOwnIsTaken(t *testing.T) {
	t.Parallel()
	s, failed := startSupervisor(t, takenPort)
	awaitSupervisor(t, failed, "it serves elsewhere", func() bool { return s.url() == "http://127.0.0.1:2" })
	if said := s.screen.pendingText(); strings.Count(said, "it is at http://127.0.0.1:2/status now") != 1 {
		t.Errorf("it said %q", said)
	}
	s.kill()
	awaitSupervisor(t, failed, "the next keeps the port", func() bool { return s.started() == 3 && s.pid() != 0 && s.url() == "http://127.0.0.1:2" })
}

// Somebody who listens at the address of the last relay is not asked in its place.
func TestSupervisor_AsksNobodyElseForTheStatus(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"phase":"streaming","ready":true}`)
	}))
	t.Cleanup(other.Close)
	address := other.Listener.Addr().String()
	s, failed := startSupervisor(t, `
if [ ! -e "$0.second" ]; then
	touch "$0.second"
	echo '{"address":"`+address+`"}' >&2
fi
exec sleep 1000`)
	awaitSupervisor(t, failed, "the first is healthy", func() bool { return s.healthy(t.Context()) })
	s.kill()
	awaitSupervisor(t, failed, "the next runs", func() bool { return s.started() == 2 && s.pid() != 0 })
	if report, err := s.status(t.Context()); !errors.Is(err, errNoStatus) {
		t.Errorf("the status is %+v, %v, though the relay serves none", report, err)
	}
}
