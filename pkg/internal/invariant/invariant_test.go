package invariant_test

import (
	"bytes"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/internal/invariant"
)

// panicOf returns what f panicked with, or nil.
func panicOf(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func TestCheck(t *testing.T) {
	if got := panicOf(func() { invariant.Check(true, "group %d", 7) }); got != nil {
		t.Errorf("Check(true) panicked: %v", got)
	}
	var want any
	if invariant.Enabled {
		want = "invariant violated: group 7 of 128"
	}
	if got := panicOf(func() { invariant.Check(false, "group %d of %d", 7, 128) }); got != want {
		t.Errorf("Check(false) panicked with %v, want %v", got, want)
	}
}

func TestSometimes(t *testing.T) {
	const calls = 10_000
	tests := []struct{ pct, atLeast, atMost int }{
		{0, 0, 0},
		{25, 2_000, 3_000}, // more than 11 standard deviations either way
		{100, calls, calls},
	}
	for _, tt := range tests {
		if !invariant.Enabled {
			tt.atLeast, tt.atMost = 0, 0
		}
		n := 0
		for range calls {
			if invariant.Sometimes(tt.pct) {
				n++
			}
		}
		if n < tt.atLeast || n > tt.atMost {
			t.Errorf("Sometimes(%d) was true in %d of %d calls, want %d to %d", tt.pct, n, calls, tt.atLeast, tt.atMost)
		}
	}
}

func TestMangle(t *testing.T) {
	whole := []byte("returned")
	invariant.Mangle(whole[:3])
	want := []byte("returned")
	if invariant.Enabled {
		want = bytes.Repeat([]byte{0xcc}, len(want)) // to the capacity, not the length
	}
	if !bytes.Equal(whole, want) {
		t.Errorf("Mangle left %q, want %q", whole, want)
	}
	invariant.Mangle(nil)
}

// TestDisabledCostsNothing shows that an engine built without the tag pays no
// allocation even where the arguments of a message would have to be boxed.
func TestDisabledCostsNothing(t *testing.T) {
	if invariant.Enabled {
		t.Skip("invariants are enabled in this build")
	}
	buf, n := make([]byte, 64), 1_000
	allocs := testing.AllocsPerRun(100, func() {
		n++
		invariant.Check(n < 0, "n is %d in %q", n, buf)
		if invariant.Sometimes(100) {
			n = 0
		}
		invariant.Mangle(buf)
	})
	if allocs != 0 {
		t.Errorf("disabled invariants allocate %v times a call, want 0", allocs)
	}
}
