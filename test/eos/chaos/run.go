package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	realetcd "github.com/rivulet-io/rivulet/pkg/test/etcd"
	"github.com/rivulet-io/rivulet/test/realkafka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/eos"
)

// partitions is how many each topic has.
const partitions = 4

// run is one run of the jobs under faults.
type run struct {
	o      options
	id     uint32
	dir    string
	prefix string
	kafka  *realkafka.Cluster
	etcd   *realetcd.Cluster
	sys    *system
	tail   *eos.Tail
	rand   *rand.Rand
	events io.Writer
	began  time.Time
	report report
}

// event writes a line of the run's log, and of the terminal.
func (r *run) event(what string, attrs map[string]any) {
	if attrs == nil {
		attrs = map[string]any{}
	}
	attrs["event"], attrs["at"], attrs["after"] = what, time.Now().Format(time.RFC3339Nano), time.Since(r.began).Round(time.Millisecond).String()
	b, _ := json.Marshal(attrs) // strings and numbers
	_, _ = r.events.Write(append(b, '\n'))
	fmt.Fprintf(r.o.log, "%8.1fs %s", time.Since(r.began).Seconds(), what)
	for _, k := range []string{"kind", "evidence", "recovery", "err", "path"} {
		if v, ok := attrs[k]; ok {
			fmt.Fprintf(r.o.log, " %s=%v", k, v)
		}
	}
	fmt.Fprintln(r.o.log)
}

// errBroken is wrapped when the system under test does not come back.
var errBroken = errors.New("the system did not come back")

// execute runs the jobs, injects the faults of plan, and returns what was found. The topics of each run are its own.
func execute(ctx context.Context, o options, e *environment, plan func(r *run) error) (_ *report, err error) {
	kafka := e.kafka
	r := &run{o: o, kafka: kafka, etcd: e.etcd, rand: rand.New(rand.NewPCG(o.seed, 1)), began: time.Now()}
	r.id = uint32(r.began.UnixNano())
	r.prefix = fmt.Sprintf("eos%08x", r.id)
	r.dir = filepath.Join(o.dir, r.prefix)
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, err
	}
	events, err := os.Create(filepath.Join(r.dir, "events.jsonl"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	r.events = events
	r.report.Seed, r.report.Dir = o.seed, r.dir
	r.event("begin", map[string]any{"seed": o.seed, "options": o.String()})
	if err := r.createTopics(ctx); err != nil {
		return nil, err
	}
	flows := strings.Split(o.jobs, ",")
	if r.tail, err = eos.NewTail(kafka.Bootstrap(), r.prefix, flows); err != nil {
		return nil, err
	}
	closeTail := func() {
		if r.tail != nil {
			r.tail.Close()
		}
	}
	defer closeTail()
	if r.sys, err = newSystem(ctx, o, r.dir, e, r.prefix); err != nil {
		return nil, err
	}
	defer r.sys.close()

	g := eos.Generator{Bootstrap: kafka.Bootstrap(), Topic: r.prefix + ".in", Run: r.id, Keys: o.keys, Partitions: partitions, Rate: o.rate}
	stop, generated := make(chan struct{}), make(chan error, 1)
	go func() { generated <- g.Generate(ctx, stop) }() // its error is received below
	failed := r.sys.start(ctx)
	if failed == nil {
		_, failed = r.progress(ctx, time.Now(), time.Minute)
	}
	if failed == nil {
		r.event("running", nil)
		failed = plan(r)
	}
	close(stop)
	if err := <-generated; err != nil {
		return nil, fmt.Errorf("%w: %w", eos.ErrInconclusive, err)
	}
	if failed != nil && !errors.Is(failed, errBroken) && !errors.Is(failed, errFailed) && !errors.Is(failed, errEnded) {
		return nil, failed
	}
	if failed == nil {
		failed = r.drain(ctx, flows)
	}
	if failed == nil {
		var path string
		path, failed = r.sys.finish(ctx)
		r.event("stopped", map[string]any{"path": path, "err": fmt.Sprint(failed)})
	}
	r.sys.kill()
	if failed != nil {
		r.report.Broken = failed.Error()
	}
	r.tail.Close()
	tail := r.tail
	r.tail = nil
	r.report.Verdict, err = eos.Check(ctx, kafka.Bootstrap(), r.prefix, r.id, flows, tail)
	if err != nil {
		return nil, err
	}
	r.report.Seconds = time.Since(r.began).Seconds()
	b, err := json.MarshalIndent(r.report, "", "  ")
	if err != nil {
		return nil, err
	}
	r.event("end", map[string]any{"bad": r.report.Verdict.Bad()})
	return &r.report, os.WriteFile(filepath.Join(r.dir, "verdict.json"), b, 0o600)
}

func (r *run) createTopics(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.Bootstrap()))
	if err != nil {
		return err
	}
	defer cl.Close()
	topics := []string{r.prefix + ".in"}
	for _, t := range eos.Topics(strings.Split(r.o.jobs, ",")) {
		topics = append(topics, r.prefix+"."+t)
	}
	created, err := kadm.NewClient(cl).CreateTopics(ctx, partitions, 1, nil, topics...)
	return errors.Join(err, created.Error())
}

// progress waits until every partition of the output has committed records that were generated after at, and returns when that was.
func (r *run) progress(ctx context.Context, at time.Time, limit time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		// Now and then it is looked at the processes.
		sub, stop := context.WithTimeout(ctx, time.Second)
		when, err := r.tail.After(sub, at)
		stop()
		if err == nil {
			return when, nil
		}
		if err := r.sys.lost(); err != nil {
			return when, err
		}
		if _, state, err := r.sys.rest.job(ctx); err == nil && state == "FAILED" {
			return when, fmt.Errorf("%w: FAILED", errFailed)
		}
		if ctx.Err() != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return when, fmt.Errorf("%w: %v after the fault there is no newly committed output in %s", errBroken, limit, strings.Join(r.tail.Behind(at), ", "))
			}
			return when, context.Cause(ctx)
		}
	}
}

// drain waits until the output is complete, as far as the number of its records tells, and for what would be too many.
func (r *run) drain(ctx context.Context, flows []string) error {
	in, err := eos.ReadInput(ctx, r.kafka.Bootstrap(), r.prefix, r.id)
	if err != nil {
		return err
	}
	complete := func() bool {
		out := r.tail.Records()
		for _, t := range eos.Topics(flows) {
			if out[t] < in.Expected(t) {
				return false
			}
		}
		return true
	}
	before := map[string]int64{}
	for {
		sub, stop := context.WithTimeout(ctx, r.o.patience)
		_, err := r.tail.Await(sub, complete)
		stop()
		if err == nil {
			return pause(ctx, 2*r.o.interval+time.Second)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		now := r.tail.Records()
		same := true
		for t, n := range now {
			same = same && before[t] == n
		}
		if same && len(before) > 0 {
			r.event("incomplete", map[string]any{"out": now, "expected": in.Records})
			return nil // the verdict says what is lost
		}
		before = now
	}
}

// inject injects one fault, and waits until all goes on.
func (r *run) inject(ctx context.Context, k kind) error {
	f := fault{Kind: k.name, Began: time.Now()}
	r.event("inject", map[string]any{"kind": k.name})
	evidence, err := k.do(ctx, r)
	f.Evidence = evidence
	healed := time.Now()
	defer func() { r.report.Faults = append(r.report.Faults, f) }()
	switch {
	case errors.Is(err, errUnconfirmed):
		f.Err = err.Error()
		r.event("unconfirmed", map[string]any{"kind": k.name, "err": f.Err})
	case err != nil:
		f.Err = err.Error()
		r.event("error", map[string]any{"kind": k.name, "err": f.Err})
		return fmt.Errorf("%s: %w", k.name, err)
	default:
		f.Confirmed = true
	}
	from := f.Began
	if k.environment {
		from = healed
	}
	limit := k.limit
	if r.o.limit > 0 {
		limit = r.o.limit
	}
	when, err := r.progress(ctx, healed, limit)
	if err != nil {
		f.Err = err.Error()
		r.event("not healed", map[string]any{"kind": k.name, "evidence": evidence, "err": f.Err})
		return fmt.Errorf("%s: %w", k.name, err)
	}
	f.Healed, f.Recovery = true, when.Sub(from).Seconds()
	r.event("healed", map[string]any{"kind": k.name, "evidence": evidence, "recovery": fmt.Sprintf("%.2fs", f.Recovery)})
	return nil
}

// chaos injects faults until enough were confirmed and healed.
func chaos(ctx context.Context) func(r *run) error {
	return func(r *run) error {
		var usable []kind
		for _, k := range kinds {
			if len(r.o.kinds) > 0 && !slices.Contains(r.o.kinds, k.name) {
				continue
			}
			if why := k.can(r); why == elsewhere {
				continue
			} else if why != "" {
				fmt.Fprintf(r.o.log, "chaos: %s skipped: %s\n", k.name, why)
				r.report.Skipped = append(r.report.Skipped, k.name+": "+why)
				continue
			}
			usable = append(usable, k)
		}
		if len(usable) == 0 {
			return fmt.Errorf("no kind of fault is left")
		}
		var bag []kind // each kind comes once before any comes again
		for healed, unconfirmed := 0, 0; healed < r.o.faults; {
			if len(bag) == 0 {
				bag = slices.Clone(usable)
				r.rand.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
			}
			if r.o.until > 0 && time.Since(r.began) > r.o.until {
				fmt.Fprintf(r.o.log, "chaos: %v are over after %d of %d faults\n", r.o.until, healed, r.o.faults)
				return nil
			}
			k := bag[0]
			bag = bag[1:]
			// Exponential, as what happens independently is.
			wait := time.Duration(r.rand.ExpFloat64() * float64(r.o.mean))
			if err := pause(ctx, min(wait, 4*r.o.mean)); err != nil {
				return err
			}
			if err := r.inject(ctx, k); err != nil {
				return err
			}
			if f := r.report.Faults[len(r.report.Faults)-1]; f.Confirmed {
				healed++
			} else if unconfirmed++; unconfirmed > 2+r.o.faults/5 {
				return fmt.Errorf("%w: %d faults could not be confirmed", eos.ErrInconclusive, unconfirmed)
			}
		}
		return nil
	}
}
