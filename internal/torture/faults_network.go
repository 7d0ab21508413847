package torture

import (
	"context"
	"errors"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/postrider/postrider/relay"
)

// networkFaults are in the network between the relay and its servers.
var networkFaults = append(network("postgres", PostgresProxy, func(p *proxies) []*toxiproxy.Proxy { return p.postgres }),
	network("kafka", KafkaProxy, func(p *proxies) []*toxiproxy.Proxy { return p.kafka })...)

// network makes the faults of one side. On a half-open link nothing arrives any more and
// nobody says so: the relay must find out by itself.
func network(side string, need Need, proxies func(*proxies) []*toxiproxy.Proxy) []Fault {
	fault := func(name, what string, seconds int, toxics ...toxic) Fault {
		return Fault{
			Name: side + "-" + name, Row: 14, What: what + " to " + side, Needs: need, Handover: need == PostgresProxy,
			Run: func(ctx context.Context, a *Arena) error {
				to := proxies(a.proxies)
				var errs []error
				for _, t := range toxics {
					errs = append(errs, t.add(to))
				}
				pause(ctx, time.Duration(seconds)*time.Second)
				for _, t := range toxics {
					errs = append(errs, t.remove(to))
				}
				return errors.Join(errs...)
			},
		}
	}
	both := func(kind string, attributes map[string]int) []toxic {
		return []toxic{{kind, attributes, true}, {kind, attributes, false}}
	}
	return []Fault{
		fault("latency", "200 ms latency", 4, both("latency", map[string]int{"latency": 200, "jitter": 50})...),
		fault("bandwidth", "64 kB/s", 4, both("bandwidth", map[string]int{"rate": 64})...),
		{
			Name: side + "-half-open", Row: 14, What: "a half-open link to " + side, Needs: need, Handover: need == PostgresProxy, Slow: true,
			Run: func(ctx context.Context, a *Arena) error {
				r, err := a.active(ctx)
				if err != nil {
					return err
				}
				silence := both("timeout", map[string]int{"timeout": 0})
				to, began := proxies(a.proxies), time.Now()
				var errs []error
				for _, t := range silence {
					errs = append(errs, t.add(to))
				}
				err = r.await(ctx, "the link found dead", func(s relay.StatusReport) bool { return !s.Ready })
				if err == nil {
					a.notice("half-open link to "+side+" found", time.Since(began))
				}
				for _, t := range silence {
					errs = append(errs, t.remove(to))
				}
				return errors.Join(append(errs, err)...)
			},
		},
		fault("reset", "connections reset", 2, both("reset_peer", map[string]int{"timeout": 50})...),
		fault("cut-request", "connections cut in the middle of what is sent", 2, toxic{"limit_data", map[string]int{"bytes": 5000}, true}),
		fault("cut-answer", "connections cut in the middle of what is received", 2, toxic{"limit_data", map[string]int{"bytes": 20_000}, false}),
		{
			Name: side + "-unreachable", Row: 14, What: "no connection to " + side, Needs: need, Handover: need == PostgresProxy,
			Run: func(ctx context.Context, a *Arena) error {
				var errs []error
				for _, p := range proxies(a.proxies) {
					p.Stop()
				}
				a.chance(ctx, 3*time.Second)
				for _, p := range proxies(a.proxies) {
					errs = append(errs, p.Start())
				}
				return errors.Join(errs...)
			},
		},
	}
}
