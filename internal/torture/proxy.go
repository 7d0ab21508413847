package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// proxies stand between the relay and its servers where a fault is in the network. A nil
// *proxies is none: then the relay connects directly.
type proxies struct {
	postgres []*toxiproxy.Proxy // one
	kafka    []*toxiproxy.Proxy // one a node, at the addresses which the nodes advertise to it
}

// startProxies starts those that the run's faults need.
func startProxies(a *Arena) (*proxies, error) {
	if a.cfg.needs&(PostgresProxy|KafkaProxy) == 0 {
		return nil, nil
	}
	zerolog.SetGlobalLevel(zerolog.Disabled) // it logs through a global
	hub := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &proxies{}
	if a.cfg.needs&PostgresProxy != 0 {
		u, err := url.Parse(a.url)
		if err != nil {
			return nil, err
		}
		upstream := u.Host
		if u.Port() == "" {
			upstream += ":5432"
		}
		proxy := toxiproxy.NewProxy(hub, "postgres", "127.0.0.1:0", upstream)
		if err := proxy.Start(); err != nil {
			return nil, err
		}
		p.postgres = append(p.postgres, proxy)
	}
	if a.cfg.needs&KafkaProxy != 0 {
		listen, upstream := a.servers.Proxy, a.servers.Proxied
		for i := range listen {
			proxy := toxiproxy.NewProxy(hub, fmt.Sprintf("kafka%d", i+1), listen[i], upstream[i])
			if err := proxy.Start(); err != nil {
				p.close()
				return nil, err
			}
			p.kafka = append(p.kafka, proxy)
		}
	}
	return p, nil
}

// postgresURL returns the way to the database at direct.
func (p *proxies) postgresURL(direct string) string {
	if p == nil || len(p.postgres) == 0 {
		return direct
	}
	u, err := url.Parse(direct)
	if err != nil {
		return direct
	}
	u.Host = p.postgres[0].Listen
	return u.String()
}

// kafkaBrokers returns the way to the brokers at direct.
func (p *proxies) kafkaBrokers(direct []string) []string {
	if p == nil || len(p.kafka) == 0 {
		return direct
	}
	var brokers []string
	for _, proxy := range p.kafka {
		brokers = append(brokers, proxy.Listen)
	}
	return brokers
}

func (p *proxies) close() {
	if p == nil {
		return
	}
	for _, proxy := range append(p.postgres, p.kafka...) {
		proxy.Stop()
	}
}

// toxic is what a proxy does to the bytes of one direction, as toxiproxy describes it.
type toxic struct {
	kind       string
	attributes map[string]int
	upstream   bool // from the relay to the server; else the other way
}

// add poisons all of the proxies.
func (t toxic) add(to []*toxiproxy.Proxy) error {
	stream := "downstream"
	if t.upstream {
		stream = "upstream"
	}
	text, err := json.Marshal(map[string]any{"name": t.name(), "type": t.kind, "stream": stream, "attributes": t.attributes})
	if err != nil {
		return err
	}
	for _, proxy := range to {
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
			return err
		}
	}
	return nil
}

func (t toxic) remove(from []*toxiproxy.Proxy) error {
	var errs []error
	for _, proxy := range from {
		errs = append(errs, proxy.Toxics.RemoveToxic(context.Background(), t.name()))
	}
	return errors.Join(errs...)
}

func (t toxic) name() string { return fmt.Sprintf("%s_%t", t.kind, t.upstream) }
