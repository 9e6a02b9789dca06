package kafka

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// readerMetrics are a reader's metrics under Flink's names.
type readerMetrics struct {
	group, reader                   *metrics.Group
	commitsSucceeded, commitsFailed *metrics.Counter
	errors, bytesIn                 *metrics.Counter
	records, bytes                  *metrics.Counter // of the client, by Kafka's names

	mu     sync.Mutex
	splits map[partition]*splitMetrics // guarded by mu
}

// splitMetrics are those of one partition.
type splitMetrics struct {
	group     *metrics.Group
	position  atomic.Int64 // the next offset
	high      atomic.Int64 // the partition's end as last seen
	committed atomic.Int64
	skipped   int // by the task's goroutine
}

func newReaderMetrics(g *metrics.Group) *readerMetrics {
	r := g.Sub("KafkaSourceReader")
	consumer := r.Sub("KafkaConsumer")
	m := &readerMetrics{
		group: g, reader: r, commitsSucceeded: r.Counter("commitsSucceeded"), commitsFailed: r.Counter("commitsFailed"),
		errors: g.Counter("numRecordsInErrors"), bytesIn: g.Counter("numBytesIn"),
		records: consumer.Counter("records-consumed-total"), bytes: consumer.Counter("bytes-consumed-total"), splits: map[partition]*splitMetrics{},
	}
	g.Gauge("pendingRecords", func() float64 { sum, _ := m.lag(); return float64(sum) })
	consumer.Gauge("records-lag-max", func() float64 { _, most := m.lag(); return float64(most) })
	return m
}

// split returns the metrics of a partition.
func (m *readerMetrics) split(p position) *splitMetrics {
	s := &splitMetrics{group: m.reader.Sub("topic", metrics.Label{Name: "topic", Value: p.topic}).Sub("partition", metrics.Label{Name: "partition", Value: strconv.Itoa(int(p.num))})}
	s.position.Store(p.offset)
	s.committed.Store(-1)
	s.group.Gauge("currentOffset", func() float64 { return float64(s.position.Load() - 1) })
	s.group.Gauge("committedOffset", func() float64 { return float64(s.committed.Load()) })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.splits[p.partition] = s
	return s
}

func (m *readerMetrics) committed(p position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.splits[p.partition]; s != nil {
		s.committed.Store(p.offset)
	}
}

// lag is how many offsets are before the ends of all partitions, and of the one with the most.
func (m *readerMetrics) lag() (sum, most int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.splits {
		n := max(s.high.Load()-max(s.position.Load(), 0), 0)
		sum, most = sum+n, max(most, n)
	}
	return sum, most
}

// close removes what is below the operator's own group.
func (m *readerMetrics) close() {
	m.reader.Close()
}
