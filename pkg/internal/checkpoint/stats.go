package checkpoint

import (
	"math"
	"slices"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// Status is how far a checkpoint is.
type Status int

// The statuses, in Flink's words.
const (
	InProgress Status = iota
	StatusCompleted
	StatusFailed
)

func (s Status) String() string { return [...]string{"IN_PROGRESS", "COMPLETED", "FAILED"}[s] }

// Record is what is known of one checkpoint or savepoint, for people.
type Record struct {
	ID     base.CheckpointID
	Kind   snapshotv1.Kind
	Status Status
	Full   bool
	// Trigger, LatestAck and End (completion or failure) are zero as long as they have not happened.
	Trigger, LatestAck, End time.Time
	// Path is the directory, as a URI, once complete; Discarded that it was deleted since.
	Path      string
	Discarded bool
	Failure   string
	// Subtasks is the number of those that take part, Acked of those that have.
	Subtasks, Acked int
	// Written is what this checkpoint wrote, State what a restore of it reads, Processed what arrived during alignment; all in bytes. The metadata file,
	// of MetadataSize, is not counted in them.
	Written, State, Processed, MetadataSize int64
	Tasks                                   []TaskRecord
}

// Duration is from the trigger to the end, or to the latest ack.
func (r *Record) Duration() time.Duration {
	switch {
	case !r.End.IsZero():
		return r.End.Sub(r.Trigger)
	case !r.LatestAck.IsZero():
		return r.LatestAck.Sub(r.Trigger)
	}
	return 0
}

// TaskRecord is one vertex's part of a checkpoint.
type TaskRecord struct {
	Vertex   base.VertexID
	Name     string
	Subtasks []SubtaskRecord
}

// SubtaskRecord is one subtask's part of a checkpoint.
type SubtaskRecord struct {
	// Acked is zero as long as the subtask has not acked.
	Acked time.Time
	// Finished says that it had ended before, and takes no part.
	Finished bool
	Stats    *rpcv1.CheckpointStats
}

// Stats are a job's checkpoint statistics. The records are shared with the coordinator: they are to be read before its next Step, and not changed.
type Stats struct {
	Restored, Total, InProgress, Completed, Failed int
	// Over the newest completed ones: durations in milliseconds, the rest in bytes.
	Duration, State, Written, Processed Summary
	// The latest of each sort; nil for none. LatestCompleted is a checkpoint, LatestSavepoint a savepoint.
	LatestCompleted, LatestSavepoint, LatestFailed *Record
	LatestRestored                                 *RestoredRecord
	// History is newest first.
	History []*Record
}

// RestoredRecord is the latest restore.
type RestoredRecord struct {
	ID        base.CheckpointID
	At        time.Time
	Savepoint bool
	Path      string
}

// Summary sums a series up. All are NaN when the series is empty.
type Summary struct{ Min, Max, Avg, P50, P90, P95, P99, P999 float64 }

// window bounds how many completed checkpoints the summaries look back on.
const window = 1000

type sample struct{ duration, state, written, processed int64 }

type stats struct {
	Stats
	max     int
	samples []sample
	at      int // where the next sample goes once the window is full
}

// Stats returns the statistics.
func (c *Coordinator) Stats() Stats {
	s := c.stats.Stats
	s.History = slices.Clone(s.History)
	series := func(f func(sample) int64) Summary {
		v := make([]float64, 0, len(c.stats.samples))
		for _, x := range c.stats.samples {
			v = append(v, float64(f(x)))
		}
		return Summarize(v)
	}
	s.Duration = series(func(x sample) int64 { return x.duration })
	s.State = series(func(x sample) int64 { return x.state })
	s.Written = series(func(x sample) int64 { return x.written })
	s.Processed = series(func(x sample) int64 { return x.processed })
	return s
}

// Find returns the record of a checkpoint that is still remembered, or nil.
func (s *Stats) Find(id base.CheckpointID) *Record {
	for _, r := range append(slices.Clone(s.History), s.LatestCompleted, s.LatestSavepoint, s.LatestFailed) {
		if r != nil && r.ID == id {
			return r
		}
	}
	return nil
}

// Summarize sums up a series, which it sorts.
func Summarize(v []float64) Summary {
	if len(v) == 0 {
		n := math.NaN()
		return Summary{n, n, n, n, n, n, n, n}
	}
	slices.Sort(v)
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	// Between two values, as commons-math does for Flink.
	at := func(p float64) float64 {
		pos := p * float64(len(v)+1)
		i := int(pos)
		switch {
		case i < 1:
			return v[0]
		case i >= len(v):
			return v[len(v)-1]
		}
		return v[i-1] + (pos-float64(i))*(v[i]-v[i-1])
	}
	return Summary{Min: v[0], Max: v[len(v)-1], Avg: sum / float64(len(v)), P50: at(.5), P90: at(.9), P95: at(.95), P99: at(.99), P999: at(.999)}
}

func (s *stats) begin(p *pending, vertices []*vertex) *Record {
	r := &Record{ID: p.id, Kind: p.trigger.Kind, Full: p.full, Trigger: p.at}
	for _, v := range vertices {
		t := TaskRecord{Vertex: base.VertexID(v.GetId()), Name: v.GetName(), Subtasks: make([]SubtaskRecord, len(v.tasks))}
		for i := range t.Subtasks {
			if p.finished[Subtask{t.Vertex, i}] {
				t.Subtasks[i].Finished = true
			} else {
				r.Subtasks++
			}
		}
		r.Tasks = append(r.Tasks, t)
	}
	s.Total++
	s.InProgress++
	s.History = append([]*Record{r}, s.History...)
	s.History = s.History[:min(len(s.History), max(s.max, 0))]
	return r
}

// ack notes the part of a task of the vertex at that place.
func (r *Record) ack(e Ack, vertex int, now time.Time) {
	r.Acked++
	r.LatestAck = now
	r.Written += e.Stats.GetWrittenBytes()
	r.State += e.Stats.GetStateBytes()
	r.Processed += e.Stats.GetProcessedBytes()
	r.Tasks[vertex].Subtasks[e.Task.Index] = SubtaskRecord{Acked: now, Stats: e.Stats}
}

func (s *stats) complete(r *Record, snap Snapshot, now time.Time) {
	r.Status, r.End, r.Path, r.MetadataSize = StatusCompleted, now, snap.Path, snap.Size
	s.InProgress--
	s.Completed++
	x := sample{r.Duration().Milliseconds(), r.State, r.Written, r.Processed}
	if len(s.samples) < window {
		s.samples = append(s.samples, x)
	} else {
		s.samples[s.at] = x
		s.at = (s.at + 1) % window
	}
	if r.Kind == snapshotv1.Kind_KIND_CHECKPOINT {
		s.LatestCompleted = r
	} else {
		s.LatestSavepoint = r
	}
}

func (s *stats) fail(r *Record, reason string, now time.Time) {
	r.Status, r.End, r.Failure = StatusFailed, now, reason
	s.InProgress--
	s.Failed++
	s.LatestFailed = r
}

func (s *stats) restored(r *Restored, now time.Time) {
	s.Stats.Restored++
	s.LatestRestored = &RestoredRecord{ID: r.ID, At: now, Savepoint: r.Metadata.GetKind() != snapshotv1.Kind_KIND_CHECKPOINT, Path: r.Path}
}

func (s *stats) discarded(id base.CheckpointID) {
	for _, r := range append(slices.Clone(s.History), s.LatestCompleted) {
		if r != nil && r.ID == id {
			r.Discarded = true
		}
	}
}
