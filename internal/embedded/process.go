package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/subprocess"
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

// run runs a program to its end.
func run(ctx context.Context, cmd *exec.Cmd) error {
	p, err := subprocess.Start(cmd, syscall.SIGKILL, func(string) {})
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	}
	if p.Err() != nil {
		return hint(p.Err(), p.LastLines())
	}
	return nil
}

// startServer returns when the server has logged the line that contains ready. If ctx ends
// first, so does the server. It ends with the signal SIGQUIT, which is Postgres' own for at
// once.
func startServer(ctx context.Context, cmd *exec.Cmd, ready string) (*subprocess.Process, error) {
	isReady := make(chan struct{})
	var once sync.Once
	p, err := subprocess.Start(cmd, syscall.SIGQUIT, func(line string) {
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
	case <-p.Done():
		return nil, serverError(p)
	case <-ctx.Done():
		stopServer(p, 0)
		return nil, ctx.Err()
	}
}

// serverError explains the end of a server that nobody asked for.
func serverError(p *subprocess.Process) error {
	if p.Err() == nil {
		return errors.New("the server ended before it was ready")
	}
	return hint(p.Err(), p.LastLines())
}

// stopServer asks the server to end without waiting for its clients, then to end at once, and
// kills it last. It returns when the server is gone.
func stopServer(p *subprocess.Process, grace time.Duration) {
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
