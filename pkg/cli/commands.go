package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
)

// command is what a first argument that is no option asks for.
type command struct {
	summary string
	// run does it and returns the exit code. args are those behind the command's name.
	run func(ctx context.Context, env commandEnv, args []string) int
}

// commandEnv is what a command may use.
type commandEnv struct {
	// program is the program's name, as in "Usage: program list".
	program        string
	stdout, stderr io.Writer
}

// commands are all of them. Client commands add themselves (init of their files).
var commands = map[string]command{
	"jobmanager":  {summary: "run as a JobManager of its own: comes with the next release", run: later},
	"taskmanager": {summary: "run as a TaskManager of its own: comes with the next release", run: later},
}

func later(_ context.Context, env commandEnv, _ []string) int {
	fmt.Fprintf(env.stderr, "%s: JobManager and TaskManager as processes of their own come with the next release; without a command the job runs here, in one process\n", env.program)
	return exitUsage
}

func commandNames() []string { return slices.Sorted(maps.Keys(commands)) }
