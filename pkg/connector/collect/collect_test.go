package collect

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

func newWriter[T any](t *testing.T, s connector.Sink[T]) connector.Writer[T] {
	t.Helper()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	w, err := s.NewWriter(connector.WriterContext{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func write[T any](t *testing.T, w connector.Writer[T], vs ...T) {
	t.Helper()
	for _, v := range vs {
		if err := w.Write(v, event.None); err != nil {
			t.Fatal(err)
		}
	}
}

func prepare[T any](t *testing.T, w connector.Writer[T], checkpoint int64) [][]byte {
	t.Helper()
	txs, err := w.Prepare(t.Context(), checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	return txs
}

func visible[T any](t *testing.T, c *Collector[T], want ...T) {
	t.Helper()
	if d := cmp.Diff(want, c.All()); d != "" {
		t.Error(d)
	}
}

func TestVisibleWithTheCheckpoint(t *testing.T) {
	c := New[string]()
	w := newWriter(t, c.Sink())
	write(t, w, "a", "b")
	prepare(t, w, 1)
	write(t, w, "c")
	visible(t, c)
	if err := w.Commit(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	visible(t, c, "a", "b")
	// Checkpoint 2 fails: the next has its records too.
	prepare(t, w, 2)
	write(t, w, "d")
	txs := prepare(t, w, 3)
	// The process dies; the next commits what checkpoint 3 holds, and it may do so twice.
	committer, err := c.Sink().NewCommitter(connector.CommitterContext{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := committer.Recover(t.Context(), connector.Recovery{Checkpoint: 3, Committables: txs}); err != nil {
			t.Fatal(err)
		}
		visible(t, c, "a", "b", "c", "d")
	}
	// As may the writer, which did not know.
	if err := w.Commit(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	visible(t, c, "a", "b", "c", "d")
}

func TestNothingAliasesARecord(t *testing.T) {
	for name, sink := range map[string]func(*Collector[[]int]) connector.Sink[[]int]{"exactly once": (*Collector[[]int]).Sink, "immediate": (*Collector[[]int]).Immediate} {
		t.Run(name, func(t *testing.T) {
			c := New[[]int]()
			w := newWriter(t, sink(c))
			v := []int{1}
			write(t, w, v)
			v[0] = 2
			write(t, w, v)
			prepare(t, w, 1)
			if err := w.Commit(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			visible(t, c, []int{1}, []int{2})
		})
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[int]()
		go func() {
			for i := range 3 {
				time.Sleep(time.Second)
				c.add(i)
			}
		}()
		if err := c.Wait(t.Context(), 2); err != nil || c.Len() != 2 {
			t.Errorf("%v with %d records", err, c.Len())
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, gone)
		defer cancel()
		var got []int
		for v := range c.Values(ctx) {
			got = append(got, v)
		}
		if d := cmp.Diff([]int{0, 1, 2}, got); d != "" {
			t.Error(d)
		}
		if err := c.Wait(ctx, 4); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTypeThatCannotBeEncoded(t *testing.T) {
	if err := New[chan int]().Sink().Validate(); err == nil {
		t.Error("it validates")
	}
}

func FuzzDecode(f *testing.F) {
	c := New[string]()
	w := &writer[string]{c: c, prepared: map[int64][]byte{}}
	for _, v := range []string{"a", "", "bc"} {
		if err := w.Write(v, event.None); err != nil {
			f.Fatal(err)
		}
	}
	txs, _ := w.Prepare(f.Context(), 1)
	f.Add(txs[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, values, err := decode(c.codec, b)
		if err == nil && len(values) > len(b) {
			t.Errorf("%d values of %d bytes", len(values), len(b))
		}
	})
}
