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
	"sync"
	"syscall"
	"time"
)

// Process is a child process that does not outlive this one: on Linux the kernel ends it when
// this process ends, kill -9 included.
type Process struct {
	handle *os.Process
	done   chan struct{} // closed when it has ended
	err    error         // why, valid after done

	mu   sync.Mutex
	last []string // lines of standard error
}

// keptLines is how many of the last lines of standard error are kept to explain an end.
const keptLines = 20

// StartProcess starts cmd in a process group of its own, so that Ctrl-C reaches only us, who
// end it in order. onLine gets every line of its standard error, without the line's end.
// lastWill is the signal that the kernel sends it when this process ends.
func StartProcess(cmd *exec.Cmd, lastWill syscall.Signal, onLine func(string)) (*Process, error) {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = (*owner)(nil).attributes()
	}
	p := &Process{done: make(chan struct{})}
	started := make(chan error)
	go func() { // owns the process from its start to its end
		// The kernel takes the end of the thread that started a child for the end of the
		// parent, and Go ends threads as it likes unless they are locked.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		endWithParent(cmd.SysProcAttr, lastWill)
		err := cmd.Start()
		p.handle = cmd.Process
		started <- err
		if err != nil {
			return
		}
		p.read(stderr, onLine)
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, <-started
}

// read reads standard error to its end.
func (p *Process) read(stderr io.Reader, onLine func(string)) {
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			p.mu.Lock()
			p.last = append(p.last, line)
			p.last = p.last[max(0, len(p.last)-keptLines):]
			p.mu.Unlock()
			onLine(line)
		}
		if err != nil {
			return
		}
	}
}

// PID is the number of the process.
func (p *Process) PID() int { return p.handle.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why the process ended, once Done is closed: nil for exit code 0.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// LastLines are the last lines of standard error.
func (p *Process) LastLines() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.last, "\n")
}

// Signal sends a signal to the process. One that has ended already takes it well.
func (p *Process) Signal(s os.Signal) { _ = p.handle.Signal(s) }

// End sends a signal and returns true when the process is gone, or false if it is not after
// the grace time.
func (p *Process) End(s os.Signal, grace time.Duration) bool {
	p.Signal(s)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// Kill ends the process, with those that it started in its group, and returns when it is gone.
func (p *Process) Kill() {
	killGroup(p.handle)
	<-p.done
}

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

// run runs a program to its end.
func run(ctx context.Context, cmd *exec.Cmd) error {
	p, err := StartProcess(cmd, syscall.SIGKILL, func(string) {})
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	}
	if p.err != nil {
		return hint(p.err, p.LastLines())
	}
	return nil
}

// startServer returns when the server has logged the line that contains ready. If ctx ends
// first, so does the server. It ends with the signal SIGQUIT, which is Postgres' own for at
// once.
func startServer(ctx context.Context, cmd *exec.Cmd, ready string) (*Process, error) {
	isReady := make(chan struct{})
	var once sync.Once
	p, err := StartProcess(cmd, syscall.SIGQUIT, func(line string) {
		if strings.Contains(line, ready) {
			once.Do(func() { close(isReady) })
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-isReady:
		return p, nil
	case <-p.done:
		return nil, serverError(p)
	case <-ctx.Done():
		stopServer(p, 0)
		return nil, ctx.Err()
	}
}

// serverError explains the end of a server that nobody asked for.
func serverError(p *Process) error {
	if p.err == nil {
		return errors.New("the server ended before it was ready")
	}
	return hint(p.err, p.LastLines())
}

// stopServer asks the server to end without waiting for its clients, then to end at once, and
// kills it last. It returns when the server is gone.
func stopServer(p *Process, grace time.Duration) {
	if p.End(os.Interrupt, grace) || p.End(syscall.SIGQUIT, quitTimeout) {
		return
	}
	p.Kill()
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
