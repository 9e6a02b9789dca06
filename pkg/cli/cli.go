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
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		if c, ok := commands[args[0]]; ok {
			return c.run(ctx, commandEnv{program: p.Name, stdout: stdout, stderr: stderr}, args[1:])
		}
		if p.Build == nil || p.Flags == nil {
			fmt.Fprintf(stderr, "%s: unknown command %q%s\n", p.Name, args[0], didYouMean(args[0], commandNames(), ""))
			return exitUsage
		}
	}
	o, fs, err := parse(p.Name, p.Flags, args)
	if err != nil {
		return fail(stderr, p.Name, err)
	}
	if o.help {
		usage(stdout, p.Name, fs, p.Flags, p.Build == nil)
		return exitOK
	}
	if o.version {
		fmt.Fprintf(stdout, "%s, built on Rivulet %s\n", p.Name, cluster.Version)
		return exitOK
	}
	cfg := cluster.MiniConfig{
		DataDir: o.DataDir, Settings: o.Settings, MemoryLimit: int64(o.Memory), KeepRunning: p.Build == nil,
	}
	if p.Build != nil {
		cfg.Jobs = []cluster.Job{{
			Name: o.Name, Build: p.Build, Args: o.Args, FromSavepoint: o.FromSavepoint, Claim: o.Claim, Fresh: o.Fresh,
			AllowNonRestoredState: o.AllowNonRestoredState, AllowDuplicates: o.AllowDuplicates,
		}}
	}
	if o.Check {
		return check(ctx, cfg, stdout, stderr, p.Name)
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
	cfg.Logger = slog.New(slog.NewTextHandler(console, &slog.HandlerOptions{Level: o.logLevel}))
	cfg.Services = append(cfg.Services, func(ctx context.Context, m *cluster.Mini) error { return progress(ctx, m, console, cfg.Logger) })
	for _, s := range services {
		cfg.Services = append(cfg.Services, func(ctx context.Context, m *cluster.Mini) error { return s(ctx, o, m, cfg.Logger) })
	}
	err = cluster.RunMini(ctx, cfg)
	console.draw(nil)
	if err != nil {
		return fail(stderr, p.Name, err)
	}
	return exitOK
}

// services run beside every cluster; packages that serve it add themselves (init of their files).
var services []func(ctx context.Context, o *Options, m *cluster.Mini, log *slog.Logger) error

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
