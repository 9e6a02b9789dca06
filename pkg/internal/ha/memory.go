package ha

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// Memory is a store in memory, for tests: several JobManagers of one process may campaign for it. It is safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	epoch  base.Epoch
	leader *memoryLeader
	freed  chan struct{} // closed and replaced when the leadership is free
	jobs   map[string][]byte
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{freed: make(chan struct{}), jobs: map[string][]byte{}} }

// Lead waits until nobody else leads.
func (m *Memory) Lead(ctx context.Context) (Leadership, error) {
	for {
		m.mu.Lock()
		if m.leader == nil {
			m.epoch++
			l := &memoryLeader{store: m, epoch: m.epoch, lost: make(chan struct{})}
			m.leader = l
			m.mu.Unlock()
			return l, nil
		}
		freed := m.freed
		m.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Depose ends the present leadership, as the loss of a lease does.
func (m *Memory) Depose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deposeLocked()
}

func (m *Memory) deposeLocked() {
	if m.leader != nil {
		close(m.leader.lost)
		m.leader = nil
		close(m.freed)
		m.freed = make(chan struct{})
	}
}

// Clone returns a store with the same records and no leader: what is left after a crash.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMemory()
	c.epoch = m.epoch
	c.jobs = maps.Clone(m.jobs)
	return c
}

type memoryLeader struct {
	store *Memory
	epoch base.Epoch
	lost  chan struct{}
}

func (l *memoryLeader) Epoch() base.Epoch     { return l.epoch }
func (l *memoryLeader) Lost() <-chan struct{} { return l.lost }

func (l *memoryLeader) checkLocked() error {
	if l.store.leader != l {
		return fmt.Errorf("epoch %d leads no more: %w", l.epoch, base.ErrFenced)
	}
	return nil
}

func (l *memoryLeader) Job(_ context.Context, name string) (*Job, error) {
	l.store.mu.Lock()
	b, ok := l.store.jobs[name]
	l.store.mu.Unlock()
	if !ok {
		return nil, nil //nolint:nilnil // the contract: none is no error
	}
	return decode(b, "job "+name)
}

func (l *memoryLeader) Jobs(ctx context.Context) ([]*Job, error) {
	l.store.mu.Lock()
	names := slices.Sorted(maps.Keys(l.store.jobs))
	l.store.mu.Unlock()
	var out []*Job
	for _, name := range names {
		j, err := l.Job(ctx, name)
		if err != nil {
			return nil, err
		}
		if j != nil {
			out = append(out, j)
		}
	}
	return out, nil
}

func (l *memoryLeader) PutJob(_ context.Context, j *Job) error {
	b, err := encode(j)
	if err != nil {
		return err
	}
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if err := l.checkLocked(); err != nil {
		return err
	}
	l.store.jobs[j.Name] = b
	return nil
}

func (l *memoryLeader) DeleteJob(_ context.Context, name string) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if err := l.checkLocked(); err != nil {
		return err
	}
	delete(l.store.jobs, name)
	return nil
}

func (l *memoryLeader) Resign() error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.store.leader == l {
		l.store.deposeLocked()
	}
	return nil
}
