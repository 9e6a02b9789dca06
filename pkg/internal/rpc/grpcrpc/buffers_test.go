package grpcrpc

import "testing"

// TestBuffers says that a buffer which has grown does not make others large, and that what frames and full batches need has classes of its own.
func TestBuffers(t *testing.T) {
	const batch = 32<<10 + 9
	var p Buffers
	for _, n := range []int{0, 1, 2 << 10, 16 << 10, batch, 100 << 10, 1 << 20, 5 << 20} {
		b := p.Get(n)
		if len(*b) != n {
			t.Errorf("%d bytes, want %d", len(*b), n)
		}
		p.Put(b)
	}
	for _, n := range []int{100, 1 << 23} {
		b := make([]byte, n)
		p.Put(&b) // no class of its own
	}
	for n, want := range map[int]int{16 << 10: 16 << 10, batch: 40 << 10, 1 << 20: 1 << 20} {
		if c := cap(*p.Get(n)); c != want {
			t.Errorf("%d bytes take %d", n, c)
		}
	}
}
