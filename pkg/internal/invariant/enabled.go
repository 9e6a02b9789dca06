//go:build invariants

package invariant

import (
	"fmt"
	"math/rand/v2"
)

// Enabled says whether this binary checks its invariants.
const Enabled = true

// mangled fills buffers given back. As a length, a float, a UTF-8 string or a
// varint it is wrong enough to be noticed.
const mangled = 0xcc

// Check panics with the message when ok is false. It is for bugs of the engine,
// never for what users, files or peers can cause.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant violated: " + fmt.Sprintf(format, args...))
	}
}

// Sometimes reports true in pct percent of its calls, at random, so that one
// process takes ways that otherwise only a cluster or a fault would take.
func Sometimes(pct int) bool {
	return rand.IntN(100) < pct
}

// Mangle overwrites b up to its capacity. Call it on a buffer that is being
// given back, so that a reader who kept it sees nonsense rather than luck.
func Mangle(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = mangled
	}
}
