package torture

// proxies stand between the relay and its servers where a fault is in the network. A nil
// *proxies is none.
type proxies struct{}

func startProxies(*Arena) (*proxies, error) { return nil, nil }

func (p *proxies) postgresURL(direct string) string      { return direct }
func (p *proxies) kafkaBrokers(direct []string) []string { return direct }
func (p *proxies) close()                                {}
