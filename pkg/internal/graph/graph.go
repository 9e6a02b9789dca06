// Package graph turns a stream graph (what a program builds) into a job graph (what the JobManager schedules): it chains operators, gives them ids that
// last, and finds what is wrong.
//
// Start with Graph and Build. Its law: the same program gives the same ids and the same fingerprint, for ever.
package graph

import "github.com/rivulet-io/rivulet/pkg/internal/base"

// Kind tells sources and sinks from the rest.
type Kind int

// The kinds of nodes.
const (
	Source Kind = iota + 1
	Transform
	Sink
)

func (k Kind) String() string {
	return [...]string{"unknown", "source", "transform", "sink"}[k]
}

// Partitioning says which subtask gets a record.
type Partitioning int

// The partitionings. Auto is Forward between equal parallelisms and Rebalance otherwise; only it and Forward can be chained.
const (
	Auto Partitioning = iota
	Forward
	Rebalance
	Rescale
	Hash
	Broadcast
)

func (p Partitioning) String() string {
	return [...]string{"AUTO", "FORWARD", "REBALANCE", "RESCALE", "HASH", "BROADCAST"}[p]
}

// Input is an edge into a node.
type Input struct {
	Node         int // the producer
	Side         string
	Partitioning Partitioning
	// Index is the input of the operator, from 0. Several edges into one are a union.
	Index int
}

// Node is an operator of the stream graph.
type Node struct {
	Kind Kind
	// Operator is what it does: "Map", "Window". It counts for ids; Name, which people see, does not.
	Operator, Name, UID string
	// Parallelism and MaxParallelism are 0 for the job's.
	Parallelism, MaxParallelism int
	Inputs                      []Input
	// OutputType is the schema of the main output; empty for sinks. Sides are those of the side outputs that are read.
	OutputType                         string
	Sides                              map[string]string
	Keyed, Stateless, Bounded, Commits bool
	DisableChaining, StartNewChain     bool
	SlotSharingGroup                   string
	// Problems are what the program got wrong when it made the node: a type that cannot be serialized, an invalid connector.
	Problems []error
}

// Graph is a program's stream graph. A node's number is its index; producers come before consumers, unless the program made a cycle.
type Graph struct {
	Name   string
	Nodes  []*Node
	Config map[string]string
}

// Options are the job's settings that decide the graph.
type Options struct {
	Parallelism int // parallelism.default; 0 is 1
	// MaxParallelism is pipeline.max-parallelism; 0 derives it from the parallelism.
	MaxParallelism int
	// NoChaining is pipeline.operator-chaining.enabled: false.
	NoChaining bool
	// NoAutoUIDs is pipeline.auto-generate-uids: false.
	NoAutoUIDs bool
	// Checkpointing says whether there is a checkpoint interval.
	Checkpointing bool
}

// label is how a node is called in errors.
func (n *Node) label() string {
	if n.UID != "" && n.UID != n.Name {
		return n.Name + " (uid " + n.UID + ")"
	}
	return n.Name
}

func (n *Node) parallelism(o Options) int {
	if n.Parallelism > 0 {
		return n.Parallelism
	}
	return max(o.Parallelism, 1)
}

func (n *Node) maxParallelism(o Options) (value int, set bool) {
	if n.MaxParallelism > 0 {
		return n.MaxParallelism, true
	}
	if o.MaxParallelism > 0 {
		return o.MaxParallelism, true
	}
	return base.DefaultMaxParallelism(n.parallelism(o)), false
}
