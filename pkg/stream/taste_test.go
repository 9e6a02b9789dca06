package stream_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/graph"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

type Click struct {
	User string
	At   time.Time
}

type Visit struct {
	User  string
	Pages int
	Until time.Time
}

// source and sink are ends that no test runs.
type source[T any] struct{ err error }

func (source[T]) Bounded() bool     { return false }
func (s source[T]) Validate() error { return s.err }
func (source[T]) NewEnumerator(connector.EnumeratorContext, []byte) (connector.Enumerator, error) {
	return nil, errors.ErrUnsupported
}

func (source[T]) NewReader(connector.ReaderContext) (connector.Reader[T], error) {
	return nil, errors.ErrUnsupported
}

type sink[T any] struct{ commits bool }

func (sink[T]) Validate() error { return nil }
func (s sink[T]) Commits() bool { return s.commits }
func (sink[T]) NewWriter(connector.WriterContext) (connector.Writer[T], error) {
	return nil, errors.ErrUnsupported
}

func (sink[T]) NewCommitter(connector.CommitterContext) (connector.Committer, error) {
	return nil, errors.ErrUnsupported
}

// visits is the function of the design's example.
type visits struct{ open state.Value[Visit] }

func newVisits() stream.KeyedProcess[string, Click, Visit] { return new(visits) }

func (v *visits) Open(r *stream.Runtime) error {
	v.open = state.NewValue[Visit](r, "open")
	return nil
}

func (v *visits) Process(ctx stream.Context[string], c Click, out stream.Out[Visit]) error {
	visit := v.open.Get()
	visit.User, visit.Pages, visit.Until = c.User, visit.Pages+1, c.At.Add(30*time.Minute)
	v.open.Set(visit)
	ctx.TimerAt(visit.Until)
	return nil
}

func (v *visits) OnTimer(ctx stream.Context[string], at time.Time, out stream.Out[Visit]) error {
	if visit := v.open.Get(); visit.Until.Equal(at) {
		out.Emit(visit)
		v.open.Set(Visit{})
	}
	return nil
}

func build(env *stream.Env) error {
	clicks := stream.From(env, source[Click]{},
		event.BoundedOutOfOrderness(5*time.Second, func(c Click) time.Time { return c.At }).WithIdleness(time.Minute), stream.UID("clicks"))
	known := stream.Filter(clicks, func(c Click) bool { return c.User != "" })
	perUser := stream.KeyBy(known, func(c Click) string { return c.User })
	visits := stream.Process(perUser, newVisits, stream.UID("visits"))
	stream.To(visits, sink[Visit]{commits: true}, stream.UID("out"))
	return nil
}

// TestTaste says that the program of the design builds, to which graph.
func TestTaste(t *testing.T) {
	env := stream.NewEnv("visits", map[string]string{"execution.checkpointing.interval": "10s"})
	if err := build(env); err != nil {
		t.Fatal(err)
	}
	p, err := operator.Program(env)
	if err != nil {
		t.Fatal(err)
	}
	got := graph.Explain(p.Graph())
	for _, want := range []string{"Source: clicks -> Filter  parallelism=1 max=128", "KeyedProcess -> Sink: out", "<- HASH Source: clicks -> Filter"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, v := range p.Graph().GetVertices() {
		for _, o := range v.GetOperators() {
			if op, err := p.NewOperator(o.GetNode()); err != nil || op == nil {
				t.Errorf("%s: %T, %v", o.GetName(), op, err)
			}
		}
	}
	for _, e := range p.Graph().GetEdges() {
		if _, ok := p.Key(e).(operator.KeyOf[Click]); !ok {
			t.Errorf("the key of the hash edge is %T", p.Key(e))
		}
	}
	again := stream.NewEnv("visits", map[string]string{"execution.checkpointing.interval": "1 min", "parallelism.default": "4"})
	_ = build(again)
	q, err := operator.Program(again)
	if err != nil {
		t.Fatal(err)
	}
	if p.Graph().GetFingerprint() != q.Graph().GetFingerprint() {
		t.Error("the fingerprint depends on the parallelism")
	}
}

// TestProblems says that everything that is wrong is reported at once, with names.
func TestProblems(t *testing.T) {
	env := stream.NewEnv("bad", map[string]string{"execution.checkpointing.interval": "none"})
	in := stream.From(env, source[Click]{err: errors.New("no topic")}, event.NoWatermarks[Click](), stream.UID("in"))
	stream.Map(in, func(Click) chan int { return nil }, stream.Name("chans"))
	byFloat := stream.KeyBy(in, func(Click) float64 { return 0 })
	stream.To(stream.Sum(byFloat, func(Click) int { return 1 }, stream.Name("sum"), stream.UID("in")), sink[int]{commits: true}, stream.Parallelism(200), stream.MaxParallelism(100))
	_, err := operator.Program(env)
	if err == nil {
		t.Fatal("it builds")
	}
	for _, want := range []string{
		`operator "Source: in (uid in)": no topic`, `operator "chans": `, `operator "chans": its stream is not used`, `operator "sum (uid in)": key: `,
		`its uid "in" is that of operator "Source: in (uid in)" already`, "an exactly-once sink needs checkpoints", "parallelism 200 is larger than max parallelism 100",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}
