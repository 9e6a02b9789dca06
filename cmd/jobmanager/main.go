// Command jobmanager will run a Rivulet JobManager as a process of its own.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "jobmanager: a JobManager as a process of its own comes with the next release; mini runs jobs today (see cmd/mini)")
	os.Exit(2)
}
