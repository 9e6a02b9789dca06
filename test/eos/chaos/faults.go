package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kind is a kind of fault.
type kind struct {
	name string
	// environment says that the job may stand still as long as the fault lasts: recovery counts from when it is healed.
	environment bool
	// limit is how long recovery may take.
	limit time.Duration
	// can says why it cannot be injected; "" when it can.
	can func(r *run) string
	// do injects it, sees that it had its effect, and heals it. It returns what shows the effect.
	do func(ctx context.Context, r *run) (evidence string, err error)
}

// elsewhere is why a fault is not of the deployment that is tested, which is not worth a word.
const elsewhere = "elsewhere"

func always(*run) string { return "" }

func ofMini(r *run) string {
	if r.sys.mini == nil {
		return elsewhere
	}
	return ""
}

func ofCluster(r *run) string {
	if r.sys.mini != nil {
		return elsewhere
	}
	return ""
}

func ofStandby(r *run) string {
	if r.sys.etcd == nil {
		return elsewhere
	}
	return ""
}

// ofNetwork needs network namespaces, besides what else is needed.
func ofNetwork(what func(r *run) string) func(r *run) string {
	return func(r *run) string {
		if r.sys.net == nil && what(r) == "" {
			return "no root for network namespaces"
		}
		return what(r)
	}
}

func ofDisk(r *run) string {
	if !r.sys.tmpfs {
		return "no root for a small file system"
	}
	return ""
}

// errUnconfirmed is wrapped when a fault was injected and its effect was not seen.
var errUnconfirmed = errors.New("not confirmed")

func unconfirmed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUnconfirmed, fmt.Sprintf(format, args...))
}

// between returns a random duration.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// minute is more than any recovery should take.
const minute = 60 * time.Second

// kinds are all kinds of faults.
var kinds = []kind{
	{"mini-killed", false, minute, ofMini, func(_ context.Context, r *run) (string, error) {
		return killAndStart(r.sys.mini)
	}},
	{"mini-killed-twice", false, minute, ofMini, func(ctx context.Context, r *run) (string, error) { // the second time while it restores
		return killTwice(ctx, r, r.sys.mini)
	}},
	{"mini-rescaled", false, minute, ofMini, func(_ context.Context, r *run) (string, error) { // killed, and started with another parallelism
		what, err := r.sys.mini.kill()
		if err != nil {
			return "", err
		}
		p := strconv.Itoa(1 + r.rand.IntN(4))
		r.sys.restart = []string{"-D", "parallelism.default=" + p}
		return what + "; parallelism " + p, r.sys.mini.start()
	}},
	{"mini-terminated", false, minute, ofMini, func(_ context.Context, r *run) (string, error) {
		return terminateAndStart(r.sys.mini)
	}},
	{"mini-paused", true, minute, ofMini, func(ctx context.Context, r *run) (string, error) {
		return freeze(ctx, r.sys.mini.pid(), between(r.rand, time.Second, 6*time.Second))
	}},
	{"mini-cut-off", true, minute, ofNetwork(ofMini), func(ctx context.Context, r *run) (string, error) {
		return cut(ctx, r, r.sys.mini, between(r.rand, 2*time.Second, 8*time.Second))
	}},

	{"taskmanager-killed", false, minute, ofCluster, onBusy(func(_ context.Context, _ *run, p *process) (string, error) { return killAndStart(p) })},
	{"taskmanagers-killed", false, minute, ofCluster, func(ctx context.Context, r *run) (string, error) { // all of them
		for _, p := range r.sys.tms {
			if _, err := p.kill(); err != nil {
				return "", err
			}
		}
		if err := pause(ctx, between(r.rand, 0, 4*time.Second)); err != nil {
			return "", err
		}
		var errs []error
		for _, p := range r.sys.tms {
			errs = append(errs, p.start())
		}
		return fmt.Sprintf("%d ended by SIGKILL", len(r.sys.tms)), errors.Join(errs...)
	}},
	{"taskmanager-terminated", false, minute, ofCluster, onBusy(func(_ context.Context, _ *run, p *process) (string, error) { return terminateAndStart(p) })},
	{"taskmanager-stalled", true, minute, ofCluster, onBusy(func(ctx context.Context, r *run, p *process) (string, error) { // for less than the heartbeat timeout
		return freeze(ctx, p.pid(), between(r.rand, heartbeatTimeout/6, heartbeatTimeout*2/3))
	})},
	{"taskmanager-paused", true, minute, ofCluster, onBusy(freezeUntil)},
	{"taskmanager-cut-off", true, minute, ofNetwork(ofCluster), onBusy(func(ctx context.Context, r *run, p *process) (string, error) { // from everybody, Kafka included
		return cut(ctx, r, p, between(r.rand, 2*time.Second, 10*time.Second))
	})},
	{"taskmanagers-parted", true, minute, ofNetwork(ofCluster), func(ctx context.Context, r *run) (string, error) { // from each other; the JobManager sees both
		p, err := busy(ctx, r, 2)
		if err != nil {
			return "", err
		}
		return part(ctx, p[0], p[1], between(r.rand, 2*time.Second, 10*time.Second))
	}},
	{"taskmanager-parted-from-leader", true, minute, ofNetwork(ofCluster), onBusy(func(ctx context.Context, r *run, p *process) (string, error) {
		l, err := r.sys.leader(ctx)
		if err != nil {
			return "", err
		}
		return part(ctx, p, l, between(r.rand, 2*time.Second, 10*time.Second))
	})},
	{"leader-killed", false, minute, ofCluster, func(ctx context.Context, r *run) (string, error) {
		l, err := r.sys.leader(ctx)
		if err != nil {
			return "", err
		}
		what, err := l.kill()
		if err != nil {
			return "", err
		}
		return succeeded(ctx, r, l, what)
	}},
	{"leader-killed-in-recovery", false, minute, ofCluster, onBusy(func(ctx context.Context, r *run, p *process) (string, error) { // of the loss of a TaskManager
		l, err := r.sys.leader(ctx)
		if err != nil {
			return "", err
		}
		first, err := killAndStart(p)
		if err == nil {
			err = pause(ctx, between(r.rand, 0, 1500*time.Millisecond))
		}
		if err != nil {
			return "", err
		}
		what, err := l.kill()
		if err != nil {
			return "", err
		}
		return succeeded(ctx, r, l, first+"; "+what)
	})},
	{"leader-terminated", false, minute, ofCluster, func(ctx context.Context, r *run) (string, error) {
		l, err := r.sys.leader(ctx)
		if err != nil {
			return "", err
		}
		what, err := l.terminate(15 * time.Second)
		if err != nil {
			return "", err
		}
		return succeeded(ctx, r, l, what)
	}},
	{"leader-paused", true, minute, ofStandby, func(ctx context.Context, r *run) (string, error) { // until another one leads
		return dethrone(ctx, r, func(l *process) (string, func() error, error) {
			pid := l.pid()
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				return "", nil, err
			}
			what, err := paused(pid, 5*time.Second)
			return what, func() error { return syscall.Kill(pid, syscall.SIGCONT) }, err
		})
	}},
	{"leader-cut-off", true, minute, ofNetwork(ofStandby), func(ctx context.Context, r *run) (string, error) { // until another one leads
		return dethrone(ctx, r, func(l *process) (string, func() error, error) {
			link := r.sys.link[l.name]
			return link + " is down", func() error { return ip(context.WithoutCancel(ctx), "link set "+link+" up") }, ip(ctx, "link set "+link+" down")
		})
	}},
	{"etcd-killed", true, minute, ofStandby, func(ctx context.Context, r *run) (string, error) {
		n := r.rand.IntN(3)
		pid := r.etcd.Pid(n)
		if err := r.etcd.Down(n); err != nil {
			return "", err
		}
		if err := pause(ctx, between(r.rand, time.Second, 6*time.Second)); err != nil {
			return "", err
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			return "", unconfirmed("pid %d of etcd is still there", pid)
		}
		return fmt.Sprintf("pid %d of etcd member %d is gone", pid, n), r.etcd.Up(n)
	}},

	{"broker-killed", true, minute, always, func(ctx context.Context, r *run) (string, error) {
		pid := r.kafka.Pid(0)
		r.kafka.Down(0)
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			return "", unconfirmed("the broker's pid %d is still there", pid)
		}
		if err := pause(ctx, between(r.rand, 0, 3*time.Second)); err != nil {
			return "", err
		}
		if err := r.kafka.Up(ctx, 0); err != nil {
			return "", err
		}
		return fmt.Sprintf("pid %d of the broker is gone, pid %d answers", pid, r.kafka.Pid(0)), nil
	}},
	{"broker-paused", true, minute, always, func(ctx context.Context, r *run) (string, error) {
		return freeze(ctx, r.kafka.Pid(0), between(r.rand, time.Second, 6*time.Second))
	}},
	{"disk-full", true, minute, ofDisk, fullDisk},
}

// busy returns n TaskManagers that run tasks, at random.
func busy(ctx context.Context, r *run, n int) ([]*process, error) {
	ctx, cancel := context.WithTimeout(ctx, minute)
	defer cancel()
	for {
		known, err := r.sys.rest.taskManagers(ctx)
		var out []*process
		for _, p := range r.sys.tms {
			for path, used := range known {
				if used > 0 && strings.Contains(path, p.at[0]) {
					out = append(out, p)
				}
			}
		}
		r.rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		if len(out) >= n {
			return out[:n], nil
		}
		if perr := pause(ctx, 100*time.Millisecond); perr != nil {
			return nil, unconfirmed("%d TaskManagers run tasks, want %d: %v: %v", len(out), n, known, err)
		}
	}
}

// onBusy is a fault of one TaskManager that runs tasks.
func onBusy(do func(ctx context.Context, r *run, p *process) (string, error)) func(ctx context.Context, r *run) (string, error) {
	return func(ctx context.Context, r *run) (string, error) {
		p, err := busy(ctx, r, 1)
		if err != nil {
			return "", err
		}
		return do(ctx, r, p[0])
	}
}

// killAndStart kills a process and starts it again, as a supervisor does.
func killAndStart(p *process) (string, error) {
	what, err := p.kill()
	if err != nil {
		return "", err
	}
	return what, p.start()
}

func terminateAndStart(p *process) (string, error) {
	what, err := p.terminate(15 * time.Second)
	if err != nil {
		return "", err
	}
	return what, p.start()
}

func killTwice(ctx context.Context, r *run, p *process) (string, error) {
	if _, err := killAndStart(p); err != nil {
		return "", err
	}
	if err := pause(ctx, between(r.rand, 50*time.Millisecond, 1200*time.Millisecond)); err != nil {
		return "", err
	}
	what, err := killAndStart(p)
	return what + ", again", err
}

// succeeded starts a leader again that is gone: at once when it was the only one, else when another one leads.
func succeeded(ctx context.Context, r *run, gone *process, what string) (string, error) {
	if r.sys.etcd == nil {
		return what, gone.start()
	}
	next, err := newLeader(ctx, r, gone)
	if err != nil {
		return "", err
	}
	return what + "; " + next.name + " leads", gone.start()
}

// newLeader waits until another one leads.
func newLeader(ctx context.Context, r *run, old *process) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, minute)
	defer cancel()
	for {
		l, err := r.sys.leader(ctx)
		if err == nil && l != old {
			return l, nil
		}
		if perr := pause(ctx, 20*time.Millisecond); perr != nil {
			return nil, unconfirmed("nobody else leads after %v: %v", minute, err)
		}
	}
}

// dethrone does something to the leader until another one leads, and a little longer.
func dethrone(ctx context.Context, r *run, do func(l *process) (what string, undo func() error, err error)) (evidence string, err error) {
	l, err := r.sys.leader(ctx)
	if err != nil {
		return "", err
	}
	what, undo, err := do(l)
	if undo != nil {
		defer func() { err = errors.Join(err, undo()) }()
	}
	if err != nil {
		return "", err
	}
	next, err := newLeader(ctx, r, l)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %s; %s leads", l.name, what, next.name), pause(ctx, between(r.rand, 0, 4*time.Second))
}

// freezeUntil stops a TaskManager until the JobManager has given it up, and a little longer: when it wakes it believes that nothing has happened.
func freezeUntil(ctx context.Context, r *run, p *process) (evidence string, err error) {
	before, err := r.sys.rest.taskManagers(ctx)
	if err != nil {
		return "", err
	}
	pid := p.pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return "", err
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }() // it may have been killed
	if _, err := paused(pid, 5*time.Second); err != nil {
		return "", unconfirmed("%v", err)
	}
	began := time.Now()
	for {
		now, err := r.sys.rest.taskManagers(ctx)
		if err == nil && len(now) < len(before) {
			return fmt.Sprintf("pid %d of %s stopped; %d of %d TaskManagers known after %v", pid, p.name, len(now), len(before), time.Since(began).Round(time.Millisecond)),
				pause(ctx, between(r.rand, 0, 5*time.Second))
		}
		if time.Since(began) > 10*heartbeatTimeout {
			return "", unconfirmed("after %v %d TaskManagers are known, as before: %v", time.Since(began), len(now), err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// part drops what two processes send to each other, for a while.
func part(ctx context.Context, a, b *process, d time.Duration) (evidence string, err error) {
	var undo []string
	defer func() {
		for _, u := range undo {
			err = errors.Join(err, ip(context.WithoutCancel(ctx), u))
		}
	}()
	for _, x := range [][2]*process{{a, b}, {b, a}} {
		route := "-n " + x[0].ns + " route %s blackhole " + x[1].host + "/32"
		if err := ip(ctx, fmt.Sprintf(route, "add")); err != nil {
			return "", err
		}
		undo = append(undo, fmt.Sprintf(route, "del"))
	}
	// The kernel says that it has no way.
	out, _ := exec.CommandContext(ctx, "ip", "-n", a.ns, "route", "get", b.host).CombinedOutput()
	if err := pause(ctx, d); err != nil {
		return "", err
	}
	if strings.Contains(string(out), "dev") {
		return "", unconfirmed("%s still has a way to %s: %s", a.name, b.name, out)
	}
	return fmt.Sprintf("%s and %s had no way to each other for %v", a.name, b.name, d.Round(time.Millisecond)), nil
}

// freeze stops a process for a while.
func freeze(ctx context.Context, pid int, d time.Duration) (string, error) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return "", err
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }() // it may have been killed
	what, err := paused(pid, 5*time.Second)
	if err != nil {
		return "", unconfirmed("%v", err)
	}
	if err := pause(ctx, d); err != nil {
		return "", err
	}
	if again, ok := stopped(pid); !ok {
		return "", unconfirmed("%s after %v", again, d)
	}
	return fmt.Sprintf("%s for %v", what, d.Round(time.Millisecond)), nil
}

// cut takes a process's cable out for a while.
func cut(ctx context.Context, r *run, p *process, d time.Duration) (string, error) {
	link := r.sys.link[p.name]
	before, err := packets(link)
	if err != nil {
		return "", err
	}
	if err := ip(ctx, "link set "+link+" down"); err != nil {
		return "", err
	}
	heal := func() error { return ip(context.WithoutCancel(ctx), "link set "+link+" up") }
	at, err := packets(link)
	if err == nil {
		err = pause(ctx, d)
	}
	after, err2 := packets(link)
	if err := errors.Join(err, err2, heal()); err != nil {
		return "", err
	}
	if after != at {
		return "", unconfirmed("the link of %s brought %d packets while it was cut", p.name, after-at)
	}
	if before == 0 {
		return "", unconfirmed("the link of %s brought nothing before it was cut", p.name)
	}
	return fmt.Sprintf("no packet from %s in %v, after %d", p.name, d.Round(time.Millisecond), at), nil
}

// fullDisk leaves no byte of the file system of the processes' data, until a checkpoint has failed.
func fullDisk(ctx context.Context, r *run) (evidence string, err error) {
	_, before, err := r.sys.rest.checkpoints(ctx)
	if err != nil {
		return "", err
	}
	path := filepath.Join(r.sys.data, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	block, written := make([]byte, 1<<20), 0
	for size := len(block); size > 0; {
		n, err := f.Write(block[:size])
		written += n
		if errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return "", err
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		// What was freed meanwhile is taken too.
		if n, err := f.Write(block[:4096]); err != nil && !errors.Is(err, syscall.ENOSPC) {
			return "", err
		} else {
			written += n
		}
		_, failed, err := r.sys.rest.checkpoints(ctx)
		if err == nil && failed > before {
			return fmt.Sprintf("no space beside %d bytes; failed checkpoints went from %d to %d", written, before, failed), nil
		}
		if time.Now().After(deadline) {
			return "", unconfirmed("no checkpoint failed within 20 s: %d, %v", failed, err)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
}
