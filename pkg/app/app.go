// Package app makes a program of a job: one binary that runs it, looks at it and controls it.
//
// Start with Main. Its law: whatever our own binaries can do, a user's can, with one line.
package app

import (
	"flag"

	"github.com/rivulet-io/rivulet/pkg/cli"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// Main runs the job that build makes, in this process, and exits when it has ended: with 0, or with 1 when it failed. It does not return.
//
// The process's arguments are its options (--help lists them) and the job's own: flags that the program has defined with package flag before Main, as in
//
//	var topic = flag.String("topic", "clicks", "read the Kafka topic `NAME`")
//
//	func main() { app.Main("visits", build) }
//
// They are parsed when build is called; the program does not call flag.Parse itself. What follows the flags is flag.Args and Env.Args.
//
// A first argument without dashes is a command for a process that runs already: list, cancel, stop, savepoint and more.
//
// name is the job's name, by which its state is found again, and that of its data directory, ./rivulet-data/name.
func Main(name string, build func(env *stream.Env) error) {
	cli.Main(cli.Program{Name: name, Flags: flag.CommandLine, Build: build})
}
