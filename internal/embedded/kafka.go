package embedded

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

// ErrPortInUse says that another process listens on the port that was asked for.
var ErrPortInUse = errors.New("port is in use")

// errPort explains a port that is taken.
func errPort(server string, port int) error {
	return fmt.Errorf("%s: %w: 127.0.0.1:%d; stop what listens there, or choose another port", server, ErrPortInUse, port)
}

// KafkaOptions configures StartKafka. The zero value is a broker on any free port that
// creates topics of 4 partitions when a client asks for them.
type KafkaOptions struct {
	// Port on 127.0.0.1. Defaults to 0: any free one.
	Port int

	// Partitions of every topic. Defaults to 4.
	Partitions int

	// Topics that exist from the start. Others are created when a client asks for them.
	Topics []string

	// Dir keeps topics, records and groups over runs: those that are in it already win over
	// Topics. Defaults to none: all is in memory.
	Dir string
}

// Kafka is a stand-in for a Kafka broker.
type Kafka struct {
	cluster *kfake.Cluster
	gate    *gate
}

// StartKafka starts the stand-in. It serves when StartKafka returns.
func StartKafka(options KafkaOptions) (*Kafka, error) {
	partitions := options.Partitions
	if partitions == 0 {
		partitions = 4
	}
	k := &Kafka{}
	settings := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			gate, err := newGate(network, address)
			if err != nil {
				return nil, err
			}
			k.gate = gate
			return gate, nil
		}),
		kfake.Ports(options.Port),
		kfake.AllowAutoTopicCreation(),
		kfake.DefaultNumPartitions(partitions),
		kfake.SeedTopics(int32(partitions), options.Topics...),
	}
	if options.Dir != "" {
		settings = append(settings, kfake.DataDir(options.Dir))
	}
	cluster, err := kfake.NewCluster(settings...)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errPort("start the Kafka stand-in", options.Port)
	}
	if err != nil {
		return nil, fmt.Errorf("start the Kafka stand-in: %w", err)
	}
	k.cluster = cluster
	return k, nil
}

// Brokers returns the addresses that clients connect to first.
func (k *Kafka) Brokers() []string { return k.cluster.ListenAddrs() }

// Cut closes the port and every connection. To all clients the broker is down; but it goes on
// behind the closed port, for its records live in this process.
func (k *Kafka) Cut() { k.gate.cut() }

// Restore opens the port again after Cut. It fails if somebody else has taken it meanwhile.
func (k *Kafka) Restore() error { return k.gate.open() }

// Stop disconnects all clients and forgets all records that are not kept in a directory.
func (k *Kafka) Stop() {
	k.gate.cut()
	k.cluster.Close()
}
