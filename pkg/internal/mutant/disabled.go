//go:build !mutants

package mutant

import "time"

// Enabled says whether this binary can be broken.
const Enabled = false

// Is reports false in this build. With the tag mutants it says whether the engine has this fault.
func Is(Name) bool { return false }

// Delay does nothing in this build. With the tag mutants it waits if the engine has this fault.
func Delay(Name, time.Duration) {}
