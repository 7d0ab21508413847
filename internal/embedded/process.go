package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// command prepares a program of Postgres to run as owner, in a directory that the owner can
// enter and without the variables (PGPORT, PGDATA) that would change what it does.
func command(owner *owner, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = owner.attributes()
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	return cmd
}

// run runs a program to its end and returns what it said.
func run(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return output.String(), err
}

// process is a running server.
type process struct {
	handle *os.Process
	done   chan struct{} // closed when it has ended
	err    error         // why, valid after done
}

// startProcess returns when the server has logged the line that contains ready. If ctx ends
// first, so does the server.
func startProcess(ctx context.Context, cmd *exec.Cmd, ready string) (*process, error) {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	isReady := make(chan struct{})
	go func() { // owns the process from its start to its end
		// The kernel takes the end of the thread that started a child for the end of the
		// parent, and Go ends threads as it likes unless they are locked.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		endWithParent(cmd.SysProcAttr)
		err := cmd.Start()
		p.handle = cmd.Process
		started <- err
		if err != nil {
			return
		}
		log := watch(stderr, ready, isReady)
		if err := cmd.Wait(); err != nil {
			p.err = hint(err, log)
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	select {
	case <-isReady:
		return p, nil
	case <-p.done:
		if p.err == nil {
			p.err = errors.New("the server ended before it was ready")
		}
		return nil, p.err
	case <-ctx.Done():
		p.stop(0)
		return nil, ctx.Err()
	}
}

// stop asks the server to end without waiting for its clients, and kills it after the grace
// time. It returns when the server is gone.
func (p *process) stop(grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	_ = p.handle.Signal(os.Interrupt) // fails where it has ended already
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.handle.Kill()
		<-p.done
	}
}

// watch reads a server's log to its end, closes isReady at the line that says so, and
// returns the last lines.
func watch(log io.Reader, ready string, isReady chan<- struct{}) string {
	const keep = 20
	var last []string
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadString('\n')
		if strings.Contains(line, ready) && isReady != nil {
			close(isReady)
			isReady = nil
		}
		if line != "" {
			last = append(last, line)
			last = last[max(0, len(last)-keep):]
		}
		if err != nil {
			return strings.Join(last, "")
		}
	}
}

// hint adds to a failure what the program said and what can be done about it.
func hint(err error, output string) error {
	output = strings.TrimSpace(output)
	switch {
	case strings.Contains(output, "Address already in use"):
		return fmt.Errorf("%w: %w", ErrPortInUse, err)
	case strings.Contains(output, "No space left on device"):
		return fmt.Errorf("%w: the disk is full, free about 100 MB there\n%s", err, output)
	case strings.Contains(output, "Permission denied"):
		return fmt.Errorf("%w: the user that the server runs as cannot enter the directory, choose one such as below /tmp\n%s", err, output)
	case output == "":
		return err
	default:
		return fmt.Errorf("%w\n%s", err, output)
	}
}
