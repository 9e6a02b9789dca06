package kafka

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// groupCommits commits the offsets of complete checkpoints to a consumer group, for whoever watches its lag. A failure is counted and said, and changes nothing else. A nil
// *groupCommits does nothing.
type groupCommits struct {
	adm     *kadm.Client
	group   string
	log     *slog.Logger
	metrics *readerMetrics

	// task's goroutine
	pending map[int64][]position // by checkpoint
	ends    []position           // of partitions that are read to their end

	mu  sync.Mutex
	due []position // guarded by mu
	// kick holds a token when something is due.
	kick chan struct{}
}

func newGroupCommits(cl *kgo.Client, group string, log *slog.Logger, m *readerMetrics) *groupCommits {
	return &groupCommits{adm: kadm.NewClient(cl), group: group, log: log, metrics: m, pending: map[int64][]position{}, kick: make(chan struct{}, 1)}
}

// taken notes a position that a checkpoint holds; finished one that no checkpoint will.
func (g *groupCommits) taken(checkpoint int64, p position) {
	if g != nil && p.offset >= 0 {
		g.pending[checkpoint] = append(g.pending[checkpoint], p)
	}
}

func (g *groupCommits) finished(p position) {
	if g != nil {
		g.ends = append(g.ends, p)
	}
}

// complete has a checkpoint's positions committed. It does not block.
func (g *groupCommits) complete(checkpoint int64) {
	if g == nil {
		return
	}
	due := slices.Concat(g.pending[checkpoint], g.ends)
	for c := range g.pending {
		if c <= checkpoint {
			delete(g.pending, c)
		}
	}
	if len(due) == 0 {
		return
	}
	g.mu.Lock()
	g.due = due
	g.mu.Unlock()
	select {
	case g.kick <- struct{}{}:
	default: // a token is there
	}
}

// run commits what is due until ctx ends.
func (g *groupCommits) run(ctx context.Context) {
	for {
		select {
		case <-g.kick:
		case <-ctx.Done():
			return
		}
		g.mu.Lock()
		due := g.due
		g.mu.Unlock()
		var offsets kadm.Offsets
		for _, p := range due {
			offsets.AddOffset(p.topic, p.num, p.offset, p.epoch)
		}
		try, cancel := context.WithTimeout(ctx, 30*time.Second)
		resp, err := g.adm.CommitOffsets(try, g.group, offsets)
		cancel()
		if err == nil {
			err = resp.Error()
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			g.metrics.commitsFailed.Inc()
			g.log.Warn("offsets were not committed to the group, which the job does not need", slog.String("group", g.group), slog.Any("err", err))
		default:
			g.metrics.commitsSucceeded.Inc()
			for _, p := range due {
				g.metrics.committed(p)
			}
		}
	}
}
