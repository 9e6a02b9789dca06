// Package stream is the DataStream API: a program builds streams with From, Map, Filter, KeyBy, Process, windows and To, and the engine runs them.
//
// Start with Env, which a program's build function is given, and From. Transformations are functions, so that a program reads from top to bottom:
//
//	clicks := stream.From(env, source, event.BoundedOutOfOrderness(time.Second, Click.When), stream.UID("clicks"))
//	perUser := stream.KeyBy(clicks, func(c Click) string { return c.User })
//	counts := stream.Process(perUser, newCounter, stream.UID("counts"))
//	stream.To(counts, sink, stream.UID("out"))
//
// Its law: a function never runs concurrently with itself. Its object is made per subtask; all its methods are called on one goroutine.
//
// What is wrong with a program (two operators with one uid, a type that cannot be serialized, a stream without a sink) is reported when it is built, all at
// once, with the operators' names.
package stream

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/graph"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// Env is what a program is built in. It is used by one goroutine.
type Env struct {
	name   string
	config map[string]string // the process's, under the program's own
	own    map[string]string
	args   []string
	nodes  []*node
}

// node is an operator, and how it is made.
type node struct {
	graph.Node
	make       func() (task.Operator, error)
	types      map[string]exchange.Type // by side output
	keys       map[int]any              // by input: the key extractor of its hash edges
	enumerator func(connector.EnumeratorContext, []byte) (connector.Enumerator, error)
	committer  func(connector.CommitterContext) (connector.Committer, error)
}

// NewEnv returns the environment of a job. config holds Flink's keys as the process was given them; args are the job's own arguments.
func NewEnv(name string, config map[string]string, args ...string) *Env {
	return &Env{name: name, config: config, own: map[string]string{}, args: args}
}

// Name is the job's name.
func (e *Env) Name() string { return e.name }

// Args are the job's own arguments.
func (e *Env) Args() []string { return e.args }

// Set sets a job option by Flink's key, as in Set("execution.checkpointing.interval", "10s"). What the process is started with overrules it.
func (e *Env) Set(key, value string) { e.own[key] = value }

// Option returns a job option as it will be: the process's, else the program's, else "".
func (e *Env) Option(key string) string {
	if v, ok := e.config[key]; ok {
		return v
	}
	return e.own[key]
}

func (e *Env) add(n *node) int {
	e.nodes = append(e.nodes, n)
	return len(e.nodes) - 1
}

func (e *Env) reuse() bool {
	reuse := false
	if c, err := e.settings(); err == nil { // an error is build's to report
		_ = read(c, config.ObjectReuse, &reuse)
	}
	return reuse
}

func typeOf[T any](e *Env, n *node, c codec.Codec[T]) *operator.Type[T] {
	if c == nil {
		var err error
		if c, err = codec.For[T](); err != nil {
			n.Problems = append(n.Problems, err)
			return nil
		}
	}
	return operator.NewType(c, e.reuse())
}

// program is a task.Program.
type program struct {
	graph *planv1.JobGraph
	nodes []*node
}

func init() { //nolint:gochecknoinits // it hides the engine from users
	operator.Program = func(env any) (task.Program, error) {
		e, ok := env.(*Env)
		if !ok {
			return nil, fmt.Errorf("stream: %T is no *stream.Env", env)
		}
		return e.build()
	}
}

func (e *Env) build() (task.Program, error) {
	o, err := e.options()
	if err != nil {
		return nil, fmt.Errorf("job %q: %w", e.name, err)
	}
	g := &graph.Graph{Name: e.name, Config: maps.Clone(e.own)}
	for _, n := range e.nodes {
		g.Nodes = append(g.Nodes, &n.Node)
	}
	j, err := graph.Build(g, o)
	if err != nil {
		return nil, err
	}
	return &program{graph: j, nodes: e.nodes}, nil
}

func (e *Env) options() (graph.Options, error) {
	c, err := e.settings()
	if err != nil {
		return graph.Options{}, err
	}
	o := graph.Options{Checkpointing: config.CheckpointingOf(c).Enabled()}
	chaining, autoUIDs := true, true
	err = errors.Join(read(c, config.Parallelism, &o.Parallelism), read(c, config.MaxParallelism, &o.MaxParallelism),
		read(c, config.OperatorChaining, &chaining), read(c, config.AutoGenerateUIDs, &autoUIDs))
	o.MaxParallelism = max(o.MaxParallelism, 0) // -1 is derived, as 0 is to graph
	o.NoChaining, o.NoAutoUIDs = !chaining, !autoUIDs
	return o, err
}

// settings checks the options: the process's over the program's.
func (e *Env) settings() (*config.Config, error) {
	var all []config.Setting
	for _, k := range slices.Sorted(maps.Keys(e.own)) {
		all = append(all, config.Setting{Key: k, Value: e.own[k], Origin: "job"})
	}
	for _, k := range slices.Sorted(maps.Keys(e.config)) {
		all = append(all, config.Setting{Key: k, Value: e.config[k]})
	}
	return config.New(all...)
}

func read[T any](c *config.Config, k config.Key[T], to *T) (err error) {
	*to, err = config.Get(c, k)
	return err
}

func (p *program) Graph() *planv1.JobGraph { return p.graph }

func (p *program) node(i int32) (*node, error) {
	if i < 0 || int(i) >= len(p.nodes) {
		return nil, fmt.Errorf("job %q has no operator %d", p.graph.GetName(), i)
	}
	return p.nodes[i], nil
}

func (p *program) NewOperator(i int32) (task.Operator, error) {
	n, err := p.node(i)
	if err != nil {
		return nil, err
	}
	return n.make()
}

func (p *program) Type(i int32, side string) exchange.Type {
	n, err := p.node(i)
	if err != nil {
		return nil
	}
	return n.types[side]
}

func (p *program) Key(e *planv1.Edge) any {
	n, err := p.node(e.GetTargetNode())
	if err != nil {
		return nil
	}
	return n.keys[int(e.GetTargetInput())]
}

func (p *program) NewEnumerator(i int32, ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	n, err := p.node(i)
	if err != nil {
		return nil, err
	}
	if n.enumerator == nil {
		return nil, fmt.Errorf("operator %q is no source", n.Name)
	}
	return n.enumerator(ctx, snapshot)
}

func (p *program) NewCommitter(i int32, ctx connector.CommitterContext) (connector.Committer, error) {
	n, err := p.node(i)
	if err != nil || n.committer == nil {
		return nil, err
	}
	return n.committer(ctx)
}

// From makes a stream of what a source reads.
func From[T any](env *Env, source connector.Source[T], strategy event.Strategy[T], opts ...SourceOption) Stream[T] {
	n := &node{Node: graph.Node{Kind: graph.Source, Operator: "Source", Bounded: source.Bounded()}}
	for _, o := range opts {
		o.source(n)
	}
	if n.Name == "" {
		n.Name = n.UID
		if n.Name == "" {
			n.Name = "source"
		}
	}
	n.Name = "Source: " + n.Name
	if err := source.Validate(); err != nil {
		n.Problems = append(n.Problems, err)
	}
	s := output[T](env, n)
	dead := deadLetters(s, source, n)
	n.make = func() (task.Operator, error) {
		return &operator.Source[T]{Source: source, Strategy: strategy, Typ: s.typ, Dead: dead}, nil
	}
	n.enumerator = source.NewEnumerator
	return s
}

// deadLetters gives what a source cannot decode to a sink, if the source has one for it, and returns its type.
func deadLetters[T any](s Stream[T], source connector.Source[T], n *node) *operator.Type[connector.DeadLetter] {
	d, ok := source.(connector.DeadLetterSource)
	if !ok {
		return nil
	}
	sink := d.DeadLetters()
	if sink == nil {
		return nil
	}
	side := SideOutput(s, NewTag[connector.DeadLetter](operator.DeadLetters))
	opts := []SinkOption{Name("dead letters of " + n.Operator)}
	if n.UID != "" {
		opts = []SinkOption{UID(n.UID + "-dead-letters")}
	}
	To(side, sink, opts...)
	return side.typ
}

// To ends a stream in a sink.
func To[T any](s Stream[T], sink connector.Sink[T], opts ...SinkOption) {
	n := &node{Node: graph.Node{Kind: graph.Sink, Operator: "Sink", Inputs: s.inputs, Commits: sink.Commits()}}
	for _, o := range opts {
		o.sink(n)
	}
	if n.Name == "" {
		n.Name = n.UID
		if n.Name == "" {
			n.Name = "sink"
		}
	}
	n.Name = "Sink: " + n.Name
	if err := sink.Validate(); err != nil {
		n.Problems = append(n.Problems, err)
	}
	n.make = func() (task.Operator, error) { return operator.NewSink(sink, s.typ), nil }
	if sink.Commits() {
		n.committer = sink.NewCommitter
	}
	s.env.add(n)
}
