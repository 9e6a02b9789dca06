package prometheus_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/metrics"
	"github.com/rivulet-io/rivulet/pkg/metrics/prometheus"
)

func read(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
	return w.Body.String()
}

func TestPage(t *testing.T) {
	r := metrics.NewRegistry()
	task := r.Group(metrics.ScopeTask, metrics.Label{Name: "job_name", Value: "count"}, metrics.Label{Name: "subtask_index", Value: "0"})
	task.Counter("numRecordsIn").Add(3)
	task.Gauge("busyTimeMsPerSecond", math.NaN)
	task.Gauge("currentInputWatermark", func() float64 { return math.MinInt64 })
	task.Text("note", func() string { return "no number" })
	other := r.Group(metrics.ScopeTask, metrics.Label{Name: "job_name", Value: "count"}, metrics.Label{Name: "subtask_index", Value: "1"})
	other.Counter("numRecordsIn").Add(1e15 + 1)
	op := r.Group(metrics.ScopeOperator, metrics.Label{Name: "operator_name", Value: "a \"b\"\\\nc\xff"})
	kafka := op.Sub("KafkaConsumer", metrics.Label{Name: "topic", Value: "t"}, metrics.Label{Name: "quantile", Value: "q"}, metrics.Label{Name: "0-x", Value: ""})
	kafka.Gauge("records-lag-max", func() float64 { return 0.25 })
	h := op.Histogram("latency")
	for i := range 1000 {
		h.Update(float64(i + 1))
	}
	jm := r.Group(metrics.ScopeJobManager)
	jm.Gauges(func(set func(string, float64)) {
		set("taskSlotsTotal", 4)
		set("Status.JVM.Memory.Heap.Max", math.Inf(1))
	})
	// The same series twice would make Prometheus refuse the page.
	jm.Sub("Status.JVM").Gauge("Memory.Heap.Max", func() float64 { return 1 })
	gone := r.Group(metrics.ScopeJob)
	gone.Counter("gone")
	gone.Close()

	want := `# HELP flink_jobmanager_Status_JVM_Memory_Heap_Max jobmanager.Status.JVM.Memory.Heap.Max
# TYPE flink_jobmanager_Status_JVM_Memory_Heap_Max gauge
flink_jobmanager_Status_JVM_Memory_Heap_Max VALUE
# HELP flink_jobmanager_taskSlotsTotal jobmanager.taskSlotsTotal
# TYPE flink_jobmanager_taskSlotsTotal gauge
flink_jobmanager_taskSlotsTotal 4
# HELP flink_taskmanager_job_task_busyTimeMsPerSecond taskmanager_job_task.busyTimeMsPerSecond
# TYPE flink_taskmanager_job_task_busyTimeMsPerSecond gauge
flink_taskmanager_job_task_busyTimeMsPerSecond{job_name="count",subtask_index="0"} NaN
# HELP flink_taskmanager_job_task_currentInputWatermark taskmanager_job_task.currentInputWatermark
# TYPE flink_taskmanager_job_task_currentInputWatermark gauge
flink_taskmanager_job_task_currentInputWatermark{job_name="count",subtask_index="0"} -9.223372036854776e+18
# HELP flink_taskmanager_job_task_numRecordsIn taskmanager_job_task.numRecordsIn
# TYPE flink_taskmanager_job_task_numRecordsIn gauge
flink_taskmanager_job_task_numRecordsIn{job_name="count",subtask_index="0"} 3
flink_taskmanager_job_task_numRecordsIn{job_name="count",subtask_index="1"} 1.000000000000001e+15
# HELP flink_taskmanager_job_task_operator_KafkaConsumer_records_lag_max taskmanager_job_task_operator.KafkaConsumer.records-lag-max
# TYPE flink_taskmanager_job_task_operator_KafkaConsumer_records_lag_max gauge
flink_taskmanager_job_task_operator_KafkaConsumer_records_lag_max{x0_x="",operator_name="a \"b\"\\\nc` + "\uFFFD" + `",xquantile="q",topic="t"} 0.25
# HELP flink_taskmanager_job_task_operator_latency taskmanager_job_task_operator.latency
# TYPE flink_taskmanager_job_task_operator_latency summary
`
	for _, q := range []string{`0.5"} 501`, `0.75"} 751`, `0.95"} 951`, `0.98"} 981`, `0.99"} 991`, `0.999"} 1000`} {
		want += `flink_taskmanager_job_task_operator_latency{operator_name="a \"b\"\\\nc` + "\uFFFD" + `",quantile="` + q + "\n"
	}
	want += `flink_taskmanager_job_task_operator_latency_sum{operator_name="a \"b\"\\\nc` + "\uFFFD" + `"} 500500
flink_taskmanager_job_task_operator_latency_count{operator_name="a \"b\"\\\nc` + "\uFFFD" + `"} 1000
`
	handler := prometheus.Handler(r)
	got := read(t, handler)
	// Which of the two stays is not said.
	page := regexp.MustCompile(`(Heap_Max) (\+Inf|1)\n`).ReplaceAllString(got, "$1 VALUE\n")
	if d := cmp.Diff(want, page); d != "" {
		t.Error(d)
	}
	if _, err := parse(got); err != nil {
		t.Error(err)
	}
	task.Counter("numRecordsIn").Inc()
	if again := read(t, handler); !strings.Contains(again, `subtask_index="0"} 4`) {
		t.Errorf("a second reading does not see what was counted since:\n%s", again)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/metrics", http.NoBody))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d, %v", w.Code, w.Header())
	}
}

// FuzzPage says that whatever metrics are called, the page can be read.
func FuzzPage(f *testing.F) {
	f.Add("numRecordsIn", "job_name", "a\n\"\\", 1.5)
	f.Add("", "", "\xff", math.Inf(-1))
	f.Add("9 äö", "__name__", "", math.NaN())
	f.Fuzz(func(t *testing.T, name, label, value string, n float64) {
		r := metrics.NewRegistry()
		g := r.Group(metrics.ScopeOperator, metrics.Label{Name: label, Value: value}, metrics.Label{Name: "operator_id", Value: value + value})
		g.Gauge(name, func() float64 { return n })
		g.Histogram(name + "H").Update(n)
		page := read(t, prometheus.Handler(r))
		series, err := parse(page)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, page)
		}
		if len(series) != 1+len(metrics.Quantiles)+2 {
			t.Errorf("%d series in:\n%s", len(series), page)
		}
	})
}

var (
	nameRE  = `[a-zA-Z_:][a-zA-Z0-9_:]*`
	labelRE = `[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"`
	line    = regexp.MustCompile(`^(` + nameRE + `)(?:\{(` + labelRE + `(?:,` + labelRE + `)*)\})? (NaN|[+-]Inf|-?[0-9.]+(?:e[+-][0-9]+)?)$`)
	comment = regexp.MustCompile(`^# (HELP|TYPE) (` + nameRE + `) (.*)$`)
)

// parse reads a page of Prometheus' text format as strictly as Prometheus does, and returns its series with their values.
func parse(page string) (map[string]float64, error) {
	series, types := map[string]float64{}, map[string]string{}
	current := ""
	body, ok := strings.CutSuffix(page, "\n")
	if !ok && page != "" {
		return nil, fmt.Errorf("it does not end with a newline")
	}
	for l := range strings.SplitSeq(body, "\n") {
		if m := comment.FindStringSubmatch(l); m != nil {
			if m[1] == "TYPE" {
				if types[m[2]] != "" || m[3] != "gauge" && m[3] != "summary" {
					return nil, fmt.Errorf("a second type, or an unknown one: %q", l)
				}
				types[m[2]], current = m[3], m[2]
			}
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			return nil, fmt.Errorf("unreadable line: %q", l)
		}
		family := m[1]
		if types[current] == "summary" {
			family = strings.TrimSuffix(strings.TrimSuffix(family, "_sum"), "_count")
		}
		if family != current {
			return nil, fmt.Errorf("%q stands among the lines of %s", l, current)
		}
		names := map[string]bool{}
		for _, label := range regexp.MustCompile(labelRE).FindAllString(m[2], -1) {
			name, _, _ := strings.Cut(label, "=")
			if names[name] {
				return nil, fmt.Errorf("label %s twice: %q", name, l)
			}
			names[name] = true
		}
		key := m[1] + "{" + m[2] + "}"
		if _, twice := series[key]; twice {
			return nil, fmt.Errorf("series twice: %q", l)
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, err
		}
		series[key] = v
	}
	return series, nil
}
