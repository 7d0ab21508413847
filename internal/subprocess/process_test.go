//go:build unix

package subprocess

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(script string) *exec.Cmd { return exec.Command("/bin/sh", "-c", script) }

func TestStart_GivesEveryLineBeforeItSaysThatAndWhyTheProcessEnded(t *testing.T) {
	t.Parallel()
	var lines []string
	p, err := Start(shell("echo one >&2; echo >&2; printf two >&2; exit 3"), syscall.SIGKILL, func(line string) { lines = append(lines, line) })
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if diff := cmp.Diff([]string{"one", "two"}, lines); diff != "" {
		t.Error(diff)
	}
	if got := p.LastLines(); got != "one\ntwo" {
		t.Errorf("last lines %q", got)
	}
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.ExitCode() != 3 {
		t.Errorf("it ended with %v", p.Err())
	}
}

func TestStart_AProgramThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := Start(exec.Command("/no/such/program"), syscall.SIGKILL, func(string) {}); err == nil {
		t.Error("it was started")
	}
}

func TestProcess_EndsBySignalOrNotWithinTheGrace(t *testing.T) {
	t.Parallel()
	ready := make(chan string, 1)
	p, err := Start(shell("trap '' TERM; trap 'exit 0' INT; echo ready >&2; while :; do sleep 0.01; done"), syscall.SIGKILL, func(line string) { ready <- line })
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	if p.Err() != nil {
		t.Errorf("it runs, but ended with %v", p.Err())
	}
	if p.End(syscall.SIGTERM, time.Millisecond) {
		t.Error("it ended by a signal that it ignores")
	}
	if !p.End(syscall.SIGINT, time.Minute) || p.Err() != nil {
		t.Errorf("it ended with %v", p.Err())
	}
}

// What the process has started holds its standard error open: Kill would not return.
func TestProcess_KillEndsWhatItHasStartedToo(t *testing.T) {
	t.Parallel()
	ready := make(chan string, 1)
	p, err := Start(shell("sleep 1000 & echo ready >&2; wait"), syscall.SIGKILL, func(line string) { ready <- line })
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	p.Kill()
	if p.Err() == nil {
		t.Error("it was killed, but ended well")
	}
}
