package rest

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

type summaryBody struct {
	Min  int64  `json:"min"`
	Max  int64  `json:"max"`
	Avg  int64  `json:"avg"`
	P50  double `json:"p50"`
	P90  double `json:"p90"`
	P95  double `json:"p95"`
	P99  double `json:"p99"`
	P999 double `json:"p999"`
}

func summaryOf(s checkpoint.Summary) summaryBody {
	whole := func(f float64) int64 {
		if math.IsNaN(f) {
			return 0
		}
		return int64(f)
	}
	return summaryBody{whole(s.Min), whole(s.Max), whole(s.Avg), double(s.P50), double(s.P90), double(s.P95), double(s.P99), double(s.P999)}
}

// nothing is the summary of what no checkpoint has.
func nothing(n int) summaryBody {
	if n == 0 {
		return summaryOf(checkpoint.Summarize(nil))
	}
	return summaryBody{}
}

type summariesBody struct {
	Size      summaryBody `json:"checkpointed_size"`
	State     summaryBody `json:"state_size"`
	Duration  summaryBody `json:"end_to_end_duration"`
	Alignment summaryBody `json:"alignment_buffered"`
	Processed summaryBody `json:"processed_data"`
	Persisted summaryBody `json:"persisted_data"`
}

// sizesBody is what a checkpoint, and a vertex's part of one, have in common.
type sizesBody struct {
	LatestAck int64 `json:"latest_ack_timestamp"`
	Size      int64 `json:"checkpointed_size"`
	State     int64 `json:"state_size"`
	Duration  int64 `json:"end_to_end_duration"`
	Alignment int64 `json:"alignment_buffered"`
	Processed int64 `json:"processed_data"`
	Persisted int64 `json:"persisted_data"`
	Subtasks  int   `json:"num_subtasks"`
	Acked     int   `json:"num_acknowledged_subtasks"`
}

type checkpointBody struct {
	Class     string  `json:"className"`
	ID        int64   `json:"id"`
	Status    string  `json:"status"`
	Savepoint bool    `json:"is_savepoint"`
	Format    *string `json:"savepointFormat"`
	Trigger   int64   `json:"trigger_timestamp"`
	sizesBody
	Type  string              `json:"checkpoint_type"`
	Tasks map[string]taskBody `json:"tasks"`

	Path      *string `json:"external_path,omitempty"`
	Discarded *bool   `json:"discarded,omitempty"`

	FailedAt *int64  `json:"failure_timestamp,omitempty"`
	Failure  *string `json:"failure_message,omitempty"`
}

type taskBody struct {
	ID     int64  `json:"id"`
	Status string `json:"status"`
	sizesBody
}

// checkpointOf describes a checkpoint; with each vertex's part of it, if they are asked for.
func checkpointOf(r *checkpoint.Record, tasks bool) *checkpointBody {
	b := &checkpointBody{
		ID: int64(r.ID), Status: r.Status.String(), Savepoint: r.Kind != snapshotv1.Kind_KIND_CHECKPOINT, Trigger: r.Trigger.UnixMilli(), Tasks: map[string]taskBody{},
		sizesBody: sizesBody{
			LatestAck: millis(r.LatestAck, -1), Size: r.Written, State: r.State, Duration: r.Duration().Milliseconds(), Processed: r.Processed, Subtasks: r.Subtasks, Acked: r.Acked,
		},
	}
	switch r.Kind {
	case snapshotv1.Kind_KIND_SAVEPOINT:
		b.Type = "SAVEPOINT"
	case snapshotv1.Kind_KIND_STOP_SAVEPOINT:
		b.Type = "SYNC_SAVEPOINT"
	default:
		b.Type = "CHECKPOINT"
	}
	if b.Savepoint {
		format := "CANONICAL"
		b.Format = &format
	}
	switch r.Status {
	case checkpoint.StatusCompleted:
		b.Class, b.Path, b.Discarded = "completed", &r.Path, &r.Discarded
	case checkpoint.StatusFailed:
		at := r.End.UnixMilli()
		b.Class, b.FailedAt, b.Failure = "failed", &at, &r.Failure
	case checkpoint.InProgress:
		b.Class = "in_progress"
	}
	if tasks {
		for i := range r.Tasks {
			b.Tasks[r.Tasks[i].Vertex.String()] = taskOf(r, &r.Tasks[i])
		}
	}
	return b
}

func taskOf(r *checkpoint.Record, t *checkpoint.TaskRecord) taskBody {
	b := taskBody{ID: int64(r.ID), Status: r.Status.String()}
	var latest time.Time
	for _, s := range t.Subtasks {
		if s.Finished {
			continue
		}
		b.Subtasks++
		if s.Acked.IsZero() {
			continue
		}
		b.Acked++
		if s.Acked.After(latest) {
			latest = s.Acked
		}
		b.Size += s.Stats.GetWrittenBytes()
		b.State += s.Stats.GetStateBytes()
		b.Processed += s.Stats.GetProcessedBytes()
	}
	b.LatestAck, b.Duration = millis(latest, -1), duration(r.Trigger, latest, r.Trigger)
	if b.Acked == b.Subtasks && r.Status == checkpoint.InProgress {
		b.Status = checkpoint.StatusCompleted.String()
	}
	return b
}

// copied detaches a body from the coordinator's record, which may change.
func (b *checkpointBody) copied() *checkpointBody {
	if b.Path != nil {
		path, discarded := *b.Path, *b.Discarded
		b.Path, b.Discarded = &path, &discarded
	}
	if b.Failure != nil {
		failure := *b.Failure
		b.Failure = &failure
	}
	return b
}

var errNoCheckpointing = failuref(http.StatusNotFound, "Checkpointing has not been enabled.")

func (r *request) checkpoints() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	type restored struct {
		ID        int64  `json:"id"`
		At        int64  `json:"restore_timestamp"`
		Savepoint bool   `json:"is_savepoint"`
		Path      string `json:"external_path"`
	}
	var out struct {
		Counts struct {
			Restored   int `json:"restored"`
			Total      int `json:"total"`
			InProgress int `json:"in_progress"`
			Completed  int `json:"completed"`
			Failed     int `json:"failed"`
		} `json:"counts"`
		Summary summariesBody `json:"summary"`
		Latest  struct {
			Completed *checkpointBody `json:"completed"`
			Savepoint *checkpointBody `json:"savepoint"`
			Failed    *checkpointBody `json:"failed"`
			Restored  *restored       `json:"restored"`
		} `json:"latest"`
		History []*checkpointBody `json:"history"`
	}
	out.History = []*checkpointBody{}
	err = r.s.cfg.JobManager.Checkpoints(d.ID, func(s *checkpoint.Stats) {
		out.Counts.Restored, out.Counts.Total, out.Counts.InProgress, out.Counts.Completed, out.Counts.Failed = s.Restored, s.Total, s.InProgress, s.Completed, s.Failed
		out.Summary = summariesBody{
			Size: summaryOf(s.Written), State: summaryOf(s.State), Duration: summaryOf(s.Duration), Processed: summaryOf(s.Processed),
			Alignment: nothing(s.Completed), Persisted: nothing(s.Completed),
		}
		one := func(x *checkpoint.Record) *checkpointBody {
			if x == nil {
				return nil
			}
			return checkpointOf(x, false).copied()
		}
		out.Latest.Completed, out.Latest.Savepoint, out.Latest.Failed = one(s.LatestCompleted), one(s.LatestSavepoint), one(s.LatestFailed)
		if x := s.LatestRestored; x != nil {
			out.Latest.Restored = &restored{int64(x.ID), x.At.UnixMilli(), x.Savepoint, x.Path}
		}
		for _, x := range s.History {
			out.History = append(out.History, one(x))
		}
	})
	if err == nil && !d.Checkpointing.Enabled() && out.Counts.Total == 0 {
		err = errNoCheckpointing
	}
	return out, err
}

func (r *request) checkpointsConfig() (any, error) {
	d, err := r.job()
	if err != nil {
		return nil, err
	}
	c := d.Checkpointing
	if !c.Enabled() {
		return nil, errNoCheckpointing
	}
	type externalization struct {
		Enabled bool `json:"enabled"`
		Delete  bool `json:"delete_on_cancellation"`
	}
	mode := "exactly_once"
	if c.Mode == config.AtLeastOnce {
		mode = "at_least_once"
	}
	return struct {
		Mode            string          `json:"mode"`
		Interval        int64           `json:"interval"`
		Timeout         int64           `json:"timeout"`
		MinPause        int64           `json:"min_pause"`
		MaxConcurrent   int             `json:"max_concurrent"`
		Externalization externalization `json:"externalization"`
		Backend         string          `json:"state_backend"`
		Storage         string          `json:"checkpoint_storage"`
		Unaligned       bool            `json:"unaligned_checkpoints"`
		Tolerable       int             `json:"tolerable_failed_checkpoints"`
		AlignedTimeout  int64           `json:"aligned_checkpoint_timeout"`
		AfterFinish     bool            `json:"checkpoints_after_tasks_finish"`
		Changelog       bool            `json:"state_changelog_enabled"`
		Materialization int64           `json:"changelog_periodic_materialization_interval"`
		ChangelogStore  *string         `json:"changelog_storage"`
	}{
		Mode: mode, Interval: c.Interval.Milliseconds(), Timeout: c.Timeout.Milliseconds(), MinPause: c.MinPause.Milliseconds(), MaxConcurrent: c.MaxConcurrent,
		Externalization: externalization{c.Retention != config.NoExternalizedCheckpoints, c.Retention == config.DeleteOnCancellation},
		Backend:         "HashMapStateBackend", Storage: "FileSystemCheckpointStorage", Tolerable: c.TolerableFailures, AfterFinish: c.AfterTasksFinish,
	}, nil
}

// record calls f with the checkpoint in the path.
func (r *request) record(f func(*checkpoint.Record) error) error {
	d, err := r.job()
	if err != nil {
		return err
	}
	text := r.PathValue("checkpointid")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return badParameter("checkpointid", text)
	}
	found := failuref(http.StatusNotFound, "Could not find checkpointing statistics for checkpoint %d.", id)
	if err := r.s.cfg.JobManager.Checkpoints(d.ID, func(s *checkpoint.Stats) {
		if x := s.Find(base.CheckpointID(id)); x != nil {
			found = f(x)
		}
	}); err != nil {
		return err
	}
	return found
}

func (r *request) checkpointDetails() (any, error) {
	var out *checkpointBody
	err := r.record(func(x *checkpoint.Record) error {
		out = checkpointOf(x, true).copied()
		return nil
	})
	return out, err
}

func (r *request) checkpointSubtasks() (any, error) {
	_, v, err := r.vertex()
	if err != nil {
		return nil, err
	}
	type times struct {
		Sync  int64 `json:"sync"`
		Async int64 `json:"async"`
	}
	type alignment struct {
		Buffered  int64 `json:"buffered"`
		Processed int64 `json:"processed"`
		Persisted int64 `json:"persisted"`
		Duration  int64 `json:"duration"`
	}
	type subtask struct {
		Class      string     `json:"className"`
		Index      int        `json:"index"`
		Status     string     `json:"status"`
		Acked      *int64     `json:"ack_timestamp,omitempty"`
		Duration   *int64     `json:"end_to_end_duration,omitempty"`
		Size       *int64     `json:"checkpointed_size,omitempty"`
		State      *int64     `json:"state_size,omitempty"`
		Times      *times     `json:"checkpoint,omitempty"`
		Alignment  *alignment `json:"alignment,omitempty"`
		StartDelay *int64     `json:"start_delay,omitempty"`
		Unaligned  *bool      `json:"unaligned_checkpoint,omitempty"`
		Aborted    *bool      `json:"aborted,omitempty"`
	}
	var out struct {
		taskBody
		Summary struct {
			Size     summaryBody `json:"checkpointed_size"`
			State    summaryBody `json:"state_size"`
			Duration summaryBody `json:"end_to_end_duration"`
			Times    struct {
				Sync  summaryBody `json:"sync"`
				Async summaryBody `json:"async"`
			} `json:"checkpoint_duration"`
			Alignment struct {
				Buffered  summaryBody `json:"buffered"`
				Processed summaryBody `json:"processed"`
				Persisted summaryBody `json:"persisted"`
				Duration  summaryBody `json:"duration"`
			} `json:"alignment"`
			StartDelay summaryBody `json:"start_delay"`
		} `json:"summary"`
		Subtasks []subtask `json:"subtasks"`
	}
	out.Subtasks = []subtask{}
	err = r.record(func(x *checkpoint.Record) error {
		var t *checkpoint.TaskRecord
		for i := range x.Tasks {
			if x.Tasks[i].Vertex == v.ID {
				t = &x.Tasks[i]
			}
		}
		if t == nil {
			return failuref(http.StatusNotFound, "There is no checkpoint statistics for task %s.", v.ID)
		}
		out.taskBody = taskOf(x, t)
		var size, state, took, syncs, asyncs, processed, aligned, delays []float64
		for i, s := range t.Subtasks {
			if s.Acked.IsZero() {
				out.Subtasks = append(out.Subtasks, subtask{Class: "pending", Index: i, Status: "pending_or_failed"})
				continue
			}
			ms := func(ns int64) int64 { return ns / int64(time.Millisecond) }
			at, end, no := s.Acked.UnixMilli(), duration(x.Trigger, s.Acked, s.Acked), false
			written, full, delay := s.Stats.GetWrittenBytes(), s.Stats.GetStateBytes(), ms(s.Stats.GetStartDelayNs())
			b := subtask{
				Class: "completed", Index: i, Status: "completed", Acked: &at, Duration: &end, Size: &written, State: &full,
				Times: &times{ms(s.Stats.GetSyncNs()), ms(s.Stats.GetAsyncNs())}, Alignment: &alignment{Processed: s.Stats.GetProcessedBytes(), Duration: ms(s.Stats.GetAlignmentNs())},
				StartDelay: &delay, Unaligned: &no, Aborted: &no,
			}
			out.Subtasks = append(out.Subtasks, b)
			size, state, took = append(size, float64(written)), append(state, float64(full)), append(took, float64(end))
			syncs, asyncs = append(syncs, float64(b.Times.Sync)), append(asyncs, float64(b.Times.Async))
			processed, aligned, delays = append(processed, float64(b.Alignment.Processed)), append(aligned, float64(b.Alignment.Duration)), append(delays, float64(delay))
		}
		sum := func(v []float64) summaryBody { return summaryOf(checkpoint.Summarize(v)) }
		m := &out.Summary
		m.Size, m.State, m.Duration, m.StartDelay = sum(size), sum(state), sum(took), sum(delays)
		m.Times.Sync, m.Times.Async = sum(syncs), sum(asyncs)
		m.Alignment.Buffered, m.Alignment.Persisted = nothing(len(size)), nothing(len(size))
		m.Alignment.Processed, m.Alignment.Duration = sum(processed), sum(aligned)
		return nil
	})
	return out, err
}
