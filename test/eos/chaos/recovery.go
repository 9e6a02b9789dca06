package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// figure is what is asked of recoveries of a kind, in seconds, the worst of o.faults.
type figure struct {
	kind, mode string
	target     float64
}

var figures = []figure{
	{"taskmanager-killed", "ha", 5},
	{"leader-killed", "ha", 10},
	{"taskmanager-terminated", "ha", 2},
	{"mini-killed", "mini", 2},
}

// measureRecovery measures the recoveries of each kind: from the fault to the first committed output, in every partition, of input that came after it.
func measureRecovery(ctx context.Context, o options, e *environment, stdout io.Writer) (int, error) {
	code := pass
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "fault\tmode\tn\tmin s\tmedian s\tmax s\ttarget s\tlost\tdoubled\tdisordered\twrong\t\n")
	for _, f := range figures {
		if len(o.only) > 0 && !slices.Contains(o.only, f.kind) {
			continue
		}
		fo := o
		fo.mode = f.mode
		r, err := execute(ctx, fo, e, func(r *run) error { return steady(ctx, r, f.kind) })
		if err != nil {
			return inconclusive, fmt.Errorf("%s: %w", f.kind, err)
		}
		var took []float64
		for _, x := range r.Faults {
			if x.Confirmed && x.Healed {
				took = append(took, x.Recovery)
			}
		}
		if len(took) == 0 {
			return inconclusive, fmt.Errorf("%s: no fault was healed: %s", f.kind, r.Broken)
		}
		slices.Sort(took)
		var lost, doubled, disordered, wrong int64
		for _, c := range r.Verdict.Counts {
			lost, doubled, disordered, wrong = lost+c.Lost, doubled+c.Doubled, disordered+c.Disordered, wrong+c.Wrong+c.Phantom+c.Dirty
		}
		if !r.passed() || took[len(took)-1] > f.target {
			code = fail
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%.2f\t%.2f\t%.2f\t%.0f\t%d\t%d\t%d\t%d\t\n", f.kind, f.mode, len(took), took[0], took[len(took)/2], took[len(took)-1], f.target, lost, doubled, disordered, wrong)
		_ = w.Flush() // to a terminal
		if r.Broken != "" {
			fmt.Fprintln(stdout, f.kind+":", r.Broken)
		}
	}
	fmt.Fprintf(stdout, "J1 to J3, J5 and J8 on %s, a checkpoint each %v, heartbeats each %v with a timeout of %v, leases of %v, parallelism %d, %d records/s; from the fault to the first committed output, in every partition, of input that came after it.\n",
		machine(), o.interval, heartbeat, heartbeatTimeout, lease, o.parallelism, o.rate)
	return code, nil
}

// machine says what the figures were measured on.
func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, time.Now().Format(time.DateOnly))
}

// steady injects faults of one kind, each when the job has run for a while.
func steady(ctx context.Context, r *run, name string) error {
	at := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	for range r.o.faults {
		if err := pause(ctx, between(r.rand, 2*time.Second, 4*time.Second)); err != nil {
			return err
		}
		if err := r.inject(ctx, kinds[at]); err != nil {
			return err
		}
	}
	return nil
}
