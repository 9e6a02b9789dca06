package prometheus

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// family is all that is written under one name.
type family struct {
	// source is the metric as the registry calls it, for HELP.
	source  string
	summary bool
	// series are the lines of each set of labels, without what they begin with; the first of two with the same labels counts, since Prometheus would refuse the page.
	series map[string][]sample
}

type sample struct {
	suffix string
	labels string
	value  float64
}

// appendPage writes data in Prometheus' text format, sorted by name, then labels.
func appendPage(b []byte, data *metricdata.ResourceMetrics) []byte {
	families := map[string]*family{}
	for _, s := range data.ScopeMetrics {
		for _, m := range s.Metrics {
			source := s.Scope.Name + "." + m.Name
			name := cleanName("flink_" + s.Scope.Name + "_" + m.Name)
			_, summary := m.Data.(metricdata.Summary)
			f := families[name]
			if f == nil {
				f = &family{source: source, summary: summary, series: map[string][]sample{}}
				families[name] = f
			}
			if f.summary == summary {
				f.add(m.Data)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		b = families[name].append(b, name)
	}
	return b
}

func (f *family) add(data metricdata.Aggregation) {
	switch data := data.(type) {
	case metricdata.Gauge[float64]:
		addPoints(f, data.DataPoints)
	case metricdata.Gauge[int64]:
		addPoints(f, data.DataPoints)
	case metricdata.Sum[float64]:
		addPoints(f, data.DataPoints)
	case metricdata.Sum[int64]:
		addPoints(f, data.DataPoints)
	case metricdata.Summary:
		for _, p := range data.DataPoints {
			f.addSummary(p)
		}
	}
}

func addPoints[N int64 | float64](f *family, points []metricdata.DataPoint[N]) {
	for _, p := range points {
		key := labels(p.Attributes)
		if f.series[key] == nil {
			f.series[key] = []sample{{labels: key, value: float64(p.Value)}}
		}
	}
}

func (f *family) addSummary(p metricdata.SummaryDataPoint) {
	key := labels(p.Attributes)
	if f.series[key] != nil {
		return
	}
	var out []sample
	for _, q := range p.QuantileValues {
		l := `quantile="` + number(q.Quantile) + `"`
		if key != "" {
			l = key + "," + l
		}
		out = append(out, sample{labels: l, value: q.Value})
	}
	f.series[key] = append(out, sample{suffix: "_sum", labels: key, value: p.Sum}, sample{suffix: "_count", labels: key, value: float64(p.Count)})
}

func (f *family) append(b []byte, name string) []byte {
	kind := "gauge"
	if f.summary {
		kind = "summary"
	}
	b = append(b, "# HELP "+name+" "+escapeHelp.Replace(f.source)+"\n# TYPE "+name+" "+kind+"\n"...)
	for _, key := range slices.Sorted(maps.Keys(f.series)) {
		for _, s := range f.series[key] {
			b = append(append(b, name...), s.suffix...)
			if s.labels != "" {
				b = append(append(append(b, '{'), s.labels...), '}')
			}
			b = append(append(append(b, ' '), number(s.value)...), '\n')
		}
	}
	return b
}

var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// labels are a set's names and values, sorted by name, as they stand between braces.
func labels(set attribute.Set) string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, kv := range set.ToSlice() {
		name := labelName(string(kv.Key))
		if seen[name] {
			continue
		}
		seen[name] = true
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name)
		b.WriteString(`="`)
		b.WriteString(escapeLabel.Replace(strings.ToValidUTF8(kv.Value.String(), "\uFFFD")))
		b.WriteByte('"')
	}
	return b.String()
}

// cleanName replaces what may not stand in the name of a metric, as Flink does.
func cleanName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == ':' || alphanumeric(r) {
			return r
		}
		return '_'
	}, name)
}

// labelName replaces what may not stand in the name of a label. One that begins with a digit, or is Prometheus' own (quantile, le, __x), gets a letter in front.
func labelName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if alphanumeric(r) {
			return r
		}
		return '_'
	}, name)
	if clean == "" || clean[0] >= '0' && clean[0] <= '9' || strings.HasPrefix(clean, "__") || clean == "quantile" || clean == "le" {
		return "x" + clean
	}
	return clean
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
}

// number writes a value so that whole numbers look like it.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	case v == math.Trunc(v) && math.Abs(v) < 1e15:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
