package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
)

// maxSlots bounds a subtask's transactions that are not recorded as committed yet.
const maxSlots = 64

// transactions is the ring of one writer's transactions. Each has an id and a client of its own, and goes through
//
//	free -> open (begin) -> prepared (prepare) -> committed (commit) -> free (recorded)
//
// An id is not used again before the ledger has its commit: from then on nobody needs the broker's answer to what became of it.
// The task's goroutine opens and prepares, the committing goroutine commits.
type transactions struct {
	cfg    *sinkConfig
	ctx    connector.WriterContext
	prefix string
	admin  *admin
	// refused ends the task because of the connection.
	refused func(error)
	hook    kgo.Hook // of the clients

	current *transaction // task's goroutine
	// guard is the sink's guard as it was before the first transaction, and guarded that it was looked at; task's goroutine.
	guard   *guard
	guarded bool
	// running is id and deadline of the open transaction, nil for none.
	running atomic.Pointer[committable]

	mu sync.Mutex
	// prepared, committed and free are guarded by mu, oldest first. A transaction belongs to whoever has taken it from its list.
	prepared, committed, free []*transaction
	slots                     int
}

type transaction struct {
	committable
	slot int
	cl   *kgo.Client // nil when it is to be made anew
	// topic is that of the first record.
	topic string
}

// ends reports whether the client ends the transaction when it is asked to. In EndTransaction it looks for partitions that were written in its table of topics. It fills
// that for a new topic only after it has handed the records on that waited for it; if they are acknowledged before, it finds none, and answers success without a word to
// the broker (transaction version 1), or after an abort (version 2): a commit would be lost. All partitions of a topic get into the table at once.
func (x *transaction) ends() bool {
	leader, _, _ := x.cl.PartitionLeader(x.topic, 0)
	return leader >= 0
}

func newTransactions(cfg *sinkConfig, ctx connector.WriterContext, refused func(error), hook kgo.Hook) *transactions {
	return &transactions{
		cfg: cfg, ctx: ctx, refused: refused, hook: hook, prefix: cfg.transactionPrefix(ctx.JobID, ctx.Operator),
		admin: newAdmin(&cfg.connection, fmt.Sprintf("%s-%s-%d-committer", ctx.Job, ctx.Operator, ctx.Subtask), ctx.Logger),
	}
}

// transactionPrefix is what the ids of a sink's transactions begin with.
func (c *sinkConfig) transactionPrefix(jobID, operator string) string {
	prefix := c.prefix
	if prefix == "" {
		prefix = "rivulet-" + jobID
	}
	return prefix + "-" + operator
}

// transactionID is the name of a subtask's transaction.
func transactionID(prefix string, subtask, slot int) string {
	return fmt.Sprintf("%s-%d-%d", prefix, subtask, slot)
}

// check fails when another run has claimed the sink's guard since the first call.
func (t *transactions) check(ctx context.Context) error {
	var g *guard
	if err := persist(ctx, t.ctx.Logger, "look whether another run has taken over", func(ctx context.Context) (err error) {
		g, err = t.admin.guard(ctx, t.prefix)
		return err
	}); err != nil {
		return err
	}
	if !t.guarded {
		t.guard, t.guarded = g, true
	}
	if g != nil && (g.taken || t.guard == nil || *g != *t.guard) {
		return superseded(t.prefix)
	}
	return nil
}

// begin opens a transaction.
func (t *transactions) begin(ctx context.Context) (*kgo.Client, error) {
	t.mu.Lock()
	var x *transaction
	if len(t.free) > 0 {
		x = t.free[0]
		t.free = t.free[1:]
	} else if t.slots < maxSlots {
		x = &transaction{slot: t.slots}
		t.slots++
	}
	t.mu.Unlock()
	if x == nil {
		return nil, fmt.Errorf("%d transactions are prepared and not recorded as committed", maxSlots)
	}
	x.committable = committable{id: transactionID(t.prefix, t.ctx.Subtask, x.slot)}
	if x.cl == nil {
		// Before an id is initialised that the other run may have.
		if err := t.check(ctx); err != nil {
			return nil, err
		}
		opts := append(t.cfg.producerOptions(t.ctx, t.refused, t.hook), kgo.TransactionalID(x.id), kgo.TransactionTimeout(t.cfg.txnTimeout))
		var err error
		if x.cl, err = kgo.NewClient(opts...); err != nil {
			return nil, connector.Permanent(fmt.Errorf("kafka client: %w", err))
		}
	}
	t.current = x
	if err := x.cl.BeginTransaction(); err != nil {
		return nil, fmt.Errorf("begin transaction %q: %w", x.id, err)
	}
	return x.cl, nil
}

// count counts a record of the open transaction.
func (t *transactions) count(topic string) {
	if t.current.records++; t.current.records == 1 {
		t.current.topic, t.current.first = topic, time.Now()
		t.current.deadline = t.current.first.Add(t.cfg.txnTimeout)
		t.running.Store(&committable{id: t.current.id, deadline: t.current.deadline})
	}
}

// explain says what an error of a write means. From any goroutine.
func (t *transactions) explain(err error) error {
	x := t.running.Load()
	switch {
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return badTimeout(t.cfg.txnTimeout, err)
	case x == nil:
		return err
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.InvalidTxnState), errors.Is(err, kerr.InvalidProducerIDMapping):
		if time.Until(x.deadline) < time.Second {
			return restartable{fmt.Errorf("the broker has aborted transaction %q, whose time was up (%v, TransactionTimeout): no checkpoint was completed in that time: %w", x.id, t.cfg.txnTimeout, err)}
		}
		return connector.Permanent(fmt.Errorf("fenced: somebody else has taken over transactional id %q: the job was restored elsewhere, or another one has the same TransactionalIDPrefix: %w", x.id, err))
	}
	return err
}

func badTimeout(d time.Duration, err error) error {
	return connector.Permanent(fmt.Errorf("the broker does not allow a transaction timeout of %v: lower TransactionTimeout, or raise the broker's transaction.max.timeout.ms: %w", d, err))
}

// restartable is an error that looks final and is not.
type restartable struct{ error }

// Unwrap makes its causes known.
func (r restartable) Unwrap() error { return r.error }

// left is the time until the broker may abort the first of the transactions, and how many there are.
func (t *transactions) left() (d time.Duration, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d = t.cfg.txnTimeout
	if x := t.running.Load(); x != nil {
		d, n = min(d, time.Until(x.deadline)), n+1
	}
	for _, x := range t.prepared {
		d, n = min(d, time.Until(x.deadline)), n+1
	}
	return d, n
}

// prepare ends the first phase: everything is flushed. It returns what is prepared and not known to be committed, older transactions included: who restores this
// checkpoint has nothing else.
func (t *transactions) prepare(ctx context.Context, checkpoint int64) ([][]byte, error) {
	if x := t.current; x != nil && x.records > 0 {
		var err error
		if x.pid, x.epoch, err = x.cl.ProducerID(ctx); err != nil {
			return nil, fmt.Errorf("transaction %q: %w", x.id, err)
		}
		if x.tv2, err = t.admin.tv2(ctx); err != nil {
			return nil, fmt.Errorf("transaction %q: ask for the cluster's features: %w", x.id, err)
		}
		if err := t.check(ctx); err != nil {
			return nil, fmt.Errorf("transaction %q: %w", x.id, err)
		}
		x.checkpoint = checkpoint
		t.current = nil
		t.running.Store(nil)
		if d := time.Until(x.deadline); d < t.cfg.txnTimeout/2 {
			t.ctx.Logger.Warn("half of a transaction's time had passed when it was prepared; the rest is how long the job may be down before its commit", slog.String("transaction", x.id), slog.Int64("checkpoint", checkpoint), slog.Duration("left", d))
		}
		t.mu.Lock()
		t.prepared = append(t.prepared, x)
		t.mu.Unlock()
	} else if x != nil {
		// Nothing was written: it goes on as the next one.
		t.current = nil
		t.mu.Lock()
		t.free = append([]*transaction{x}, t.free...)
		t.mu.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out [][]byte
	for _, x := range t.prepared {
		out = append(out, x.append(nil))
	}
	return out, nil
}

// commit makes visible what was prepared up to a checkpoint; on the committing goroutine.
func (t *transactions) commit(ctx context.Context, checkpoint int64) error {
	for {
		t.mu.Lock()
		var x *transaction
		if len(t.prepared) > 0 && t.prepared[0].checkpoint <= checkpoint {
			x = t.prepared[0]
		}
		t.mu.Unlock()
		if x == nil {
			return nil
		}
		if err := t.finish(ctx, x); err != nil {
			return err
		}
		t.mu.Lock()
		t.prepared = t.prepared[1:]
		if mutant.Is(mutant.ReuseBeforeLedger) {
			t.free = append(t.free, x)
		} else {
			t.committed = append(t.committed, x)
		}
		t.mu.Unlock()
	}
}

// finish commits one transaction, and retries until the answer is definitive.
func (t *transactions) finish(ctx context.Context, x *transaction) error {
	mutant.Delay(mutant.NoCommitOnRestore, 400*time.Millisecond)
	if x.cl != nil && !x.ends() {
		x.cl.Close()
		x.cl = nil
	}
	if x.cl != nil {
		if mutant.Is(mutant.AckBeforeFlush) {
			if err := x.cl.Flush(ctx); err != nil {
				return err
			}
		}
		err := x.cl.EndTransaction(ctx, kgo.TryCommit)
		if err == nil {
			if !x.tv2 {
				// The epoch was not raised: the next transaction would look like this one.
				x.cl.Close()
				x.cl = nil
			}
			return nil
		}
		// The client's own way on is to abort. Ours is to ask again, by the producer's id and epoch.
		x.cl.Close()
		x.cl = nil
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.ctx.Logger.Warn("the commit of a transaction was not confirmed, asking again", slog.String("transaction", x.id), slog.Int64("checkpoint", x.checkpoint), slog.Any("err", err))
	}
	return t.admin.commit(ctx, &x.committable)
}

// recorded says that commits up to a checkpoint are in the ledger.
func (t *transactions) recorded(checkpoint int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.committed) > 0 && t.committed[0].checkpoint <= checkpoint {
		t.free = append(t.free, t.committed[0])
		t.committed = t.committed[1:]
	}
}

// state implements Writer.SinkState.
func (t *transactions) state() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := sinkState{prefix: t.prefix, subtasks: t.ctx.Parallelism, slots: t.slots}
	return s.append(nil)
}

// close leaves what is prepared as it is, and aborts what is not if the broker answers at once: consumers would wait for it until its timeout.
func (t *transactions) close() {
	if x := t.current; x != nil && x.records > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := x.cl.AbortBufferedRecords(ctx)
		switch {
		case err != nil:
		case x.ends():
			err = x.cl.EndTransaction(ctx, kgo.TryAbort)
		default:
			err = t.admin.fence(ctx, x.id, t.cfg.txnTimeout)
		}
		if err != nil {
			t.ctx.Logger.Debug("the open transaction was not aborted", slog.String("transaction", x.id), slog.Any("err", err))
		}
		cancel()
	}
	t.mu.Lock()
	all := slices.Concat(t.prepared, t.committed, t.free, []*transaction{t.current})
	t.mu.Unlock()
	for _, x := range all {
		if x != nil && x.cl != nil {
			x.cl.Close() // without the lock: it takes its time, and gauges ask for the lock
		}
	}
	t.admin.close()
}
