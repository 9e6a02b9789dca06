package datagen

import (
	"fmt"
	"slices"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

const (
	// pollRecords is how many records a Poll makes at most, so that the task counts, and reads its clock.
	pollRecords = 1000
	// pause is how long a rate-limited reader rests at least: more than 200 times a second it does not wake.
	pause = 5 * time.Millisecond
)

// reader makes the records of its splits, one of each in turn: of splits that are equally far, that is the order of the indexes.
type reader[T any] struct {
	f      func(int64) T
	end    int64
	splits []open[T]
	turn   int // in splits
	noMore bool

	rate   float64 // records per second of all subtasks; 0 for no limit
	credit float64 // records that may be made, as of last
	last   time.Time
	wake   func()
	timer  *time.Timer
}

// open is a split that is being read.
type open[T any] struct {
	split
	out connector.SplitOutput[T]
}

func newReader[T any](s *source[T], ctx connector.ReaderContext) *reader[T] {
	return &reader[T]{f: s.f, end: s.end(), rate: s.rate, wake: ctx.Wake}
}

func (r *reader[T]) AddSplits(splits []connector.Split, out connector.Output[T]) error {
	for _, s := range splits {
		sp, err := decodeSplit(s.Data)
		if err != nil {
			return fmt.Errorf("split %q: %w", s.ID, err)
		}
		if sp.next < r.end {
			r.splits = append(r.splits, open[T]{split: sp, out: out.Split(s.ID)})
		} else {
			out.Release(s.ID)
		}
	}
	slices.SortFunc(r.splits, func(a, b open[T]) int { return int(min(max(a.next-b.next, -1), 1)) })
	r.turn = 0
	return nil
}

func (r *reader[T]) NoMoreSplits() { r.noMore = true }

// Poll makes records until the task has something else to do, the rate is reached, or there were enough for once.
func (r *reader[T]) Poll(out connector.Output[T]) (connector.Status, error) {
	n := pollRecords
	if r.rate > 0 && len(r.splits) > 0 {
		if n = r.due(time.Now()); n == 0 {
			return connector.Wait, nil
		}
	}
	f, end, made := r.f, r.end, 0
	for made < n && len(r.splits) > 0 {
		s := &r.splits[r.turn]
		i := s.next
		if s.next += s.stride; s.next < i {
			s.next = end // there is no larger number
		}
		s.out.Collect(f(i), event.None)
		made++
		if s.next < end {
			r.turn++
		} else {
			out.Release(split{i, s.stride}.id())
			r.splits = slices.Delete(r.splits, r.turn, r.turn+1)
		}
		if r.turn >= len(r.splits) {
			r.turn = 0
		}
		if out.Yield() {
			break
		}
	}
	r.credit -= float64(made)
	switch {
	case len(r.splits) > 0:
		return connector.More, nil
	case r.noMore:
		return connector.End, nil
	default:
		return connector.Wait, nil
	}
}

// due returns how many records may be made now, and sees to it that the reader is woken when that is none.
func (r *reader[T]) due(now time.Time) int {
	// The share of this reader is that of its splits. Those that have ended leave theirs unused.
	perSecond := r.rate * float64(len(r.splits)) / float64(r.splits[0].stride)
	if !r.last.IsZero() {
		r.credit = min(r.credit+now.Sub(r.last).Seconds()*perSecond, max(perSecond, 1))
	}
	r.last = now
	if r.credit >= 1 {
		return min(int(r.credit), pollRecords)
	}
	rest := max(time.Duration((1-r.credit)/perSecond*float64(time.Second))+time.Microsecond, pause)
	if r.timer == nil {
		r.timer = time.AfterFunc(rest, r.wake)
	} else {
		r.timer.Reset(rest)
	}
	return 0
}

func (r *reader[T]) Snapshot(int64) ([]connector.Split, error) {
	out := make([]connector.Split, len(r.splits))
	for i, s := range r.splits {
		out[i] = connector.Split{ID: s.id(), Data: s.encode()}
	}
	return out, nil
}

func (r *reader[T]) CheckpointComplete(int64) {}

func (r *reader[T]) Close() error {
	if r.timer != nil {
		r.timer.Stop()
	}
	return nil
}
