package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

const (
	fetchBytes = 1 << 20
	// fetchWait is how long a broker may take for a fetch of records that are there.
	fetchWait = 500 * time.Millisecond
	// fetchAttempts bounds how often in a row a partition may answer without records.
	fetchAttempts = 20
)

// topicReader reads all records of a topic, whoever leads its partitions, up to where each
// partition ends when it is asked. sarama's consumer cannot be asked whether it has come to
// an offset that holds a transaction marker; this counts batches, not records.
type topicReader struct {
	cluster    *cluster
	name       string
	partitions []int32
	next       map[int32]int64 // offset by partition
	gone       int64           // records that retention had removed before they were read
}

// recordHeader is a header as sarama reads it.
type recordHeader = sarama.RecordHeader

// topicRecord is a record as it stands in a topic. Its slices hold for the call.
type topicRecord struct {
	key     []byte
	headers []*recordHeader
	time    time.Time
}

// readTopic returns a reader that begins with the topic's first record. A topic that does
// not exist has none.
func (c *cluster) readTopic(name string) (*topicReader, error) {
	r := &topicReader{cluster: c, name: name, next: make(map[int32]int64)}
	err := c.client.RefreshMetadata(name)
	if err == nil {
		r.partitions, err = c.client.Partitions(name)
	}
	if err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return nil, fmt.Errorf("topic %q: %w", name, kafkaError(err))
	}
	for _, id := range r.partitions {
		oldest, err := c.client.GetOffset(name, id, sarama.OffsetOldest)
		if err != nil {
			return nil, fmt.Errorf("topic %q: %w", name, kafkaError(err))
		}
		r.next[id] = oldest
		r.gone += oldest
	}
	return r, nil
}

// toEnd passes over what the topic holds now.
func (r *topicReader) toEnd() error {
	for _, id := range r.partitions {
		end, err := r.cluster.client.GetOffset(r.name, id, sarama.OffsetNewest)
		if err != nil {
			return fmt.Errorf("topic %q: %w", r.name, kafkaError(err))
		}
		r.next[id] = end
	}
	return nil
}

// read hands every record up to the present end of each partition to take, in their order
// by partition. Another call goes on from there. It returns early, with the cause, when ctx
// ends.
func (r *topicReader) read(ctx context.Context, take func(topicRecord)) error {
	for _, id := range r.partitions {
		end, err := r.cluster.client.GetOffset(r.name, id, sarama.OffsetNewest)
		if err != nil {
			return fmt.Errorf("topic %q: %w", r.name, kafkaError(err))
		}
		for failed := 0; r.next[id] < end; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			before := r.next[id]
			err := r.fetch(id, take)
			if r.next[id] > before {
				failed = 0
				continue
			}
			if failed++; failed < fetchAttempts && (err == nil || moves(err)) {
				if err == nil {
					continue // throttled; the broker has waited
				}
				if err := sleep(ctx, backoff(failed, retryFirst, retryLimit)); err != nil {
					return err
				}
				_ = r.cluster.client.RefreshMetadata(r.name) // the next fetch says
				continue
			}
			if err == nil {
				err = errors.New("no answer holds records, though there are some")
			}
			return fmt.Errorf("topic %q: read partition %d from offset %d of %d: %w", r.name, id, before, end, kafkaError(err))
		}
	}
	return nil
}

// moves reports whether another broker, or the same one in a moment, can do better.
func moves(err error) bool {
	return errors.Is(err, sarama.ErrNotLeaderForPartition) || errors.Is(err, sarama.ErrLeaderNotAvailable) ||
		errors.Is(err, sarama.ErrReplicaNotAvailable) || errors.Is(err, sarama.ErrBrokerNotAvailable) ||
		errors.Is(err, sarama.ErrUnknownLeaderEpoch) || errors.Is(err, sarama.ErrOffsetNotAvailable)
}

// fetch asks for one piece of a partition.
func (r *topicReader) fetch(id int32, take func(topicRecord)) error {
	broker, err := r.cluster.client.Leader(r.name, id)
	if err != nil {
		return err
	}
	req := &sarama.FetchRequest{
		Version: 11, MinBytes: 1, MaxBytes: fetchBytes, MaxWaitTime: int32(fetchWait / time.Millisecond), SessionEpoch: -1,
	}
	req.AddBlock(r.name, id, r.next[id], fetchBytes, -1)
	res, err := broker.Fetch(req)
	if err != nil {
		return err
	}
	block := res.GetBlock(r.name, id)
	if block == nil {
		return sarama.ErrIncompleteResponse
	}
	if errors.Is(block.Err, sarama.ErrOffsetOutOfRange) {
		oldest, err := r.cluster.client.GetOffset(r.name, id, sarama.OffsetOldest)
		if err != nil {
			return err
		}
		if oldest > r.next[id] { // retention was quicker
			r.gone += oldest - r.next[id]
			r.next[id] = oldest
			return nil
		}
	}
	if block.Err != sarama.ErrNoError {
		return block.Err
	}
	for _, set := range block.RecordsSet {
		r.batch(id, set, take)
	}
	return nil
}

// batch hands over the records of a batch that were not read before.
func (r *topicReader) batch(id int32, set *sarama.Records, take func(topicRecord)) {
	if set.MsgSet != nil { // from before there were headers: none of ours
		for _, m := range set.MsgSet.Messages {
			r.next[id] = max(r.next[id], m.Offset+1)
		}
		return
	}
	b := set.RecordBatch
	if b == nil || b.PartialTrailingRecord {
		return
	}
	for _, record := range b.Records {
		if b.Control || b.FirstOffset+record.OffsetDelta < r.next[id] {
			continue
		}
		take(topicRecord{record.Key, record.Headers, b.FirstTimestamp.Add(record.TimestampDelta)})
	}
	r.next[id] = max(r.next[id], b.LastOffset()+1)
}

// forgetful returns which setting of a topic lets records vanish from it, or "" for none and
// for what may not be known.
func (c *cluster) forgetful(name string) string {
	admin, err := sarama.NewClusterAdminFromClient(c.client)
	if err != nil {
		return ""
	}
	answers, err := admin.DescribeConfigs([]*sarama.ConfigResource{{
		Type: sarama.TopicResource, Name: name, ConfigNames: []string{"cleanup.policy", "retention.ms", "retention.bytes"},
	}}, sarama.DescribeConfigsOptions{})
	if err != nil || len(answers) == 0 {
		return "" // the right to describe configurations is not one that the relay must have
	}
	for _, e := range answers[0].Configs {
		keeps := "-1"
		if e.Name == "cleanup.policy" {
			keeps = "delete"
		}
		if e.Value != keeps {
			return e.Name + "=" + e.Value
		}
	}
	return ""
}
