package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// roleVariable makes a process of this program one of the measured ones.
const roleVariable = "RIVULET_BENCH_ROLE"

// roles are what a child process can be. It gets its argument as JSON, and prints what it measured itself as JSON.
var roles = map[string]func(ctx context.Context, arg []byte) (any, error){}

func child(name string) int {
	role := roles[name]
	if role == nil {
		fmt.Fprintf(os.Stderr, "bench: no role %q\n", name)
		return 2
	}
	arg, err := io.ReadAll(os.Stdin)
	if err == nil {
		var out any
		if out, err = role(context.Background(), arg); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(out)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, err)
		return 1
	}
	return 0
}

// usage is what the kernel says of a process that has ended.
type usage struct {
	Wall time.Duration
	CPU  time.Duration
	// PeakRSS is in bytes; Threads the most that were seen.
	PeakRSS int64
	Threads int
}

// start runs this program in a role; its output is collected in out.
func start(ctx context.Context, role string, arg any, out *bytes.Buffer) (*exec.Cmd, error) {
	cmd, err := roleCommand(ctx, role, arg, out)
	if err != nil {
		return nil, err
	}
	return cmd, cmd.Start()
}

// roleCommand is the command that runs this program in a role.
func roleCommand(ctx context.Context, role string, arg any, out *bytes.Buffer) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	in, err := json.Marshal(arg)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	return cmd, nil
}

// measure runs a role to its end, decodes what it printed into result, and says what it used.
func measure(ctx context.Context, role string, arg, result any) (usage, error) {
	var out bytes.Buffer
	cmd, err := roleCommand(ctx, role, arg, &out)
	if err != nil {
		return usage{}, err
	}
	u, err := measureCommand(cmd)
	if err != nil {
		return u, fmt.Errorf("%s: %w", role, err)
	}
	return u, json.Unmarshal(out.Bytes(), result)
}

// measureCommand runs a command to its end and says what it used.
func measureCommand(cmd *exec.Cmd) (usage, error) {
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	stop, threads := make(chan struct{}), make(chan int)
	go func() { threads <- watchThreads(cmd.Process.Pid, stop) }() // its answer is read below
	err := cmd.Wait()
	close(stop)
	u := usage{Wall: time.Since(began), Threads: <-threads}
	if err != nil {
		return u, err
	}
	u.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.PeakRSS = r.Maxrss << 10 // Linux: kilobytes
	}
	return u, nil
}

func watchThreads(pid int, stop <-chan struct{}) (most int) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if n, err := statusValue(pid, "Threads"); err == nil {
			most = max(most, int(n))
		}
		select {
		case <-tick.C:
		case <-stop:
			return most
		}
	}
}

// statusValue reads a number of /proc/PID/status; of those in kB, in kB.
func statusValue(pid int, key string) (int64, error) { return procValue(pid, "status", key) }

func procValue(pid int, file, key string) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), key+":"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, errors.New(file + " has no " + key)
}

// machine says what the figures were measured on.
func machine() string {
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
				break
			}
		}
	}
	return fmt.Sprintf("%s/%s, %d cores (%s), %s, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), model, runtime.Version(), time.Now().Format("2006-01-02"))
}
