package itest

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
)

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// failing is a chaos that fails each reading, from the first on, n times.
func failing(n int) *chaos { return &chaos{r: random(1), every: 1, budget: n, only: "read"} }

// TestRestartStrategies runs a job that fails again and again under each of Flink's strategies, with its keys and defaults. Time is virtual: the delays are exact.
func TestRestartStrategies(t *testing.T) {
	const ever = 1 << 30
	for _, c := range []struct {
		name, settings string
		fail           int
		restarts       int // that it had in the end
		failed         bool
		least, most    time.Duration
	}{
		{"none", "restart-strategy.type=none", 1, 0, true, 0, 0},
		{"off", "restart-strategy.type=off", 1, 0, true, 0, 0},
		{"no checkpoints", "execution.checkpointing.interval=0 ms", 1, 0, true, 0, 0},
		{"fixed default: one attempt after 1 s", "restart-strategy.type=fixed-delay", ever, 1, true, time.Second, time.Second},
		{"fixed", "restart-strategy.type=fixeddelay restart-strategy.fixed-delay.attempts=3 restart-strategy.fixed-delay.delay=2~s", ever, 3, true, 6 * time.Second, 6 * time.Second},
		{"fixed and recovers", "restart-strategy.type=fixed-delay restart-strategy.fixed-delay.attempts=3 restart-strategy.fixed-delay.delay=2~s", 3, 3, false, 6 * time.Second, 7 * time.Second},
		{"rate default: one a minute", "restart-strategy.type=failure-rate", ever, 1, true, time.Second, time.Second},
		{"rate", "restart-strategy.type=failurerate restart-strategy.failure-rate.max-failures-per-interval=3 restart-strategy.failure-rate.delay=10~s restart-strategy.failure-rate.failure-rate-interval=25~s", 6, 6, false, time.Minute, 62 * time.Second},
		{"rate exceeded", "restart-strategy.type=failure-rate restart-strategy.failure-rate.max-failures-per-interval=3 restart-strategy.failure-rate.delay=10~s restart-strategy.failure-rate.failure-rate-interval=31~s", ever, 3, true, 30 * time.Second, 30 * time.Second},
		// 1 s, then 1.5 times as much each, with a tenth of jitter: 1 + 1.5 + 2.25 + 3.4 + 5.1.
		{"exponential is the default", "", 5, 5, false, 11 * time.Second, 16 * time.Second},
		{"exponential", "restart-strategy.type=exponentialdelay restart-strategy.exponential-delay.initial-backoff=2~s restart-strategy.exponential-delay.max-backoff=5~s restart-strategy.exponential-delay.backoff-multiplier=2 restart-strategy.exponential-delay.jitter-factor=0", 4, 4, false, 16 * time.Second, 17 * time.Second},
		{"exponential gives up", "restart-strategy.type=exponential-delay restart-strategy.exponential-delay.attempts-before-reset-backoff=2 restart-strategy.exponential-delay.jitter-factor=0", ever, 2, true, 2500 * time.Millisecond, 2500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, fabric cluster.Fabric) {
				j := small()
				j.sources[0].splits = 1
				w, mem := newWorld(), cluster.NewMemory()
				all := settings("execution.checkpointing.interval", "50 ms")
				for f := range strings.FieldsSeq(c.settings) {
					k, v, _ := strings.Cut(strings.ReplaceAll(f, "~", " "), "=")
					all = append(all, settings(k, v)...)
				}
				job := j.cluster(w, failing(c.fail))
				if strings.Contains(c.settings, "interval=0") {
					all = settings("execution.checkpointing.interval", "none")
					job.Build = unchecked(failing(c.fail))
				}
				began := time.Now()
				m := start(t, cluster.MiniConfig{Jobs: []cluster.Job{job}, Memory: mem, Fabric: fabric, Settings: all})
				err := m.finish(t)
				took := time.Since(began)
				d, derr := m.JobManager().Job(m.Jobs()[0])
				if derr != nil {
					t.Fatal(derr)
				}
				if d.Restarts != c.restarts || took < c.least || took > c.most+time.Millisecond {
					t.Errorf("%d restarts in %v, want %d in %v to %v", d.Restarts, took, c.restarts, c.least, c.most)
				}
				if c.failed {
					contains(t, err, "FAILED", "injected at", "recovery is suppressed by")
					if d.State != execution.JobFailed {
						t.Errorf("the job is %s", d.State)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				w.check(t, j)
			})
		})
	}
}

// TestPanicInAFunction is A13: the task fails, its stack is among the exceptions, the job restarts, and the process and other jobs live.
func TestPanicInAFunction(t *testing.T) {
	onEach(t, func(t *testing.T, fabric cluster.Fabric) {
		j, other := small(), long()
		w, v, mem := newWorld(), newWorld(), cluster.NewMemory()
		b := other.cluster(v, nil)
		b.Name = "other"
		a := j.cluster(w, nil)
		panics := 2
		a.Build = panicking(j, w, &panics)
		m := start(t, cluster.MiniConfig{
			Jobs: []cluster.Job{a, b}, Memory: mem, Fabric: fabric,
			Settings: settings("execution.checkpointing.interval", "10 ms", "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "5", "restart-strategy.fixed-delay.delay", "1 ms"),
		})
		if err := m.finish(t); err != nil {
			t.Fatal(err)
		}
		w.check(t, j)
		v.check(t, other)
		for i, id := range m.Jobs() {
			d, err := m.JobManager().Job(id)
			if err != nil {
				t.Fatal(err)
			}
			if want := 2 * (1 - i); d.Restarts != want || len(d.Exceptions) != want {
				t.Errorf("job %s: %d restarts and %d exceptions, want %d", d.Name, d.Restarts, len(d.Exceptions), want)
			}
			for _, e := range d.Exceptions {
				if !strings.Contains(e.Failure.Message, "panic: the user's own") || !strings.Contains(e.Failure.Stack, "jobs_test.go") {
					t.Errorf("%s\n%s", e.Failure.Message, e.Failure.Stack)
				}
			}
		}
	})
}

// TestRestartStorm is A14: a job that fails each time ends with its cause, and nothing is left of its attempts: no goroutine, no channel, no transaction, no file.
func TestRestartStorm(t *testing.T) {
	goroutines, fds := runtime.NumGoroutine(), descriptors()
	for _, fabric := range fabrics {
		synctest.Test(t, func(t *testing.T) {
			j := small()
			w, mem := newWorld(), cluster.NewMemory()
			c := &chaos{r: random(3), every: 8, budget: 1 << 30}
			m := start(t, cluster.MiniConfig{
				Jobs: []cluster.Job{j.cluster(w, c)}, Memory: mem, Fabric: fabric, TaskManagers: 2,
				Settings: settings("execution.checkpointing.interval", "10 ms", "parallelism.default", "3", "pipeline.auto-watermark-interval", "1 ms", "restart-strategy.type", "fixed-delay",
					"restart-strategy.fixed-delay.attempts", "60", "restart-strategy.fixed-delay.delay", "1 ms"),
			})
			most := 0
			for !m.wait(5 * time.Millisecond) {
				synctest.Wait()
				most = max(most, runtime.NumGoroutine())
			}
			contains(t, m.err, "FAILED", "injected at", "maxNumberRestartAttempts=60")
			if most > goroutines+300 {
				t.Errorf("up to %d goroutines", most)
			}
			open := 0
			for _, x := range w.txs {
				if !x.committed && !x.aborted {
					open++
				}
			}
			if open > 3*3 { // of the last attempt
				t.Errorf("%d transactions are open", open)
			}
			if n := len(under(mem).Files()); n > 60 {
				t.Errorf("%d files are left", n)
			}
		})
	}
	for range 1000 { // those of bubbles end a moment later
		if runtime.NumGoroutine() <= goroutines {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, before %d", n, goroutines)
	}
	if n := descriptors(); n > fds {
		t.Errorf("%d open files, before %d", n, fds)
	}
}

// descriptors counts the open files of the process, where it can.
func descriptors() int {
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(e)
}
