package task

import (
	"sync"
	"sync/atomic"
	"time"

	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// timing adds up the time spent waiting for one reason. The task's goroutine writes, anybody reads.
type timing struct {
	mu    sync.Mutex
	sum   time.Duration
	since time.Time // of the wait under way
}

func (t *timing) begin() {
	t.mu.Lock()
	t.since = time.Now()
	t.mu.Unlock()
}

func (t *timing) end() {
	t.mu.Lock()
	t.sum += time.Since(t.since)
	t.since = time.Time{}
	t.mu.Unlock()
}

// total includes the wait under way.
func (t *timing) total() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return t.sum
	}
	return t.sum + time.Since(t.since)
}

// stats are a task's own metrics.
type stats struct {
	group               *metrics.Group
	idle, backpressured timing
	idleAtDebloat       time.Duration
	began               time.Time
	started             atomic.Int64 // UnixNano of RUNNING
	bytesIn, buffersIn  *metrics.Counter
	mails               *metrics.Counter
	startDelay, align   atomic.Int64
	initTime            atomic.Int64
	rates               rates
}

func newStats() *stats {
	return &stats{began: time.Now(), bytesIn: new(metrics.Counter), buffersIn: new(metrics.Counter), mails: new(metrics.Counter)}
}

func (s *stats) start(began time.Time) {
	now := time.Now()
	s.initTime.Store(now.Sub(began).Milliseconds())
	s.started.Store(now.UnixNano())
}

func (s *stats) checkpointed(c *rpcv1.CheckpointStats) {
	s.startDelay.Store(c.GetStartDelayNs())
	s.align.Store(c.GetAlignmentNs())
}

// register names the metrics as Flink does (metrics.md 4).
func (s *stats) register(t *chainTask, g *metrics.Group) {
	s.group = g
	s.bytesIn, s.buffersIn, s.mails = g.Counter("numBytesIn"), g.Counter("numBuffersIn"), g.Counter("numMails")
	g.Gauge("numBytesOut", func() float64 { return float64(t.sent(func(e *outEdge) int64 { return e.writer.Bytes.Load() })) })
	g.Gauge("numBuffersOut", func() float64 { return float64(t.sent(func(e *outEdge) int64 { return e.writer.Batches.Load() })) })
	g.Gauge("buffers.outputQueueLength", func() float64 { return float64(t.sent(func(e *outEdge) int64 { return e.writer.Queued() })) })
	g.Gauge("buffers.inputQueueLength", func() float64 {
		if t.gate == nil {
			return 0
		}
		return float64(t.gate.Queued())
	})
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	g.Gauge("accumulateIdleTimeMs", func() float64 { return ms(s.idle.total()) })
	g.Gauge("accumulateBackPressuredTimeMs", func() float64 { return ms(s.backpressured.total()) })
	g.Gauge("accumulateBusyTimeMs", func() float64 { return ms(s.busy()) })
	g.Gauge("idleTimeMsPerSecond", func() float64 { return s.perSecond().idle })
	g.Gauge("backPressuredTimeMsPerSecond", func() float64 { return s.perSecond().backpressured })
	g.Gauge("hardBackPressuredTimeMsPerSecond", func() float64 { return s.perSecond().backpressured })
	g.Gauge("softBackPressuredTimeMsPerSecond", func() float64 { return 0 })
	g.Gauge("busyTimeMsPerSecond", func() float64 { return s.perSecond().busy })
	g.Gauge("isBackPressured", func() float64 {
		s.backpressured.mu.Lock()
		defer s.backpressured.mu.Unlock()
		if s.backpressured.since.IsZero() {
			return 0
		}
		return 1
	})
	g.Gauge("checkpointStartDelayNanos", func() float64 { return float64(s.startDelay.Load()) })
	g.Gauge("checkpointAlignmentTime", func() float64 { return float64(s.align.Load()) })
	g.Gauge("initializationTime", func() float64 { return float64(s.initTime.Load()) })
	g.Gauge("mailboxQueueSize", func() float64 {
		t.mail.Lock()
		defer t.mail.Unlock()
		return float64(len(t.mail.queue))
	})
}

func (t *chainTask) sent(f func(*outEdge) int64) int64 {
	var n int64
	for _, e := range t.edges {
		n += f(e)
	}
	return n
}

// busy is the time since RUNNING that was neither idle nor backpressured.
func (s *stats) busy() time.Duration {
	at := s.started.Load()
	if at == 0 {
		return 0
	}
	return max(time.Since(time.Unix(0, at))-s.idle.total()-s.backpressured.total(), 0)
}

// rates turns the sums into milliseconds per second over the last seconds.
type rates struct {
	mu        sync.Mutex
	old, last sums
	value     perSecond
}

type sums struct {
	at                  time.Time
	idle, backpressured time.Duration
}

type perSecond struct{ idle, backpressured, busy float64 }

// perSecond compares with what was one to a few seconds ago, so that a reading each second and one each minute both make sense.
func (s *stats) perSecond() perSecond {
	now := sums{at: time.Now(), idle: s.idle.total(), backpressured: s.backpressured.total()}
	r := &s.rates
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.at.IsZero() {
		at := s.started.Load()
		if at == 0 {
			return perSecond{}
		}
		r.last = sums{at: time.Unix(0, at)}
		r.old = r.last
	}
	if now.at.Sub(r.last.at) >= time.Second {
		r.old, r.last = r.last, now
	}
	d := now.at.Sub(r.old.at)
	if d < 100*time.Millisecond {
		return r.value
	}
	rate := func(from, to time.Duration) float64 { return min(max(float64(to-from)/float64(d)*1000, 0), 1000) }
	r.value.idle = rate(r.old.idle, now.idle)
	r.value.backpressured = rate(r.old.backpressured, now.backpressured)
	r.value.busy = max(1000-r.value.idle-r.value.backpressured, 0)
	return r.value
}
