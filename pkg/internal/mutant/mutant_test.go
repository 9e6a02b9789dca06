package mutant

import "testing"

// TestNames: each mutant has a name of its own, and a build without the tag has none of the faults.
func TestNames(t *testing.T) {
	seen := map[Name]bool{}
	for _, n := range all {
		if n == "" || seen[n] {
			t.Errorf("%q is a mutant's name twice, or empty", n)
		}
		seen[n] = true
		if !Enabled && Is(n) {
			t.Errorf("this build has the fault %s", n)
		}
	}
}
