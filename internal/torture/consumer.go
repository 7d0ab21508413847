package torture

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consumer reads all topics while the run lasts, with a client that shares no code with
// the relay's, and tells the ledger what it has seen.
type consumer struct {
	client *kgo.Client
	ledger *ledger
	done   chan struct{}
}

func newReader(brokers []string, topics []string) (*kgo.Client, error) {
	return kgo.NewClient(
		kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.MetadataMinAge(200*time.Millisecond), kgo.MetadataMaxAge(2*time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
	)
}

func startConsumer(brokers []string, topics []string, l *ledger) (*consumer, error) {
	client, err := newReader(brokers, topics)
	if err != nil {
		return nil, err
	}
	c := &consumer{client: client, ledger: l, done: make(chan struct{})}
	go c.run() // ends when the client is closed
	return c, nil
}

func (c *consumer) run() {
	defer close(c.done)
	for {
		fetches := c.client.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		fetches.EachRecord(func(r *kgo.Record) { c.ledger.deliver(header(r, "ce_id")) })
	}
}

func (c *consumer) close() {
	c.client.Close()
	<-c.done
}

// header returns a header of r, or "".
func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
