package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// TestSession submits jobs of a program to a process that runs: with arguments and options of their own, from a savepoint, and not twice. The next process goes on with them.
func TestSession(t *testing.T) {
	dir := t.TempDir()
	var names []string // of the keys, as they were built
	program := func() Program {
		fs := flag.NewFlagSet("sums", flag.ContinueOnError)
		name := fs.String("key", "none", "")
		return Program{Name: "sums", Flags: fs, Build: func(env *stream.Env) error {
			if *name == "bad" {
				return errors.New("no such key")
			}
			names = append(names, *name+" "+strings.Join(fs.Args(), " "))
			numbers := stream.From(env, datagen.Sequence(0, 1e12, datagen.PerSecond(1000), datagen.Splits(1)), event.NoWatermarks[int64](), stream.UID("numbers"))
			perKey := stream.KeyBy(numbers, func(n int64) int64 { return n % 10 })
			stream.To(stream.Sum(perKey, func(n int64) int64 { return n }, stream.UID("sum")), blackhole.Sink[int64](), stream.UID("out"))
			return nil
		}}
	}
	start := func() (address string, stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		done := make(chan int, 1)
		go func() {
			done <- Run(ctx, program(), []string{"--session", "--data-dir", filepath.Join(dir, "data"), "--rest-address", "127.0.0.1:0", "-Dexecution.checkpointing.interval=50ms"}, io.Discard, w)
			_ = w.Close()
		}()
		return served(t, r), func() {
			cancel()
			if code := <-done; code != exitOK {
				t.Errorf("exit %d", code)
			}
		}
	}
	post := func(address, path, body string) (status int, answer string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	refused := func(address, path, body, want string, status int) {
		t.Helper()
		if s, b := post(address, path, body); s != status || !strings.Contains(b, want) {
			t.Errorf("%s %s: %d %s", path, body, s, b)
		}
	}

	// settled waits until these jobs run, and no other, with so many tasks.
	settled := func(address string, want map[string]int) {
		t.Helper()
		for {
			jobs, err := client.New(address).Jobs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			done := len(jobs) == len(want)
			for _, j := range jobs {
				done = done && j.State == "RUNNING" && j.Tasks["running"] == want[j.Name]
			}
			if done {
				return
			}
			if err := client.Pause(t.Context(), 5*time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
	}
	address, stop := start()
	resp, err := http.Get("http://" + address + "/jars")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Files []struct{ ID, Name string }
	}
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&list), resp.Body.Close()); err != nil || len(list.Files) != 1 || list.Files[0].ID != "sums" {
		t.Fatalf("%+v, %v", list, err)
	}
	refused(address, "/jars/other/run", "{}", `program \"other\": no such program`, http.StatusNotFound)
	refused(address, "/jars/sums/run", `{"programArgsList":["--key","bad"]}`, "no such key", http.StatusBadRequest)
	refused(address, "/jars/sums/run", `{"programArgsList":["--kei","x"]}`, "flag provided but not defined: -kei", http.StatusBadRequest)
	refused(address, "/jars/sums/run", `{"flinkConfiguration":{"parallelism.defalt":"2"}}`, "did you mean parallelism.default? (submission)", http.StatusBadRequest)
	refused(address, "/jars/sums/run", `{"claimMode":"LEGACY"}`, "want NO_CLAIM or CLAIM", http.StatusBadRequest)

	status, body := post(address, "/jars/sums/run", `{"programArgsList":["--key","a","more"],"parallelism":"2"}`)
	var answer struct{ JobID string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || len(answer.JobID) != 32 {
		t.Fatalf("%d %s", status, body)
	}
	if id := running(t.Context(), t, address); id != answer.JobID {
		t.Errorf("job %s, want %s", id, answer.JobID)
	}
	refused(address, "/jars/sums/run", "{}", `job \"sums\": the job runs already`, http.StatusBadRequest)
	if status, body := post(address, "/jars/sums/run?programArg=x", `{"flinkConfiguration":{"pipeline.name":"second"}}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if got := strings.Join(names, ", "); got != "a more, none , none x" {
		t.Errorf("built with %s", got)
	}
	settled(address, map[string]int{"sums": 4, "second": 2})
	// One is stopped with a savepoint and goes on from it, under the same name.
	var stdout, stderr bytes.Buffer
	if code := Run(t.Context(), program(), []string{"stop", "second", "--rest-address", address, "--json"}, &stdout, &stderr); code != exitOK {
		t.Fatal(stderr.String())
	}
	var stopped map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &stopped); err != nil {
		t.Fatal(err)
	}
	path := ""
	for _, v := range stopped {
		if s, ok := v.(string); ok && strings.Contains(s, "savepoint-") {
			path = s
		}
	}
	run, err := json.Marshal(map[string]any{"savepointPath": path, "flinkConfiguration": map[string]string{"pipeline.name": "second"}, "parallelism": 1})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := post(address, "/jars/sums/run", string(run)); status != http.StatusOK || path == "" {
		t.Fatalf("from %q: %d %s", path, status, body)
	}
	stop()

	// The next process goes on with both, with their own arguments and parallelism.
	names = nil
	address, stop = start()
	settled(address, map[string]int{"sums": 4, "second": 2})
	stop()
	if got := strings.Join(names, ", "); got != "none , a more" {
		t.Errorf("built with %s", got)
	}
}
