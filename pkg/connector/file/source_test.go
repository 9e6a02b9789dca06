package file

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// put writes a file.
func put(t testing.TB, fsys fs.FS, name, content string) {
	t.Helper()
	if err := fsys.MkdirAll(name[:strings.LastIndexByte(name, '/')+1]); err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		content = b.String()
	}
	if err := fs.WriteFile(fsys, name, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

// enumeration stands for a JobManager with one reader.
type enumeration struct {
	connector.EnumeratorContext
	splits []connector.Split
	noMore bool
}

func (e *enumeration) Parallelism() int                       { return 1 }
func (e *enumeration) Assign(_ int, splits []connector.Split) { e.splits = append(e.splits, splits...) }
func (e *enumeration) NoMoreSplits(int)                       { e.noMore = true }
func (e *enumeration) Logger() *slog.Logger                   { return slog.New(slog.DiscardHandler) }

// taken is an Output that asks to yield after every n records.
type taken[T any] struct {
	values   []T
	n        int
	released []string
}

func (o *taken[T]) Split(string) connector.SplitOutput[T] { return o }
func (o *taken[T]) Release(id string)                     { o.released = append(o.released, id) }
func (o *taken[T]) Yield() bool                           { return o.n > 0 && len(o.values)%o.n == 0 }
func (o *taken[T]) Collect(v T, _ event.Time)             { o.values = append(o.values, v) }

// read reads a source with one reader, which it replaces by one restored from its snapshot whenever the output asks to yield.
func read[T any](t testing.TB, src connector.Source[T], restart int) ([]T, error) {
	t.Helper()
	if err := src.Validate(); err != nil {
		return nil, err
	}
	ctx := &enumeration{}
	e, err := src.NewEnumerator(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err := e.Start(t.Context()); err != nil {
		return nil, err
	}
	out := &taken[T]{n: restart}
	var r connector.Reader[T]
	begin := func() {
		rctx := connector.ReaderContext{RequestSplit: func() {
			if err := e.RequestSplit(t.Context(), 0); err != nil {
				t.Error(err)
			}
		}}
		if r, err = src.NewReader(rctx); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	for {
		st, err := r.Poll(out)
		if err != nil {
			return out.values, err
		}
		if st == connector.End {
			return out.values, r.Close()
		}
		if restart > 0 {
			splits, err := r.Snapshot(1)
			if err != nil {
				return nil, err
			}
			b, err := e.Snapshot()
			if err != nil {
				return nil, err
			}
			if err := r.Close(); err != nil {
				return nil, err
			}
			begin()
			if e, err = src.NewEnumerator(ctx, b); err != nil {
				return nil, err
			}
			if err := e.Start(t.Context()); err != nil {
				return nil, err
			}
			ctx.splits = append(splits, ctx.splits...)
		}
		if len(ctx.splits) > 0 {
			if err := r.AddSplits(ctx.splits, out); err != nil {
				return nil, err
			}
			ctx.splits = nil
		}
		if ctx.noMore {
			r.NoMoreSplits()
		}
	}
}

// TestLines reads random files with any split size, and with a restart after every n records, and must find each line once.
func TestLines(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		mem := fs.NewMem()
		var want []string
		for i := range rnd.IntN(4) {
			var b strings.Builder
			for range rnd.IntN(30) {
				line := strings.Repeat(string(rune('a'+rnd.IntN(26))), rnd.IntN(12))
				want = append(want, line)
				b.WriteString(line + []string{"\n", "\r\n"}[rnd.IntN(2)])
			}
			if rnd.IntN(2) == 0 {
				want = append(want, "no end")
				b.WriteString("no end")
			}
			put(t, mem, fmt.Sprintf("/in/%d.txt%s", i, []string{"", ".gz"}[rnd.IntN(2)]), b.String())
		}
		if err := mem.MkdirAll("/in"); err != nil {
			t.Fatal(err)
		}
		got, err := read(t, Source("/in", Text(), onFS(mem), SplitBytes(1+rnd.Int64N(40))), rnd.IntN(4))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		slices.Sort(got)
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// TestLongLines reads lines that are longer than a buffer.
func TestLongLines(t *testing.T) {
	mem := fs.NewMem()
	want := []string{strings.Repeat("x", 3*bufferBytes), "short", strings.Repeat("y", bufferBytes), strings.Repeat("z", bufferBytes-1)}
	put(t, mem, "/in/a", strings.Join(want, "\n"))
	for _, size := range []int64{1 << 30, 100_000, 1000} {
		got, err := read(t, Source("/in/a", Text(), onFS(mem), SplitBytes(size)), 1)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("splits of %d bytes: the lines differ (%d of them)", size, len(got))
		}
	}
	_, err := read(t, Source("/in/a", Text(), onFS(mem), MaxLineBytes(1000)), 0)
	if err == nil || !strings.Contains(err.Error(), "file /in/a: offset 0: the line is longer than 1000 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestPaths(t *testing.T) {
	mem := fs.NewMem()
	for _, name := range []string{"/logs/a.log", "/logs/b.log", "/logs/b.txt", "/logs/.hidden.log", "/logs/_SUCCESS", "/logs/deep/c.log", "/logs/deep/deeper/d.log", "/other/e.log"} {
		put(t, mem, name, name+"\n")
	}
	if err := mem.MkdirAll("/empty"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		paths string
		want  string
	}{
		{"/logs/a.log", "/logs/a.log"},
		{"file:///logs/a.log", "/logs/a.log"},
		{"/logs/.hidden.log", "/logs/.hidden.log"},
		{"/logs/*.log", "/logs/a.log /logs/b.log"},
		{"/logs/[b-z].*", "/logs/b.log /logs/b.txt"},
		{"/*/e.log", "/other/e.log"},
		{"/logs/dee*", "/logs/deep/c.log /logs/deep/deeper/d.log"},
		{"/logs", "/logs/a.log /logs/b.log /logs/b.txt /logs/deep/c.log /logs/deep/deeper/d.log"},
		{"/logs/a.log /logs/*.log /other", "/logs/a.log /logs/b.log /other/e.log"},
		{"/empty", ""},
		{"/logs/*.csv", "file: nothing is there for /logs/*.csv: file does not exist"},
		{"/nowhere/x", "file: nothing is there for /nowhere/x: file does not exist"},
		{"s3://bucket/x", `file: path "s3://bucket/x": file: "s3://bucket/x": file system "s3" is not supported, only local paths are`},
		{"/logs/[", `file: path "/logs/[": syntax error in pattern`},
	} {
		all := strings.Fields(c.paths)
		opts := []SourceOption{onFS(mem)}
		for _, p := range all[1:] {
			opts = append(opts, Also(p))
		}
		got, err := read(t, Source(all[0], Text(), opts...), 0)
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%s: got %s\nwant %s", c.paths, text, c.want)
		}
	}
}

type point struct{ X, Y int }

func TestBadInput(t *testing.T) {
	mem := fs.NewMem()
	put(t, mem, "/in/a.jsonl", "{\"X\":1}\n{\"Y\":2}\noops\n")
	got, err := read(t, Source("/in/a.jsonl", JSON[point](), onFS(mem)), 0)
	if err == nil || !strings.HasPrefix(err.Error(), "file /in/a.jsonl: offset 16: invalid character 'o'") {
		t.Errorf("got %v", err)
	}
	if d := cmp.Diff([]point{{X: 1}, {Y: 2}}, got); d != "" {
		t.Error(d)
	}
	put(t, mem, "/in/b.gz", "one\ntwo\n")
	if err := mem.Corrupt("/in/b.gz", func(b []byte) []byte { return b[:len(b)-1] }); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, Source("/in/b.gz", Text(), onFS(mem)), 0); err == nil || !strings.Contains(err.Error(), "file /in/b.gz: offset ") {
		t.Errorf("got %v", err)
	}
	src := Source("/in/a.jsonl", Text(), onFS(mem))
	e, err := src.NewEnumerator(&enumeration{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := mem.Corrupt("/in/a.jsonl", func(b []byte) []byte { return b[:3] }); err != nil {
		t.Fatal(err)
	}
	r, err := src.NewReader(connector.ReaderContext{})
	if err != nil {
		t.Fatal(err)
	}
	out := &taken[string]{}
	if err := r.AddSplits([]connector.Split{{Data: left}}, out); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Poll(out); err == nil || !strings.Contains(err.Error(), "the file has become shorter") {
		t.Errorf("got %v", err)
	}
}

// TestJob reads in a job, with several readers.
func TestJob(t *testing.T) {
	for _, p := range []string{"1", "3"} {
		synctest.Test(t, func(t *testing.T) {
			mem := fs.NewMem()
			var want []point
			for i := range 5 {
				var b strings.Builder
				for j := range 1000 {
					v := point{i, j}
					want = append(want, v)
					line, err := json.Marshal(v)
					if err != nil {
						t.Fatal(err)
					}
					fmt.Fprintf(&b, "%s\n", line)
				}
				put(t, mem, fmt.Sprintf("/in/%d", i), b.String())
			}
			c := collect.New[point]()
			err := cluster.RunMini(t.Context(), cluster.MiniConfig{
				Memory: cluster.NewMemory(), Settings: []config.Setting{{Key: "parallelism.default", Value: p}},
				Jobs: []cluster.Job{{Name: "points", Build: func(env *stream.Env) error {
					in := stream.From(env, Source("/in/*", JSON[point](), onFS(mem), SplitBytes(3000)), event.NoWatermarks[point](), stream.UID("in"))
					stream.To(in, c.Sink(), stream.UID("out"))
					return nil
				}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			got := c.All()
			slices.SortFunc(got, func(a, b point) int { return 1000*(a.X-b.X) + a.Y - b.Y })
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func FuzzDecodeSplits(f *testing.F) {
	f.Add(encodeSplits(split{path: "/in/a", start: 5, end: 500, next: 300}, split{path: "/in/b.gz", compressed: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		splits, err := decodeSplits(b)
		if err != nil {
			return
		}
		again, err := decodeSplits(encodeSplits(splits...))
		if err != nil || !slices.Equal(again, splits) {
			t.Errorf("%v, %v", again, err)
		}
	})
}
