package benchmark

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/postrider/postrider/relay"
)

// RefusedError says what the servers would have to allow. Nothing was made on them, or it
// has been removed again.
type RefusedError struct {
	Missing []string // each with what is to be done
}

func (e *RefusedError) Error() string {
	return "the servers do not allow the benchmark:\n  " + strings.Join(e.Missing, "\n  ")
}

// UnreachableError says that a server did not answer.
type UnreachableError struct {
	Server string // "Postgres", "Kafka", "registry"
	Err    error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s could not be reached: %v", e.Server, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// ErrInterrupted is returned when the context ended before the last measurement.
var ErrInterrupted = errors.New("interrupted before the last measurement")

// connectError tells a server that says no from one that does not answer.
func connectError(server string, err error) error {
	var halt *relay.HaltError
	if errors.As(err, &halt) {
		return &RefusedError{Missing: []string{fmt.Sprintf("%s: %v; %s", server, halt.Err, halt.Hint)}}
	}
	return &UnreachableError{Server: server, Err: err}
}

// interrupted prefers the end of ctx over what followed from it.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ErrInterrupted
	}
	return err
}
