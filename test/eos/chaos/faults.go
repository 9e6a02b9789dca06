package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
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

func always(*run) string { return "" }

func needsNetwork(r *run) string {
	if r.sys.net == nil {
		return "no root for network namespaces"
	}
	return ""
}

func needsDisk(r *run) string {
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

// kinds are all kinds of faults.
var kinds = []kind{
	{"mini-killed", false, 60 * time.Second, always, func(ctx context.Context, r *run) (string, error) {
		what, err := r.sys.mini.kill()
		if err != nil {
			return "", err
		}
		return what, r.sys.mini.start()
	}},
	{"mini-killed-twice", false, 60 * time.Second, always, func(ctx context.Context, r *run) (string, error) { // the second time while it restores
		if _, err := r.sys.mini.kill(); err != nil {
			return "", err
		}
		if err := r.sys.mini.start(); err != nil {
			return "", err
		}
		if err := pause(ctx, between(r.rand, 50*time.Millisecond, 1200*time.Millisecond)); err != nil {
			return "", err
		}
		what, err := r.sys.mini.kill()
		if err != nil {
			return "", err
		}
		return what + ", again", r.sys.mini.start()
	}},
	{"mini-rescaled", false, 60 * time.Second, always, func(ctx context.Context, r *run) (string, error) { // killed, and started with another parallelism
		what, err := r.sys.mini.kill()
		if err != nil {
			return "", err
		}
		p := strconv.Itoa(1 + r.rand.IntN(4))
		r.sys.restart = []string{"-D", "parallelism.default=" + p}
		return what + "; parallelism " + p, r.sys.mini.start()
	}},
	{"mini-terminated", false, 60 * time.Second, always, func(ctx context.Context, r *run) (string, error) {
		what, err := r.sys.mini.terminate(15 * time.Second)
		if err != nil {
			return "", err
		}
		return what, r.sys.mini.start()
	}},
	{"mini-paused", true, 60 * time.Second, always, func(ctx context.Context, r *run) (string, error) {
		return freeze(ctx, r, r.sys.mini.pid(), between(r.rand, time.Second, 6*time.Second))
	}},
	{"broker-killed", true, 60 * time.Second, always, func(ctx context.Context, r *run) (string, error) {
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
	{"broker-paused", true, 60 * time.Second, always, func(ctx context.Context, r *run) (string, error) {
		return freeze(ctx, r, r.kafka.Pid(0), between(r.rand, time.Second, 6*time.Second))
	}},
	{"link-cut", true, 60 * time.Second, needsNetwork, func(ctx context.Context, r *run) (string, error) {
		return cut(ctx, r, r.sys.mini, between(r.rand, 2*time.Second, 8*time.Second))
	}},
	{"disk-full", true, 60 * time.Second, needsDisk, fullDisk},
}

// freeze stops a process for a while.
func freeze(ctx context.Context, r *run, pid int, d time.Duration) (string, error) {
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
