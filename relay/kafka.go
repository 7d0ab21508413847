package relay

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

const (
	saslPlain    = "PLAIN"
	saslScram256 = "SCRAM-SHA-256"
	saslScram512 = "SCRAM-SHA-512"

	kafkaTimeout = 10 * time.Second
	// answerTimeout is how long a broker may take to answer; it has kafkaTimeout to have a batch
	// acknowledged by the replicas.
	answerTimeout = kafkaTimeout + 5*time.Second
	// maxRequests is how many produce requests wait for one broker at a time: one that it
	// works on and one on the wire.
	maxRequests = 2
)

var compressionCodecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

// saramaConfig is the client's configuration. Requests are produced by publish.go, not by
// sarama's producer, so only what concerns connections and metadata matters here.
func (c KafkaConfig) saramaConfig() (*sarama.Config, error) {
	conf := sarama.NewConfig()
	conf.Version = sarama.V3_6_0_0 // an upper bound: each request is negotiated with the broker
	conf.ClientID = c.ClientID
	conf.MetricRegistry = noMetrics{}
	conf.Net.DialTimeout, conf.Net.ReadTimeout, conf.Net.WriteTimeout = kafkaTimeout, answerTimeout, kafkaTimeout
	conf.Net.MaxOpenRequests = maxRequests
	conf.Consumer.Return.Errors = true
	conf.Consumer.MaxWaitTime = 50 * time.Millisecond
	conf.Metadata.AllowAutoTopicCreation = false // a topic nobody made is a mistake, or ours to make as configured
	conf.Metadata.Retry.Max = 0                  // we retry ourselves, and say so
	conf.Metadata.Full = false
	tlsConf, err := c.TLS.load()
	if err != nil {
		return nil, fmt.Errorf("kafka.tls: %w", err)
	}
	if tlsConf != nil {
		conf.Net.TLS.Enable, conf.Net.TLS.Config = true, tlsConf
	}
	if c.SASL.Mechanism != "" {
		conf.Net.SASL.Enable = true
		conf.Net.SASL.Mechanism = sarama.SASLMechanism(c.SASL.Mechanism)
		conf.Net.SASL.User, conf.Net.SASL.Password = c.SASL.Username, string(c.SASL.Password)
		switch c.SASL.Mechanism {
		case saslScram256:
			conf.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: sha256.New} }
		case saslScram512:
			conf.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: sha512.New} }
		}
	}
	return conf, nil
}

// scramClient runs one SCRAM conversation (RFC 5802) for sarama.
type scramClient struct {
	hash         func() hash.Hash
	conversation *scram.ClientConversation
}

func (s *scramClient) Begin(user, password, authzID string) error {
	client, err := scram.HashGeneratorFcn(s.hash).NewClient(user, password, authzID)
	if err != nil {
		return err
	}
	s.conversation = client.NewConversation()
	return nil
}

func (s *scramClient) Step(challenge string) (string, error) { return s.conversation.Step(challenge) }

func (s *scramClient) Done() bool { return s.conversation.Done() }

// cluster is the connection to Kafka of one session: metadata, topics and brokers.
type cluster struct {
	client sarama.Client
	cut    func() // ends all connections, now and for good; from any goroutine
	dialer *dialer
	cfg    KafkaConfig
	log    *slog.Logger
	topics map[string]*topic // owned by the encoder
	known  map[string][]Position
	// confirmed is where the slot stood when the session began.
	confirmed LSN
	lasting   string // a topic whose records are kept for ever, if it is made
	// since is when the last repair began: what stands in the topics from before has positions of
	// another slot, perhaps of another server.
	since time.Time
	// compared says that what is published was compared with the topics already.
	compared bool
	// settled says that the relay before stopped with nothing on the wire.
	settled bool
	// held is when this session got the slot, before the first record of the stream.
	held    time.Time
	group   group
	ctx     context.Context //nolint:containedctx // ends with cut; sarama knows no contexts
	key     keyEncoder
	message sarama.ProducerMessage
}

// topic is a topic that exists. The number of partitions stays what it was at first sight
// for the session, so that a key does not change its partition under way.
type topic struct {
	name       string
	partitions []*partition
	tail       tail
	murmur2    sarama.Partitioner
}

// keyEncoder hands a key to sarama's partitioner without an allocation.
type keyEncoder struct{ key []byte }

func (k *keyEncoder) Encode() ([]byte, error) { return k.key, nil }
func (k *keyEncoder) Length() int             { return len(k.key) }

// openCluster connects to any of the brokers. known is what positions returned at the end of
// the session before, nil for none.
func openCluster(cfg KafkaConfig, known map[string][]Position, log *slog.Logger) (*cluster, error) {
	conf, err := cfg.saramaConfig()
	if err != nil {
		return nil, err
	}
	ctx, cut := context.WithCancel(context.Background())
	dialer := newDialer(ctx, kafkaTimeout)
	conf.Net.Proxy.Enable, conf.Net.Proxy.Dialer = true, dialer
	client, err := sarama.NewClient(cfg.Brokers, conf)
	if err != nil {
		cut()
		return nil, fmt.Errorf("connect to Kafka at %s: %w", strings.Join(cfg.Brokers, ","), kafkaError(err))
	}
	c := &cluster{
		client: client, ctx: ctx, cut: cut, dialer: dialer, cfg: cfg, log: log,
		topics: make(map[string]*topic), known: known, group: group{id: cfg.GroupID},
	}
	c.message.Key = &c.key
	return c, nil
}

// close ends the connections first: the client would wait for answers that nobody takes.
func (c *cluster) close() {
	c.cut()
	if c.group.conn != nil {
		_ = c.group.conn.Close()
	}
	_ = c.client.Close()
}

// producer asks for a producer id, under which the brokers recognize a batch that is sent
// twice.
func (c *cluster) producer() (id int64, epoch int16, err error) {
	var res *sarama.InitProducerIDResponse
	err = patiently(c.ctx, func() (err error) {
		res, err = c.client.InitProducerID()
		if err == nil && res.Err != sarama.ErrNoError {
			err = res.Err
		}
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("init producer id: %w", kafkaError(err))
	}
	return res.ProducerID, res.ProducerEpoch, nil
}

// topic returns the topic of that name. One that does not exist is made where the
// configuration says so, and is the halt TOPIC_MISSING otherwise.
func (c *cluster) topic(name []byte) (*topic, error) {
	if t := c.topics[string(name)]; t != nil {
		return t, nil
	}
	return c.lookUpTopic(string(name))
}

func (c *cluster) lookUpTopic(name string) (*topic, error) {
	err := c.client.RefreshMetadata(name)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		if c.cfg.CreateTopics.Partitions == 0 {
			return nil, halt(TopicMissing, "create it, or let the relay do so: kafka.create_topics: {partitions: 8}",
				"topic %q does not exist", name)
		}
		if err := c.createTopic(name); err != nil {
			return nil, err
		}
		err = c.client.RefreshMetadata(name)
	}
	if err != nil {
		return nil, fmt.Errorf("topic %q: %w", name, kafkaError(err))
	}
	ids, err := c.client.Partitions(name)
	if err != nil {
		return nil, fmt.Errorf("topic %q: %w", name, kafkaError(err))
	}
	t := &topic{name: name, murmur2: sarama.NewMurmur2Partitioner(name)}
	known := c.known[name]
	if len(known) != len(ids) {
		// Of this topic nobody in this process knows what it ends with.
		if t.tail, err = c.tailOf(name, ids); err != nil {
			return nil, fmt.Errorf("read the end of topic %q: %w", name, kafkaError(err))
		}
	}
	for i, id := range ids {
		p := &partition{topic: name, id: id}
		if len(known) == len(ids) { // with other partitions, keys have moved and positions say nothing
			p.known = known[i]
		}
		t.partitions = append(t.partitions, p)
	}
	c.topics[name] = t
	c.group.addPlace(name, false)
	return t, nil
}

// positions returns for every topic the position of the last record appended to each of
// its partitions. A topic with a batch of which that is not known is left out, and so is one
// whose tail the stream has not passed yet: its end has to be read, or read again. It may be
// called when encoder and publisher have ended.
func (c *cluster) positions() map[string][]Position {
	known := maps.Clone(c.known)
	if known == nil {
		known = make(map[string][]Position)
	}
	for name, t := range c.topics {
		if len(t.tail.ids) > 0 || slices.ContainsFunc(t.partitions, func(p *partition) bool { return p.batch != nil }) {
			delete(known, name)
			continue
		}
		known[name] = make([]Position, len(t.partitions))
		for i, p := range t.partitions {
			known[name][i] = p.known
			if p.known.Less(p.appended) {
				known[name][i] = p.appended
			}
		}
	}
	return known
}

// tailOf reads the topic's tail, if the relay may read it.
func (c *cluster) tailOf(name string, partitions []int32) (tail, error) {
	if c.compared {
		return tail{}, nil
	}
	if !c.settled && c.confirmed != 0 { // else there is no relay whose last requests may be on the wire
		if err := sleep(c.ctx, time.Until(c.held.Add(tailGrace))); err != nil {
			return tail{}, err
		}
	}
	t, err := c.readTail(name, partitions, c.confirmed)
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
		c.log.Warn("the relay may not read the topic: after a crash, events that were on their way are published twice; "+
			"grant its user READ", "topic", name)
		return tail{}, nil
	}
	if len(t.ids) > 0 {
		c.log.Info("events at the topic's end are not confirmed and will be skipped", "topic", name, "events", len(t.ids))
	}
	return t, err
}

func (c *cluster) createTopic(name string) error {
	admin, err := sarama.NewClusterAdminFromClient(c.client)
	if err != nil {
		return fmt.Errorf("create topic %q: %w", name, kafkaError(err))
	}
	detail := sarama.TopicDetail{
		NumPartitions:     c.cfg.CreateTopics.Partitions,
		ReplicationFactor: c.cfg.CreateTopics.ReplicationFactor,
	}
	if name == c.lasting {
		forever := "-1"
		detail.ConfigEntries = map[string]*string{"retention.ms": &forever, "retention.bytes": &forever}
	}
	err = admin.CreateTopic(name, &detail, false)
	if err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("create topic %q: %w", name, kafkaError(err))
	}
	c.log.Info("topic created", "topic", name, "partitions", c.cfg.CreateTopics.Partitions)
	return nil
}

// partitionFor returns the partition of key, chosen as Java clients choose it.
func (c *cluster) partitionFor(t *topic, key []byte) *partition {
	c.key.key = key
	n, err := t.murmur2.Partition(&c.message, int32(len(t.partitions)))
	if err != nil {
		panic(err) // only a key that cannot be encoded fails, and ours are bytes
	}
	return t.partitions[n]
}

// refresh asks the brokers for the topic's partitions and their leaders.
func (c *cluster) refresh(topic string) error { return kafkaError(c.client.RefreshMetadata(topic)) }

// leader returns the open connection to the partition's leader, as far as it is known.
func (c *cluster) leader(p *partition) (*sarama.Broker, error) {
	b, err := c.client.Leader(p.topic, p.id)
	if err != nil {
		return nil, kafkaError(err)
	}
	return b, nil
}

// kafkaError turns what no waiting mends into its named halt and returns every other error
// as it is.
func kafkaError(err error) error {
	switch {
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed), errors.Is(err, sarama.ErrUnsupportedSASLMechanism),
		errors.Is(err, sarama.ErrIllegalSASLState):
		return &HaltError{Code: AuthKafka, Err: err, Hint: "check kafka.sasl"}
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrClusterAuthorizationFailed):
		return &HaltError{Code: AuthKafka, Err: err, Hint: "grant the relay's user WRITE, READ and DESCRIBE on its topics " +
			"(and CREATE where kafka.create_topics is set)"}
	case err != nil && (strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "x509: ")):
		return &HaltError{Code: AuthKafka, Err: err, Hint: "check kafka.tls and the certificates' dates"}
	}
	return err
}

// batchVerdict is what the answer to a batch means.
type batchVerdict int

const (
	batchAppended batchVerdict = iota
	batchRetry                 // send the same batch again, perhaps elsewhere
	batchRefused               // the records themselves are refused
	batchFatal                 // this producer cannot go on; a new one can
)

// judge reads the error that a broker gave for a batch.
func judge(err sarama.KError) batchVerdict {
	switch err {
	case sarama.ErrNoError,
		sarama.ErrDuplicateSequenceNumber: // it has been appended before, and the answer was lost
		return batchAppended
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge, sarama.ErrInvalidRecord, sarama.ErrPolicyViolation:
		return batchRefused
	case sarama.ErrInvalidTimestamp, // a new batch has a new one
		sarama.ErrOutOfOrderSequenceNumber, sarama.ErrUnknownProducerID, sarama.ErrInvalidProducerEpoch,
		sarama.ErrProducerFenced, sarama.ErrUnsupportedForMessageFormat, sarama.ErrUnsupportedVersion, sarama.ErrInvalidRequiredAcks:
		return batchFatal
	}
	return batchRetry
}

// backoff returns how long to wait before attempt n (from 0) is tried again: from min,
// doubling up to max, with a jitter of a fifth.
func backoff(n int, first, limit time.Duration) time.Duration {
	d := limit
	if n < 16 {
		d = min(first<<n, limit)
	}
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}

// sleep waits for d or until ctx ends, whose cause it then returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
