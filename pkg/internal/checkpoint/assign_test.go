package checkpoint

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// stored is a snapshot of one operator at a parallelism: keyed state of all its key groups, and lists of each redistribution with two entries a subtask.
func stored(id byte, p, maxP int) *snapshotv1.Metadata {
	o := &snapshotv1.Operator{Id: idOf(id), Uid: fmt.Sprint("uid-", id), Name: fmt.Sprint("op-", id), Parallelism: int32(p), MaxParallelism: int32(maxP)}
	for i := range p {
		r := base.RangeOf(i, p, maxP)
		s := &snapshotv1.Subtask{Index: int32(i), Keyed: []*snapshotv1.KeyedState{{
			FirstKeyGroup: int32(r.Start), LastKeyGroup: int32(r.End), Files: []*snapshotv1.File{{Path: fmt.Sprint("f", i)}},
		}}}
		for name, how := range map[string]snapshotv1.Redistribution{
			"split": snapshotv1.Redistribution_REDISTRIBUTION_SPLIT, "union": snapshotv1.Redistribution_REDISTRIBUTION_UNION, "broadcast": snapshotv1.Redistribution_REDISTRIBUTION_BROADCAST,
		} {
			l := &snapshotv1.ListState{Name: name, Redistribution: how}
			for k := range 2 {
				l.Entries = append(l.Entries, fmt.Appendf(nil, "%d.%d", i, k))
			}
			s.Lists = append(s.Lists, l)
		}
		o.Subtasks = append(o.Subtasks, s)
	}
	return &snapshotv1.Metadata{CheckpointId: 5, Operators: []*snapshotv1.Operator{o}}
}

func idOf(b byte) []byte { x := [16]byte{b}; return x[:] }

func program(id byte, p, maxP int, set bool) *planv1.JobGraph {
	return &planv1.JobGraph{Vertices: []*planv1.Vertex{{
		Id: idOf(id), Name: "v", Parallelism: int32(p), MaxParallelism: int32(maxP), MaxParallelismSet: set, Operators: []*planv1.Operator{{Id: idOf(id), Uid: fmt.Sprint("uid-", id), Name: fmt.Sprint("op-", id)}},
	}}}
}

// TestAssign deals state out from each parallelism to each other: split entries go to one subtask each and evenly, union ones to all, broadcast ones as one subtask wrote them; and each key
// group goes to its one owner.
func TestAssign(t *testing.T) {
	for _, from := range []int{1, 2, 3, 5, 8} {
		for _, to := range []int{1, 2, 3, 5, 8} {
			m := stored(1, from, 128)
			a, err := Assign(m, program(1, to, 128, false), AssignOptions{Path: "mem:///x", Base: "mem:///x"})
			if err != nil {
				t.Fatal(err)
			}
			var split []string
			for i := range to {
				r := a.Tasks[Subtask{base.VertexID(idOf(1)), i}]
				if r.GetCheckpointId() != 5 || r.GetBaseDir() != "mem:///x" || len(r.GetOperators()) != 1 {
					t.Fatalf("%v", r)
				}
				o := r.GetOperators()[0]
				mine := base.RangeOf(i, to, 128)
				for g := mine.Start; g <= mine.End; g++ {
					n := 0
					for _, k := range o.GetKeyed() {
						if int(k.GetFirstKeyGroup()) <= g && g <= int(k.GetLastKeyGroup()) {
							n++
						}
					}
					if n != 1 {
						t.Errorf("%d to %d: key group %d comes from %d files for its owner", from, to, g, n)
					}
				}
				for _, k := range o.GetKeyed() {
					if int(k.GetLastKeyGroup()) < mine.Start || int(k.GetFirstKeyGroup()) > mine.End {
						t.Errorf("%d to %d: subtask %d gets key groups that are not its own", from, to, i)
					}
				}
				for _, l := range o.GetLists() {
					var e []string
					for _, b := range l.GetEntries() {
						e = append(e, string(b))
					}
					switch l.GetName() {
					case "split":
						split = append(split, e...)
						if n := len(e); n < 2*from/to || n > (2*from+to-1)/to {
							t.Errorf("%d to %d: subtask %d gets %d of %d entries", from, to, i, n, 2*from)
						}
					case "union":
						if len(e) != 2*from {
							t.Errorf("%d to %d: subtask %d gets %d of %d union entries", from, to, i, len(e), 2*from)
						}
					case "broadcast":
						want := i % from
						if !slices.Equal(e, []string{fmt.Sprint(want, ".0"), fmt.Sprint(want, ".1")}) {
							t.Errorf("%d to %d: subtask %d gets the broadcast entries %v", from, to, i, e)
						}
					}
				}
			}
			slices.Sort(split)
			if len(split) != 2*from || len(slices.Compact(split)) != 2*from {
				t.Errorf("%d to %d: split entries %v", from, to, split)
			}
		}
	}
}

// TestAssignRefuses says what cannot be restored, and that everything that is wrong is said.
func TestAssignRefuses(t *testing.T) {
	for _, c := range []struct {
		what  string
		graph *planv1.JobGraph
		opts  AssignOptions
		err   string
		maxP  int
	}{
		{"a derived maximum adopts the stored one", program(1, 2, 256, false), AssignOptions{}, "", 128},
		{"a set one is as stored", program(1, 2, 128, true), AssignOptions{}, "", 128},
		{"a set one differs", program(1, 2, 256, true), AssignOptions{}, "and the current maximum parallelism (256) changed. This is currently not supported.", 0},
		{"more subtasks than key groups", program(1, 200, 256, false), AssignOptions{}, "its parallelism (200) is larger than the maximum parallelism (128)", 0},
		{"no operator", program(2, 2, 128, false), AssignOptions{Path: "mem:///p"}, `Failed to rollback to checkpoint/savepoint mem:///p. Cannot map checkpoint/savepoint state for operator 01000000000000000000000000000000`, 0},
		{"no operator, allowed", program(2, 2, 128, false), AssignOptions{AllowNonRestored: true}, "", 128},
	} {
		a, err := Assign(stored(1, 3, 128), c.graph, c.opts)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || base.ClassOf(err) != base.ClassPermanent {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if err != nil || a.MaxParallelism[base.VertexID(c.graph.GetVertices()[0].GetId())] != c.maxP {
			t.Errorf("%s: %v, %v", c.what, a.MaxParallelism, err)
		}
	}
	// State that is empty is no state: its operator may go.
	m := stored(1, 1, 128)
	m.Operators[0].Subtasks[0].Keyed[0].Files, m.Operators[0].Subtasks[0].Lists = nil, nil
	a, err := Assign(m, program(2, 1, 128, false), AssignOptions{})
	if err != nil || len(a.Operators) != 2 || a.Operators[0].Fate != Fresh || a.Operators[1].Fate != Gone {
		t.Errorf("%v, %v", a.Operators, err)
	}
}
