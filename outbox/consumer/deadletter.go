package consumer

import (
	"slices"
	"strconv"
	"strings"

	"github.com/IBM/sarama"
)

// Headers of a dead letter, beside those of the record. The first three are also the relay's.
const (
	HeaderErrorCode = "postrider-error-code"
	HeaderError     = "postrider-error"
	HeaderTopic     = "postrider-topic" // where the record was, with
	HeaderPartition = "postrider-partition"
	HeaderOffset    = "postrider-offset"
	HeaderConsumer  = "postrider-consumer" // the group that could not handle it
	HeaderFailures  = "postrider-failures" // how often
)

// maxError bounds the text of an error in a header, which can have a stack in it.
const maxError = 4 << 10

// newDeadLetter is the record as it came, with why it is here. A record that is a dead letter
// for the second time tells of the second only.
func newDeadLetter(msg *sarama.ConsumerMessage, topic, consumer string, cause error, failures int) *sarama.ProducerMessage {
	text := cause.Error()
	if len(text) > maxError {
		text = text[:maxError]
	}
	own := []sarama.RecordHeader{
		{Key: []byte(HeaderErrorCode), Value: []byte(codeOf(cause))},
		{Key: []byte(HeaderError), Value: []byte(strings.ToValidUTF8(text, "\uFFFD"))},
		{Key: []byte(HeaderTopic), Value: []byte(msg.Topic)},
		{Key: []byte(HeaderPartition), Value: strconv.AppendInt(nil, int64(msg.Partition), 10)},
		{Key: []byte(HeaderOffset), Value: strconv.AppendInt(nil, msg.Offset, 10)},
		{Key: []byte(HeaderConsumer), Value: []byte(consumer)},
		{Key: []byte(HeaderFailures), Value: strconv.AppendInt(nil, int64(failures), 10)},
	}
	letter := &sarama.ProducerMessage{Topic: topic}
	for _, h := range msg.Headers {
		if !slices.ContainsFunc(own, func(o sarama.RecordHeader) bool { return string(o.Key) == string(h.Key) }) {
			letter.Headers = append(letter.Headers, *h)
		}
	}
	letter.Headers = append(letter.Headers, own...)
	// A nil encoder is null, which is not the same as empty.
	if msg.Key != nil {
		letter.Key = sarama.ByteEncoder(msg.Key)
	}
	if msg.Value != nil {
		letter.Value = sarama.ByteEncoder(msg.Value)
	}
	return letter
}
