package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// mutation is one way of breaking the engine, or the job, that must be found.
type mutation struct {
	name string
	// as is what it must be found as: one of these.
	as []string
	// kinds are the faults that bring it out; nil for kills.
	kinds []string
	// change is of the options; nil for the mutant of that name.
	change func(o *options)
}

// mutations are all that are known; pkg/internal/mutant has what they do.
var mutations = []mutation{
	{name: "none"}, // the engine as it is passes
	{name: "at-least-once", as: []string{"doubled"}, change: func(o *options) { o.guarantee = "at-least-once" }},
	{name: "commit-before-metadata", as: []string{"doubled"}},
	{name: "ledger-before-commit", as: []string{"lost"}},
	{name: "no-commit-on-restore", as: []string{"lost"}},
	{name: "no-abort-on-restore", as: []string{"lost", "lingering", "broken"}, kinds: []string{"mini-killed", "mini-rescaled"}},
	{name: "restore-older", as: []string{"doubled", "broken"}},
	{name: "drop-ledger", as: []string{"broken"}, kinds: []string{"mini-killed-twice"}},
	{name: "reuse-before-ledger", as: []string{"broken"}},
	{name: "ack-before-flush", as: []string{"lost"}},
	{name: "skip-record", as: []string{"lost"}},
	{name: "repeat-record", as: []string{"doubled"}},
	{name: "double-split", as: []string{"doubled"}},
	{name: "skip-alignment", as: []string{"wrong"}},
	{name: "snapshot-on-first-barrier", as: []string{"wrong", "lost"}},
	{name: "wrong-key-groups", as: []string{"wrong"}, kinds: []string{"mini-rescaled"}},
	{name: "lose-row", as: []string{"wrong"}},
	{name: "lose-timer", as: []string{"lost"}},
	{name: "fire-twice", as: []string{"doubled"}},
}

// found is as what a run's faults were found.
func (r *report) found() (out []string) {
	sums := map[string]int64{"lingering": int64(len(r.Verdict.Lingering))}
	for _, c := range r.Verdict.Counts {
		for name, n := range map[string]int64{"lost": c.Lost, "doubled": c.Doubled, "disordered": c.Disordered, "wrong": c.Wrong, "phantom": c.Phantom, "dirty": c.Dirty} {
			sums[name] += n
		}
	}
	if r.Broken != "" {
		sums["broken"] = 1
	}
	for name, n := range sums {
		if n > 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// tries is how often a mutant is run: whether a kill comes at the right moment is left to chance.
const tries = 3

// calibrate runs every mutant; each must be found, and the engine without one must pass.
func calibrate(ctx context.Context, o options, e *environment, stdout io.Writer) (int, error) {
	code, caught, total := pass, 0, 0
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	defer func() { _ = w.Flush() }() // to a terminal
	fmt.Fprintln(w, "mutant\tfound as\tfaults\ttries\tseconds\twhat was found first")
	for _, m := range mutations {
		if len(o.only) > 0 && !slices.Contains(o.only, m.name) {
			continue
		}
		began := time.Now()
		var r *report
		ok := false
		try := 0
		for try < tries && !ok {
			try++
			mo := o
			mo.seed += uint64(try) - 1
			if m.change != nil {
				m.change(&mo)
			} else if m.name != "none" {
				mo.mutant = m.name
			}
			names := m.kinds
			if names == nil {
				names = []string{"mini-killed"}
			}
			mo.mode = "mini"
			mo.patience, mo.limit = 6*time.Second, 20*time.Second
			var err error
			r, err = execute(ctx, mo, e, func(r *run) error { return kills(ctx, r, names) })
			if err != nil {
				return inconclusive, fmt.Errorf("%s: %w", m.name, err)
			}
			ok = slices.ContainsFunc(r.found(), func(s string) bool { return slices.Contains(m.as, s) })
			if m.name == "none" {
				ok = r.passed()
				break
			}
		}
		first := r.Broken
		for _, c := range r.Verdict.Counts {
			if c.First != "" {
				first = c.Topic + ": " + c.First
				break
			}
		}
		if len(r.Verdict.Lingering) > 0 && first == "" {
			first = "open: " + r.Verdict.Lingering[0]
		}
		what := strings.Join(r.found(), " ")
		switch {
		case m.name == "none" && ok:
			what = "passes"
		case ok:
			caught++
		default:
			what += fmt.Sprintf(" (MISSED, want %s; %s)", strings.Join(m.as, " or "), r.Dir)
			code = fail
		}
		if m.name != "none" {
			total++
		}
		if len(first) > 110 {
			first = first[:110] + "..."
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.0f\t%s\n", m.name, what, len(r.Faults), try, time.Since(began).Seconds(), strings.ReplaceAll(first, "\n", " "))
		_ = w.Flush() // to a terminal
	}
	fmt.Fprintf(stdout, "%d of %d mutants caught\n", caught, total)
	return code, nil
}

// kills injects a few faults, soon after each other.
func kills(ctx context.Context, r *run, names []string) error {
	for i := range r.o.faults {
		at := slices.IndexFunc(kinds, func(k kind) bool { return k.name == names[i%len(names)] })
		if err := pause(ctx, between(r.rand, 1200*time.Millisecond, 2800*time.Millisecond)); err != nil {
			return err
		}
		if err := r.inject(ctx, kinds[at]); err != nil {
			return err
		}
	}
	return nil
}
