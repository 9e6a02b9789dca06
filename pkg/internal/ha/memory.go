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
	// away says that the store is out of reach.
	away    bool
	changed chan struct{} // closed and replaced when the leader or away changes
	jobs    map[string][]byte
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{changed: make(chan struct{}), jobs: map[string][]byte{}} }

func (m *Memory) changeLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Lead waits until nobody else leads.
func (m *Memory) Lead(ctx context.Context, me Member) (Leadership, error) {
	for {
		m.mu.Lock()
		if m.leader == nil && !m.away && ctx.Err() == nil {
			l := m.leadLocked(me)
			m.mu.Unlock()
			return l, nil
		}
		changed := m.changed
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Watch tells who leads.
func (m *Memory) Watch(ctx context.Context, tell func(Member)) error {
	for first, last := true, (Member{}); ; {
		m.mu.Lock()
		var now Member
		if m.leader != nil {
			now = m.leader.me
		}
		changed, away := m.changed, m.away
		m.mu.Unlock()
		if !away && (first || now != last) {
			first, last = false, now
			tell(now)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Peek returns all records.
func (m *Memory) Peek(context.Context) ([]*Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readLocked()
}

// Reach takes the store out of everybody's reach, or gives it back.
func (m *Memory) Reach(possible bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = !possible
	m.changeLocked()
}

// Replace makes somebody else the leader at once, as when a lease has ended.
func (m *Memory) Replace(me Member) Leadership {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deposeLocked()
	return m.leadLocked(me)
}

func (m *Memory) leadLocked(me Member) *memoryLeader {
	m.epoch++
	m.leader = &memoryLeader{store: m, me: me, epoch: m.epoch, lost: make(chan struct{})}
	m.changeLocked()
	return m.leader
}

func (m *Memory) deposeLocked() {
	if m.leader != nil {
		close(m.leader.lost)
		m.leader = nil
		m.changeLocked()
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
	me    Member
	epoch base.Epoch
	lost  chan struct{}
}

func (l *memoryLeader) Epoch() base.Epoch     { return l.epoch }
func (l *memoryLeader) Lost() <-chan struct{} { return l.lost }

// Err says that it leads no more.
func (l *memoryLeader) Err() error {
	return fmt.Errorf("epoch %d leads no more: %w", l.epoch, base.ErrFenced)
}

// Holds is false while the store is out of reach.
func (l *memoryLeader) Holds() (bool, <-chan struct{}) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	return l.store.leader == l && !l.store.away, l.store.changed
}

// enter locks the store for a leader that may decide; it waits while it is out of reach.
func (l *memoryLeader) enter(ctx context.Context) error {
	for {
		l.store.mu.Lock()
		switch {
		case l.store.leader != l:
			l.store.mu.Unlock()
			return l.Err()
		case !l.store.away:
			return nil
		}
		changed := l.store.changed
		l.store.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
		}
	}
}

func (l *memoryLeader) Job(ctx context.Context, name string) (*Job, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer l.store.mu.Unlock()
	b, ok := l.store.jobs[name]
	if !ok {
		return nil, nil //nolint:nilnil // the contract: none is no error
	}
	return Decode(b, "job "+name)
}

func (l *memoryLeader) Jobs(ctx context.Context) ([]*Job, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer l.store.mu.Unlock()
	return l.store.readLocked()
}

func (m *Memory) readLocked() ([]*Job, error) {
	var out []*Job
	for _, name := range slices.Sorted(maps.Keys(m.jobs)) {
		j, err := Decode(m.jobs[name], "job "+name)
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}

func (l *memoryLeader) PutJob(ctx context.Context, j *Job) error {
	b, err := Encode(j)
	if err != nil {
		return err
	}
	if err := l.enter(ctx); err != nil {
		return err
	}
	defer l.store.mu.Unlock()
	l.store.jobs[j.Name] = b
	return nil
}

func (l *memoryLeader) DeleteJob(ctx context.Context, name string) error {
	if err := l.enter(ctx); err != nil {
		return err
	}
	defer l.store.mu.Unlock()
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
