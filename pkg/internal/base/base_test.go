package base_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// TestHashGolden holds key hashes and groups for ever: keys of stored state are found by them. They were computed by another implementation of MurmurHash64A.
func TestHashGolden(t *testing.T) {
	var bytes [17]byte
	for i := range bytes {
		bytes[i] = byte(i)
	}
	for _, c := range []struct {
		key        string
		hash       base.Hash
		g128, gmax base.KeyGroup
	}{
		{"", 0, 0, 0},
		{"a", 0x71717d2d36b6b11, 3, 907},
		{"hello", 0x1e68d17c457bf117, 15, 3892},
		{"12345678", 0x758f67d162b2d202, 58, 15047},
		{"the quick brown fox jumps over the lazy dog", 0x5728457c6484f3c, 2, 697},
		{string(bytes[:]), 0xa0002376a3303d6d, 80, 20480},
	} {
		h := base.HashKey([]byte(c.key))
		if h != c.hash || h.Group(128) != c.g128 || h.Group(32768) != c.gmax {
			t.Errorf("%q: %#x of groups %d and %d, want %#x of %d and %d", c.key, uint64(h), h.Group(128), h.Group(32768), uint64(c.hash), c.g128, c.gmax)
		}
	}
}

// TestRanges compares the ranges with Flink's (KeyGroupRangeAssignment), and says that they and SubtaskOf agree for every parallelism.
func TestRanges(t *testing.T) {
	for _, c := range []struct{ i, p, m, start, end int }{
		{0, 1, 128, 0, 127},
		{0, 2, 128, 0, 63},
		{1, 2, 128, 64, 127},
		{0, 3, 128, 0, 42},
		{1, 3, 128, 43, 85},
		{2, 3, 128, 86, 127},
		{4, 5, 128, 103, 127},
		{127, 128, 128, 127, 127},
		{0, 3, 4, 0, 1},
		{1, 3, 4, 2, 2},
		{2, 3, 4, 3, 3},
	} {
		if r := base.RangeOf(c.i, c.p, c.m); r.Start != c.start || r.End != c.end {
			t.Errorf("subtask %d of %d, %d groups: %d to %d, want %d to %d", c.i, c.p, c.m, r.Start, r.End, c.start, c.end)
		}
	}
	for _, m := range []int{1, 2, 7, 128, 129, 1000, base.MaxParallelismLimit} {
		for p := 1; p <= min(m, 300); p++ {
			next := 0
			for i := range p {
				r := base.RangeOf(i, p, m)
				if r.Start != next || r.Len() < 1 {
					t.Fatalf("subtask %d of %d, %d groups: %+v after %d", i, p, m, r, next-1)
				}
				for _, g := range []int{r.Start, r.End} {
					if s := base.SubtaskOf(base.KeyGroup(g), p, m); s != i {
						t.Fatalf("group %d of %d is subtask %d's of %d, and in the range of %d", g, m, s, p, i)
					}
				}
				next = r.End + 1
			}
			if next != m {
				t.Fatalf("parallelism %d: %d groups of %d", p, next, m)
			}
		}
	}
}

func TestDefaultMaxParallelism(t *testing.T) {
	for p, want := range map[int]int{1: 128, 85: 128, 86: 256, 170: 256, 171: 256, 172: 512, 20000: 32768, 32768: 32768} {
		if got := base.DefaultMaxParallelism(p); got != want {
			t.Errorf("parallelism %d: %d, want %d", p, got, want)
		}
	}
}

func TestClassOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want base.Class
	}{
		{errors.New("x"), base.ClassRestart},
		{fmt.Errorf("x: %w", base.Permanent(errors.New("y"))), base.ClassPermanent},
		{fmt.Errorf("x: %w", base.ErrCorrupt), base.ClassCorrupt},
		{fmt.Errorf("x: %w", base.ErrFenced), base.ClassFenced},
		{fmt.Errorf("x: %w", base.ErrCanceled), base.ClassCanceled},
		{base.WithClass(fmt.Errorf("x: %w", base.ErrCorrupt), base.ClassRestart), base.ClassRestart},
		{errors.Join(errors.New("x"), base.Permanent(errors.New("y"))), base.ClassPermanent},
		{base.Permanent(nil), base.ClassRestart},
	} {
		if got := base.ClassOf(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestIDs(t *testing.T) {
	id := base.NewJobID()
	if back, err := base.ParseJobID(id.String()); err != nil || back != id || id.IsZero() {
		t.Errorf("%s: %s, %v", id, back, err)
	}
	for _, bad := range []string{"", "xyz", "00", id.String() + "00"} {
		if _, err := base.ParseJobID(bad); err == nil {
			t.Errorf("%q is a job id", bad)
		}
		if _, err := base.ParseOperatorID(bad); err == nil {
			t.Errorf("%q is an operator id", bad)
		}
	}
}
