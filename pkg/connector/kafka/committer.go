package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
)

// committer finishes the transactions of writers that are gone.
type committer struct {
	cfg     *sinkConfig
	ctx     connector.CommitterContext
	admin   *admin
	metrics *committerMetrics
	// guard is what the sink's guard was after the last Recover; nil before.
	guard *guard
}

func newCommitter(cfg *sinkConfig, ctx connector.CommitterContext) *committer {
	return &committer{cfg: cfg, ctx: ctx, admin: newAdmin(&cfg.connection, fmt.Sprintf("%s-%s-recovery", ctx.Job, ctx.Operator), ctx.Logger), metrics: newCommitterMetrics(ctx.Metrics)}
}

// Recover implements connector.Committer. Its order is what exactly once stands on:
//
//  0. Claim the sink's guard, and that of the sink that wrote the checkpoint: from now on no checkpoint of another run that still writes becomes complete.
//  1. Ask what became of each prepared transaction. If one was aborted and none committed, the checkpoint before is exact, and nothing may be committed now.
//  2. Commit all that are open. Their ids are not initialised: should the process end before the ledger is written, the broker still knows that they were committed.
//  3. Abort every other open transaction of this sink, by its stored and by its own name.
//  4. Initialise the ids that the new writers begin with and those of subtasks that are no more: who still writes with one is fenced.
func (c *committer) Recover(ctx context.Context, r connector.Recovery) error {
	var prepared []*committable
	for _, b := range r.Committables {
		x, err := readCommittable(b)
		if err != nil {
			return connector.Permanent(err)
		}
		if x.checkpoint > r.Committed {
			prepared = append(prepared, &x)
		}
	}
	sinks := []sinkState{{prefix: c.cfg.transactionPrefix(c.ctx.JobID, c.ctx.Operator), subtasks: c.ctx.Parallelism, slots: 1}}
	if r.Sink != nil {
		s, err := readSinkState(r.Sink)
		if err != nil {
			return connector.Permanent(err)
		}
		if s.prefix == sinks[0].prefix {
			sinks[0].subtasks, sinks[0].slots = max(sinks[0].subtasks, s.subtasks), max(sinks[0].slots, s.slots)
		} else {
			sinks = append(sinks, s)
		}
	}
	if err := c.look(ctx); err != nil {
		return err
	}
	if err := c.claim(ctx, sinks, r.Sink != nil); err != nil {
		return err
	}
	if err := c.commit(ctx, r, prepared); err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, x := range prepared {
		keep[x.id] = true
	}
	for _, s := range sinks {
		if err := c.clear(ctx, s, keep); err != nil {
			return err
		}
	}
	return nil
}

// look checks that the topic is there.
func (c *committer) look(ctx context.Context) error {
	return persist(ctx, c.ctx.Logger, "look at the topic", func(ctx context.Context) error {
		cl, err := c.admin.client(true)
		if err == nil && len(c.cfg.topics) > 0 {
			_, err = describe(ctx, cl, c.cfg.topics)
		}
		return err
	})
}

// claim does step 0. sinks[0] is this sink; another one is that which wrote the checkpoint. A run whose guard was claimed by another one since is refused: within a process
// by the guard that it knows, and one that starts anew from a checkpoint of its own by the mark that a sink with another prefix leaves.
func (c *committer) claim(ctx context.Context, sinks []sinkState, restores bool) error {
	return persist(ctx, c.ctx.Logger, "claim the sink's transactional ids", func(ctx context.Context) error {
		own := sinks[0].prefix
		g, err := c.admin.guard(ctx, own)
		switch {
		case err != nil:
			return err
		case g == nil: // the first run, or none for days
		case c.guard != nil && *g != *c.guard, g.taken && restores && len(sinks) == 1:
			return superseded(own)
		}
		c.guard = nil // should the answer be lost, the next try finds what this one did
		if c.guard, err = c.admin.claim(ctx, own, ownGuard); err != nil {
			return err
		}
		for _, s := range sinks[1:] {
			if _, err := c.admin.claim(ctx, s.prefix, takenGuard); err != nil {
				return err
			}
		}
		return nil
	})
}

// commit does steps 1 and 2.
func (c *committer) commit(ctx context.Context, r connector.Recovery, prepared []*committable) error {
	by := map[fate][]*committable{}
	c.metrics.total.Add(int64(len(prepared)))
	for _, x := range prepared {
		f, err := c.admin.fate(ctx, x)
		if err != nil {
			return err
		}
		if f == reused && r.Committed == 0 {
			// Without a ledger (a savepoint that was carried elsewhere) the rule stands in: an id is used again only when its commit is recorded.
			c.ctx.Logger.Warn("the broker does not know any more what became of a transaction; its id was used again, so it was committed", slog.String("transaction", x.id), slog.Int64("checkpoint", x.checkpoint))
			f = committed
		}
		by[f] = append(by[f], x)
	}
	switch lost, unknown := by[aborted], by[reused]; {
	case len(unknown) > 0:
		c.metrics.failed.Add(int64(len(unknown)))
		return connector.Permanent(fmt.Errorf("%s: %d of the %d transactions that checkpoint %d prepared were neither recorded as committed nor does the broker know them any more, the first one %v: somebody else has used its id, or its record expired; going on could lose records, going back could double some",
			lostTransactions, len(unknown), len(prepared), r.Checkpoint, unknown[0]))
	case len(lost) > 0 && len(by[committed]) > 0:
		c.metrics.failed.Add(int64(len(lost)))
		return connector.Permanent(fmt.Errorf("%s: %d of the %d transactions that checkpoint %d prepared were aborted, the first one %v, and %d are committed: going on would lose records, going back would double some",
			lostTransactions, len(lost), len(prepared), r.Checkpoint, lost[0], len(by[committed])))
	case len(lost) > 0:
		c.metrics.failed.Add(int64(len(lost)))
		return fmt.Errorf("%w: %d of %d, the first one %v; the others are not committed", connector.ErrAborted, len(lost), len(prepared), lost[0])
	}
	c.metrics.already.Add(int64(len(by[committed])))
	for _, x := range by[open] {
		if mutant.Is(mutant.NoCommitOnRestore) {
			continue
		}
		if err := c.admin.commit(ctx, x); err != nil {
			return err
		}
		c.metrics.done.Inc()
		c.ctx.Logger.Info("committed a transaction of the restored checkpoint", slog.String("transaction", x.id), slog.Int64("checkpoint", x.checkpoint), slog.Int64("records", x.records))
	}
	return nil
}

// lostTransactions begins the errors that say that output is lost, or may be.
const lostTransactions = "sink_lost_transactions"

// StillOpen reports whether nothing of what a checkpoint prepared is committed, so that going back behind it doubles nothing. Without its committables (its metadata is
// damaged) nobody can tell.
func (c *committer) StillOpen(ctx context.Context, r connector.Recovery) (bool, error) {
	seen := false
	for _, b := range r.Committables {
		x, err := readCommittable(b)
		if err != nil {
			return false, connector.Permanent(err)
		}
		if x.checkpoint != r.Checkpoint {
			continue // of an older one, which r may be known by
		}
		seen = true
		f, err := c.admin.fate(ctx, &x)
		if err != nil || f == committed || f == reused {
			return false, err
		}
	}
	return seen, nil
}

// clear does steps 3 and 4 for one name.
func (c *committer) clear(ctx context.Context, s sinkState, keep map[string]bool) error {
	if mutant.Is(mutant.NoAbortOnRestore) {
		return nil
	}
	return persist(ctx, c.ctx.Logger, fmt.Sprintf("abort the open transactions %s-*", s.prefix), func(ctx context.Context) error {
		list, err := c.admin.list(ctx, s.prefix)
		if err != nil {
			return err
		}
		fence := map[string]bool{}
		for _, o := range list {
			fence[o.id] = true
		}
		for sub := range s.subtasks {
			// Beyond those that were known there may be two: one that was prepared for a checkpoint that never was, and one that was opened after it. A request of a
			// dead process may still be on its way to the broker, and would open a transaction that nobody ends.
			for slot := range s.slots + 2 {
				if id := transactionID(s.prefix, sub, slot); !keep[id] {
					fence[id] = true
				}
			}
		}
		for id := range fence {
			err := c.admin.fence(ctx, id, c.cfg.txnTimeout)
			if errors.Is(err, kerr.InvalidTransactionTimeout) {
				return badTimeout(c.cfg.txnTimeout, err)
			}
			if err != nil {
				return fmt.Errorf("transactional id %q: %w", id, err)
			}
		}
		if len(list) > 0 {
			c.ctx.Logger.Info("aborted open transactions of an earlier run", slog.String("prefix", s.prefix), slog.Int("count", len(list)))
		}
		return nil
	})
}

// Close implements connector.Committer.
func (c *committer) Close() error {
	c.admin.close()
	return nil
}
