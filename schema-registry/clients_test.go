package schemaregistry

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/postrider/postrider/internal/testserver"
)

// newServer returns the URL of a registry that is empty.
func newServer(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(NewHandler(openRegistry(t, "memory"), HandlerConfig{}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestClients_OfOtherLanguagesWorkUnchanged(t *testing.T) {
	t.Parallel()
	for _, client := range []struct{ name, runtime, script string }{
		{"confluent-kafka for Python", "python", "../testdata/clients/registry.py"},
		{"confluent-schema-registry for kafkajs", "node", "../testdata/clients/registry-kafkajs.cjs"},
		{"schemaregistry of Confluent for JavaScript", "node", "../testdata/clients/registry-confluentinc.cjs"},
	} {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			// The first run installs the clients.
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "../testdata/clients/clients.sh", client.runtime, client.script)
			cmd.Env = append(os.Environ(), "REGISTRY_URL="+newServer(t))
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == 3 { // Python or Node is missing
				testserver.Absent(t, strings.TrimSpace(stderr.String()))
			}
			if err != nil || strings.TrimSpace(stdout.String()) != "ok" {
				t.Errorf("%s: %v\n%s%s", client.script, err, &stdout, &stderr)
			}
		})
	}
}

func TestClients_FranzGoWorksUnchanged(t *testing.T) {
	t.Parallel()
	client, err := sr.NewClient(sr.URLs(newServer(t)))
	must(t, err)
	ctx := t.Context()
	order := sr.Schema{Schema: record("id"), Type: sr.TypeAvro}
	first, err := client.CreateSchema(ctx, "order", order)
	must(t, err)
	again, err := client.CreateSchema(ctx, "order", order)
	must(t, err)
	if again.ID != first.ID || again.Version != 1 {
		t.Errorf("the same schema again is version %d with ID %d, want 1 with %d", again.Version, again.ID, first.ID)
	}
	newer := sr.Schema{Schema: record("id note?"), Type: sr.TypeAvro}
	broken := sr.Schema{Schema: record("id total"), Type: sr.TypeAvro}
	compatible, err := client.CheckCompatibility(ctx, "order", -1, newer)
	must(t, err)
	if !compatible.Is {
		t.Errorf("a field with a default is not compatible: %v", compatible.Messages)
	}
	_, err = client.CreateSchema(ctx, "order", broken)
	var refused *sr.ResponseError
	if !errors.As(err, &refused) || refused.ErrorCode != 409 {
		t.Errorf("an incompatible version: got %v, want 409", err)
	}
	for _, set := range client.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatNone}, "order") {
		must(t, set.Err)
	}
	_, err = client.CreateSchema(ctx, "order", broken)
	must(t, err)
	versions, err := client.SubjectVersions(ctx, "order")
	must(t, err)
	if len(versions) != 2 {
		t.Errorf("versions are %v, want two", versions)
	}
	_, err = client.DeleteSubject(ctx, "order", sr.SoftDelete)
	must(t, err)
	_, err = client.DeleteSubject(ctx, "order", sr.HardDelete)
	must(t, err)
	if _, err := client.SubjectVersions(ctx, "order"); !errors.As(err, &refused) || refused.ErrorCode != 40401 {
		t.Errorf("a subject deleted for good: got %v, want 40401", err)
	}
	if _, err := client.SchemaByID(ctx, first.ID); !errors.As(err, &refused) || refused.ErrorCode != 40403 {
		t.Errorf("the ID of a schema deleted for good: got %v, want 40403", err)
	}
}
