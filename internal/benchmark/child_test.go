package benchmark

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/relay"
)

func TestChildConfig_TakesEverySettingToTheRelayAndNoSecretToTheDisk(t *testing.T) {
	t.Setenv("POSTRIDER_OUTBOX_TOPIC", "somebody-else's")
	c := childConfig{
		name: "bench_1", slot: "s", topic: "t", subject: "subject", table: "x.outbox",
		postgres: relay.PostgresConfig{URL: "postgres://u:secret-${1}@h/d", Publication: "p", TLS: relay.TLSConfig{ServerName: "db"}},
		kafka: relay.KafkaConfig{
			Brokers: []string{"a:1", "b:2"}, Compression: "zstd", MaxInFlightBytes: 1 << 20, TLS: relay.TLSConfig{Enabled: true},
			SASL: relay.SASLConfig{Mechanism: "PLAIN", Username: "ku", Password: "secret-2"},
		},
		registry: relay.RegistryConfig{
			URL: "http://r", TLS: relay.TLSConfig{InsecureSkipVerify: true},
			Auth: relay.RegistryAuthConfig{Username: "ru", Password: "secret-3"},
		},
		headers: "none",
	}
	text, err := c.yaml()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "secret-") {
		t.Errorf("a secret is in the file:\n%s", text)
	}
	file := filepath.Join(t.TempDir(), "postrider.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := relay.LoadConfig(file, c.environ(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	if got.Outbox.Topic != "t" || got.Outbox.Subject != "subject" || got.Outbox.Table != "x.outbox" || got.Outbox.Headers != "none" || *got.Outbox.Retention != 0 {
		t.Errorf("outbox: %+v", got.Outbox)
	}
	if got.Postgres.URL != c.postgres.URL || got.Postgres.TLS != c.postgres.TLS || got.Postgres.Slot != "s" || got.Postgres.Publication != "p" || *got.Postgres.CreateSlot {
		t.Errorf("postgres: %+v", got.Postgres)
	}
	if diff := cmp.Diff(c.kafka, got.Kafka); diff != "" {
		t.Errorf("kafka: %s", diff)
	}
	if diff := cmp.Diff(c.registry, got.Registry); diff != "" {
		t.Errorf("registry: %s", diff)
	}
}

func TestStartChild_ProgramThatIsNotThereIsAnErrorAndLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	if _, err := startChild(filepath.Join(t.TempDir(), "none"), childConfig{}); err == nil {
		t.Error("it was started")
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestChild_ThatEndsAtOnceIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	p, err := startChild("/bin/false", childConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.awaitStreaming(t.Context()); err == nil || !strings.Contains(err.Error(), "ended before it streamed") {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(p.stop(), p.stop()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.dir); !os.IsNotExist(err) {
		t.Errorf("its directory: %v", err)
	}
}

func TestChildLog_FindsTheFirstAddress(t *testing.T) {
	t.Parallel()
	var l childLog
	for _, line := range []string{
		"not JSON", `{"level":"INFO","msg":"serving","address":"127.0.0.1:4711"}`, `{"msg":"else","address":"127.0.0.1:1"}`,
	} {
		l.take(line)
	}
	if got := l.address(); got != "127.0.0.1:4711" {
		t.Errorf("address %q", got)
	}
}

func TestCleanup_RemovesTheLatestFirstInSpiteOfFailuresAndOfTheEnd(t *testing.T) {
	t.Parallel()
	var c cleanup
	var order []string
	for _, what := range []string{"a", "b", "c"} {
		c.add(what, func(ctx context.Context) error {
			order = append(order, what)
			if what == "b" {
				return errors.Join(errors.New("refused"), ctx.Err())
			}
			return ctx.Err()
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := c.run(ctx)
	if want := "left behind: b, remove it by hand: refused"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if diff := cmp.Diff([]string{"c", "b", "a"}, order); diff != "" {
		t.Error(diff)
	}
	if err := c.run(ctx); err != nil || len(order) != 3 {
		t.Errorf("the second time: %v, %v", err, order)
	}
}
