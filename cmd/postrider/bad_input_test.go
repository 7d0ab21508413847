package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/testserver"
)

// nowhere is a configuration of servers that are not there.
const nowhere = `
name: orders
postgres: {url: "postgres://relay@127.0.0.1:1/app"}
kafka: {brokers: ["127.0.0.1:1"]}
registry: {url: "http://127.0.0.1:1"}
http: {listen: "-"}
on_poison: halt-key
`

func TestBadInput_OneLineSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	config := writeConfig(t, nowhere)
	registry := newRegistryServer(t)
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"error_code": 50001, "message": "Error in the backend data store"}`))
	}))
	t.Cleanup(full.Close)
	schemas := schemaDir(t, map[string]string{"a.avsc": addressSchema})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for name, test := range map[string]struct {
		args string
		code int
		want []string
	}{
		"repair without Postgres": {"repair -c " + config + " --dry-run", exitUnreachable,
			[]string{"127.0.0.1:1: connect: connection refused", "postrider doctor checks them all"}},
		"replay without Kafka": {"replay -c " + config + " --list", exitUnreachable,
			[]string{"connection refused", "postrider doctor checks them all"}},
		"outbox init without Postgres": {"outbox init --postgres-url postgres://a@127.0.0.1:1/x", exitUnreachable,
			[]string{"connection refused (is the server up, and is the URL right?)"}},
		"registry without Postgres": {"registry --store postgres://a@127.0.0.1:1/x", exitUnreachable,
			[]string{"connection refused (is the server up, and is the URL right?)"}},
		"registry in a directory that is not there": {"registry --store file:" + t.TempDir() + "/none/r.db", exitUnreachable,
			[]string{"no such file or directory (make the directory first)"}},
		"relay without its file": {"relay -c nowhere.yaml", exitUsage,
			[]string{"nowhere.yaml: no such file or directory; postrider init writes one"}},
		"relay on half an address": {"relay -c " + config + " --set http.listen=8080", exitUsage,
			[]string{`http.listen: "8080" is not host:port such as 127.0.0.1:8080`}},
		"relay on a port in use": {"relay -c " + config + " --set http.listen=" + taken.Addr().String(), exitUnreachable,
			[]string{"address already in use; choose another address"}},
		"registry on a port in use": {"registry --listen " + taken.Addr().String(), exitUnreachable,
			[]string{"is in use by another process: stop it, or choose another address with --listen"}},
		"subject that is not there": {"schema show no.such --registry " + registry, exitNo,
			[]string{"Subject 'no.such' not found", "postrider schema list shows what there is"}},
		"list of a subject that is not there": {"schema list no.such --registry " + registry, exitNo,
			[]string{"postrider schema list shows what there is"}},
		"registry that is not there": {"schema register " + schemas + " --registry http://127.0.0.1:1", exitUnreachable,
			[]string{"connection refused (is the registry up, and is the URL right?)"}},
		"registry whose disk is full": {"schema register " + schemas + " --registry " + full.URL, exitUnreachable,
			[]string{"(the registry is up, but cannot do it now: its log says why)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, code, err := run(t, strings.Fields(test.args)...)
			if code != test.code || err == nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("exit %d, want %d and one line: %v", code, test.code, err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: does not say %q", err, want)
				}
			}
		})
	}
}

func TestBadInput_WhatPostgresRefusesIsToldByItsCause(t *testing.T) {
	t.Parallel()
	server, err := url.Parse(testserver.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	server.Path = "/no_such_database"
	_, code, err := runOutbox(t, "init", "--postgres-url", server.String())
	if code != exitUnreachable || !strings.HasSuffix(err.Error(), "(create the database, or mend its name in the URL)") {
		t.Errorf("no database: exit %d, %v", code, err)
	}
}

// A relay that cannot reach a server waits and says so on one line, with what to look at.
func TestBadInput_RelayThatWaitsSaysWhatToLookAt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ config, want string }{
		{nowhere, `connection refused","hint":"is it running, and is postgres.url right? the relay goes on by itself"}`},
		{strings.Replace(nowhere, "postgres://relay@127.0.0.1:1/app", testserver.Postgres(t), 1), `"code":"TABLE_MISMATCH"`},
	} {
		relay := startProcess(t, "relay", "-c", writeConfig(t, test.config))
		relay.awaitLog(test.want)
		if code, _ := relay.terminate(); code != 0 {
			t.Errorf("exit %d", code)
		}
		if strings.Contains(relay.log.String(), `\n`) {
			t.Errorf("the log has a line break within a message:\n%s", relay.log.String())
		}
	}
}

func TestConfigFlags_NameTheFileThatMayBeMeant(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	_, code, err := run(t, "doctor")
	if code != exitUsage || !strings.HasSuffix(err.Error(), "\nno file was named: -c FILE; postrider init writes one") {
		t.Errorf("without a file: exit %d, %v", code, err)
	}
	if err := os.WriteFile(filepath.Join(dir, configName), []byte(nowhere), 0o600); err != nil {
		t.Fatal(err)
	}
	_, code, err = run(t, "doctor")
	if code != exitUsage || !strings.HasSuffix(err.Error(), "\nno file was named: -c postrider.yaml") {
		t.Errorf("with a file: exit %d, %v", code, err)
	}
}
