package client_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/client"
)

// flink answers like Flink's documentation: by method and path, one body after the other.
func flink(t *testing.T, answers map[string][]string) (*client.Client, *[]string) {
	t.Helper()
	var asked []string
	var mu sync.Mutex // a request whose answer was lost comes again on another connection
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		what := r.Method + " " + r.URL.String()
		var body map[string]any
		if r.ContentLength > 0 {
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			b, err := json.Marshal(body)
			if err != nil {
				t.Error(err)
			}
			asked = append(asked, what+" "+string(b))
		} else {
			asked = append(asked, what)
		}
		left := answers[what]
		if len(left) == 0 {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"errors":["Not found: ` + r.URL.Path + `"]}`))
			return
		}
		if len(left) > 1 {
			answers[what] = left[1:]
		}
		if left[0] == "lost" {
			panic(http.ErrAbortHandler)
		}
		status, text := http.StatusOK, left[0]
		if strings.HasPrefix(text, "409 ") {
			status, text = http.StatusConflict, text[4:]
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(s.Close)
	return client.New(s.URL), &asked
}

func TestSavepoint(t *testing.T) {
	c, asked := flink(t, map[string][]string{
		"POST /jobs/7/savepoints": {"lost", `{"request-id":"r"}`},
		"GET /jobs/7/savepoints/r": {
			`{"status":{"id":"IN_PROGRESS"},"operation":null}`,
			`{"status":{"id":"COMPLETED"},"operation":{"location":"file:/sp/savepoint-d9813b-8a68e674325b"}}`,
		},
	})
	trigger, err := c.Savepoint(t.Context(), "7", "/sp")
	if err != nil {
		t.Fatal(err)
	}
	waits := 0
	r, err := c.Wait(t.Context(), trigger, func() { waits++ })
	if err != nil || r.Path != "file:/sp/savepoint-d9813b-8a68e674325b" || waits != 1 {
		t.Errorf("%+v, %v after %d waits", r, err, waits)
	}
	if len(*asked) != 4 || (*asked)[0] != (*asked)[1] || !strings.Contains((*asked)[0], `"target-directory":"/sp","triggerId":"`) {
		t.Errorf("an order whose answer was lost is repeated with its id: %q", *asked)
	}
}

func TestFailures(t *testing.T) {
	c, _ := flink(t, map[string][]string{
		"POST /jobs/7/stop": {`{"request-id":"r"}`},
		"GET /jobs/7/savepoints/r": {`{"status":{"id":"COMPLETED"},"operation":{"failure-cause":{"class":"java.lang.Exception",
			"stack-trace":"java.util.concurrent.CompletionException: the disk is full: no space\n\tat x.y.Z\n","serialized-throwable":"rO0"}}}`},
		"PATCH /jobs/7?mode=cancel": {`409 {"errors":["Job cancellation failed because the job has already reached another terminal state (FINISHED).\n\tat x"]}`},
		"GET /jobs/7/status":        {"<html>"},
		"POST /jobs/7/checkpoints":  {`{"request-id":"k"}`},
		"GET /jobs/7/checkpoints/k": {`{"status":{"id":"COMPLETED"},"operation":{"checkpointId":12}}`},
		"GET /jobs/7/exceptions":    {`{"exceptionHistory":{"entries":[{"exceptionName":"X","stacktrace":"a.b.C: boom\n at","timestamp":5,"taskName":"map (1/2)"}],"truncated":false}}`},
		"POST /savepoint-disposal":  {`{"request-id":"d"}`},
		"GET /savepoint-disposal/d": {`{"status":{"id":"COMPLETED"},"operation":{}}`},
		"GET /jobs/7/checkpoints":   {`{"counts":{"restored":0,"total":1,"in_progress":0,"completed":1,"failed":0},"summary":{"state_size":{"min":1,"max":1,"avg":1,"p50":"NaN"}},"latest":{"completed":{"className":"completed","id":4,"status":"COMPLETED","is_savepoint":false,"state_size":9,"external_path":"file:/c"},"savepoint":null,"failed":null,"restored":null},"history":[]}`},
		"GET /jobs/overview":        {`{"jobs":[{"jid":"7","name":"n","state":"RUNNING","start-time":1,"end-time":-1,"duration":2,"last-modification":1,"tasks":{"total":2,"running":2},"jobType":"STREAMING"}]}`},
	})
	ctx := t.Context()
	trigger, err := c.Stop(ctx, "7", "", true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Wait(ctx, trigger, nil)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Message != "the disk is full: no space" {
		t.Errorf("a failed stop: %v", err)
	}
	err = c.Cancel(ctx, "7")
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusConflict || strings.Contains(e.Message, "\n") {
		t.Errorf("a late cancellation: %v", err)
	}
	if _, err := c.State(ctx, "7"); err == nil || !strings.Contains(err.Error(), "does not answer as Rivulet or Flink do") {
		t.Errorf("another server: %v", err)
	}
	if _, err := c.Job(ctx, "8"); !client.NotFound(err) || !strings.Contains(err.Error(), "Not found: /jobs/8") {
		t.Errorf("no such job: %v", err)
	}
	if trigger, err = c.Checkpoint(ctx, "7", false); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Wait(ctx, trigger, nil); err != nil || r.Checkpoint != 12 {
		t.Errorf("checkpoint: %+v, %v", r, err)
	}
	if trigger, err = c.Dispose(ctx, "file:/sp"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(ctx, trigger, nil); err != nil {
		t.Errorf("disposal: %v", err)
	}
	failures, err := c.Failures(ctx, "7")
	if err != nil || len(failures) != 1 || failures[0].Text() != "boom" || failures[0].Task != "map (1/2)" {
		t.Errorf("%+v, %v", failures, err)
	}
	chk, err := c.Checkpoints(ctx, "7")
	if err != nil || chk.Counts.Completed != 1 || chk.Latest.Completed.ID != 4 || chk.Latest.Savepoint != nil {
		t.Errorf("%+v, %v", chk, err)
	}
	jobs, err := c.Jobs(ctx)
	want := []client.Job{{ID: "7", Name: "n", State: "RUNNING", Start: 1, End: -1, Duration: 2, Modified: 1, Tasks: map[string]int{"total": 2, "running": 2}}}
	if d := cmp.Diff(want, jobs); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	if _, err := client.New("127.0.0.1:1").Jobs(ctx); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
}
