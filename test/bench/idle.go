package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// idle measures the commands with nothing to do: mini and a JobManager with REST, a TaskManager with health and metrics.
func idle(ctx context.Context, c options) (Table, error) {
	t := Table{Columns: []string{"what", "resident MB", "anonymous MB", "threads", "answers after"}}
	jobManager, err := freeAddress()
	if err != nil {
		return t, err
	}
	for _, cmd := range []struct {
		name, path string
		args       []string
	}{
		{"mini", "/overview", []string{"--data-dir"}},
		{"jobmanager", "/overview", []string{"--rpc-address", jobManager, "--data-dir"}},
		{"taskmanager", "/health/live", []string{"--jobmanager", jobManager, "--data-dir"}},
	} {
		binary := filepath.Join(c.dir, cmd.name)
		if err := buildMain(ctx, binary, "github.com/rivulet-io/rivulet/cmd/"+cmd.name); err != nil {
			return t, err
		}
		var runs []idleResult
		for i := range c.rounds {
			r, err := runIdle(ctx, binary, cmd.path, append(cmd.args, filepath.Join(c.dir, fmt.Sprint("idle-", cmd.name, i)))...)
			if err != nil {
				return t, err
			}
			runs = append(runs, r)
		}
		of := func(f func(idleResult) float64) float64 { return medianOf(runs, f) }
		info, err := os.Stat(binary)
		if err != nil {
			return t, err
		}
		t.add(cmd.name+", no job",
			fmt.Sprintf("%.1f", of(func(r idleResult) float64 { return r.rss })), fmt.Sprintf("%.1f", of(func(r idleResult) float64 { return r.anonymous })),
			fmt.Sprintf("%.0f", of(func(r idleResult) float64 { return r.threads })), fmt.Sprintf("%.0f ms", of(func(r idleResult) float64 { return r.ready * 1000 })))
		t.Notes = append(t.Notes, fmt.Sprintf("The binary of %s, stripped, has %.1f MB.", cmd.name, float64(info.Size())/1e6))
	}
	t.Notes = append(t.Notes, "The TaskManager looks for a JobManager that is not there.")
	return t, nil
}

// buildMain builds a main package as it is shipped.
func buildMain(ctx context.Context, binary, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "grpcnotrace", "-trimpath", "-ldflags=-s -w", "-o", binary, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}

type idleResult struct{ rss, anonymous, threads, ready float64 }

func runIdle(ctx context.Context, binary, path string, args ...string) (r idleResult, err error) {
	address, err := freeAddress()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, binary, append(args, "--rest-address", address, "--log-level", "error")...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if werr := cmd.Wait(); err == nil {
			err = werr
		}
	}()
	if err := await(ctx, "http://"+address+path); err != nil {
		return r, err
	}
	r.ready = time.Since(began).Seconds()
	time.Sleep(3 * time.Second) //nolint:forbidigo // it is to be idle
	rss, err := statusValue(cmd.Process.Pid, "VmRSS")
	if err != nil {
		return r, err
	}
	anonymous, err := statusValue(cmd.Process.Pid, "RssAnon")
	if err != nil {
		return r, err
	}
	threads, err := statusValue(cmd.Process.Pid, "Threads")
	r.rss, r.anonymous, r.threads = float64(rss)/1024, float64(anonymous)/1024, float64(threads)
	return r, err
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// await asks until there is an answer of 200.
func await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", url, context.Cause(ctx))
		}
	}
}
