package graph_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/internal/graph"
)

// parse reads a program: a line for each operator, "name kind [operation] [in=producer[.side][:PARTITIONING][/input] ...] [uid=] [p=] [max=] [slots=] [flag ...]".
func parse(text string) (*graph.Graph, error) {
	g := &graph.Graph{Name: "test", Config: map[string]string{}}
	at := map[string]int{}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		at[strings.Fields(line)[0]] = i
	}
	for _, line := range lines {
		f := strings.Fields(line)
		n := &graph.Node{Name: f[0], Operator: f[0], Kind: map[string]graph.Kind{"source": graph.Source, "op": graph.Transform, "sink": graph.Sink}[f[1]]}
		if n.Kind != graph.Sink {
			n.OutputType = "string"
		}
		for _, a := range f[2:] {
			key, value, _ := strings.Cut(a, "=")
			number, _ := strconv.Atoi(value)
			switch key {
			case "in":
				in := graph.Input{}
				if rest, index, ok := strings.Cut(value, "/"); ok {
					in.Index, _ = strconv.Atoi(index)
					value = rest
				}
				if rest, p, ok := strings.Cut(value, ":"); ok {
					value = rest
					for q := graph.Auto; q <= graph.Broadcast; q++ {
						if q.String() == p {
							in.Partitioning = q
						}
					}
				}
				value, in.Side, _ = strings.Cut(value, ".")
				from, ok := at[value]
				if !ok {
					return nil, fmt.Errorf("no operator %q", value)
				}
				in.Node = from
				n.Inputs = append(n.Inputs, in)
			case "does":
				n.Operator = value
			case "uid":
				n.UID = value
			case "p":
				n.Parallelism = number
			case "max":
				n.MaxParallelism = number
			case "slots":
				n.SlotSharingGroup = value
			case "commits":
				n.Commits = true
			case "keyed":
				n.Keyed = true
			case "new-chain":
				n.StartNewChain = true
			case "no-chain":
				n.DisableChaining = true
			case "problem":
				n.Problems = append(n.Problems, fmt.Errorf("%s", value))
			default:
				return nil, fmt.Errorf("unknown %q", a)
			}
		}
		g.Nodes = append(g.Nodes, n)
	}
	return g, nil
}

// TestBuild holds the rules of chaining, and the ids of operators for ever: state in savepoints is found by them.
func TestBuild(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			o := graph.Options{NoChaining: d.HasArg("no-chaining"), NoAutoUIDs: d.HasArg("no-auto-uids"), Checkpointing: d.HasArg("checkpoints")}
			if d.HasArg("p") {
				d.ScanArgs(t, "p", &o.Parallelism)
			}
			if d.HasArg("max") {
				d.ScanArgs(t, "max", &o.MaxParallelism)
			}
			g, err := parse(d.Input)
			if err != nil {
				return err.Error()
			}
			j, err := graph.Build(g, o)
			if err != nil {
				return err.Error()
			}
			if d.Cmd == "fingerprint" {
				return j.GetFingerprint()
			}
			return graph.Explain(j)
		})
	})
}

// TestIDOf holds ids of uids for ever. They were computed by another implementation of MurmurHash3; that of "hello" is in Guava's documentation.
func TestIDOf(t *testing.T) {
	for uid, want := range map[string]string{
		"": "00000000000000000000000000000000", "hello": "029bbd41b3a7d8cb191dae486a901e5b", "clicks": "77a0f10083e1c8fb475a05f15f6a1a61",
		"my-operator-uid-of-length-28": "d2de030d22158b5202aa3708e0f44e4b", "0123456789abcdef": "a7d14acf946de04bda08a7635c5bc387", "ümlaut": "d5303d3b4fb6f678d2eff6da05a37b89",
	} {
		if got := graph.IDOf(uid).String(); got != want {
			t.Errorf("%q: %s, want %s", uid, got, want)
		}
	}
}
