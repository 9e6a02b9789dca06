package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// CheckResult is what a program would start from.
type CheckResult struct {
	// OK says that it can start.
	OK bool
	// Text says, per operator, what is kept, new, dropped and refused; for people.
	Text string
}

// Check compares a job's program with the state that it would start from. It changes nothing and needs no lock: the job may be running.
func Check(ctx context.Context, cfg MiniConfig, job Job) (CheckResult, error) {
	checked, err := config.New(cfg.Settings...)
	if err != nil {
		return CheckResult{}, err
	}
	if err := job.build(cfg.Settings, checked); err != nil {
		return CheckResult{}, err
	}
	at, err := cfg.open(checked)
	if err != nil {
		return CheckResult{}, err
	}
	records, err := at.ha.Peek(ctx)
	if err != nil {
		return CheckResult{}, err
	}
	var record *ha.Job
	for _, r := range records {
		if r.Name == job.Name {
			record = r
		}
	}
	var b strings.Builder
	path := job.FromSavepoint
	switch {
	case path != "":
	case record == nil || record.Checkpoint == nil && record.Savepoint == nil:
		fmt.Fprintf(&b, "job %q has no state yet: it starts empty\n", job.Name)
		return CheckResult{OK: true, Text: b.String()}, nil
	case record.State == execution.JobFinished.String() || record.State == execution.JobCanceled.String():
		fmt.Fprintf(&b, "job %q is %s: it is not run again without --fresh\n", job.Name, record.State)
		return CheckResult{Text: b.String()}, nil
	case record.Checkpoint != nil:
		path = jobmanager.Resolve(at.root, record.Checkpoint.Path)
	default:
		path = jobmanager.Resolve(at.root, record.Savepoint.Path)
	}
	s, err := at.Load(ctx, jobmanager.URI(path))
	if err == nil {
		err = at.Verify(ctx, s)
	}
	if err != nil {
		if !errors.Is(err, base.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			return CheckResult{}, err
		}
		fmt.Fprintf(&b, "job %q: %s cannot be restored: %v\n", job.Name, path, err)
		return CheckResult{Text: b.String()}, nil
	}
	fmt.Fprintf(&b, "job %q would start from checkpoint %d at %s\n", job.Name, s.ID, path)
	a, err := assign(&b, s.Metadata, job.Program, checkpoint.AssignOptions{Path: path, Base: s.Base, AllowNonRestored: job.AllowNonRestoredState})
	ok := err == nil
	if ok {
		refusals := openAll(ctx, job, a, at)
		ok = len(refusals) == 0
		for _, r := range refusals {
			fmt.Fprintf(&b, "  refused  %s\n", r)
		}
	}
	if ok {
		b.WriteString("it can start\n")
	} else {
		b.WriteString("it cannot start\n")
	}
	return CheckResult{OK: ok, Text: b.String()}, nil
}

// assign gives a program's operators what is stored of them, and writes what becomes of each.
func assign(b *strings.Builder, m *snapshotv1.Metadata, program task.Program, options checkpoint.AssignOptions) (*checkpoint.Assignment, error) {
	a, err := checkpoint.Assign(m, program.Graph(), options)
	for _, m := range a.Operators {
		name := m.UID
		if name == "" {
			name = m.ID.String()
		}
		fmt.Fprintf(b, "  %-8s %s (%s)", m.Fate, name, m.Name)
		for _, text := range states(m) {
			fmt.Fprintf(b, "\n             %s", text)
		}
		b.WriteByte('\n')
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(b, "  refused  %s\n", line)
		}
	}
	return a, err
}

// Check compares the program of a submission with the state of a job elsewhere, of which it is given the metadata file of a checkpoint or savepoint. It starts nothing.
func (h *Host) Check(s Submission, metadata []byte) (CheckResult, error) {
	m, err := checkpoint.Decode(metadata)
	if err != nil {
		return CheckResult{}, err
	}
	sub, err := h.build(s, "")
	if err != nil {
		return CheckResult{}, err
	}
	var b strings.Builder
	_, err = assign(&b, m, sub.Program, checkpoint.AssignOptions{Path: fmt.Sprintf("of job %q", sub.Name), AllowNonRestored: s.AllowNonRestoredState})
	return CheckResult{OK: err == nil, Text: b.String()}, nil
}

// states lists what is stored of an operator, by state.
func states(m checkpoint.Mapping) []string {
	type sum struct{ rows, bytes int64 }
	var names []string
	total := map[string]*sum{}
	add := func(name string, rows, bytes int64) {
		if total[name] == nil {
			total[name] = &sum{}
			names = append(names, name)
		}
		total[name].rows += rows
		total[name].bytes += bytes
	}
	for _, sub := range m.Stored.GetSubtasks() {
		for _, k := range sub.GetKeyed() {
			for _, st := range k.GetStates() {
				add(st.GetKind()+" state "+st.GetName(), st.GetRows(), st.GetBytes())
			}
		}
		for _, l := range sub.GetLists() {
			var n int64
			for _, e := range l.GetEntries() {
				n += int64(len(e))
			}
			add("list state "+l.GetName(), int64(len(l.GetEntries())), n)
		}
		if n := len(sub.GetCommittables()); n > 0 {
			add("prepared output", int64(n), 0)
		}
	}
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%s: %d rows, %d bytes", n, total[n].rows, total[n].bytes))
	}
	return out
}
