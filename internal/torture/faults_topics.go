package torture

import (
	"context"
	"fmt"
	"slices"

	"github.com/postrider/postrider/relay"
)

// topicFaults happen to the topics.
var topicFaults = []Fault{
	{
		Name: "topic-missing", Row: 10, What: "events for a topic that does not exist until it is made",
		Operator: true,
		Run: func(ctx context.Context, a *Arena) error {
			d := a.single("missing")
			d.topic = fmt.Sprintf("%s.extra%d", a.name, a.rng.Uint32())
			return a.halts(ctx, []relay.HaltCode{relay.TopicMissing}, func() error { return a.emit(d) }, func() error {
				return a.addTopic(ctx, d.topic)
			})
		},
	},
	{
		Name: "topic-deleted", Row: 10, What: "a topic deleted while events go to it, and made again",
		Operator: true,
		Run: func(ctx context.Context, a *Arena) error {
			d := a.single("deleted")
			d.topic = fmt.Sprintf("%s.doomed%d", a.name, a.rng.Uint32())
			if err := a.addTopic(ctx, d.topic); err != nil {
				return err
			}
			gone := d
			gone.fate = toDeleted
			if err := a.emit(gone); err != nil {
				return err
			}
			if _, ok := a.recover(ctx); !ok {
				return fmt.Errorf("nothing arrives in the new topic %s", d.topic)
			}
			return a.halts(ctx, []relay.HaltCode{relay.TopicMissing}, func() error {
				if err := a.dropTopic(ctx, d.topic); err != nil {
					return err
				}
				return a.emit(d)
			}, func() error { return a.addTopic(ctx, d.topic) })
		},
	},
	{
		Name: "partitions-added", Row: 10, What: "two partitions added to each topic under load",
		Operator: true,
		Forgives: map[string]string{
			"I2": "keys move to other partitions while events of theirs are on the way",
			"I3": "the relay's memory of what is in a topic ends with its number of partitions",
		},
		Run: func(ctx context.Context, a *Arena) error {
			responses, err := a.admin.CreatePartitions(ctx, 2, a.topics...)
			if err != nil {
				return err
			}
			return responses.Error()
		},
	},
}

// addTopic creates a topic and has it read.
func (a *Arena) addTopic(ctx context.Context, topic string) error {
	if err := a.makeTopic(ctx, topic, nil); err != nil {
		return err
	}
	a.mu.Lock()
	a.extra = append(a.extra, topic)
	a.mu.Unlock()
	a.consumer.client.AddConsumeTopics(topic)
	return nil
}

// dropTopic deletes a topic that addTopic has made.
func (a *Arena) dropTopic(ctx context.Context, topic string) error {
	a.consumer.client.PurgeTopicsFromConsuming(topic)
	a.mu.Lock()
	a.extra = slices.DeleteFunc(a.extra, func(t string) bool { return t == topic })
	a.mu.Unlock()
	responses, err := a.admin.DeleteTopics(ctx, topic)
	if err != nil {
		return err
	}
	return responses.Error()
}
