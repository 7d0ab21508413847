package relay

import gometrics "github.com/rcrowley/go-metrics"

// noMetrics is a registry for sarama's own metrics that keeps none: the relay has its own,
// and sarama's cost a goroutine, and time for every request.
type noMetrics struct{}

func (noMetrics) GetOrRegister(_ string, made any) any {
	switch made.(type) {
	case func() gometrics.Meter:
		return gometrics.NilMeter{}
	case func() gometrics.Histogram:
		return gometrics.NilHistogram{}
	case func() gometrics.Counter:
		return gometrics.NilCounter{}
	}
	return made
}

func (noMetrics) Each(func(string, any))            {}
func (noMetrics) Get(string) any                    { return nil }
func (noMetrics) GetAll() map[string]map[string]any { return nil }
func (noMetrics) Register(string, any) error        { return nil }
func (noMetrics) RunHealthchecks()                  {}
func (noMetrics) Unregister(string)                 {}
func (noMetrics) UnregisterAll()                    {}
