package kafka

import (
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// slabSize is how many records share a slab, and so an allocation.
const slabSize = 128

// slab is records that are given to the client one after another, and used again when all have been answered for.
type slab struct {
	records [slabSize]kgo.Record
	used    int // by the task's goroutine
	open    atomic.Int32
	promise func(*kgo.Record, error)
}

// slabs is the slabs of one writer. The records in flight bound how many there are.
type slabs struct {
	// done is called for each record that was answered for, before it is used again.
	done func(*kgo.Record, error)

	mu   sync.Mutex
	free []*slab
}

// get returns an empty slab; on the task's goroutine.
func (p *slabs) get() *slab {
	p.mu.Lock()
	var s *slab
	if n := len(p.free); n > 0 {
		s = p.free[n-1]
		p.free = p.free[:n-1]
	}
	p.mu.Unlock()
	if s == nil {
		s = &slab{}
		s.promise = func(r *kgo.Record, err error) {
			p.done(r, err)
			*r = kgo.Record{} // lets go of the value
			if s.open.Add(-1) == 0 {
				p.mu.Lock()
				p.free = append(p.free, s)
				p.mu.Unlock()
			}
		}
	}
	s.used = 0
	s.open.Store(slabSize)
	return s
}
