package access

import "github.com/prometheus/client_golang/prometheus"

type guardMetrics struct {
	refused *prometheus.CounterVec
}

// reasons are all values of the label: none is made up by a client.
var reasons = []string{"unauthenticated", "forbidden", "rate", "password_rate", "path", "url", "body", "store", "canceled"}

func newGuardMetrics(registerer prometheus.Registerer) *guardMetrics {
	m := &guardMetrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postrider_registry_refused_total", Help: "Requests that never reached the registry, by reason.",
	}, []string{"reason"})}
	for _, reason := range reasons {
		m.refused.WithLabelValues(reason)
	}
	if registerer != nil {
		registerer.MustRegister(m.refused)
	}
	return m
}
