package cli

import (
	"context"
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
	// program is the program's name, as in "Usage: program list", and main the whole of it.
	program        string
	main           Program
	stdout, stderr io.Writer
}

// commands are all of them. They add themselves (init of their files).
var commands = map[string]command{}

func init() {
	commands["jobmanager"] = command{summary: "run as the JobManager of a cluster; --help shows its options", run: func(ctx context.Context, env commandEnv, args []string) int {
		return serve(ctx, env.main, jobManager, args, env.stdout, env.stderr)
	}}
	commands["taskmanager"] = command{summary: "run as a TaskManager of a cluster; --help shows its options", run: func(ctx context.Context, env commandEnv, args []string) int {
		return serve(ctx, env.main, taskManager, args, env.stdout, env.stderr)
	}}
}

func commandNames() []string { return slices.Sorted(maps.Keys(commands)) }
