package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
)

// console is where log lines go; on a terminal, progress lines stay below them. It is safe for concurrent use.
type console struct {
	mu    sync.Mutex
	w     io.Writer
	live  bool
	lines []string // shown below
}

func newConsole(w io.Writer, live bool) *console { return &console{w: w, live: live} }

// Write writes log lines above the progress lines.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lines) == 0 {
		return c.w.Write(p)
	}
	var b bytes.Buffer
	c.erase(&b)
	b.Write(p)
	c.show(&b)
	_, err := c.w.Write(b.Bytes())
	return len(p), err
}

// draw replaces the progress lines.
func (c *console) draw(lines []string) {
	if !c.live {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var b bytes.Buffer
	c.erase(&b)
	c.lines = lines
	c.show(&b)
	_, _ = c.w.Write(b.Bytes()) // a terminal that is gone is no reason to stop
}

func (c *console) erase(b *bytes.Buffer) {
	if len(c.lines) > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r\x1b[J", len(c.lines))
	}
}

func (c *console) show(b *bytes.Buffer) {
	for _, l := range c.lines {
		b.WriteString(l)
		b.WriteByte('\n')
	}
}

const (
	// drawInterval and logInterval are how often progress is shown, on a terminal and in a log.
	drawInterval = time.Second
	logInterval  = 10 * time.Second
)

// progress shows how the jobs get on, until ctx ends.
func progress(ctx context.Context, h *cluster.Host, c *console, log *slog.Logger) error {
	interval := logInterval
	if c.live {
		interval = drawInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	previous := map[base.JobID]sample{}
	last := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		samples := sampleJobs(ctx, h)
		var lines []string
		for _, j := range h.JobManager().Jobs() {
			s := samples[j.ID]
			seconds := now.Sub(last).Seconds()
			in := math.Max(0, s.in-previous[j.ID].in) / seconds
			out := math.Max(0, s.out-previous[j.ID].out) / seconds
			chk, age, took := lastCheckpoint(h, j.ID, now)
			if c.live {
				lines = append(lines, progressLine(j.Name, j.State, in, out, chk, age, took, s.lag))
				continue
			}
			if j.State != execution.JobRunning {
				continue
			}
			attrs := []any{slog.String("job", j.Name), slog.Int64("in_per_second", int64(in)), slog.Int64("out_per_second", int64(out))}
			if chk > 0 {
				attrs = append(attrs, slog.Int64("checkpoint", chk), slog.Duration("checkpoint_age", age.Round(time.Millisecond)))
			}
			if s.lag >= 0 {
				attrs = append(attrs, slog.Int64("lag", int64(s.lag)))
			}
			log.Info("progress", attrs...)
		}
		c.draw(lines)
		previous, last = samples, now
	}
}

// progressLine is one job's line.
func progressLine(name string, state execution.JobState, in, out float64, chk int64, age, took time.Duration, lag float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  in %s/s  out %s/s", name, state, count(in), count(out))
	if chk > 0 {
		fmt.Fprintf(&b, "  checkpoint %d %s ago (%s)", chk, age.Round(time.Second), took.Round(time.Millisecond))
	} else {
		b.WriteString("  no checkpoint yet")
	}
	if lag >= 0 {
		fmt.Fprintf(&b, "  lag %s", count(lag))
	}
	return b.String()
}

// count shortens a number: 950, 12.3 k, 4.56 M.
func count(n float64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.3g G", n/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.3g M", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.3g k", n/1e3)
	}
	return fmt.Sprintf("%.0f", n)
}

// sample is what was counted of a job so far.
type sample struct {
	in, out float64
	lag     float64 // -1 for unknown
}

// sampleJobs adds up what sources emitted and what sinks took. It asks the TaskManagers.
func sampleJobs(ctx context.Context, h *cluster.Host) map[base.JobID]sample {
	out := map[base.JobID]sample{}
	for _, id := range h.Jobs() {
		s := sample{lag: -1}
		d, err := h.JobManager().Job(id)
		if err != nil {
			continue
		}
		type operator struct {
			vertex base.VertexID
			name   string
		}
		kinds := map[operator]planv1.Kind{}
		for _, v := range d.Graph.GetVertices() {
			for _, op := range v.GetOperators() {
				kinds[operator{base.VertexID(v.GetId()), op.GetName()}] = op.GetKind()
			}
		}
		metrics, err := h.JobManager().Metrics(ctx, id)
		if err != nil {
			continue
		}
		for _, m := range metrics {
			kind := kinds[operator{m.Task.Vertex, m.Operator}]
			switch {
			case m.Name == "numRecordsOut" && kind == planv1.Kind_KIND_SOURCE:
				s.in += m.Value
			case m.Name == "numRecordsIn" && kind == planv1.Kind_KIND_SINK:
				s.out += m.Value
			case m.Name == "pendingRecords" && kind == planv1.Kind_KIND_SOURCE && m.Value >= 0:
				s.lag = math.Max(s.lag, 0) + m.Value
			}
		}
		out[id] = s
	}
	return out
}

func lastCheckpoint(h *cluster.Host, id base.JobID, now time.Time) (chk int64, age, took time.Duration) {
	_ = h.JobManager().Checkpoints(id, func(s *checkpoint.Stats) { // a job that is gone has none
		if r := s.LatestCompleted; r != nil {
			chk, age, took = int64(r.ID), now.Sub(r.End), r.Duration()
		}
	})
	return chk, age, took
}
