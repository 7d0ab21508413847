package relay_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/postrider/postrider/internal/testserver"
	"github.com/postrider/postrider/relay"
)

// forbid takes one right from a user of the broker, who keeps all others, and returns what
// gives it back.
func (f *fixture) forbid(user string, resource func(*kadm.ACLBuilder) *kadm.ACLBuilder, operation kadm.ACLOperation) (allow func()) {
	f.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cfg.Kafka.Brokers...))
	if err != nil {
		f.t.Fatal(err)
	}
	admin := kadm.NewClient(client)
	denied := func() *kadm.ACLBuilder {
		return resource(kadm.NewACLs()).ResourcePatternType(kadm.ACLPatternLiteral).
			Deny("User:" + user).DenyHosts("*").Operations(operation)
	}
	others := func() *kadm.ACLBuilder {
		return resource(kadm.NewACLs()).ResourcePatternType(kadm.ACLPatternLiteral).
			Allow("User:" + user).AllowHosts("*").Operations(kadm.OpAll)
	}
	for _, rule := range []*kadm.ACLBuilder{others(), denied()} {
		results, err := admin.CreateACLs(f.t.Context(), rule)
		if err == nil {
			err = results[0].Err
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	// The answer comes from the controller, and the broker hears of it a little later.
	f.eventually("the broker knows that it is forbidden", func() bool {
		found, err := admin.DescribeACLs(f.t.Context(), denied().Allow().AllowHosts())
		return err == nil && slices.ContainsFunc(found, func(r kadm.DescribeACLsResult) bool {
			return slices.ContainsFunc(r.Described, func(a kadm.DescribedACL) bool { return a.Permission == kmsg.ACLPermissionTypeDeny })
		})
	})
	allow = func() {
		f.t.Helper()
		for _, rule := range []*kadm.ACLBuilder{denied().Allow().AllowHosts(), others().Deny().DenyHosts()} {
			if _, err := admin.DeleteACLs(context.Background(), rule); err != nil {
				f.t.Error(err)
			}
		}
	}
	f.t.Cleanup(func() {
		allow()
		client.Close()
	})
	return allow
}

func TestSecurity_RightsRevokedWhileItRunsHaltUntilTheyAreGivenBack(t *testing.T) {
	t.Parallel()
	server := testserver.KafkaSecurity(t)
	for name, tc := range map[string]struct {
		resource  func(f *fixture) func(*kadm.ACLBuilder) *kadm.ACLBuilder
		operation kadm.ACLOperation
		hint      string
	}{
		"to write the topic": {func(f *fixture) func(*kadm.ACLBuilder) *kadm.ACLBuilder {
			return func(b *kadm.ACLBuilder) *kadm.ACLBuilder { return b.Topics(f.topic) }
		}, kadm.OpWrite, "WRITE"},
		"to commit offsets of the group": {func(f *fixture) func(*kadm.ACLBuilder) *kadm.ACLBuilder {
			return func(b *kadm.ACLBuilder) *kadm.ACLBuilder { return b.Groups(f.slot()) }
		}, kadm.OpRead, "kafka.group_id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			user, password := testserver.UniqueName(t), "secret-of-kafka"
			f.setKafkaPassword(user, password)
			r := f.start(func(c *relay.Config) {
				c.Kafka.Brokers = server.SASLBrokers
				c.Kafka.TLS.CAFile = server.CA
				c.Kafka.SASL = relay.SASLConfig{Mechanism: "SCRAM-SHA-256", Username: user, Password: relay.Secret(password)}
			})
			r.untilStreaming()
			f.emit("a", 0, 1)
			f.consume(f.topic, 1)
			allow := f.forbid(user, tc.resource(f), tc.operation)
			f.emit("a", 1, 1)
			end := ask[string](f, `SELECT pg_current_wal_insert_lsn()::text`)
			s := r.untilHalted(relay.AuthKafka)
			if hint := s.Troubles[0].Hint; !strings.Contains(hint, tc.hint) {
				t.Errorf("hint %q does not say %q", hint, tc.hint)
			}
			f.emit("a", 2, 1)
			r.wantNoHotLoop(class(s))
			// What was on its way before may be confirmed, nothing behind it.
			passed := func() bool {
				return ask[bool](f, `SELECT confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`, end, f.slot())
			}
			if passed() {
				t.Error("the slot moved past an event in a halt")
			}
			allow()
			r.until("ready", func(s relay.StatusReport) bool { return s.Ready && len(s.Troubles) == 0 })
			wantSeqs(t, seqs(t, f, f.topic, 3), 0, 1, 2)
			f.eventually("the slot moves again", passed)
		})
	}
}

// class is under which name the metrics count the errors of a trouble.
func class(s relay.StatusReport) string { return s.Troubles[0].Component }

func TestSecurity_APlaceThatMayNotBeReadAnyMoreHaltsBeforeItGrowsOld(t *testing.T) {
	t.Parallel()
	server := testserver.KafkaSecurity(t)
	f := newFixture(t)
	user, password := testserver.UniqueName(t), "secret-of-kafka"
	f.setKafkaPassword(user, password)
	secured := func(c *relay.Config) {
		c.Kafka.Brokers = server.SASLBrokers
		c.Kafka.TLS.CAFile = server.CA
		c.Kafka.SASL = relay.SASLConfig{Mechanism: "SCRAM-SHA-256", Username: user, Password: relay.Secret(password)}
	}
	r := f.start(secured)
	r.untilStreaming()
	f.emit("a", 0, 1)
	f.consume(f.topic, 1)
	f.eventually("the place is written", func() bool { return r.Status().ConfirmedLSN != "" })
	allow := f.forbid(user, func(b *kadm.ACLBuilder) *kadm.ACLBuilder { return b.Topics(f.topic) }, kadm.OpRead)
	f.emit("a", 1, 1)
	r.untilHalted(relay.AuthKafka)
	allow()
	r.until("ready", func(s relay.StatusReport) bool { return s.Ready })
	r.halt()
	f.start(secured).untilStreaming()
}
