// Package prometheus serves the metrics of a process to Prometheus, under Flink's names.
//
// Start with Handler. A metric is called flink_SCOPE_NAME, with everything that Prometheus allows in no name replaced by "_"
// (flink_taskmanager_job_task_operator_numRecordsIn), and as in Flink counters, gauges and meters are all gauges, and histograms summaries. Unlike Flink's default,
// the values of labels are not changed, only escaped: two operators stay two. Gauges whose value is a text are left out; REST shows them.
//
// Its law: nothing runs, and nothing is kept, between two readings.
package prometheus

import (
	"context"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	otel "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// contentType is that of Prometheus' text format.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// Handler serves a registry. It is safe for concurrent use.
func Handler(r *metrics.Registry) http.Handler {
	// The SDK is set up by the first reading: most processes are never read.
	reader := sync.OnceValue(func() *otel.ManualReader { return newReader(r) })
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "metrics are read with GET", http.StatusMethodNotAllowed)
			return
		}
		var data metricdata.ResourceMetrics
		if err := reader().Collect(req.Context(), &data); err != nil {
			http.Error(w, "metrics: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(appendPage(nil, &data)) // the error is the client's having left
	})
}

// newReader connects the SDK with a registry.
func newReader(r *metrics.Registry) *otel.ManualReader {
	reader := otel.NewManualReader(otel.WithProducer(&producer{registry: r}))
	// The provider ties the reader to the (empty) pipeline that it insists on; a resource of its own keeps it from looking around in the system.
	otel.NewMeterProvider(otel.WithReader(reader), otel.WithResource(resource.Empty()))
	return reader
}

// producer hands a registry to OpenTelemetry's SDK.
type producer struct{ registry *metrics.Registry }

// Produce implements the SDK's Producer: one instrument per scope and name, one point per group.
func (p *producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	byScope := map[metrics.Scope]*scope{}
	var order []*scope
	sets := labelSets{}
	p.registry.Each(func(v metrics.Value) {
		if v.IsText {
			return
		}
		s := byScope[v.Scope]
		if s == nil {
			s = &scope{name: v.Scope, index: map[string]int{}}
			byScope[v.Scope] = s
			order = append(order, s)
		}
		s.add(v, sets.of(v.Labels))
	})
	out := make([]metricdata.ScopeMetrics, len(order))
	for i, s := range order {
		out[i] = metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: string(s.name)}, Metrics: s.metrics}
	}
	return out, nil
}

type scope struct {
	name    metrics.Scope
	metrics []metricdata.Metrics
	index   map[string]int // of metrics, by kind and name
}

func (s *scope) add(v metrics.Value, labels attribute.Set) {
	kind := "gauge "
	switch {
	case v.Summary != nil:
		kind = "summary "
	case v.Counter:
		kind = "counter "
	}
	i, ok := s.index[kind+v.Name]
	if !ok {
		i = len(s.metrics)
		s.index[kind+v.Name] = i
		s.metrics = append(s.metrics, metricdata.Metrics{Name: v.Name})
	}
	m := &s.metrics[i]
	point := metricdata.DataPoint[float64]{Attributes: labels, Value: v.Number}
	switch {
	case v.Summary != nil:
		data, _ := m.Data.(metricdata.Summary)
		data.DataPoints = append(data.DataPoints, summaryPoint(v.Summary, labels))
		m.Data = data
	case v.Counter:
		data, _ := m.Data.(metricdata.Sum[float64])
		data.Temporality, data.IsMonotonic = metricdata.CumulativeTemporality, true
		data.DataPoints = append(data.DataPoints, point)
		m.Data = data
	default:
		data, _ := m.Data.(metricdata.Gauge[float64])
		data.DataPoints = append(data.DataPoints, point)
		m.Data = data
	}
}

func summaryPoint(s *metrics.Summary, labels attribute.Set) metricdata.SummaryDataPoint {
	p := metricdata.SummaryDataPoint{Attributes: labels, Count: uint64(s.Count), Sum: s.Sum}
	for i, q := range metrics.Quantiles {
		p.QuantileValues = append(p.QuantileValues, metricdata.QuantileValue{Quantile: q, Value: s.Quantiles[i]})
	}
	return p
}

// labelSets makes one set per group, whose metrics come one after the other.
type labelSets struct {
	last []metrics.Label
	set  attribute.Set
}

func (l *labelSets) of(labels []metrics.Label) attribute.Set {
	if len(labels) == len(l.last) && (len(labels) == 0 || &labels[0] == &l.last[0]) {
		return l.set
	}
	kvs := make([]attribute.KeyValue, len(labels))
	for i, x := range labels {
		kvs[i] = attribute.String(x.Name, x.Value)
	}
	l.last, l.set = labels, attribute.NewSet(kvs...)
	return l.set
}
