package kafka

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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

// OnProduceBatchWritten implements kgo.HookProduceBatchWritten.
func (m *writerMetrics) OnProduceBatchWritten(_ kgo.BrokerMetadata, _ string, _ int32, b kgo.ProduceBatchMetrics) {
	m.sent.Add(int64(b.NumRecords))
	m.bytes.Add(int64(b.UncompressedBytes))
}

// transactions registers how long the broker waits before it aborts the first of a writer's transactions, in ms, and how many are open or prepared.
func (m *writerMetrics) transactions(g *metrics.Group, t *transactions) {
	p := g.Sub("KafkaProducer")
	p.Gauge("transaction-time-left", func() float64 {
		d, _ := t.left()
		return float64(d) / float64(time.Millisecond)
	})
	p.Gauge("open-transactions", func() float64 {
		_, n := t.left()
		return float64(n)
	})
}

// committerMetrics are a committer's metrics under Flink's names.
type committerMetrics struct{ total, done, failed, already *metrics.Counter }

func newCommitterMetrics(g *metrics.Group) *committerMetrics {
	return &committerMetrics{
		total: g.Counter("totalCommittables"), done: g.Counter("successfulCommittables"), failed: g.Counter("failedCommittables"), already: g.Counter("alreadyCommittedCommittables"),
	}
}
