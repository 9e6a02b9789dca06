package datagen

import (
	"context"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

// enumerator deals the splits out once; a restored one has dealt them out already.
type enumerator struct {
	ctx    connector.EnumeratorContext
	stride int64
	left   []int64 // numbers of the splits that no reader was given
}

func (e *enumerator) Start(context.Context) error { return nil }

// AddReader gives a reader its share: split k is subtask k mod parallelism's. All others are with readers.
func (e *enumerator) AddReader(_ context.Context, subtask int) error {
	var give []connector.Split
	keep := e.left[:0]
	for _, k := range e.left {
		if int(k)%e.ctx.Parallelism() != subtask {
			keep = append(keep, k)
			continue
		}
		s := split{next: k, stride: e.stride}
		give = append(give, connector.Split{ID: s.id(), Data: s.encode()})
	}
	e.left = keep
	if len(give) > 0 {
		e.ctx.Assign(subtask, give)
	}
	e.ctx.NoMoreSplits(subtask)
	return nil
}

func (e *enumerator) RequestSplit(context.Context, int) error { return nil }
func (e *enumerator) Discover(context.Context) error          { return nil }
func (e *enumerator) Interval() float64                       { return 0 }
func (e *enumerator) Snapshot() ([]byte, error)               { return encodeEnumerator(e.stride, e.left), nil }
func (e *enumerator) Close() error                            { return nil }
