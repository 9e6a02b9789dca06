package stream

// SourceOption configures a source.
type SourceOption interface{ source(n *node) }

// OperatorOption configures an operator.
type OperatorOption interface{ operator(n *node) }

// SinkOption configures a sink.
type SinkOption interface{ sink(n *node) }

// Option configures anything.
type Option interface {
	SourceOption
	OperatorOption
	SinkOption
}

// ChainOption says what may be chained.
type ChainOption interface {
	OperatorOption
	SinkOption
}

type option func(n *node)

func (o option) source(n *node)   { o(n) }
func (o option) operator(n *node) { o(n) }
func (o option) sink(n *node)     { o(n) }

type chainOption func(n *node)

func (o chainOption) operator(n *node) { o(n) }
func (o chainOption) sink(n *node)     { o(n) }

// UID names an operator for ever: its state in savepoints is found by it. Give one to every operator that has state. It must be unique in the job.
func UID(uid string) Option { return option(func(n *node) { n.UID = uid }) }

// Name is how an operator is called in the UI, logs and metrics.
func Name(name string) Option { return option(func(n *node) { n.Name = name }) }

// Parallelism sets the number of subtasks; without it, parallelism.default holds.
func Parallelism(p int) Option {
	return option(func(n *node) {
		n.Parallelism = p
		if p == 0 {
			n.Parallelism = -1 // refused by name
		}
	})
}

// MaxParallelism sets the number of key groups, 1 to 32768. Once there is state it cannot change.
func MaxParallelism(p int) Option {
	return option(func(n *node) {
		n.MaxParallelism = p
		if p == 0 {
			n.MaxParallelism = -1 // refused by name
		}
	})
}

// SlotSharingGroup has an operator, and those behind it that do not say otherwise, share slots only with operators of the same group. Sources, and operators whose
// inputs are of several groups, are of the group "default".
func SlotSharingGroup(name string) Option { return option(func(n *node) { n.SlotSharingGroup = name }) }

// DisableChaining has an operator run in a task of its own.
func DisableChaining() ChainOption { return chainOption(func(n *node) { n.DisableChaining = true }) }

// StartNewChain has an operator begin a task; others may be chained behind it.
func StartNewChain() ChainOption { return chainOption(func(n *node) { n.StartNewChain = true }) }
