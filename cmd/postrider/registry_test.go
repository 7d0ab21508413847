package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/testserver"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// startRegistry runs `postrider registry` on a free port. stop ends it as SIGTERM does and
// returns its error.
func startRegistry(t *testing.T, args ...string) (client *schemaregistry.Client, stop func() error) {
	t.Helper()
	url, stop := startRegistryURL(t, args...)
	client, err := schemaregistry.NewClient(schemaregistry.ClientConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, stop
}

func startRegistryURL(t *testing.T, args ...string) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	root := newRootCommand()
	root.SetArgs(append([]string{"registry", "--listen", "127.0.0.1:0", "--log-level", "error"}, args...))
	root.SetOut(in)
	ended := make(chan error, 1)
	go func() {
		err := root.ExecuteContext(ctx)
		_ = in.CloseWithError(io.EOF)
		ended <- err
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		cancel()
		t.Fatalf("the registry did not start: %v", <-ended)
	}
	_, url, _ = strings.Cut(strings.TrimSpace(line), "listens on ")
	return url, func() error { cancel(); return <-ended }
}

func TestRegistry_ServesUntilTold(t *testing.T) {
	t.Parallel()
	client, stop := startRegistry(t)
	if _, err := client.Register(t.Context(), "s", `"int"`); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	if _, err := client.Subjects(t.Context()); !schemaregistry.IsTemporary(err) {
		t.Errorf("still answers: %v", err)
	}
}

func TestRegistry_PostgresKeepsSchemas(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t)
	for round := range 2 {
		client, stop := startRegistry(t, "--store", url)
		names, err := client.Subjects(t.Context())
		if err != nil || len(names) != round {
			t.Errorf("round %d: subjects %v, %v", round, names, err)
		}
		if _, err := client.Register(t.Context(), "s", `"int"`); err != nil {
			t.Error(err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestRegistry_ExitCodes(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, c := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"--listen", busy.Addr().String()}, exitUnreachable, "is in use by another process"},
		{[]string{"--listen", "127.0.0.1"}, exitUsage, "want host:port"},
		{[]string{"--store", "mysql://h/db"}, exitUsage, "neither memory, nor a file"},
		{[]string{"--store", "postgres://u:hunter2@h:port/db"}, exitUsage, "registry store"},
		{[]string{"--store", "postgres://u:hunter2@127.0.0.1:1/db"}, exitUnreachable, "is the server up"},
		{[]string{"--log-level", "loud"}, exitUsage, "--log-level"},
		{[]string{"--listen", "0.0.0.0:0"}, exitUsage, "--access FILE"},
		{[]string{"--listen", ":0", "--log-level", "error"}, exitUsage, "--insecure"},
		{[]string{"--tls-cert", "x"}, exitUsage, "--tls-key"},
		{[]string{"--client-ca", "x"}, exitUsage, "--client-ca needs"},
		{[]string{"--tls-cert", "none", "--tls-key", "none"}, exitUsage, "none: no such file"},
		{[]string{"--access", "none"}, exitUsage, "none: no such file"},
		{[]string{"--store", "file:/none/registry.db"}, exitUnreachable, "make the directory first"},
		{[]string{"--conflict-code", "410"}, exitUsage, "neither 409 nor 40901"},
		{[]string{"--rate-limit", "-1"}, exitUsage, "--rate-limit"},
		{[]string{"token"}, exitUsage, "give one name"},
		{[]string{"token", "a:b"}, exitUsage, "neither colons"},
		{[]string{"password", "anonymous"}, exitUsage, "no credentials"},
		{[]string{"extra"}, exitUsage, "extra"},
	} {
		root := newRootCommand()
		root.SetArgs(append([]string{"registry"}, c.args...))
		root.SetOut(new(bytes.Buffer))
		err := root.ExecuteContext(t.Context())
		var coded *exitError
		if !errors.As(err, &coded) || coded.code != c.want || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("registry %v: %v, want exit %d and %q", c.args, err, c.want, c.says)
		}
	}
}
