//go:build mutants

package mutant

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// Enabled says whether this binary can be broken.
const Enabled = true

// chosen is the fault that this process has; "" is none.
var chosen = Name(os.Getenv("RIVULET_MUTANT"))

func init() {
	if chosen != "" && !slices.Contains(all, chosen) {
		panic(fmt.Sprintf("RIVULET_MUTANT=%s: there is no such mutant; there are %v", chosen, all))
	}
}

// Is says whether the engine has this fault.
func Is(n Name) bool { return n == chosen }

// Delay waits if the engine has this fault.
func Delay(n Name, d time.Duration) {
	if Is(n) {
		<-time.After(d)
	}
}
