package kafka

import (
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// writerMetrics are a writer's metrics under Flink's names.
type writerMetrics struct {
	sent, bytes, errors *metrics.Counter
	flushed             atomic.Int64 // how long the last flush took, in ns
}

func newWriterMetrics(g *metrics.Group) *writerMetrics {
	m := &writerMetrics{sent: g.Counter("numRecordsSend"), bytes: g.Counter("numBytesSend"), errors: g.Counter("numRecordsSendErrors")}
	g.Gauge("currentSendTime", func() float64 { return float64(m.flushed.Load()) / float64(time.Millisecond) })
	return m
}
