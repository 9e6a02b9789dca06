package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// committer is a sink's committer.
type committer struct {
	op    *planv1.Operator
	inner connector.Committer
	log   *slog.Logger
}

// openTransactions may be implemented by a connector.Committer that can tell whether what a checkpoint prepared is still open, so that going back behind it
// would double nothing. r is what is known of the checkpoint; its committables are missing when its metadata is damaged.
type openTransactions interface {
	StillOpen(ctx context.Context, r connector.Recovery) (bool, error)
}

// newCommitters makes the committers of all sinks that have one.
func (m *master) newCommitters() ([]*committer, error) {
	var out []*committer
	for _, v := range m.graph.GetVertices() {
		for _, op := range v.GetOperators() {
			if op.GetKind() != planv1.Kind_KIND_SINK {
				continue
			}
			name := op.GetUid()
			if name == "" {
				name = base.OperatorID(op.GetId()).String()
			}
			var group *metrics.Group
			if m.jm.cfg.Metrics != nil {
				group = m.coordinatorMetrics(op)
			}
			var c connector.Committer
			err := guarded(func() (err error) {
				c, err = m.sub.Program.NewCommitter(op.GetNode(), connector.CommitterContext{
					Job: m.sub.Name, JobID: m.id.String(), Operator: name, Parallelism: int(v.GetParallelism()),
					Logger: m.log.With(slog.String("operator", op.GetName())), Metrics: group,
				})
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("sink %q: committer: %w", op.GetName(), err)
			}
			if c != nil {
				out = append(out, &committer{op: op, inner: c, log: m.log})
			}
		}
	}
	return out, nil
}

// recovery is what a committer gets of a snapshot; of none for nil.
func (c *committer) recovery(s *checkpoint.Snapshot, ledger base.CheckpointID) connector.Recovery {
	if s == nil {
		return connector.Recovery{}
	}
	r := connector.Recovery{Checkpoint: int64(s.ID), Committed: int64(ledger)}
	if op := operatorOf(s.Metadata, c.op.GetId()); op != nil {
		r.Sink = op.GetSink()
		for _, sub := range op.GetSubtasks() {
			r.Committables = append(r.Committables, sub.GetCommittables()...)
		}
	}
	return r
}

func (c *committer) recover(ctx context.Context, r connector.Recovery) error {
	if err := guarded(func() error { return c.inner.Recover(ctx, r) }); err != nil {
		return fmt.Errorf("sink %q: finish what checkpoint %d prepared: %w", c.op.GetName(), r.Checkpoint, err)
	}
	return nil
}

func (c *committer) close() {
	if err := guarded(c.inner.Close); err != nil {
		c.log.Warn("close committer", slog.String("operator", c.op.GetName()), slog.Any("err", err))
	}
}

func operatorOf(md *snapshotv1.Metadata, id []byte) *snapshotv1.Operator {
	for _, op := range md.GetOperators() {
		if string(op.GetId()) == string(id) {
			return op
		}
	}
	return nil
}

// prepared reports whether a snapshot holds anything that a sink prepared.
func prepared(md *snapshotv1.Metadata) bool {
	for _, op := range md.GetOperators() {
		for _, sub := range op.GetSubtasks() {
			if len(sub.GetCommittables()) > 0 {
				return true
			}
		}
	}
	return false
}

// errLost is the cause of a job that cannot go on without loss or doubling.
var errLost = errors.New("sink_lost_transactions")
