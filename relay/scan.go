package relay

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// scanSilence ends the reading of a partition whose last offsets hold no records.
const scanSilence = 10 * time.Second

// offsets is a run of a partition: from ≤ offset < to.
type offsets struct {
	partition int32
	from, to  int64
}

// readOffsets reads the runs, one after the other; the client fetches them side by side.
// take is called with the run's index. A run whose end holds no records, as transaction
// markers do, ends after a silence.
func readOffsets(consumer sarama.Consumer, topic string, runs []offsets, silent time.Duration, take func(i int, m *sarama.ConsumerMessage)) error {
	open := make([]sarama.PartitionConsumer, 0, len(runs))
	defer func() {
		for _, p := range open {
			p.AsyncClose()
		}
		for _, p := range open {
			for range p.Messages() { // until it is closed
				continue
			}
		}
	}()
	for _, r := range runs {
		p, err := consumer.ConsumePartition(topic, r.partition, r.from)
		if err != nil {
			return err
		}
		open = append(open, p)
	}
	silence := time.NewTimer(silent)
	defer silence.Stop()
	for i, r := range runs {
		for next := r.from; next < r.to; {
			silence.Reset(silent)
			select {
			case m, ok := <-open[i].Messages():
				if !ok {
					return sarama.ErrClosedClient
				}
				next = m.Offset + 1
				if m.Offset < r.to {
					take(i, m)
				}
			case err := <-open[i].Errors():
				return err.Err
			case <-silence.C:
				next = r.to
			}
		}
	}
	return nil
}

// messageHeader returns a header of m, nil where it has none of that name.
func messageHeader(m *sarama.ConsumerMessage, name string) []byte {
	for _, h := range m.Headers {
		if string(h.Key) == name {
			return h.Value
		}
	}
	return nil
}

// scanIDs reads a topic from the records of that time to its present end and calls each with
// the event id of every record that has one. A topic that does not exist has none.
func (c *cluster) scanIDs(topic string, from time.Time, each func(id []byte)) error {
	ids, err := c.client.Partitions(topic)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("topic %q: %w", topic, kafkaError(err))
	}
	var runs []offsets
	for _, id := range ids {
		newest, err := c.client.GetOffset(topic, id, sarama.OffsetNewest)
		if err != nil {
			return fmt.Errorf("topic %q: %w", topic, kafkaError(err))
		}
		oldest, err := c.client.GetOffset(topic, id, sarama.OffsetOldest)
		if err != nil {
			return fmt.Errorf("topic %q: %w", topic, kafkaError(err))
		}
		start, err := c.client.GetOffset(topic, id, from.UnixMilli())
		if err != nil {
			return fmt.Errorf("topic %q: %w", topic, kafkaError(err))
		}
		if start < 0 { // no record is that new
			continue
		}
		if start = max(start, oldest); start < newest {
			runs = append(runs, offsets{id, start, newest})
		}
	}
	if len(runs) == 0 {
		return nil
	}
	consumer, err := sarama.NewConsumerFromClient(c.client)
	if err != nil {
		return fmt.Errorf("topic %q: %w", topic, kafkaError(err))
	}
	defer func() { _ = consumer.Close() }()
	err = readOffsets(consumer, topic, runs, scanSilence, func(_ int, m *sarama.ConsumerMessage) {
		if id := messageHeader(m, ceID); id != nil {
			each(id)
		}
	})
	if err != nil {
		return fmt.Errorf("read topic %q: %w", topic, kafkaError(err))
	}
	return nil
}
