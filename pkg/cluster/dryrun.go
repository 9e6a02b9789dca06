package cluster

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// openAll opens the operators of a job on their stored state, without running them, and returns what they refuse. Sources and sinks are left out: opening one may
// reach out to a broker, where the job may be running.
func openAll(ctx context.Context, job Job, a *checkpoint.Assignment, store task.Storage) []string {
	var refusals []string
	for _, v := range job.Program.Graph().GetVertices() {
		for i := range int(v.GetParallelism()) {
			r := a.Tasks[checkpoint.Subtask{Vertex: base.VertexID(v.GetId()), Index: i}]
			for n, op := range v.GetOperators() {
				if op.GetKind() != planv1.Kind_KIND_TRANSFORM || ctx.Err() != nil {
					continue
				}
				if err := openOne(job, v, op, n, i, a.MaxParallelism[base.VertexID(v.GetId())], r, store); err != nil {
					refusals = append(refusals, fmt.Sprintf("%s: %v", op.GetName(), err))
				}
			}
			if len(refusals) > 0 {
				return refusals // the other subtasks would say the same
			}
		}
	}
	return refusals
}

func openOne(job Job, v *planv1.Vertex, op *planv1.Operator, index, subtask, maxParallelism int, r *rpcv1.Restore, store task.Storage) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	o, err := job.Program.NewOperator(op.GetNode())
	if err != nil {
		return err
	}
	restored := &task.Restored{Checkpoint: r.GetCheckpointId(), Base: r.GetBaseDir()}
	for _, x := range r.GetOperators() {
		if string(x.GetOperatorId()) == string(op.GetId()) {
			restored.Keyed, restored.KeySchema, restored.Lists, restored.Finished = x.GetKeyed(), x.GetKeySchema(), x.GetLists(), x.GetFinished()
		}
	}
	h := &dryHost{store: store, restored: restored}
	info := task.Info{
		Job: job.Name, Vertex: v.GetName(), Operator: base.OperatorID(op.GetId()), UID: op.GetUid(), Name: op.GetName(),
		Subtask: subtask, Parallelism: int(v.GetParallelism()), MaxParallelism: maxParallelism, BufferBytes: 1 << 20,
	}
	err = o.Open(task.NewContext(info, h, index, new(atomic.Uint32)))
	if cerr := o.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = h.failed
	}
	return err
}

// dryHost is a task.Host under which an operator is opened and closed, and nothing else.
type dryHost struct {
	store    task.Storage
	restored *task.Restored
	failed   error
}

func (h *dryHost) Yield() bool                       { return false }
func (h *dryHost) Fail(err error)                    { h.failed = err }
func (h *dryHost) Now() event.Time                   { return 0 }
func (h *dryHost) CallAt(int, event.Time)            {}
func (h *dryHost) EmitWatermark(int, event.Time)     {}
func (h *dryHost) EmitIdle(int, bool)                {}
func (h *dryHost) Targets(int, string) []task.Target { return nil }
func (h *dryHost) Post(func())                       {}
func (h *dryHost) Wake()                             {}

func (h *dryHost) RequestSplit(int)                               {}
func (h *dryHost) Committed(int, int64)                           {}
func (h *dryHost) Restored(int) *task.Restored                    { return h.restored }
func (h *dryHost) ReadState(uri string) (task.StateReader, error) { return h.store.Open(uri) }
