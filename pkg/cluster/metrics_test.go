package cluster_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/metrics/prometheus"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// TestMetricsPage reads /metrics of a running mini. Its transcript has every metric with the names of its labels, and the values of those
// that do not depend on the machine.
func TestMetricsPage(t *testing.T) {
	var page string
	synctest.Test(t, func(t *testing.T) {
		out := collect.New[int64]()
		m, stop := start(t, cluster.MiniConfig{
			Memory: cluster.NewMemory(), Settings: settings("execution.checkpointing.interval", "10 s"),
			Jobs: []cluster.Job{{Name: "numbers", Build: func(env *stream.Env) error {
				numbers := stream.From(env, datagen.Sequence(0, 1e9, datagen.PerSecond(10), datagen.Splits(1)),
					event.BoundedOutOfOrderness(0, func(int64) time.Time { return time.Now().Add(-time.Second) }), stream.UID("numbers"))
				even := stream.Filter(numbers, func(n int64) bool { return n%2 == 0 }, stream.UID("even"))
				stream.To(stream.Rebalance(even), out.Sink(), stream.UID("out"))
				return nil
			}}},
		})
		wait(t, "two checkpoints", func() bool { return completed(m) >= 2 })
		handler := prometheus.Handler(m.Metrics())
		read := func() string {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
			return w.Body.String()
		}
		time.Sleep(55 * time.Millisecond) // between two records
		synctest.Wait()
		read() // rates are over the time between two readings
		time.Sleep(5 * time.Second)
		synctest.Wait()
		page = read()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if left := read(); left != "" {
			t.Errorf("metrics that nobody has closed:\n%s", left)
		}
	})
	datadriven.RunTest(t, "testdata/metrics.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "names":
			return names(page)
		case "values":
			return values(page, strings.Fields(d.Input))
		}
		d.Fatalf(t, "unknown command %q", d.Cmd)
		return ""
	})
}

var series = regexp.MustCompile(`^(\w+)\{(.*)\} (\S+)$`)

// linuxOnly are metrics that only Linux tells.
var linuxOnly = regexp.MustCompile(`_Status_(FileDescriptor_Open|Process_Memory_Resident)$`)

// names lists the metrics of each set of labels.
func names(page string) string {
	byLabels := map[string]map[string]bool{}
	for l := range strings.SplitSeq(page, "\n") {
		m := series.FindStringSubmatch(l)
		if m == nil || linuxOnly.MatchString(m[1]) {
			continue
		}
		labels := regexp.MustCompile(`="[^"]*"`).ReplaceAllString(m[2], "")
		if byLabels[labels] == nil {
			byLabels[labels] = map[string]bool{}
		}
		byLabels[labels][m[1]] = true
	}
	var b strings.Builder
	for _, labels := range slices.Sorted(maps.Keys(byLabels)) {
		fmt.Fprintf(&b, "%s\n", labels)
		for _, name := range slices.Sorted(maps.Keys(byLabels[labels])) {
			fmt.Fprintf(&b, "  %s\n", name)
		}
	}
	return b.String()
}

// values lists the values of metrics, each with the subtask or operator it belongs to.
func values(page string, want []string) string {
	var b strings.Builder
	for l := range strings.SplitSeq(page, "\n") {
		m := series.FindStringSubmatch(l)
		if m == nil || !slices.Contains(want, m[1]) {
			continue
		}
		whose := regexp.MustCompile(`(job_name|task_name|operator_name)="([^"]*)"`).FindAllStringSubmatch(m[2], -1)
		name := m[1]
		for _, w := range whose {
			name += " " + w[1] + "=" + strings.ReplaceAll(w[2], " ", "_")
		}
		fmt.Fprintf(&b, "%s %s\n", name, m[3])
	}
	return b.String()
}
