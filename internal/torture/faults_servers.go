package torture

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// serverFaults happen to Postgres and to Kafka.
var serverFaults = []Fault{
	{
		Name: "pg-restart", Row: 3, Handover: true, What: "Postgres restarted", Needs: OwnPostgres,
		Run: func(ctx context.Context, a *Arena) error { return a.servers.postgres.cycle(ctx, a) },
	},
	{
		Name: "pg-crash", Row: 3, Handover: true, What: "Postgres crashed, recovering at its start", Needs: OwnPostgres,
		Run: func(ctx context.Context, a *Arena) error { return a.servers.postgres.cycle(ctx, a, "--immediate") },
	},
	{
		Name: "walsender", Row: 3, Handover: true, What: "the walsender terminated five times",
		Run: func(ctx context.Context, a *Arena) error {
			var last int32
			for range 5 {
				pid, err := a.endWalsender(ctx, last)
				if err != nil {
					return err
				}
				last = pid
				a.chance(ctx, 300*time.Millisecond)
			}
			return nil
		},
	},
	{
		Name: "broker-restart", Row: 9, What: "one broker restarted", Needs: OwnKafka,
		Run: func(ctx context.Context, a *Arena) error { return a.servers.cycleNode(ctx, a, 0) },
	},
	{
		Name: "broker-kill", Row: 9, What: "one broker killed", Needs: OwnKafka,
		Run: func(ctx context.Context, a *Arena) error { return a.servers.cycleNode(ctx, a, 0, "--immediate") },
	},
	{
		Name: "leader-kill", Row: 9, What: "the leader of a partition killed; another takes over", Needs: ThreeNodes,
		Run: func(ctx context.Context, a *Arena) error {
			topics, err := a.admin.ListTopics(ctx, a.topics[0])
			if err != nil {
				return err
			}
			leader := topics[a.topics[0]].Partitions[int32(a.rng.IntN(partitions))].Leader
			return a.servers.cycleNode(ctx, a, int(leader), "--immediate")
		},
	},
	{
		Name: "min-isr", Row: 9, What: "fewer in-sync replicas than asked for", Needs: ThreeNodes,
		Run: func(ctx context.Context, a *Arena) error {
			restore, err := a.alterTopics(ctx, "min.insync.replicas", "3")
			if err != nil {
				return err
			}
			err = a.servers.cycleNode(ctx, a, 0, "--immediate")
			return errors.Join(err, restore())
		},
	},
}

// cycle stops the server, with options, and starts it again after a while.
func (s *server) cycle(ctx context.Context, a *Arena, options ...string) error {
	whole := context.WithoutCancel(ctx) // half of it would leave no server
	if err := s.do(whole, "stop", options...); err != nil {
		return err
	}
	a.chance(ctx, 2*time.Second)
	return s.do(whole, "start")
}

// cycleNode stops one node of Kafka and starts it again after a while. Node 0 is one of
// chance.
func (s *Servers) cycleNode(ctx context.Context, a *Arena, node int, options ...string) error {
	if node == 0 {
		node = 1 + a.rng.IntN(s.nodes)
	}
	return s.kafka.cycle(ctx, a, append([]string{strconv.Itoa(node)}, options...)...)
}

// endWalsender terminates the process that streams the slot, once it is another than last,
// and returns it.
func (a *Arena) endWalsender(ctx context.Context, last int32) (int32, error) {
	conn, err := a.connect(ctx, "postrider torture")
	if err != nil {
		return 0, err
	}
	defer closeConn(conn)
	waiting, cancel := context.WithTimeout(ctx, a.cfg.Patience)
	defer cancel()
	for {
		var pid int32
		err := conn.QueryRow(waiting, `SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = $1`, a.slot()).Scan(&pid)
		if err != nil {
			return 0, err
		}
		if pid != 0 && pid != last {
			_, err := conn.Exec(ctx, `SELECT pg_terminate_backend($1)`, pid)
			return pid, err
		}
		if !pause(waiting, 10*time.Millisecond) {
			return 0, fmt.Errorf("nobody streams the slot within %v", a.cfg.Patience)
		}
	}
}

// alterTopics sets a configuration of the topics and returns what takes it back.
func (a *Arena) alterTopics(ctx context.Context, name, value string) (restore func() error, err error) {
	alter := func(ctx context.Context, change kadm.AlterConfig) error {
		responses, err := a.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, a.topics...)
		errs := []error{err}
		for _, r := range responses {
			errs = append(errs, r.Err)
		}
		return errors.Join(errs...)
	}
	if err := alter(ctx, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}); err != nil {
		return nil, err
	}
	return func() error {
		return alter(context.WithoutCancel(ctx), kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
	}, nil
}
