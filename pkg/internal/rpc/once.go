package rpc

import (
	"context"
	"fmt"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// Once makes numbered calls happen once and in order, although the network loses answers, repeats calls and delays them. It holds for one sender that numbers its calls
// from 1 and makes one after another, each again until it is answered. The zero Once has seen none. It is safe for concurrent use.
type Once struct {
	mu   sync.Mutex
	last int64
	done chan struct{} // closed when the last call has its answer
	err  error         // that answer
}

// Do runs f unless a call of that number was seen: the newest is answered again as it was, an older one is refused, since nobody waits for it. A call that overtakes the
// one before it waits for its end. Number 0 is not numbered: f runs.
func (o *Once) Do(ctx context.Context, number int64, f func() error) error {
	if number == 0 {
		return f()
	}
	o.mu.Lock()
	last, before := o.last, o.done
	if number < last {
		o.mu.Unlock()
		return fmt.Errorf("call %d came after call %d: %w", number, last, base.ErrFenced)
	}
	done := make(chan struct{})
	if number > last {
		o.last, o.done = number, done
	}
	o.mu.Unlock()
	if before != nil {
		select {
		case <-before:
		case <-ctx.Done():
			if number == last {
				return context.Cause(ctx) // the repetition is given up, the call is not
			}
			<-before // f must run: its number is taken
		}
	}
	if number == last {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.err
	}
	err := f()
	o.mu.Lock()
	o.err = err
	o.mu.Unlock()
	close(done)
	return err
}
