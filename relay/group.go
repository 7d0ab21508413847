package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	// unknownLimit is how many times in a row a place may be unknown to the brokers before it
	// counts as deleted: of a topic that was just made they may not know yet.
	unknownLimit = 5
	// endsEvery is how often the ends of the places are asked for.
	endsEvery = 10 * time.Second
	// maxPlaces is on how many topics the memory is kept, so that it outlives some of them.
	maxPlaces = 3
)

// errNoPlace means that there is no topic yet under which an offset could be committed.
var errNoPlace = errors.New("no topic yet")

// group is the consumer group whose offsets hold the memory. It consumes nothing.
type group struct {
	id   string
	conn *sarama.Broker // to the coordinator, apart from the producing ones; nil for none

	mu     sync.Mutex
	places []place
}

// place is a topic whose partition 0 has the memory as its offset's metadata.
type place struct {
	topic   string
	end     int64 // the offset that is committed: about the partition's end, so that no monitor sees a lag
	asked   time.Time
	unknown int  // times in a row
	held    bool // the memory has stood here
}

// addPlace lets the memory be kept on a topic that exists.
func (g *group) addPlace(topic string, held bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if (held || len(g.places) < maxPlaces) && !slices.ContainsFunc(g.places, func(p place) bool { return p.topic == topic }) {
		g.places = append(g.places, place{topic: topic, held: held})
	}
}

func (g *group) listPlaces() []place {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.places)
}

// settle takes back what listPlaces returned, without places that were deleted.
func (g *group) settle(places []place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range places {
		if i := slices.IndexFunc(g.places, func(q place) bool { return q.topic == p.topic }); i >= 0 {
			g.places[i] = p
		}
	}
	g.places = slices.DeleteFunc(g.places, func(p place) bool { return p.unknown >= unknownLimit })
}

// recall reads the memory, nil for none. Where it stands on several topics the furthest
// counts: a write may have reached only some.
func (c *cluster) recall() (*memory, error) {
	var response *sarama.OffsetFetchResponse
	err := patiently(c.ctx, func() error {
		err := c.atCoordinator(func(b *sarama.Broker) (err error) {
			response, err = b.FetchOffset(&sarama.OffsetFetchRequest{Version: 5, ConsumerGroup: c.group.id}) // of all topics
			if err == nil && response.Err != sarama.ErrNoError {
				err = response.Err
			}
			return err
		})
		if errors.Is(err, sarama.ErrGroupIDNotFound) {
			response = new(sarama.OffsetFetchResponse) // some brokers say so of a group without offsets
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the offsets of group %q: %w", c.group.id, c.groupError(err))
	}
	var furthest *memory
	for topic, partitions := range response.Blocks {
		for _, block := range partitions {
			m, err := parseMemory(block.Metadata)
			if err != nil {
				return nil, fmt.Errorf("the memory in group %q: %w", c.group.id, err)
			}
			if m == nil || block.Err != sarama.ErrNoError {
				continue
			}
			c.group.addPlace(topic, true)
			if furthest == nil || m.after(furthest) {
				furthest = m
			}
		}
	}
	if len(c.group.listPlaces()) == 0 && c.client.RefreshMetadata(c.cfg.DeadLetterTopic) == nil {
		c.group.addPlace(c.cfg.DeadLetterTopic, false)
	}
	return furthest, nil
}

// keep writes the memory. It returns errNoPlace while there is no topic to keep it on.
func (c *cluster) keep(text string) error {
	places := c.group.listPlaces()
	if len(places) == 0 {
		return errNoPlace
	}
	request := &sarama.OffsetCommitRequest{
		Version: 7, ConsumerGroup: c.group.id, ConsumerGroupGeneration: sarama.GroupGenerationUndefined,
	}
	for i := range places {
		p := &places[i]
		if time.Since(p.asked) > endsEvery {
			if end, err := c.client.GetOffset(p.topic, 0, sarama.OffsetNewest); err == nil {
				p.end, p.asked = end, time.Now()
			}
		}
		request.AddBlock(p.topic, 0, p.end, 0, text)
	}
	var response *sarama.OffsetCommitResponse
	err := c.atCoordinator(func(b *sarama.Broker) (err error) {
		response, err = b.CommitOffset(request)
		return err
	})
	if err != nil {
		return c.groupError(err)
	}
	kept := false
	for i := range places {
		p := &places[i]
		answer := sarama.ErrUnknownTopicOrPartition
		if partitions := response.Errors[p.topic]; partitions != nil {
			answer = partitions[0]
		}
		switch answer {
		case sarama.ErrNoError:
			p.unknown, p.held, kept = 0, true, true
		case sarama.ErrUnknownTopicOrPartition:
			p.unknown++
			err = answer
		case sarama.ErrTopicAuthorizationFailed:
			if p.held { // what stands there would grow old, and mislead the next relay
				return halt(AuthKafka, "grant the relay's user READ on it", "the relay keeps its place on topic %q: %w", p.topic, answer)
			}
			c.log.Warn("the relay may not READ the topic, so it cannot keep its place there; grant its user READ", "topic", p.topic)
			p.unknown = unknownLimit
			err = errNoPlace
		default:
			err = answer
		}
	}
	c.group.settle(places)
	if kept {
		return nil
	}
	c.leaveCoordinator()
	return c.groupError(err)
}

// atCoordinator asks the group's coordinator, and finds it anew after an error.
func (c *cluster) atCoordinator(ask func(*sarama.Broker) error) error {
	if c.group.conn == nil {
		b, err := c.client.Coordinator(c.group.id)
		if err != nil {
			return err
		}
		// A connection of its own: the brokers answer in order, and a produce request may wait.
		conn := sarama.NewBroker(b.Addr())
		if err := conn.Open(c.client.Config()); err != nil {
			return err
		}
		c.group.conn = conn
	}
	err := ask(c.group.conn)
	if err != nil {
		c.leaveCoordinator()
	}
	return err
}

func (c *cluster) leaveCoordinator() {
	if c.group.conn != nil {
		_ = c.group.conn.Close()
		c.group.conn = nil
	}
	_ = c.client.RefreshCoordinator(c.group.id)
}

// startPatience is how long a broker that has just started may take to be ready: a coordinator
// may be on the move, or in the making on a cluster that has had no group yet.
const startPatience = 10 * time.Second

// patiently calls ask until it succeeds, fails with what does not pass by itself, or
// startPatience is over.
func patiently(ctx context.Context, ask func() error) error {
	deadline := time.Now().Add(startPatience)
	for n := 0; ; n++ {
		err := ask()
		if err == nil || !startsUp(err) || time.Now().After(deadline) {
			return err
		}
		if sleep(ctx, backoff(n, retryFirst, time.Second)) != nil {
			return err
		}
	}
}

// startsUp reports whether the error is one of a broker that has just started.
func startsUp(err error) bool {
	return coordinatorMoves(err) || moves(err) || errors.Is(err, sarama.ErrControllerNotAvailable) || errors.Is(err, sarama.ErrNotController)
}

// coordinatorMoves reports whether the error passes when the coordinator is found or ready.
func coordinatorMoves(err error) bool {
	return errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) ||
		errors.Is(err, sarama.ErrNotCoordinatorForConsumer) || errors.Is(err, sarama.ErrOffsetsLoadInProgress)
}

// groupError is kafkaError for what is done with the group.
func (c *cluster) groupError(err error) error {
	if errors.Is(err, sarama.ErrGroupAuthorizationFailed) {
		return halt(AuthKafka, fmt.Sprintf("grant the relay's user READ on the group %q, or name another in kafka.group_id", c.group.id), "%w", err)
	}
	return kafkaError(err)
}
