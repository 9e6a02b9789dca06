package itest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

var (
	seedFlag     = flag.Uint64("seed", 0, "run this seed only")
	durationFlag = flag.Duration("duration", 0, "go on with new seeds for this long (0: a fixed few)")
)

// quick is how many seeds a plain go test runs.
const quick = 10

// TestMetamorphic runs random jobs under random configurations. Each fails and is killed, stopped and started again at another parallelism, until it has finished: the
// committed output must be what a plain model says.
func TestMetamorphic(t *testing.T) {
	run := func(seed uint64) bool {
		return t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { metamorphic(t, seed) }) })
	}
	switch {
	case *seedFlag != 0:
		run(*seedFlag)
	case *durationFlag > 0:
		end := time.Now().Add(*durationFlag)
		for seed := rand.Uint64() >> 16; time.Now().Before(end); seed++ {
			if !run(seed) {
				return
			}
		}
	default:
		for seed := uint64(1); seed <= quick; seed++ {
			run(seed)
		}
	}
}

// randomSettings draws a configuration.
func randomSettings(r *rand.Rand) (out []config.Setting, text string) {
	set := func(key, value string) {
		out = append(out, config.Setting{Key: key, Value: value})
		text += " " + key[strings.LastIndex(key, ".")+1:] + "=" + value
	}
	set("parallelism.default", fmt.Sprint(1+r.IntN(5)))
	set("execution.checkpointing.interval", fmt.Sprint(10+r.IntN(40), " ms"))
	set("pipeline.operator-chaining.enabled", fmt.Sprint(r.IntN(2) == 0))
	set("execution.buffer-timeout.interval", []string{"0 ms", "1 ms", "100 ms", "10 s"}[r.IntN(4)])
	set("pipeline.auto-watermark-interval", []string{"1 ms", "5 ms", "200 ms"}[r.IntN(3)])
	if r.IntN(3) == 0 {
		set("execution.checkpointing.max-concurrent-checkpoints", "3")
	}
	if r.IntN(3) == 0 {
		set("execution.checkpointing.min-pause", "3 ms")
	}
	switch r.IntN(3) {
	case 0:
		set("restart-strategy.type", "fixed-delay")
		set("restart-strategy.fixed-delay.attempts", "1000")
		set("restart-strategy.fixed-delay.delay", fmt.Sprint(r.IntN(5), " ms"))
	case 1:
		set("restart-strategy.type", "failure-rate")
		set("restart-strategy.failure-rate.max-failures-per-interval", "1000")
		set("restart-strategy.failure-rate.delay", "2 ms")
	default: // exponential-delay
	}
	set("execution.checkpointing.tolerable-failed-checkpoints", "1000")
	if r.IntN(3) == 0 {
		set("execution.checkpointing.num-retained", fmt.Sprint(1+r.IntN(3)))
	}
	return out, text
}

func metamorphic(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	j := randomJob(r)
	w, mem := newWorld(), cluster.NewMemory()
	t.Logf("job: %s", strings.Join(j.names, " -> "))
	phases := r.IntN(4)
	savepoint, name := "", "job"
	for phase := 0; ; phase++ {
		last := phase >= phases
		settings, text := randomSettings(r)
		local := rand.New(rand.NewPCG(seed, uint64(phase)+200)) // a series of its own: the others are what they were before
		if local.IntN(2) == 0 {
			settings = append(settings, config.Setting{Key: "execution.state-recovery.from-local", Value: "true"})
			text += " from-local"
		}
		c := &chaos{r: rand.New(rand.NewPCG(seed, uint64(phase)+100)), every: 50 + r.IntN(1000), budget: r.IntN(4)}
		cfg := cluster.MiniConfig{
			Memory: mem, Settings: settings, Fabric: fabrics[r.IntN(len(fabrics))], TaskManagers: 1 + r.IntN(3), MemoryLimit: int64(1+r.IntN(32)) << 20, Logger: logs(t),
			Jobs: []cluster.Job{{Name: name, Build: func(env *stream.Env) error { return j.build(env, w, c) }, FromSavepoint: savepoint}},
		}
		end := []string{"crash", "crash at operation", "suspend", "stop", "savepoint"}[r.IntN(5)]
		if last {
			end = "finish"
		}
		after := time.Duration(r.IntN(150)) * time.Millisecond
		ops := 1 + r.IntN(150)
		t.Logf("phase %d: %s after %v or %d operations; fabric=%s taskmanagers=%d%s", phase, end, after, ops, cfg.Fabric, cfg.TaskManagers, text)
		d := &disk{onEnd: w.kill}
		mem.Wrap = d.wrap
		if end == "crash at operation" {
			d.stop = ops
		}
		m, err := cluster.NewMini(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		ended, stopped := false, false
		wait := func(d time.Duration) {
			if ended {
				return
			}
			select {
			case err = <-done:
				ended = true
			case <-time.After(d):
			}
		}
		switch end {
		case "finish":
			wait(time.Hour)
			if !ended {
				t.Errorf("it did not end within an hour: %s", describe(m))
			}
		case "crash":
			wait(after)
			d.kill()
		case "crash at operation":
			for range 2000 {
				if wait(time.Millisecond); d.isDead() {
					break
				}
			}
			d.kill()
		case "suspend":
			wait(after)
		case "stop", "savepoint":
			wait(after)
			if ids := m.Jobs(); !ended && len(ids) > 0 {
				id := ids[0]
				var req string
				var err error
				if end == "stop" {
					req, err = m.JobManager().Stop(id, "", "", false)
				} else {
					req, err = m.JobManager().TriggerSavepoint(id, "", "")
				}
				for i := 0; err == nil && i < 1000; i++ {
					var q jobmanager.Request
					if q, err = m.JobManager().Request(id, req); q.Done {
						t.Logf("%s: %s %v", end, q.Path, q.Err)
						stopped = end == "stop" && q.Path != ""
						if stopped && q.Err == nil && r.IntN(2) == 0 { // it goes on as another job
							name, savepoint = fmt.Sprint("job-", phase), q.Path
						}
						break
					}
					wait(time.Millisecond)
				}
			}
		}
		cancel()
		if !ended {
			began := time.Now()
			err = <-done
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %v to end", took)
			}
		}
		finished := false
		for _, s := range m.JobManager().Jobs() {
			t.Logf("job %s after phase %d, failures injected: %v", s.State, phase, c.log)
			finished = s.State == execution.JobFinished
			if s.State == execution.JobFailed && !d.isDead() {
				t.Errorf("FAILED: %v", s.Err)
			}
		}
		if finished && !stopped && !d.isDead() {
			break
		}
		if errors.Is(err, cluster.ErrEnded) && phase > 0 {
			break // when it was killed, it had finished
		}
		if t.Failed() || last {
			t.Fatalf("it did not finish: %v", err)
		}
		mem = mem.CrashClone([]int{0, 50, 100}[r.IntN(3)])
		if local.IntN(3) == 0 {
			n, err := mem.Damage("/localState/")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d copies of state are damaged", n)
		}
		w.revive()
	}
	if len(w.bad) > 0 {
		t.Errorf("%v", w.bad)
	}
	want := j.model()
	for _, sink := range []string{"out", "a", "b"} {
		slices.Sort(w.out[sink])
		if d := diff(w.out[sink], want[sink]); d != "" {
			t.Errorf("sink %s: %s", sink, d)
		}
	}
}

func describe(m *cluster.Mini) string {
	var b strings.Builder
	for _, id := range m.Jobs() {
		d, err := m.JobManager().Job(id)
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, "%s %s", d.Name, d.State)
		for _, v := range d.Vertices {
			for _, s := range v.Subtasks {
				fmt.Fprintf(&b, "; %s/%d#%d %s", v.Name, s.ID.Index, s.ID.Attempt, s.State)
			}
		}
	}
	return b.String()
}

func (d *disk) isDead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

func logs(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}
