package subprocess

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a child process. On Linux the kernel ends it when this process ends, kill -9
// included.
type Process struct {
	handle *os.Process
	done   chan struct{} // closed when it has ended
	err    error         // why, valid after done

	mu   sync.Mutex
	last []string // lines of standard error
}

// keptLines is how many of the last lines of standard error are kept to explain an end.
const keptLines = 20

// Start starts cmd in a process group of its own, so that Ctrl-C reaches only us, who end it
// in order. onLine gets every line of its standard error, without the line's end, before Done
// is closed. lastWill is the signal that the kernel sends it when this process ends.
func Start(cmd *exec.Cmd, lastWill syscall.Signal, onLine func(string)) (*Process, error) {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	separate(cmd)
	bind(cmd, lastWill)
	p := &Process{done: make(chan struct{})}
	started := make(chan error)
	go func() { // owns the process from its start to its end
		// The kernel takes the end of the thread that started a child for the end of the
		// parent, and Go ends threads as it likes unless they are locked.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
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
