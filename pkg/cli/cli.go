// Package cli is the command line of every binary of Rivulet, ours and users': options, signals, logs, a progress line, and the client commands.
//
// Start with Main. Its law: an option that is not understood is an error, and ending the process by a signal never loses anything.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector/print"
	"github.com/rivulet-io/rivulet/pkg/internal/rest"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// Program is what a binary runs.
type Program struct {
	// Name is the program's name, and that of its job unless -D pipeline.name says otherwise.
	Name string
	// Flags are the job's own options, shown beside the process's; may be nil.
	Flags *flag.FlagSet
	// Build makes the job's streams, when the options are known; nil for a process without a job.
	Build func(env *stream.Env) error
	// Role is a command that the process always runs, as if it were its first argument: "jobmanager" or "taskmanager". Empty for one that the user chooses.
	Role string
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// stopLimit is how long the process takes to end after a signal, at most. What has not ended by then is left: nothing depends on it.
const stopLimit = 9 * time.Second

// Main runs the program with the process's arguments and exits.
func Main(p Program) {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2) // the first asks, the second insists
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() { // until the process ends
		<-signals
		stop()
		select {
		case <-signals:
			os.Exit(128 + int(syscall.SIGINT))
		case <-time.After(stopLimit):
			fmt.Fprintf(os.Stderr, "%s: something did not end within %v and is left behind; the next start goes on from the newest checkpoint\n", p.Name, stopLimit)
			os.Exit(exitOK)
		}
	}()
	os.Exit(Run(ctx, p, os.Args[1:], os.Stdout, os.Stderr))
}

// Run runs the program with arguments of its own until it has ended, or ctx ends, and returns its exit code.
func Run(ctx context.Context, p Program, args []string, stdout, stderr io.Writer) int {
	if p.Name == "" {
		p.Name = filepath.Base(os.Args[0])
	}
	env := commandEnv{program: p.Name, main: p, stdout: stdout, stderr: stderr}
	if c, ok := commands[p.Role]; ok {
		return c.run(ctx, env, args)
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		if c, ok := commands[args[0]]; ok {
			return c.run(ctx, env, args[1:])
		}
		if p.Build == nil || p.Flags == nil {
			fmt.Fprintf(stderr, "%s: unknown command %q%s\n", p.Name, args[0], didYouMean(args[0], commandNames(), ""))
			return exitUsage
		}
	}
	return serve(ctx, p, mini, args, stdout, stderr)
}

// serve runs the process in a role.
func serve(ctx context.Context, p Program, r role, args []string, stdout, stderr io.Writer) int {
	flags := p.Flags
	if r == taskManager {
		flags = nil // the job's own options come with it
	}
	o, fs, err := parse(p.Name, r, flags, args)
	if err != nil {
		return fail(stderr, p.Name, err)
	}
	if o.help {
		name := p.Name
		if r != mini && p.Role == "" {
			name += " " + map[role]string{jobManager: "jobmanager", taskManager: "taskmanager"}[r]
		}
		usage(stdout, name, r, fs, flags, p.Build == nil)
		return exitOK
	}
	if o.version {
		fmt.Fprintf(stdout, "%s, built on Rivulet %s\n", p.Name, cluster.Version)
		return exitOK
	}
	var jobs []cluster.Job
	if p.Build != nil && r != taskManager && !o.Session {
		jobs = []cluster.Job{{
			Name: o.Name, Build: p.Build, Args: o.Args, FromSavepoint: o.FromSavepoint, Claim: o.Claim, Fresh: o.Fresh,
			AllowNonRestoredState: o.AllowNonRestoredState, AllowDuplicates: o.AllowDuplicates,
		}}
	}
	if o.Check {
		return check(ctx, cluster.MiniConfig{Jobs: jobs, DataDir: o.DataDir, Settings: o.Settings}, stdout, stderr, p.Name)
	}
	if o.RESTAddress != "off" {
		if o.listener, err = rest.Listen(ctx, o.RESTAddress, o.restPorts...); err != nil {
			return fail(stderr, p.Name, err)
		}
		defer func() { _ = o.listener.Close() }() // the server has closed it, unless it did not come to that
	}
	console := newConsole(stderr, isTerminal(stderr))
	if console.live { // what jobs print stays above the progress lines
		var out io.Writer // nil is standard output
		if isTerminal(stdout) {
			out = console
		}
		defer print.Redirect(out, console)()
	}
	log := slog.New(slog.NewTextHandler(console, &slog.HandlerOptions{Level: o.logLevel}))
	err = o.run(ctx, p, jobs, console, log)
	console.draw(nil)
	if err != nil {
		return fail(stderr, p.Name, err)
	}
	return exitOK
}

// run runs the process until it ends.
func (o *Options) run(ctx context.Context, p Program, jobs []cluster.Job, console *console, log *slog.Logger) error {
	if o.role == taskManager {
		return cluster.RunTaskManager(ctx, cluster.TaskManagerConfig{
			Build: rebuild(p), JobManagers: o.JobManagers, Address: o.RPCAddress, DataDir: o.DataDir, Slots: o.Slots, Settings: o.Settings, MemoryLimit: int64(o.Memory), Logger: log,
			Services: []func(context.Context, *cluster.TaskManager) error{func(ctx context.Context, t *cluster.TaskManager) error { return serveHealth(ctx, o, t, log) }},
		})
	}
	beside := []func(context.Context, *cluster.Host) error{
		func(ctx context.Context, h *cluster.Host) error { return progress(ctx, h, console, log) },
		func(ctx context.Context, h *cluster.Host) error { return serveREST(ctx, o, h, log) },
	}
	keep := p.Build == nil || o.Session
	var programs []cluster.Program
	switch {
	case o.Session && p.Build != nil:
		programs = []cluster.Program{{Name: p.Name, Build: rebuild(p)}}
	case p.Build == nil:
		programs = []cluster.Program{} // a session without any
	}
	if o.role == jobManager {
		return cluster.RunJobManager(ctx, cluster.JobManagerConfig{
			Jobs: jobs, Programs: programs, DataDir: o.DataDir, Settings: o.Settings, Address: o.RPCAddress, REST: o.restURL(), MemoryLimit: int64(o.Memory), KeepRunning: keep, Services: beside, Logger: log,
		})
	}
	return cluster.RunMini(ctx, cluster.MiniConfig{
		Jobs: jobs, Programs: programs, DataDir: o.DataDir, Settings: o.Settings, MemoryLimit: int64(o.Memory), KeepRunning: keep, Services: beside, Logger: log,
	})
}

// rebuild returns the program's Build for arguments that come with a job: they are set as if the process had been started with them. Builds must not run at the same time.
func rebuild(p Program) func(*stream.Env) error {
	if p.Build == nil || p.Flags == nil {
		return p.Build
	}
	return func(env *stream.Env) error {
		var errs []error
		p.Flags.VisitAll(func(f *flag.Flag) {
			if f.Value.String() != f.DefValue {
				errs = append(errs, f.Value.Set(f.DefValue))
			}
		})
		p.Flags.Init(p.Flags.Name(), flag.ContinueOnError)
		p.Flags.SetOutput(io.Discard)
		if err := errors.Join(append(errs, p.Flags.Parse(env.Args()))...); err != nil {
			return fmt.Errorf("the job's arguments %q: %w", env.Args(), err)
		}
		return p.Build(env)
	}
}

// fail says what went wrong and returns the exit code.
func fail(w io.Writer, name string, err error) int {
	if errors.Is(err, errUsage) {
		fmt.Fprintf(w, "%s: %s\n", name, strings.TrimPrefix(err.Error(), errUsage.Error()+": "))
		return exitUsage
	}
	fmt.Fprintf(w, "%s: %v\n", name, err)
	return exitFailed
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
