package demo

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
)

// Config says what the demo does. The zero value of a field is its default.
type Config struct {
	// Orders is how many orders are placed; 0 goes on until the end.
	Orders int
	// Rate is orders a second. Defaults to one or, with Orders, to as fast as possible.
	Rate float64
	// Exit ends the demo when all orders are at rest and every event is accounted for. It needs
	// Orders.
	Exit bool
	// JSON prints nothing but a Report at the end.
	JSON bool

	// Keep is a directory for data that stay when the demo ends, from which a later one goes on.
	// Defaults to none.
	Keep string
	// PostgresURL and Brokers are servers of the user's. Default to the demo's own.
	PostgresURL string
	Brokers     []string
	// Replace removes first what another demo has left on the user's servers.
	Replace bool

	// Program is the postrider that runs as the relay.
	Program string

	// In gives commands, Out gets what is shown, Err the progress of a download.
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// Validate returns everything that is wrong with a configuration, by the command's flags.
func (c Config) Validate() error {
	var wrong []error
	is := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	is(c.Exit && c.Orders == 0, "--exit needs --orders N")
	is(c.Orders < 0, "--orders %d is negative", c.Orders)
	is(c.Rate < 0, "--rate %v is negative", c.Rate)
	is(c.Replace && c.PostgresURL == "" && len(c.Brokers) == 0, "--replace removes things from your own servers: name them by --postgres-url or --kafka")
	if c.PostgresURL != "" {
		u, err := url.Parse(c.PostgresURL)
		ok := err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql")
		is(!ok, "--postgres-url is not like postgres://me@127.0.0.1:5432/postgres")
	}
	for _, broker := range c.Brokers {
		_, port, err := net.SplitHostPort(broker)
		is(err != nil || port == "", "--kafka %s is not host:port", broker)
	}
	return errors.Join(wrong...)
}

// postgresHost is what the memory of --keep knows the user's server by.
func (c Config) postgresHost() string {
	if c.PostgresURL == "" {
		return ""
	}
	u, err := url.Parse(c.PostgresURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// UnreachableError says that something needed could not be reached or started. What it was and
// what to do is in its text.
type UnreachableError struct{ Err error }

func (e *UnreachableError) Error() string { return e.Err.Error() }
func (e *UnreachableError) Unwrap() error { return e.Err }

// RefusedError says what the user's servers would have to allow. Nothing was made on them, or
// it has been removed again.
type RefusedError struct {
	Missing []string // each with what is to be done
}

func (e *RefusedError) Error() string {
	return "the servers are not ready for the demo:\n  " + strings.Join(e.Missing, "\n  ")
}
