package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// hog is a job that needs more and more memory: a kilobyte for each of ever new keys.
func hog(env *stream.Env) error {
	in := stream.From(env, datagen.Sequence(0, 1<<40), event.NoWatermarks[int64](), stream.UID("numbers"))
	kept := stream.Process(stream.KeyBy(in, func(v int64) int64 { return v }), func() stream.KeyedProcess[int64, int64, int64] { return new(keeper[int64]) }, stream.UID("keeper"), stream.Name("keeper"))
	stream.To(kept, blackhole.Sink[int64](), stream.UID("out"))
	return nil
}

// keeper keeps a kilobyte for each key.
type keeper[K any] struct{ kept state.Value[[]byte] }

var kilobyte = bytes.Repeat([]byte("x"), 1<<10)

func (k *keeper[K]) Open(r *stream.Runtime) error {
	k.kept = state.NewValue[[]byte](r, "kept")
	return nil
}

func (k *keeper[K]) Process(stream.Context[K], K, stream.Out[int64]) error {
	k.kept.Set(kilobyte)
	return nil
}

func (k *keeper[K]) OnTimer(stream.Context[K], time.Time, stream.Out[int64]) error { return nil }

// memory runs jobs that need more than they have, in control groups of just that size.
func memory(ctx context.Context, c options) (Table, error) {
	const limit, tries = 64 << 20, 20
	t := Table{Columns: []string{"limit", "jobs", "FAILED with the message", "killed", "ended otherwise", "largest peak RSS MB"}}
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	failed, killed, other, peak := 0, 0, 0, int64(0)
	for i := range tries {
		group, err := newGroup(limit)
		if err != nil {
			t.Notes = append(t.Notes, "Not measured: "+err.Error())
			return t, nil //nolint:nilerr // the rest is measured
		}
		cmd := exec.CommandContext(ctx, "sh", "-c", `echo $$ > "$1" && shift && exec "$@"`, "sh", filepath.Join(group, "cgroup.procs"),
			self, "--data-dir", filepath.Join(c.dir, fmt.Sprint("hog", i)), "--memory", "64MB", "--rest-address", "off", "-D", "execution.checkpointing.interval=1s")
		cmd.Env = append(os.Environ(), roleVariable+"=hog")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err = cmd.Run()
		if used, rerr := readNumber(filepath.Join(group, "memory.max_usage_in_bytes"), filepath.Join(group, "memory.peak")); rerr == nil {
			peak = max(peak, used)
		}
		var exit *exec.ExitError
		switch {
		case err == nil || !errors.As(err, &exit):
			other++
		case exit.ExitCode() == -1 || exit.ExitCode() == 137:
			killed++
		case exit.ExitCode() == 1 && strings.Contains(out.String(), "out of memory") && strings.Contains(out.String(), "keeper"):
			failed++
		default:
			other++
			fmt.Fprintf(c.log, "bench: memory: %v: %s\n", err, out.String())
		}
		if err := os.Remove(group); err != nil {
			fmt.Fprintf(c.log, "bench: memory: %v\n", err)
		}
	}
	t.add("64 MB", strconv.Itoa(tries), strconv.Itoa(failed), strconv.Itoa(killed), strconv.Itoa(other), fmt.Sprintf("%.0f", float64(peak)/1e6))
	return t, nil
}

func init() { //nolint:gochecknoinits // a role registers itself
	roles["hog"] = func(context.Context, []byte) (any, error) {
		app.Main("hog", hog)
		return nil, nil //nolint:nilnil // Main does not return
	}
}

// newGroup makes a control group with a limit of memory, of version 2 or 1.
func newGroup(limit int) (string, error) {
	for _, g := range []struct{ root, file string }{{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}} {
		dir, err := os.MkdirTemp(g.root, "rivulet-bench-")
		if err != nil {
			continue
		}
		if f, err := os.OpenFile(filepath.Join(dir, g.file), os.O_WRONLY, 0); err == nil { // where there is none, it is no control group
			_, err = f.WriteString(strconv.Itoa(limit))
			if err = errors.Join(err, f.Close()); err == nil {
				return dir, nil
			}
		}
		_ = os.Remove(dir)
	}
	return "", errors.New("control groups with a limit of memory cannot be made here; run it as root")
}

func readNumber(names ...string) (n int64, err error) {
	for _, name := range names {
		var b []byte
		if b, err = os.ReadFile(name); err == nil {
			return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		}
	}
	return 0, err
}
