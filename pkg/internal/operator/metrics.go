package operator

import (
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// sourceMetrics are those that every source has (FLIP-33). The task's goroutine writes once per poll, anybody reads.
type sourceMetrics struct {
	group     *metrics.Group
	lag       atomic.Int64 // of the last record, from its timestamp to its emission, in ms
	watermark atomic.Int64
	idleSince atomic.Int64 // ms; 0 as long as there is input
	splits    *metrics.Counter
}

func (m *sourceMetrics) open(ctx *task.Context) {
	m.group = ctx.Metrics
	m.watermark.Store(int64(event.Min))
	m.splits = m.group.Counter("numSplitsProcessed")
	m.group.Gauge("currentEmitEventTimeLag", func() float64 { return float64(m.lag.Load()) })
	m.group.Gauge("sourceIdleTime", func() float64 { return since(m.idleSince.Load()) })
	m.group.Gauges(func(set func(string, float64)) {
		if wm := event.Time(m.watermark.Load()); wm != event.Min && wm != event.Max {
			set("watermarkLag", float64(time.Now().UnixMilli()-int64(wm)))
		}
	})
}

// polled notes what a poll did: whether it emitted anything, and the timestamp of the last record, None for none.
func (m *sourceMetrics) polled(now event.Time, emitted bool, last event.Time) {
	switch {
	case emitted:
		m.idleSince.Store(0)
		if last != event.None {
			m.lag.Store(int64(now - last))
		}
	case m.idleSince.Load() == 0:
		m.idleSince.Store(int64(now))
	}
}

// splitMetrics are those of a split's watermark.
type splitMetrics struct {
	group     *metrics.Group
	watermark atomic.Int64
	idle      atomic.Int64 // ms in all, without the idleness under way
	idleSince atomic.Int64 // ms; 0 while it is active
}

func (m *splitMetrics) open(parent *metrics.Group, split string) {
	m.watermark.Store(int64(event.Min))
	m.group = parent.Sub("split", metrics.Label{Name: "split", Value: split})
	g := m.group.Sub("watermark")
	g.Gauge("currentWatermark", func() float64 { return float64(m.watermark.Load()) })
	began := time.Now()
	idle := func() float64 { return float64(m.idle.Load()) + since(m.idleSince.Load()) }
	g.Rate("idleTimeMsPerSecond", idle)
	g.Rate("activeTimeMsPerSecond", func() float64 { return float64(time.Since(began).Milliseconds()) - idle() })
	g.Gauge("pausedTimeMsPerSecond", func() float64 { return 0 }) // no split is held back
}

func (m *splitMetrics) setIdle(idle bool, now event.Time) {
	was := m.idleSince.Load()
	switch {
	case idle && was == 0:
		m.idleSince.Store(int64(now))
	case !idle && was != 0:
		m.idleSince.Store(0)
		m.idle.Add(max(int64(now)-was, 0))
	}
}

// since is the time from at to now, in ms; 0 for a zero at.
func since(at int64) float64 {
	if at == 0 {
		return 0
	}
	return float64(max(time.Now().UnixMilli()-at, 0))
}

// sinkMetrics are those of a sink that commits.
type sinkMetrics struct {
	total, successful, failed *metrics.Counter
}

func (m *sinkMetrics) open(g *metrics.Group) {
	m.total, m.successful, m.failed = g.Counter("totalCommittables"), g.Counter("successfulCommittables"), g.Counter("failedCommittables")
	g.Gauge("pendingCommittables", func() float64 { return float64(m.total.Value() - m.successful.Value() - m.failed.Value()) })
}
