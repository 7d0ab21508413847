package shop

import (
	"errors"
	"fmt"
	"strings"

	"github.com/IBM/sarama"

	"github.com/postrider/postrider/examples/orders/service"
)

// Topics are the topics of the events, and those of the dead letters.
func Topics(env service.Env) (events, deadLetters []string) {
	for _, topic := range []string{service.OrderTopic, service.InventoryTopic, service.PaymentTopic, service.ShipmentTopic} {
		events = append(events, env.Prefix+topic)
	}
	for _, name := range []string{service.Order, service.Inventory, service.Payment, service.Shipping} {
		deadLetters = append(deadLetters, env.DeadLetters(name))
	}
	return events, deadLetters
}

// CreateTopics makes what is missing of the topics, with that many replicas (-1: the broker's
// default); those of dead letters have one partition.
func CreateTopics(env service.Env, partitions int32, replicas int16) error {
	conf := env.Kafka
	if conf == nil {
		conf = sarama.NewConfig()
	}
	admin, err := sarama.NewClusterAdmin(env.Brokers, conf)
	if err != nil {
		return fmt.Errorf("connect to Kafka at %s: %w", strings.Join(env.Brokers, ","), err)
	}
	defer admin.Close()
	events, deadLetters := Topics(env)
	create := func(topics []string, partitions int32) error {
		for _, topic := range topics {
			err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: replicas}, false)
			if err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
				return fmt.Errorf("create topic %s: %w", topic, err)
			}
		}
		return nil
	}
	if err := create(events, partitions); err != nil {
		return err
	}
	return create(deadLetters, 1)
}
