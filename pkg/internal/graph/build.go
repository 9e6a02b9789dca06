package graph

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
)

// chain is a vertex in the making.
type chain struct {
	nodes []int
	from  []Input // by position: what feeds it inside the chain
}

// Build returns the job graph, or everything that is wrong with the stream graph, joined.
func Build(g *Graph, o Options) (*planv1.JobGraph, error) {
	if err := validate(g, o); err != nil {
		return nil, fmt.Errorf("job %q: %w", g.Name, err)
	}
	order, _ := sorted(g)
	id := ids(g, order)
	byID := map[base.OperatorID]int{}
	for i, x := range id {
		if j, ok := byID[x]; ok {
			return nil, fmt.Errorf("job %q: operators %q and %q have the same id %s", g.Name, g.Nodes[j].label(), g.Nodes[i].label(), x)
		}
		byID[x] = i
	}
	var chains []*chain
	groups := slotGroups(g, order)
	at := make([]*chain, len(g.Nodes))
	position := make([]int, len(g.Nodes))
	for _, i := range order {
		n := g.Nodes[i]
		if chainable(g, i, o, groups) {
			c := at[n.Inputs[0].Node]
			at[i], position[i] = c, len(c.nodes)
			c.nodes, c.from = append(c.nodes, i), append(c.from, n.Inputs[0])
			continue
		}
		c := &chain{nodes: []int{i}, from: []Input{{Node: -1}}}
		at[i] = c
		chains = append(chains, c)
	}
	out := &planv1.JobGraph{Name: g.Name, Config: maps.Clone(g.Config), Fingerprint: fingerprint(g, id)}
	for _, c := range chains {
		head := g.Nodes[c.nodes[0]]
		m, set := head.maxParallelism(o)
		v := &planv1.Vertex{
			Id: id[c.nodes[0]][:], Name: chainName(g, c, c.nodes[0]), Parallelism: int32(head.parallelism(o)),
			MaxParallelism: int32(m), MaxParallelismSet: set, SlotSharingGroup: groups[c.nodes[0]],
		}
		for pos, i := range c.nodes {
			n := g.Nodes[i]
			op := &planv1.Operator{
				Id: id[i][:], Uid: n.UID, Name: n.Name, Kind: planv1.Kind(n.Kind), Node: int32(i), Stateless: n.Stateless,
				OutputType: n.OutputType, Bounded: n.Bounded, Keyed: n.Keyed, ChainedTo: -1,
			}
			if pos > 0 {
				op.ChainedTo, op.ChainedSideOutput = int32(position[c.from[pos].Node]), c.from[pos].Side
			}
			v.Operators = append(v.Operators, op)
		}
		out.Vertices = append(out.Vertices, v)
	}
	for _, c := range chains {
		i := c.nodes[0]
		n := g.Nodes[i]
		for _, in := range n.Inputs {
			out.Edges = append(out.Edges, &planv1.Edge{
				SourceVertex: id[at[in.Node].nodes[0]][:], TargetVertex: id[i][:], SourceNode: int32(in.Node), TargetNode: int32(i),
				TargetInput: int32(in.Index), Partitioning: planv1.Partitioning(resolve(g, n, in, o)), SideOutput: in.Side,
			})
		}
	}
	return out, nil
}

// slotGroups returns the slot sharing group of each node: its own, else that of its inputs when all are of one, else "default".
func slotGroups(g *Graph, order []int) []string {
	groups := make([]string, len(g.Nodes))
	for _, i := range order {
		n := g.Nodes[i]
		groups[i] = n.SlotSharingGroup
		for _, in := range n.Inputs {
			if from := groups[in.Node]; n.SlotSharingGroup == "" && (groups[i] == "" || groups[i] == from) {
				groups[i] = from
			} else if n.SlotSharingGroup == "" {
				groups[i] = "default"
				break
			}
		}
		if groups[i] == "" {
			groups[i] = "default"
		}
	}
	return groups
}

// resolve decides what Auto is.
func resolve(g *Graph, n *Node, in Input, o Options) Partitioning {
	switch {
	case in.Partitioning != Auto:
		return in.Partitioning
	case g.Nodes[in.Node].parallelism(o) == n.parallelism(o):
		return Forward
	}
	return Rebalance
}

// chainable reports whether a node runs in the task of the one that feeds it.
func chainable(g *Graph, i int, o Options, groups []string) bool {
	n := g.Nodes[i]
	if o.NoChaining || len(n.Inputs) != 1 || n.DisableChaining || n.StartNewChain || resolve(g, n, n.Inputs[0], o) != Forward {
		return false
	}
	from := g.Nodes[n.Inputs[0].Node]
	m1, _ := from.maxParallelism(o)
	m2, _ := n.maxParallelism(o)
	return !from.DisableChaining && from.parallelism(o) == n.parallelism(o) && m1 == m2 && groups[n.Inputs[0].Node] == groups[i]
}

// chainName is "Source: clicks -> Filter -> (Map, Sink: out)".
func chainName(g *Graph, c *chain, node int) string {
	var next []string
	for pos, i := range c.nodes {
		if c.from[pos].Node == node && pos > 0 {
			next = append(next, chainName(g, c, i))
		}
	}
	switch len(next) {
	case 0:
		return g.Nodes[node].Name
	case 1:
		return g.Nodes[node].Name + " -> " + next[0]
	}
	return g.Nodes[node].Name + " -> (" + strings.Join(next, ", ") + ")"
}

// fingerprint is the SHA-256 of all operators, their inputs and their types, without parallelism, which may change without the program.
func fingerprint(g *Graph, id []base.OperatorID) string {
	var b []byte
	for i, n := range g.Nodes {
		b = fmt.Appendf(b, "%d %s %q %q %q %q %q keyed=%t\n", i, id[i], n.Kind, n.Operator, n.Name, n.UID, n.OutputType, n.Keyed)
		for _, in := range n.Inputs {
			b = fmt.Appendf(b, "  in %d %d %q %s\n", in.Index, in.Node, in.Side, in.Partitioning)
		}
		for _, side := range slices.Sorted(maps.Keys(n.Sides)) {
			b = fmt.Appendf(b, "  side %q %q\n", side, n.Sides[side])
		}
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Explain describes a job graph for people: a line for each vertex, operator and edge.
func Explain(j *planv1.JobGraph) string {
	var b strings.Builder
	names := map[string]string{}
	for _, v := range j.GetVertices() {
		names[string(v.GetId())] = v.GetName()
	}
	for _, v := range j.GetVertices() {
		set := ""
		if v.GetMaxParallelismSet() {
			set = " (set)"
		}
		fmt.Fprintf(&b, "%s  parallelism=%d max=%d%s slots=%s\n", v.GetName(), v.GetParallelism(), v.GetMaxParallelism(), set, v.GetSlotSharingGroup())
		for _, op := range v.GetOperators() {
			fmt.Fprintf(&b, "  %s %s", base.OperatorID(op.GetId()), op.GetName())
			if op.GetUid() != "" {
				fmt.Fprintf(&b, " uid=%s", op.GetUid())
			}
			if op.GetChainedTo() >= 0 {
				fmt.Fprintf(&b, " after=%d", op.GetChainedTo())
			}
			if op.GetChainedSideOutput() != "" {
				fmt.Fprintf(&b, " side=%s", op.GetChainedSideOutput())
			}
			if op.GetOutputType() != "" {
				fmt.Fprintf(&b, " : %s", op.GetOutputType())
			}
			b.WriteByte('\n')
		}
		for _, e := range j.GetEdges() {
			if string(e.GetTargetVertex()) == string(v.GetId()) {
				fmt.Fprintf(&b, "  <- %s %s", strings.TrimPrefix(e.GetPartitioning().String(), "PARTITIONING_"), names[string(e.GetSourceVertex())])
				if e.GetSideOutput() != "" {
					fmt.Fprintf(&b, " side=%s", e.GetSideOutput())
				}
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}
