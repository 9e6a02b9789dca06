package checkpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
	planv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/plan/v1"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// AssignOptions say how a snapshot is mapped to a program.
type AssignOptions struct {
	// Path is the snapshot's, for messages; Base is what its file paths are relative to. Both are URIs.
	Path, Base string
	// AllowNonRestored drops the state of operators that the program does not have (--allow-non-restored-state).
	AllowNonRestored bool
}

// Assignment is what every subtask of a program gets of a snapshot.
type Assignment struct {
	Tasks map[Subtask]*rpcv1.Restore
	// MaxParallelism is what each vertex must run with: a restored value overrules a derived one.
	MaxParallelism map[base.VertexID]int
	// Enumerators are the states of the sources' enumerators.
	Enumerators map[base.OperatorID][]byte
	// Operators are all of the program and of the snapshot: kept and new ones in the program's order, then dropped ones.
	Operators []Mapping
}

// Mapping is what becomes of one operator.
type Mapping struct {
	ID        base.OperatorID
	UID, Name string
	Fate      Fate
	// Stored is what the snapshot holds; nil for new operators.
	Stored *snapshotv1.Operator
}

// Fate is what becomes of an operator.
type Fate int

const (
	// Kept operators are in the program and in the snapshot.
	Kept Fate = iota
	// Fresh operators are in the program only, and start empty.
	Fresh
	// Dropped operators are in the snapshot only, and hold state that is lost.
	Dropped
	// Gone operators are in the snapshot only, and hold no state.
	Gone
)

func (f Fate) String() string { return [...]string{"kept", "new", "dropped", "gone"}[f] }

// Assign maps a snapshot to a program of any parallelism. Operators find their state by id. The error is permanent: state without an operator (unless allowed),
// or a maximum parallelism that does not fit. The Assignment is complete but for Tasks even then, so that all that is wrong can be shown.
func Assign(m *snapshotv1.Metadata, graph *planv1.JobGraph, opts AssignOptions) (*Assignment, error) {
	a := &Assignment{Tasks: map[Subtask]*rpcv1.Restore{}, MaxParallelism: map[base.VertexID]int{}, Enumerators: map[base.OperatorID][]byte{}}
	stored := map[base.OperatorID]*snapshotv1.Operator{}
	for _, o := range m.GetOperators() {
		stored[base.OperatorID(o.GetId())] = o
	}
	var problems []string
	for _, v := range graph.GetVertices() {
		maxP, err := restoredMax(v, stored)
		if err != "" {
			problems = append(problems, err)
		}
		a.MaxParallelism[base.VertexID(v.GetId())] = maxP
		for _, op := range v.GetOperators() {
			id := base.OperatorID(op.GetId())
			o := stored[id]
			delete(stored, id)
			if o == nil {
				a.Operators = append(a.Operators, Mapping{ID: id, UID: op.GetUid(), Name: op.GetName(), Fate: Fresh})
				continue
			}
			a.Operators = append(a.Operators, Mapping{ID: id, UID: op.GetUid(), Name: op.GetName(), Fate: Kept, Stored: o})
			if len(o.GetEnumerator()) > 0 {
				a.Enumerators[id] = o.GetEnumerator()
			}
		}
	}
	var lost []Mapping
	for _, o := range m.GetOperators() { // in their order
		id := base.OperatorID(o.GetId())
		if stored[id] == nil {
			continue
		}
		x := Mapping{ID: id, UID: o.GetUid(), Name: o.GetName(), Fate: Gone, Stored: o}
		if holdsState(o) {
			x.Fate = Dropped
			lost = append(lost, x)
		}
		a.Operators = append(a.Operators, x)
	}
	if len(lost) > 0 && !opts.AllowNonRestored {
		problems = append(problems, nonRestored(opts.Path, lost))
	}
	if len(problems) > 0 {
		return a, base.Permanent(fmt.Errorf("%s", strings.Join(problems, "\n")))
	}
	deals := map[base.OperatorID]*deal{}
	for _, x := range a.Operators {
		if x.Fate == Kept {
			deals[x.ID] = newDeal(x.Stored)
		}
	}
	for _, v := range graph.GetVertices() {
		vid := base.VertexID(v.GetId())
		for i := range int(v.GetParallelism()) {
			r := &rpcv1.Restore{CheckpointId: m.GetCheckpointId(), BaseDir: opts.Base}
			for _, op := range v.GetOperators() {
				if d := deals[base.OperatorID(op.GetId())]; d != nil {
					r.Operators = append(r.Operators, d.restore(i, int(v.GetParallelism()), a.MaxParallelism[vid]))
				}
			}
			a.Tasks[Subtask{vid, i}] = r
		}
	}
	return a, nil
}

// restoredMax returns the maximum parallelism that a vertex runs with, and what is wrong with it.
func restoredMax(v *planv1.Vertex, stored map[base.OperatorID]*snapshotv1.Operator) (maxP int, problem string) {
	maxP = int(v.GetMaxParallelism())
	var from *snapshotv1.Operator
	for _, op := range v.GetOperators() {
		o := stored[base.OperatorID(op.GetId())]
		if o == nil || !keyed(o) && from != nil {
			continue
		}
		if from != nil && keyed(from) && from.GetMaxParallelism() != o.GetMaxParallelism() {
			return maxP, fmt.Sprintf("vertex %q: its operators %q and %q were stored with different maximum parallelisms (%d and %d): keep them in chains of their own",
				v.GetName(), from.GetName(), o.GetName(), from.GetMaxParallelism(), o.GetMaxParallelism())
		}
		from = o
	}
	switch {
	case from == nil:
		return maxP, ""
	case v.GetMaxParallelismSet() && int(from.GetMaxParallelism()) != maxP && keyed(from):
		return maxP, fmt.Sprintf("The maximum parallelism (%d) with which the latest checkpoint of the execution job vertex %q has been taken and the current maximum parallelism (%d) changed. This is currently not supported.",
			from.GetMaxParallelism(), v.GetName(), maxP)
	case v.GetMaxParallelismSet():
		return maxP, ""
	case v.GetParallelism() > from.GetMaxParallelism() && !keyed(from):
		return maxP, ""
	case v.GetParallelism() > from.GetMaxParallelism():
		return maxP, fmt.Sprintf("vertex %q: its parallelism (%d) is larger than the maximum parallelism (%d) that its state was stored with", v.GetName(), v.GetParallelism(), from.GetMaxParallelism())
	}
	return int(from.GetMaxParallelism()), ""
}

func keyed(o *snapshotv1.Operator) bool {
	return slices.ContainsFunc(o.GetSubtasks(), func(s *snapshotv1.Subtask) bool { return len(s.GetKeyed()) > 0 })
}

// holdsState reports whether something is lost when the operator is left out.
func holdsState(o *snapshotv1.Operator) bool {
	if len(o.GetEnumerator()) > 0 {
		return true
	}
	for _, s := range o.GetSubtasks() {
		if len(s.GetCommittables()) > 0 {
			return true
		}
		for _, k := range s.GetKeyed() {
			if len(k.GetFiles()) > 0 {
				return true
			}
		}
		for _, l := range s.GetLists() {
			if len(l.GetEntries()) > 0 {
				return true
			}
		}
	}
	return false
}

// nonRestored is Flink's message, and the names of all that it is about.
func nonRestored(path string, lost []Mapping) string {
	var names []string
	for _, x := range lost {
		names = append(names, fmt.Sprintf("%s (uid %q, name %q)", x.ID, x.UID, x.Name))
	}
	return fmt.Sprintf("Failed to rollback to checkpoint/savepoint %s. Cannot map checkpoint/savepoint state for operator %s to the new program, because the operator is not available in the new program. "+
		"If you want to allow to skip this, you can set the --allowNonRestoredState option on the CLI. State without operator: %s.", path, lost[0].ID, strings.Join(names, ", "))
}

// deal is an operator's state, laid out so that each of its new subtasks finds its part without looking at all.
type deal struct {
	*snapshotv1.Operator
	finished bool
	// keyed is all of it by first key group; last holds, for each, the largest last key group up to it.
	keyed []dealt
	last  []int32
	lists []*list // by name
}

type dealt struct {
	*snapshotv1.KeyedState
	at, subtask int // in the order of the old subtasks
}

// list is a list state of all old subtasks.
type list struct {
	name           string
	redistribution snapshotv1.Redistribution
	old            [][][]byte // of those that have it
	byIndex        map[int][][]byte
	all            [][]byte
}

func newDeal(o *snapshotv1.Operator) *deal {
	d := &deal{Operator: o, finished: len(o.GetSubtasks()) == int(o.GetParallelism())}
	lists := map[string]*list{}
	for _, s := range slices.SortedFunc(slices.Values(o.GetSubtasks()), func(a, b *snapshotv1.Subtask) int { return cmp.Compare(a.GetIndex(), b.GetIndex()) }) {
		d.finished = d.finished && s.GetFinished()
		for _, k := range s.GetKeyed() {
			d.keyed = append(d.keyed, dealt{k, len(d.keyed), int(s.GetIndex())})
		}
		for _, ls := range s.GetLists() {
			l := lists[ls.GetName()]
			if l == nil {
				l = &list{name: ls.GetName(), redistribution: ls.GetRedistribution(), byIndex: map[int][][]byte{}}
				lists[l.name] = l
				d.lists = append(d.lists, l)
			}
			l.old = append(l.old, ls.GetEntries())
			l.byIndex[int(s.GetIndex())] = ls.GetEntries()
			l.all = append(l.all, ls.GetEntries()...)
		}
	}
	slices.SortFunc(d.lists, func(a, b *list) int { return cmp.Compare(a.name, b.name) })
	slices.SortStableFunc(d.keyed, func(a, b dealt) int { return cmp.Compare(a.GetFirstKeyGroup(), b.GetFirstKeyGroup()) })
	last := int32(-1)
	for _, k := range d.keyed {
		last = max(last, k.GetLastKeyGroup())
		d.last = append(d.last, last)
	}
	return d
}

// restore is what subtask i of p gets. What several get they share: nobody changes it.
func (d *deal) restore(i, p, maxP int) *rpcv1.OperatorRestore {
	r := &rpcv1.OperatorRestore{OperatorId: d.GetId(), KeySchema: d.GetKeySchema(), Finished: d.finished}
	mine := base.RangeOf(i, p, maxP)
	var keyed []dealt
	from, _ := slices.BinarySearch(d.last, int32(mine.Start))
	for _, k := range d.keyed[from:] {
		if int(k.GetFirstKeyGroup()) > mine.End {
			break
		}
		if int(k.GetLastKeyGroup()) >= mine.Start && (k.subtask == i || !mutant.Is(mutant.WrongKeyGroups)) {
			keyed = append(keyed, k)
		}
	}
	slices.SortFunc(keyed, func(a, b dealt) int { return cmp.Compare(a.at, b.at) })
	for _, k := range keyed {
		r.Keyed = append(r.Keyed, k.KeyedState)
	}
	for _, l := range d.lists {
		r.Lists = append(r.Lists, &snapshotv1.ListState{Name: l.name, Redistribution: l.redistribution, Entries: l.share(i, p, int(d.GetParallelism()))})
	}
	return r
}

// share is what subtask i of p gets of a list state of oldP.
func (l *list) share(i, p, oldP int) [][]byte {
	switch {
	case l.redistribution == snapshotv1.Redistribution_REDISTRIBUTION_BROADCAST:
		if own, ok := l.byIndex[i]; ok {
			return own
		}
		return l.old[i%len(l.old)]
	case l.redistribution == snapshotv1.Redistribution_REDISTRIBUTION_UNION, mutant.Is(mutant.DoubleSplit) && i == 0:
		return l.all
	case p == oldP && !mutant.Is(mutant.DoubleSplit):
		return l.byIndex[i]
	}
	// Evenly: the first ones get one more.
	n := len(l.all)
	return l.all[i*(n/p)+min(i, n%p) : (i+1)*(n/p)+min(i+1, n%p)]
}
