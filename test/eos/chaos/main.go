// Command chaos runs the checker's jobs on a real Kafka, injects faults until enough of them were confirmed and healed, and says what was lost, doubled or disordered.
//
// It exits with 0 when nothing was, with 1 when something was or the system did not come back, and with 2 when nothing can be said.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	realetcd "github.com/rivulet-io/rivulet/pkg/test/etcd"
	"github.com/rivulet-io/rivulet/test/realkafka"

	"github.com/rivulet-io/rivulet/test/eos"
)

type options struct {
	// mode is "mini", "cluster" (1 JobManager) or "ha" (2, and etcd).
	mode                 string
	faults, rate, keys   int
	parallelism, slots   int
	seed                 uint64
	interval, mean       time.Duration
	until                time.Duration
	dir, program, mutant string
	jobs, guarantee      string
	kinds, only          []string
	keep                 bool
	// patience is how long nothing may come at the end, and limit how long a recovery may take; 0 for that of the kind.
	patience, limit time.Duration
	log             io.Writer
}

// String is the options that lead to the same faults again.
func (o options) String() string {
	s := fmt.Sprintf("-mode %s -seed %d -faults %d -rate %d -keys %d -interval %v -mean %v -jobs %s", o.mode, o.seed, o.faults, o.rate, o.keys, o.interval, o.mean, o.jobs)
	if len(o.kinds) > 0 {
		s += " -kinds " + strings.Join(o.kinds, ",")
	}
	if o.guarantee != "exactly-once" {
		s += " -guarantee " + o.guarantee
	}
	if o.mutant != "" {
		s += " -mutant " + o.mutant
	}
	return s
}

func main() {
	realetcd.ServeIfAsked() // a member of etcd is another process of this binary
	os.Exit(exit(os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes.
const (
	pass         = 0
	fail         = 1
	inconclusive = 2
)

func exit(args []string, stdout, stderr io.Writer) int {
	o := options{log: stderr, patience: 15 * time.Second}
	var which string
	do := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		do, args = args[0], args[1:]
	}
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.IntVar(&o.faults, "faults", 10, "end after `N` confirmed and healed faults")
	fs.Uint64Var(&o.seed, "seed", 0, "draw the faults with `SEED` (0: another each time)")
	fs.StringVar(&o.mode, "mode", "ha", "test a `KIND` of deployment: mini, cluster (1 JobManager, 3 TaskManagers) or ha (2, 3, and 3 of etcd)")
	fs.DurationVar(&o.until, "for", 0, "begin no fault when the run has lasted for `TIME` (0: however long it takes)")
	fs.IntVar(&o.parallelism, "parallelism", 4, "run each vertex as `N` subtasks")
	fs.IntVar(&o.slots, "slots", 2, "of each TaskManager")
	fs.IntVar(&o.rate, "rate", 1000, "generate `N` records a second")
	fs.IntVar(&o.keys, "keys", 100, "of `N` keys")
	fs.DurationVar(&o.interval, "interval", time.Second, "take a checkpoint each `TIME`")
	fs.DurationVar(&o.mean, "mean", 3*time.Second, "the mean `TIME` between a recovery and the next fault")
	fs.StringVar(&o.dir, "dir", "", "keep logs in `DIR` (default: a temporary one, deleted when all is well)")
	fs.StringVar(&o.program, "program", "", "the job's program is at `PATH` (default: built from this module)")
	fs.StringVar(&o.jobs, "jobs", "j1,j2,j3,j5,j8", "the `DATAFLOWS` to run")
	fs.StringVar(&o.guarantee, "guarantee", "exactly-once", "what the sinks promise; at-least-once must be caught")
	fs.StringVar(&o.mutant, "mutant", "", "break the engine as `NAME` says")
	fs.StringVar(&which, "kinds", "", "inject only these `KINDS` of faults, separated by commas")
	fs.BoolVar(&o.keep, "keep", false, "keep the logs when all is well, too")
	fs.SetOutput(stderr)
	if err := fs.Parse(args); err != nil {
		return inconclusive
	}
	if which != "" {
		o.kinds = strings.Split(which, ",")
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	o.only = fs.Args() // of mutants, and of kinds whose recovery is measured
	code, err := session(ctx, o, do, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "chaos:", err)
	}
	return code
}

// environment is what all runs share.
type environment struct {
	net   *network
	kafka *realkafka.Cluster
	etcd  *realetcd.Cluster // nil without high availability
}

func (e *environment) close() {
	if e.etcd != nil {
		e.etcd.Close()
	}
	if e.kafka != nil {
		e.kafka.Close()
	}
	e.net.close()
}

// session starts what all runs share, and runs.
func session(ctx context.Context, o options, do string, stdout io.Writer) (code int, err error) {
	temporary := o.dir == ""
	if temporary {
		if o.dir, err = os.MkdirTemp("", "rivulet-chaos-"); err != nil {
			return inconclusive, err
		}
	} else if o.dir, err = filepath.Abs(o.dir); err != nil {
		return inconclusive, err
	}
	defer func() {
		if temporary && code == pass && !o.keep {
			err = errors.Join(err, os.RemoveAll(o.dir))
			return
		}
		fmt.Fprintf(stdout, "logs: %s\nagain: cd test/eos && go run ./chaos %s %s\n", o.dir, do, o)
	}()
	if o.program == "" {
		o.program = filepath.Join(o.dir, "job")
		tags := "grpcnotrace"
		if o.mutant != "" || do == "mutants" {
			tags += ",mutants"
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-o", o.program, "github.com/rivulet-io/rivulet/test/eos/job")
		if out, err := cmd.CombinedOutput(); err != nil {
			return inconclusive, fmt.Errorf("%w\n%s", err, out)
		}
	}
	e := new(environment)
	defer e.close()
	n, err := newNetwork(ctx)
	if err != nil {
		fmt.Fprintln(o.log, "chaos: no links will be cut:", err)
		n = nil
	}
	e.net = n
	e.kafka, err = realkafka.New(ctx, o.dir, realkafka.Options{Heap: "256m", Host: n.address(), Properties: map[string]string{"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000"}})
	if err != nil {
		return inconclusive, err
	}
	if o.mode == "ha" && do != "mutants" {
		if e.etcd, err = realetcd.New(ctx, o.dir, realetcd.Options{Members: 3, Host: n.address()}); err != nil {
			return inconclusive, err
		}
	}
	switch do {
	case "run": // below
	case "mutants":
		return calibrate(ctx, o, e, stdout)
	case "recovery":
		return measureRecovery(ctx, o, e, stdout)
	default:
		return inconclusive, fmt.Errorf("%q: want run, mutants or recovery", do)
	}
	r, err := execute(ctx, o, e, chaos(ctx))
	switch {
	case errors.Is(err, eos.ErrInconclusive):
		fmt.Fprintln(stdout, "INCONCLUSIVE")
		return inconclusive, err
	case err != nil:
		return inconclusive, err
	}
	r.print(stdout)
	if !r.passed() {
		fmt.Fprintf(stdout, "FAIL seed %d\n", o.seed)
		return fail, nil
	}
	fmt.Fprintf(stdout, "PASS seed %d: %d records in, %d faults, %.0f s\n", o.seed, r.Verdict.In, len(r.Faults), r.Seconds)
	return pass, nil
}
