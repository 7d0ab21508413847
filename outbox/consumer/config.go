package consumer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/IBM/sarama"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/inbox"
	schemaregistry "github.com/postrider/postrider/schema-registry"
)

// Defaults of Config.
const (
	DefaultAttempts   = 8
	DefaultMinBackoff = 100 * time.Millisecond
	DefaultMaxBackoff = 30 * time.Second
	DefaultGrace      = 5 * time.Second
)

// Config says what to consume and how. Brokers, Group, Topics and Handler are required.
type Config struct {
	// Brokers are addresses of the cluster, any of them.
	Brokers []string

	// Group is the consumer group, and the name under which events are marked in the inbox.
	Group string

	// Topics are what the group consumes. They must exist.
	Topics []string

	// Handler handles an event in a transaction of its own: Pgx or SQL.
	Handler Handler

	// Registry finds the writer schemas of Avro records. Defaults to none: then values are not
	// looked at, and Record.Decode is an error. Schemas that need others by reference cannot
	// be decoded; those of package outbox are complete in themselves.
	Registry *schemaregistry.Client

	// Schemas are the schemas that the handler's types were generated from. A record of one
	// of their names is decoded as that schema's, with its defaults for what the writer did
	// not know (Avro 1.12, "Schema Resolution"). All others are decoded as they were written.
	Schemas []*outbox.Schema

	// Inbox is the table of marks. Defaults to public.inbox.
	Inbox *inbox.Inbox

	// DeadLetterTopic takes what cannot be handled. It must exist, and must not be that of a
	// relay. Defaults to the group's name with _dead_letter behind it.
	DeadLetterTopic string

	// Attempts is how often a handler may fail at an event before that becomes a dead letter.
	// Defaults to DefaultAttempts: with the pauses' defaults, after some 13 seconds.
	Attempts int

	// MinBackoff is the pause after the first failure; each following is twice as long, up to
	// MaxBackoff, and each is shortened at random by up to a half. Default to
	// DefaultMinBackoff and DefaultMaxBackoff.
	MinBackoff, MaxBackoff time.Duration

	// Grace is how long a handler may finish the event that it has in hand when the consumer
	// stops or its partitions are about to move. It is at most half of the group's rebalance
	// timeout. Defaults to DefaultGrace.
	Grace time.Duration

	// Kafka is sarama's configuration, for TLS, SASL, client id, the group's strategy and
	// timeouts. It is copied, and changed where Run depends on it. Defaults to sarama's own,
	// but with a group that is new beginning at the oldest record.
	//
	// With a cooperative strategy a handler at work on a partition that moves has the group's
	// rebalance timeout instead of Grace, for the partition is nobody else's till then.
	Kafka *sarama.Config

	// Log gets a line for each change of state: joining, a failing event, a dead letter.
	// Defaults to none.
	Log *slog.Logger

	// Count, when set, is called for every outcome, from several goroutines, and does not
	// block: for metrics.
	Count func(topic string, outcome Outcome)
}

// Outcome is what became of an attempt at a record.
type Outcome string

// The outcomes. Each record has one of Handled, Duplicate and DeadLettered at its end, and
// any number of Failed and Waited before.
const (
	Handled      Outcome = "handled"
	Duplicate    Outcome = "duplicate"     // was handled before: the handler did not run
	Failed       Outcome = "failed"        // it failed, and may be tried again
	Waited       Outcome = "waited"        // trouble that is not the event's, such as a database that is down
	DeadLettered Outcome = "dead_lettered" // the dead-letter topic has acknowledged it
)

// complete returns cfg with its defaults, or all that is wrong with it.
func (cfg Config) complete() (Config, error) {
	if cfg.DeadLetterTopic == "" {
		cfg.DeadLetterTopic = cfg.Group + "_dead_letter"
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = DefaultAttempts
	}
	if cfg.MinBackoff == 0 {
		cfg.MinBackoff = DefaultMinBackoff
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = max(DefaultMaxBackoff, cfg.MinBackoff)
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Count == nil {
		cfg.Count = func(string, Outcome) {}
	}
	var errs []error
	if cfg.Inbox == nil {
		box, err := inbox.New(inbox.Config{})
		errs = append(errs, err)
		cfg.Inbox = box
	}
	cfg.Kafka = kafkaConfig(cfg.Kafka)
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(len(cfg.Brokers) == 0, "Brokers is empty")
	wrong(cfg.Group == "", "Group is empty")
	wrong(len(cfg.Group) > 256, "Group is longer than 256 bytes")
	wrong(len(cfg.Topics) == 0, "Topics is empty")
	wrong(cfg.Handler == nil, "Handler is nil")
	wrong(cfg.Attempts < 0, "Attempts is %d", cfg.Attempts)
	wrong(cfg.MinBackoff < 0 || cfg.MinBackoff > cfg.MaxBackoff, "MinBackoff is %s, MaxBackoff %s", cfg.MinBackoff, cfg.MaxBackoff)
	longest := cfg.Kafka.Consumer.Group.Rebalance.Timeout / 2
	wrong(cfg.Grace < 0 || cfg.Grace > longest, "Grace is %s: want at most %s, half of Kafka.Consumer.Group.Rebalance.Timeout", cfg.Grace, longest)
	for _, topic := range cfg.Topics {
		wrong(topic == cfg.DeadLetterTopic, "Topics and DeadLetterTopic are both %q: a dead letter would be consumed again", topic)
	}
	return cfg, errors.Join(errs...)
}

// kafkaConfig copies a configuration and sets what the loop depends on.
func kafkaConfig(given *sarama.Config) *sarama.Config {
	if given == nil {
		given = sarama.NewConfig()
		given.ClientID = "postrider-consumer"
		given.Consumer.Offsets.Initial = sarama.OffsetOldest
	}
	conf := *given
	conf.Consumer.Return.Errors = true
	// What is marked has been handled; only the last second of it may come again after a crash.
	conf.Consumer.Offsets.AutoCommit.Enable = true
	conf.Producer.RequiredAcks = sarama.WaitForAll
	conf.Producer.Return.Successes, conf.Producer.Return.Errors = true, true
	conf.Producer.Partitioner = sarama.NewMurmur2Partitioner
	// A dead letter is a record that the brokers took before, with a few headers more: whether
	// it is too large is theirs to say.
	conf.Producer.MaxMessageBytes = int(sarama.MaxRequestSize) - 1
	conf.Metadata.AllowAutoTopicCreation = false // a topic that nobody made is a mistake
	return &conf
}
