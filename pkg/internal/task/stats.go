package task

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// timing adds up the time spent waiting for one reason. The task's goroutine writes, anybody reads.
type timing struct {
	mu    sync.Mutex
	sum   time.Duration
	since time.Time // of the wait under way
	// longest is the longest wait that ended since it was taken.
	longest time.Duration
}

func (t *timing) begin() {
	t.mu.Lock()
	t.since = time.Now()
	t.mu.Unlock()
}

func (t *timing) end() {
	t.mu.Lock()
	d := time.Since(t.since)
	t.sum += d
	t.longest = max(t.longest, d)
	t.since = time.Time{}
	t.mu.Unlock()
}

func (t *timing) waiting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.since.IsZero()
}

// takeLongest returns the longest wait since it was called last, or the one under way.
func (t *timing) takeLongest() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.longest
	t.longest = 0
	if !t.since.IsZero() {
		d = max(d, time.Since(t.since))
	}
	return d
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
	meter := func(name string, count func() float64) {
		g.Gauge(name, count)
		g.Rate(name+"PerSecond", count)
	}
	meter("numRecordsIn", func() float64 { return float64(t.ops[0].recordsIn.Value()) })
	meter("numRecordsOut", func() float64 { return float64(t.recordsOut()) })
	meter("numBytesOut", func() float64 { return float64(t.sent(func(e *outEdge) int64 { return e.writer.Bytes.Load() })) })
	meter("numBuffersOut", func() float64 { return float64(t.sent(func(e *outEdge) int64 { return e.writer.Batches.Load() })) })
	// The tasks of a process are neighbours: all that comes in is local.
	for _, in := range []struct {
		name  string
		count *metrics.Counter
	}{{"numBytesIn", s.bytesIn}, {"numBuffersIn", s.buffersIn}} {
		count := func() float64 { return float64(in.count.Value()) }
		meter(in.name, count)
		meter("Shuffle.Netty.Input."+in.name+"Local", count)
		meter("Shuffle.Netty.Input."+in.name+"Remote", func() float64 { return 0 })
	}
	meter("numFiredTimers", func() float64 { return float64(t.counted(func(o *chainOp) *metrics.Counter { return o.fired })) })
	g.Gauge("numLateRecordsDropped", func() float64 { return float64(t.counted(func(o *chainOp) *metrics.Counter { return o.late })) })
	g.Rate("mailboxMailsPerSecond", func() float64 { return float64(s.mails.Value()) })
	g.Gauges(func(set func(string, float64)) {
		in, out := exchange.Load{}, exchange.Load{}
		if t.gate != nil {
			in = t.gate.Load()
		}
		for _, e := range t.edges {
			out = out.Add(e.writer.Load())
		}
		for _, prefix := range []string{"buffers.", "Shuffle.Netty.Input.Buffers."} {
			set(prefix+"inputQueueLength", float64(in.Elements))
			set(prefix+"inPoolUsage", in.Usage())
		}
		for _, prefix := range []string{"buffers.", "Shuffle.Netty.Output.Buffers."} {
			set(prefix+"outputQueueLength", float64(out.Elements))
			set(prefix+"outPoolUsage", out.Usage())
		}
		if in.Channels > 0 {
			set("debloatedBufferSize", float64(in.Limit/int64(in.Channels)))
		}
		estimated := 0.0
		if in.PerSecond > 0 {
			estimated = float64(in.Bytes) / float64(in.PerSecond) * 1000
		}
		set("estimatedTimeToConsumeBuffersMs", estimated)
	})
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	g.Gauges(func(set func(string, float64)) {
		set("accumulateIdleTimeMs", ms(s.idle.total()))
		set("accumulateBackPressuredTimeMs", ms(s.backpressured.total()))
		set("accumulateBusyTimeMs", ms(s.busy()))
		now := s.perSecond()
		set("idleTimeMsPerSecond", now.idle)
		set("busyTimeMsPerSecond", now.busy)
		// A task waits for space with its batch in hand: all backpressure is what Flink calls hard.
		set("backPressuredTimeMsPerSecond", now.backpressured)
		set("hardBackPressuredTimeMsPerSecond", now.backpressured)
		set("softBackPressuredTimeMsPerSecond", 0)
		set("maxHardBackPressureTimeMs", ms(now.longest))
		set("maxSoftBackPressureTimeMs", 0)
	})
	g.Gauge("isBackPressured", func() float64 {
		if s.backpressured.waiting() {
			return 1
		}
		return 0
	})
	g.Gauge("currentInputWatermark", func() float64 { return float64(t.ops[0].inWatermark.Load()) })
	g.Gauge("checkpointStartDelayNanos", func() float64 { return float64(s.startDelay.Load()) })
	g.Gauge("checkpointAlignmentTime", func() float64 { return float64(s.align.Load()) })
	g.Gauge("initializationTime", func() float64 { return float64(s.initTime.Load()) })
	g.Gauge("mailboxQueueSize", func() float64 {
		t.mail.Lock()
		defer t.mail.Unlock()
		return float64(len(t.mail.queue))
	})
}

// register names the operator's metrics as Flink does (metrics.md 5).
func (o *chainOp) register() {
	g := o.group
	o.recordsIn, o.recordsOut = g.Meter("numRecordsIn"), g.Meter("numRecordsOut")
	g.Gauge("currentInputWatermark", func() float64 { return float64(o.inWatermark.Load()) })
	g.Gauge("currentOutputWatermark", func() float64 { return float64(o.outWatermark.Load()) })
	if o.plan.GetKeyed() {
		o.fired, o.late = g.Meter("numFiredTimers"), g.Counter("numLateRecordsDropped")
	}
}

// publish makes the operator's counts visible.
func (o *chainOp) publish() {
	o.recordsIn.Set(o.ctx.In)
	o.recordsOut.Set(o.ctx.Out)
	if o.fired != nil {
		o.fired.Set(o.ctx.Fired)
		o.late.Set(o.ctx.Late)
	}
}

// counted adds up one of the operators' counters.
func (t *chainTask) counted(of func(*chainOp) *metrics.Counter) (n int64) {
	for _, o := range t.ops {
		if c := of(o); c != nil {
			n += c.Value()
		}
	}
	return n
}

// recordsOut is what the operators at the end of the chain emitted: into exchanges, or out of the job.
func (t *chainTask) recordsOut() (n int64) {
	for _, o := range t.ops {
		if len(o.edges) > 0 || len(o.chained) == 0 {
			n += o.recordsOut.Value()
		}
	}
	return n
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

type perSecond struct {
	idle, backpressured, busy float64
	longest                   time.Duration // of the waits for space
}

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
		r.value.longest = s.backpressured.takeLongest()
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
