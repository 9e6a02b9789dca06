package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/rest"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// numbers is a source of the numbers from 0 to count-1, which then waits, or ends when it is bounded.
type numbers struct {
	count   int64
	bounded bool
	fail    *atomic.Bool // fails readers while it is true
}

func (n numbers) Bounded() bool { return n.bounded }
func (numbers) Validate() error { return nil }
func (n numbers) NewEnumerator(ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	return &enumerator{ctx: ctx, given: snapshot != nil, bounded: n.bounded}, nil
}

func (n numbers) NewReader(ctx connector.ReaderContext) (connector.Reader[int64], error) {
	return &reader{numbers: n, ctx: ctx}, nil
}

type enumerator struct {
	ctx            connector.EnumeratorContext
	given, bounded bool
}

func (*enumerator) Start(context.Context) error { return nil }
func (e *enumerator) AddReader(_ context.Context, subtask int) error {
	if !e.given {
		e.given = true
		e.ctx.Assign(subtask, []connector.Split{{ID: "numbers"}})
	}
	if e.bounded {
		e.ctx.NoMoreSplits(subtask)
	}
	return nil
}
func (*enumerator) RequestSplit(context.Context, int) error { return nil }
func (*enumerator) Discover(context.Context) error          { return nil }
func (*enumerator) Interval() float64                       { return 0 }
func (*enumerator) Snapshot() ([]byte, error)               { return []byte{1}, nil }
func (*enumerator) Close() error                            { return nil }

type reader struct {
	numbers
	ctx    connector.ReaderContext
	splits []connector.Split
	next   int64
	noMore bool
}

func (r *reader) Poll(out connector.Output[int64]) (connector.Status, error) {
	if r.fail != nil && r.fail.Load() {
		return 0, errors.New("the numbers ran out")
	}
	for ; len(r.splits) > 0 && r.next < r.count; r.next++ {
		out.Split("numbers").Collect(r.next, event.Time(r.next))
	}
	if r.noMore {
		return connector.End, nil
	}
	return connector.Wait, nil
}

func (r *reader) AddSplits(s []connector.Split, _ connector.Output[int64]) error {
	r.splits = append(r.splits, s...)
	if len(s[0].Data) > 0 {
		r.next = int64(s[0].Data[0])
	}
	return nil
}
func (r *reader) NoMoreSplits() { r.noMore = true }
func (r *reader) Snapshot(int64) ([]connector.Split, error) {
	for i := range r.splits {
		r.splits[i].Data = []byte{byte(r.next)}
	}
	return r.splits, nil
}
func (*reader) CheckpointComplete(int64) {}
func (*reader) Close() error             { return nil }

// world is a mini with a job, and its REST server, whose requests it makes without a network: so that time is virtual.
type world struct {
	t      *testing.T
	server *rest.Server
	mini   *cluster.Mini
	fail   atomic.Bool
	names  map[string]string // $NAME -> value
	dial   func() io.ReadWriteCloser
	done   <-chan error // of the mini
	stop   func()       // suspends it

	memory      *cluster.Memory
	settings    []config.Setting
	roots       []string
	keepRunning bool
}

func newWorld(t *testing.T, roots []string, settings ...config.Setting) *world {
	return newWorldThat(t, true, roots, settings...)
}

// newWorldThat is newWorld, of a mini that ends with its job unless it keeps running.
func newWorldThat(t *testing.T, keepRunning bool, roots []string, settings ...config.Setting) *world {
	w := &world{t: t, names: map[string]string{}, memory: cluster.NewMemory(), keepRunning: keepRunning, roots: roots}
	w.settings = append([]config.Setting{{Key: "parallelism.default", Value: "2"}, {Key: "restart-strategy.type", Value: "none"}}, settings...)
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// start starts a mini on what the one before has left.
func (w *world) start() {
	t := w.t
	network := grpcrpc.NewMemory()
	l, err := network.Listen("rest")
	if err != nil {
		t.Fatal(err)
	}
	w.dial = func() io.ReadWriteCloser {
		c, err := network.Dial(context.Background(), "rest")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	build := func(env *stream.Env) error {
		in := stream.From(env, numbers{count: 100, fail: &w.fail}, event.MonotonousOfSource[int64](), stream.UID("numbers"), stream.Parallelism(1))
		even := stream.Filter(in, func(n int64) bool { return n%2 == 0 }, stream.Name("even"))
		sums := stream.Map(stream.Rebalance(even), func(n int64) int64 { return n + 1 }, stream.UID("sums"), stream.Name("sums"))
		stream.To(sums, blackhole.Sink[int64](), stream.UID("out"))
		return nil
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.mini, err = cluster.NewMini(cluster.MiniConfig{
		Jobs: []cluster.Job{{Name: "sums", Build: build}}, Memory: w.memory, KeepRunning: w.keepRunning, Logger: log, Settings: w.settings,
		Services: []func(context.Context, *cluster.Host) error{func(ctx context.Context, _ *cluster.Host) error { return w.server.Run(ctx) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server, err = rest.New(l, rest.Config{
		JobManager: w.mini.JobManager(), Metrics: w.mini.Metrics(), Config: w.mini.Config(), Version: "0.0.0", Roots: w.roots, Logger: log, Session: session,
		Handlers: map[string]http.Handler{"/metrics": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "flink_up 1") })},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	w.done = done
	go func() { done <- w.mini.Run(ctx); close(done) }()
	w.stop = func() {
		cancel()
		<-done // it says what the job died of, which tests do on purpose
	}
	w.wait("a job", func() bool { return len(w.mini.Jobs()) > 0 })
	w.names["JOB"] = w.mini.Jobs()[0].String()
	d, err := w.mini.JobManager().Job(w.mini.Jobs()[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range d.Vertices {
		w.names[fmt.Sprintf("VERTEX%d", i)] = v.ID.String()
	}
}

// wait lets virtual time pass until ok.
func (w *world) wait(what string, ok func() bool) {
	w.t.Helper()
	for range 2000 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("did not happen within 20 s: %s", what)
}

// do makes a request and returns the answer.
func (w *world) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body))
	req.Host = "127.0.0.1:8081"
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, req)
	return rec
}

func (w *world) expand(s string) string {
	for name, v := range w.names {
		s = strings.ReplaceAll(s, "$"+name, v)
	}
	return s
}

var (
	timeValue = regexp.MustCompile(`\b9466\d{8}\b`)
	hexID     = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	// machine is what depends on the machine, the time zone, or on what else the process does.
	machine      = regexp.MustCompile(`("(?:physicalMemory|(?:non)?[hH]eap(?:Used|Committed|Max)|direct[A-Z]\w+|mapped[A-Z]\w+|timezone-name|timezone-offset|count|time)": |"hardware": \{\s+"cpuCores": )("[^"]*"|-?[\d.]+)`)
	javaObject   = regexp.MustCompile(`"rO0ABX[A-Za-z0-9+/=]+"`)
	savepointDir = regexp.MustCompile(`savepoint-[0-9a-f]{6}-[0-9a-f]{12}`)
)

// normal replaces what differs from run to run.
func (w *world) normal(body string) string {
	for name, v := range w.names {
		body = strings.ReplaceAll(body, v, "$"+name)
	}
	body = machine.ReplaceAllString(body, "${1}<machine>")
	body = javaObject.ReplaceAllString(body, `"<java>"`)
	body = timeValue.ReplaceAllString(body, "<time>")
	body = savepointDir.ReplaceAllString(body, "savepoint-<id>")
	return hexID.ReplaceAllString(body, "<id>")
}

// answer shows status and body.
func (w *world) answer(rec *httptest.ResponseRecorder) string {
	body := rec.Body.String()
	if strings.HasPrefix(rec.Header().Get("Content-Type"), "application/json") {
		var b bytes.Buffer
		if err := json.Indent(&b, rec.Body.Bytes(), "", " "); err != nil {
			w.t.Errorf("no JSON: %v: %s", err, body)
		}
		body = b.String()
		var id struct {
			ID string `json:"request-id"`
		}
		if json.Unmarshal(rec.Body.Bytes(), &id) == nil && id.ID != "" {
			w.names["REQUEST"] = id.ID
		}
	}
	return fmt.Sprintf("%d\n%s\n", rec.Code, strings.TrimSuffix(w.normal(body), "\n"))
}

// TestEndpoints makes the requests of testdata: one golden body for each endpoint. Commands:
//
//	request makes the request METHOD PATH, with the rest of the input as body; $JOB, $VERTEX0 and $REQUEST (the id of the latest request) stand for ids
//	wait SECONDS; state STATE waits until the job is in it, and all its tasks; fail makes the job fail; restart suspends the
//	process and starts another on what it has left
func TestEndpoints(t *testing.T) {
	for _, file := range []string{"job", "failed", "stopped", "restored"} {
		t.Run(file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, []string{"mem:///mini", "/data"}, config.Setting{Key: "execution.checkpointing.interval", Value: "1 min"})
				datadriven.RunTest(t, filepath.Join("testdata", file+".txt"), func(t *testing.T, d *datadriven.TestData) string {
					switch d.Cmd {
					case "request":
						line, body, _ := strings.Cut(w.expand(d.Input), "\n")
						method, path, _ := strings.Cut(line, " ")
						return w.answer(w.do(method, path, body))
					case "state":
						w.wait(d.CmdArgs[0].Key, func() bool {
							j := w.mini.JobManager().Jobs()[0]
							return j.State.String() == d.CmdArgs[0].Key && (j.State.Terminal() || j.Tasks[5] == j.Total)
						})
					case "wait":
						pass, err := time.ParseDuration(d.CmdArgs[0].Key)
						if err != nil {
							d.Fatalf(t, "%v", err)
						}
						time.Sleep(pass)
						synctest.Wait()
					case "fail":
						w.fail.Store(true)
					case "restart":
						w.stop()
						w.start()
					default:
						d.Fatalf(t, "unknown command")
					}
					return ""
				})
			})
		})
	}
}

var errNoProgram = errors.New("no such program")

// session has one program, and answers with what was submitted.
var session = &rest.Session{
	Programs: []string{"sums"}, Since: time.UnixMilli(1), NoProgram: errNoProgram,
	Submit: func(_ context.Context, s rest.SubmitRequest) (base.JobID, error) {
		if s.Program != "sums" {
			return base.JobID{}, errNoProgram
		}
		if len(s.Args) == 0 {
			return base.JobID{1}, nil
		}
		return base.JobID{}, base.Permanent(fmt.Errorf("%+v", s))
	},
}
