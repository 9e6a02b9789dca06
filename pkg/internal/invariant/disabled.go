//go:build !invariants

package invariant

// Enabled says whether this binary checks its invariants.
const Enabled = false

// Check does nothing in this build. With the tag invariants it panics with the
// message when ok is false.
func Check(ok bool, format string, args ...any) {}

// Sometimes reports false in this build. With the tag invariants it reports
// true in pct percent of its calls.
func Sometimes(pct int) bool { return false }

// Mangle does nothing in this build. With the tag invariants it overwrites b up
// to its capacity.
func Mangle(b []byte) {}
