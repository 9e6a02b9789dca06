package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

// admin ends transactions by their producer's id and epoch, from anywhere. Its clients are opened on first use.
type admin struct {
	conn *connection
	id   string
	log  *slog.Logger

	mu struct {
		sync.Mutex
		cl  *kgo.Client
		tv1 *kgo.Client // its EndTxn leaves the epoch as it is
	}
}

func newAdmin(conn *connection, id string, log *slog.Logger) *admin {
	return &admin{conn: conn, id: id, log: log}
}

// client returns a client that ends transactions the new way (tv2) or the old.
func (a *admin) client(tv2 bool) (*kgo.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	cl, opts := &a.mu.cl, a.conn.options(a.id, a.log, nil)
	if !tv2 {
		cl = &a.mu.tv1
		v := kversion.Stable()
		v.SetMaxKeyVersion(kmsg.EndTxn.Int16(), 4)
		opts = append(opts, kgo.MaxVersions(v))
	}
	if *cl == nil {
		c, err := kgo.NewClient(opts...)
		if err != nil {
			return nil, connector.Permanent(fmt.Errorf("kafka client: %w", err))
		}
		*cl = c
	}
	return *cl, nil
}

func (a *admin) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, cl := range []*kgo.Client{a.mu.cl, a.mu.tv1} {
		if cl != nil {
			cl.Close()
		}
	}
}

// tv2 asks whether the cluster raises epochs at the end of transactions.
func (a *admin) tv2(ctx context.Context) (bool, error) {
	cl, err := a.client(true)
	if err != nil {
		return false, err
	}
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, cl)
	if err != nil {
		return false, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return false, err
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return f.MaxVersionLevel >= 2, nil
		}
	}
	return false, nil
}

// endTxn asks once.
func (a *admin) endTxn(ctx context.Context, c *committable, commit bool) error {
	cl, err := a.client(c.tv2)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = c.id, c.pid, c.epoch, commit
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// definitive are the answers to a commit after which asking again changes nothing.
func definitive(err error) bool {
	for _, k := range []*kerr.Error{
		kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.UnknownProducerID, kerr.TransactionalIDNotFound,
		kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionAbortable,
	} {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// commit commits a transaction, however often it must ask.
func (a *admin) commit(ctx context.Context, c *committable) error {
	for wait := briefly; ; wait = min(2*wait, time.Second) {
		try, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := a.endTxn(try, c, true)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case definitive(err):
			st, derr := a.fate(ctx, c)
			if derr != nil {
				return derr
			}
			if st == committed {
				return nil
			}
			return fmt.Errorf("%v is %v: %w", c, st, err)
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) || wait > 500*time.Millisecond {
			a.log.Warn("a transaction is not committed yet, asking again", slog.String("transaction", c.id), slog.Int64("checkpoint", c.checkpoint), slog.Any("err", err))
		}
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// fate is what became of a prepared transaction.
type fate int

const (
	open fate = iota
	committed
	aborted
	// reused: its id was initialised again since, so that the broker does not know.
	reused
)

func (f fate) String() string {
	return [...]string{"open", "committed", "aborted (its timeout has passed, or somebody else has ended it)", "unknown to the broker (its id was used again)"}[f]
}

// fate asks the broker what became of a transaction, however often it must ask.
func (a *admin) fate(ctx context.Context, c *committable) (f fate, err error) {
	err = persist(ctx, a.log, fmt.Sprintf("ask what became of %v", c), func(ctx context.Context) (err error) {
		for wait := briefly; ; wait = min(2*wait, time.Second) {
			f, err = a.ask(ctx, c)
			if !errors.Is(err, kerr.ConcurrentTransactions) || !pause(ctx, wait) {
				return err
			}
		}
	})
	return f, err
}

// describe asks for the state of a transactional id.
func (a *admin) describe(ctx context.Context, id string) (s kmsg.DescribeTransactionsResponseTransactionState, err error) {
	cl, err := a.client(true)
	if err != nil {
		return s, err
	}
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return s, err
	}
	if len(resp.TransactionStates) != 1 {
		return s, fmt.Errorf("describe transaction %q: %d answers", id, len(resp.TransactionStates))
	}
	s = resp.TransactionStates[0]
	return s, kerr.ErrorForCode(s.ErrorCode)
}

func (a *admin) ask(ctx context.Context, c *committable) (fate, error) {
	s, err := a.describe(ctx, c.id)
	if errors.Is(err, kerr.TransactionalIDNotFound) {
		return reused, nil // it expired
	}
	if err != nil {
		return 0, err
	}
	same := s.ProducerID == c.pid && s.ProducerEpoch == c.epoch
	next := s.ProducerID == c.pid && s.ProducerEpoch == c.epoch+1
	switch s.State {
	case "Ongoing":
		if same {
			return open, nil
		}
		return reused, nil
	case "PrepareCommit", "PrepareAbort":
		if same || next {
			return 0, kerr.ConcurrentTransactions // soon
		}
		return reused, nil
	case "CompleteCommit":
		if same || next {
			return committed, nil
		}
		return reused, nil
	case "CompleteAbort":
		if same || next {
			return aborted, nil
		}
		return reused, nil
	}
	// Another state says nothing. A commit does: it is not open, so that this commits nothing.
	switch err := a.endTxn(ctx, c, true); {
	case err == nil:
		return committed, nil
	case errors.Is(err, kerr.InvalidTxnState):
		return aborted, nil
	case definitive(err):
		return reused, nil
	default:
		return 0, err
	}
}

// ongoing is an open transaction as the broker lists it.
type ongoing struct {
	id  string
	pid int64
}

// list lists the open transactions of a sink.
func (a *admin) list(ctx context.Context, prefix string) (out []ongoing, err error) {
	cl, err := a.client(true)
	if err != nil {
		return nil, err
	}
	text := "^" + regexp.QuoteMeta(prefix) + "-[0-9]+-[0-9]+$"
	pattern, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrListTransactionsRequest()
	req.StateFilters = []string{"Ongoing"}
	req.TransactionalIDPattern = &text
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		resp, ok := shard.Resp.(*kmsg.ListTransactionsResponse)
		if !ok {
			return nil, fmt.Errorf("list transactions: answer of type %T", shard.Resp)
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return nil, err
		}
		for _, s := range resp.TransactionStates {
			// Brokers before Kafka 4.1 leave the pattern out of account.
			if pattern.MatchString(s.TransactionalID) {
				out = append(out, ongoing{s.TransactionalID, s.ProducerID})
			}
		}
	}
	return out, nil
}

// guard is the state of a sink's guard: a transactional id, the prefix with "-guard", that no transaction ever has. Each run of a sink claims it before anything else, and a
// writer looks at it before a checkpoint may be complete that its transaction is part of: when it is not as the writer found it first, another run has taken over. The ids of
// the transactions alone do not tell: a process that was paused may go on with one that the new run has never heard of.
type guard struct {
	pid   int64
	epoch int16
	// taken: a sink with another prefix has claimed it. Its run was restored there, and neither it nor a restart of it may go on.
	taken bool
}

const (
	ownGuard   = 2 * time.Second         // the transaction timeout of a guard
	takenGuard = 1999 * time.Millisecond // that of one that was taken over
)

func guardID(prefix string) string { return prefix + "-guard" }

// guard looks at a sink's guard; nil for one that nobody has claimed in the last days.
func (a *admin) guard(ctx context.Context, prefix string) (*guard, error) {
	s, err := a.describe(ctx, guardID(prefix))
	if errors.Is(err, kerr.TransactionalIDNotFound) {
		return nil, nil //nolint:nilnil // see above
	}
	if err != nil {
		return nil, fmt.Errorf("transactional id %q: %w", guardID(prefix), err)
	}
	return &guard{s.ProducerID, s.ProducerEpoch, s.TimeoutMillis == int32(takenGuard.Milliseconds())}, nil
}

// claim makes a sink's guard this run's.
func (a *admin) claim(ctx context.Context, prefix string, timeout time.Duration) (*guard, error) {
	resp, err := a.initialise(ctx, guardID(prefix), timeout)
	if err != nil {
		return nil, fmt.Errorf("transactional id %q: %w", guardID(prefix), err)
	}
	return &guard{resp.ProducerID, resp.ProducerEpoch, timeout == takenGuard}, nil
}

// superseded is the error of a run whose guard somebody else has claimed.
func superseded(prefix string) error {
	return connector.Permanent(fmt.Errorf("fenced: another run of this sink has taken over the transactions %s-*: the job was restored elsewhere, or runs twice; what this run has written since is not visible, and never will be; cancel it here, or the other one there", prefix))
}

// fence initialises a transactional id: what is open under it is aborted, and who had it can write no more.
func (a *admin) fence(ctx context.Context, id string, timeout time.Duration) error {
	_, err := a.initialise(ctx, id, timeout)
	return err
}

func (a *admin) initialise(ctx context.Context, id string, timeout time.Duration) (*kmsg.InitProducerIDResponse, error) {
	cl, err := a.client(true)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &id, int32(timeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	for wait := briefly; ; wait = min(2*wait, time.Second) {
		resp, err := req.RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) || !pause(ctx, wait) {
			return resp, err
		}
	}
}

// briefly is the first pause before a broker is asked again that is ending a transaction.
const briefly = 10 * time.Millisecond
