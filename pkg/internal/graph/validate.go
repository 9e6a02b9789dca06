package graph

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// sorted returns the nodes with producers before consumers, sources first, otherwise in the order they were made; and the nodes of a cycle, if there is one.
func sorted(g *Graph) (order, cycle []int) {
	done := make([]bool, len(g.Nodes))
	for len(order) < len(g.Nodes) {
		before := len(order)
		for _, sources := range []bool{true, false} {
			for i, n := range g.Nodes {
				if done[i] || sources != (len(n.Inputs) == 0) {
					continue
				}
				ready := true
				for _, in := range n.Inputs {
					ready = ready && done[in.Node]
				}
				if ready {
					done[i] = true
					order = append(order, i)
				}
			}
		}
		if len(order) == before {
			for i := range g.Nodes {
				if !done[i] {
					cycle = append(cycle, i)
				}
			}
			return order, cycle
		}
	}
	return order, nil
}

// validate returns everything that is wrong, each problem naming its operator.
func validate(g *Graph, o Options) error {
	var errs []error
	bad := func(n *Node, format string, args ...any) {
		errs = append(errs, fmt.Errorf("operator %q: "+format, append([]any{n.label()}, args...)...))
	}
	if len(g.Nodes) == 0 {
		return errors.New("the program builds no streams")
	}
	uids := map[string]*Node{}
	read := make([]bool, len(g.Nodes))
	sinks := 0
	for _, n := range g.Nodes {
		for _, p := range n.Problems {
			bad(n, "%w", p)
		}
		if n.UID != "" {
			if first := uids[n.UID]; first != nil {
				bad(n, "its uid %q is that of operator %q already", n.UID, first.label())
			} else {
				uids[n.UID] = n
			}
		} else if o.NoAutoUIDs {
			bad(n, "has no uid, and pipeline.auto-generate-uids is false")
		}
		p := n.parallelism(o)
		m, _ := n.maxParallelism(o)
		if n.Parallelism < 0 {
			bad(n, "parallelism %d is negative", n.Parallelism)
		}
		if n.MaxParallelism < 0 || m > base.MaxParallelismLimit {
			bad(n, "max parallelism %d is not between 1 and %d", m, base.MaxParallelismLimit)
		}
		if p > m {
			bad(n, "parallelism %d is larger than max parallelism %d", p, m)
		}
		if n.Kind == Sink {
			sinks++
			if n.Commits && !o.Checkpointing {
				bad(n, "an exactly-once sink needs checkpoints: set execution.checkpointing.interval, or choose another delivery guarantee")
			}
		}
		for _, in := range n.Inputs {
			read[in.Node] = true
			from := g.Nodes[in.Node]
			if in.Partitioning == Forward && from.parallelism(o) != p {
				bad(n, "forward from %q needs the same parallelism, but %d feed %d", from.label(), from.parallelism(o), p)
			}
		}
	}
	for i, n := range g.Nodes {
		if !read[i] && n.Kind != Sink && sinks > 0 {
			bad(n, "its stream is not used: end it in a sink")
		}
	}
	if sinks == 0 {
		errs = append(errs, errors.New("the program has no sink: end a stream with To"))
	}
	if _, cycle := sorted(g); cycle != nil {
		var names []string
		for _, i := range cycle {
			names = append(names, fmt.Sprintf("%q", g.Nodes[i].label()))
		}
		errs = append(errs, fmt.Errorf("operators %s form a cycle", strings.Join(names, ", ")))
	}
	return errors.Join(errs...)
}
