package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// TestClientCommands runs the commands against a process with a job, over TCP.
//
//	run ARGS...   runs a command; $JOB, $DIR and $SAVEPOINT (the latest one's path) are replaced
//	damage        flips a bit of a state file of the latest savepoint
//	ended         waits for the end of the process
func TestClientCommands(t *testing.T) {
	dir := t.TempDir()
	sums := Program{Name: "sums", Build: func(env *stream.Env) error {
		numbers := stream.From(env, datagen.Sequence(0, 1e12, datagen.PerSecond(1000), datagen.Splits(1)), event.NoWatermarks[int64](), stream.UID("numbers"))
		perKey := stream.KeyBy(numbers, func(n int64) int64 { return n % 10 })
		stream.To(stream.Sum(perKey, func(n int64) int64 { return n }, stream.UID("sum")), blackhole.Sink[int64](), stream.UID("out"))
		return nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- Run(ctx, sums, []string{"--data-dir", filepath.Join(dir, "data"), "--rest-address", "127.0.0.1:0", "-Dexecution.checkpointing.interval=1h", "-Dexecution.checkpointing.savepoint-dir=" + dir}, io.Discard, w)
		_ = w.Close()
	}()
	address := served(t, r)
	job := running(ctx, t, address)
	savepoint := ""
	replace := func(s string) string {
		return strings.NewReplacer("$JOB", job, "$DIR", dir, "$SAVEPOINT", savepoint).Replace(s)
	}
	normal := func(s string) string {
		s = regexp.MustCompile(`savepoint-[0-9a-f]{6}-[0-9a-f]{12}`).ReplaceAllString(s, "savepoint-<id>")
		s = strings.NewReplacer(job, "$JOB", dir, "$DIR", address, "$ADDRESS").Replace(s)
		for _, m := range masks {
			s = m.re.ReplaceAllString(s, m.to)
		}
		return s
	}
	datadriven.RunTest(t, "testdata/client.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "run":
			args := strings.Fields(replace(d.Input))
			if d.HasArg("server") {
				args = append(args, "--rest-address", address)
			}
			var stdout, stderr bytes.Buffer
			code := Run(ctx, sums, args, &stdout, &stderr)
			if m := regexp.MustCompile(`file://(\S+savepoint-\w+-\w+)`).FindStringSubmatch(stdout.String()); m != nil {
				savepoint = m[1]
			}
			out := stdout.String()
			if stderr.Len() > 0 {
				out += "stderr: " + stderr.String()
			}
			if code != 0 {
				out += "exit " + string(rune('0'+code)) + "\n"
			}
			return normal(out)
		case "damage":
			return damage(t, savepoint)
		case "ended":
			return "exit " + string(rune('0'+<-done)) + "\n"
		}
		d.Fatalf(t, "unknown command %q", d.Cmd)
		return ""
	})
}

// masks replace what differs from run to run.
var masks = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`\b\d\d\.\d\d\.\d{4} \d\d:\d\d:\d\d\b`), "<time>"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT[\d:.]+Z\b`), "<time>"},
	{regexp.MustCompile(`\b(for|in) [\d.]+[mµ]?s\b`), "$1 <time>"},
	{regexp.MustCompile(`\b[\d.e+]+ (B|kB|MB|rows|completed|k)\b`), "<n> $1"},
	{regexp.MustCompile(`\b(records in|out) \d+`), "$1 <n>"},
	{regexp.MustCompile(`\b(Checkpoint|Savepoint|Stop-savepoint|latest|savepoint)( +)\d+\b`), "$1$2<n>"},
	{regexp.MustCompile(`chk-\d+`), "chk-<n>"},
	{regexp.MustCompile(`("(?:start-time|duration|last-modification|checkpoint|rows|bytes)": )\d+`), "$1<n>"},
	{regexp.MustCompile(`(savepoint-<id>/)[0-9a-f-]+(:|, byte \d+)`), "$1<file>$2"},
	{regexp.MustCompile(`byte \d+`), "byte <n>"},
	{regexp.MustCompile(`\b\d+ bytes of`), "<n> bytes of"},
	{regexp.MustCompile(`below one of .*?\. Start`), "below one of <roots>. Start"},
	{regexp.MustCompile(`127\.0\.0\.1:1: .*: connection refused|127\.0\.0\.1:1: .*`), "127.0.0.1:1: <refused>"},
}

// served reads the log until it says where REST is, and drains it from then on.
func served(t *testing.T, r io.Reader) string {
	t.Helper()
	re := regexp.MustCompile(`address=http://(127\.0\.0\.1:\d+)`)
	var log bytes.Buffer
	b := make([]byte, 4096)
	for re.FindSubmatch(log.Bytes()) == nil {
		n, err := r.Read(b)
		if err != nil {
			t.Fatalf("%v: %s", err, log.String())
		}
		log.Write(b[:n])
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return string(re.FindSubmatch(log.Bytes())[1])
}

// running waits for the job to run with all its tasks, and returns its id.
func running(ctx context.Context, t *testing.T, address string) string {
	t.Helper()
	c := client.New(address)
	for {
		jobs, err := c.Jobs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(jobs) == 1 && jobs[0].State == "RUNNING" && jobs[0].Tasks["running"] == jobs[0].Tasks["total"] {
			return jobs[0].ID
		}
		if err := client.Pause(ctx, 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// damage flips a bit in the middle of a state file below dir, and returns how many it found.
func damage(t *testing.T, dir string) string {
	t.Helper()
	found := ""
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "_metadata" || found != "" {
			return err
		}
		found = path
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/3] ^= 0x10
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || found == "" {
		t.Fatalf("no state file below %s: %v", dir, err)
	}
	return "ok\n"
}
