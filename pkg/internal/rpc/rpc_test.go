package rpc_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
)

// TestOnce: a numbered call happens once, whatever is repeated, delayed and overtaken, and a repetition has the answer of the first.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o rpc.Once
		var ran []int64
		boom := errors.New("boom")
		call := func(n int64, err error) error {
			return o.Do(t.Context(), n, func() error { ran = append(ran, n); return err })
		}
		if err := call(1, boom); !errors.Is(err, boom) {
			t.Error(err)
		}
		if err := call(1, nil); !errors.Is(err, boom) {
			t.Errorf("the repetition of a call that failed: %v", err)
		}
		if err := call(7, nil); err != nil { // numbers need not be without gaps
			t.Error(err)
		}
		if err := call(1, nil); !errors.Is(err, base.ErrFenced) {
			t.Errorf("an old call: %v", err)
		}
		if err := errors.Join(call(0, nil), call(0, nil)); err != nil {
			t.Error(err)
		}

		// A repetition waits for the call that runs, and so does the next call.
		block := make(chan struct{})
		first, again, next := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() {
			first <- o.Do(t.Context(), 8, func() error { <-block; ran = append(ran, 8); return boom })
		}()
		synctest.Wait()
		go func() { again <- o.Do(t.Context(), 8, func() error { panic("twice") }) }()
		synctest.Wait()
		impatient, cancel := context.WithCancel(t.Context())
		cancel()
		if err := o.Do(impatient, 8, func() error { panic("twice") }); !errors.Is(err, context.Canceled) {
			t.Errorf("a repetition that was given up: %v", err)
		}
		go func() { next <- call(9, nil) }()
		synctest.Wait()
		if len(next)+len(again) > 0 {
			t.Error("a call did not wait for the one before it")
		}
		close(block)
		if a, b := <-first, <-again; !errors.Is(a, boom) || b != nil && !errors.Is(b, boom) {
			t.Error(a, b)
		}
		if err := <-next; err != nil {
			t.Error(err)
		}
		if len(ran) != 6 || ran[4] != 8 || ran[5] != 9 {
			t.Errorf("ran %v", ran)
		}
	})
}

// TestVersions: two windows agree upon the newest version of both, if there is one.
func TestVersions(t *testing.T) {
	for _, c := range []struct {
		a, b rpc.Versions
		want int32
	}{
		{rpc.Versions{2, 2}, rpc.Versions{2, 2}, 2},
		{rpc.Versions{2, 3}, rpc.Versions{1, 2}, 2},
		{rpc.Versions{3, 4}, rpc.Versions{4, 5}, 4},
		{rpc.Versions{3, 4}, rpc.Versions{1, 2}, 0},
		{rpc.Versions{2, 2}, rpc.VersionsOf(nil), 0},
	} {
		for _, v := range [][2]rpc.Versions{{c.a, c.b}, {c.b, c.a}} {
			if n, ok := v[0].Agree(v[1]); ok != (c.want > 0) || ok && n != c.want {
				t.Errorf("%v and %v: %d, %v, want %d", v[0], v[1], n, ok, c.want)
			}
		}
	}
}
