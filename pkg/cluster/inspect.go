package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
)

// Inspection is what a savepoint or checkpoint holds, for people and, as JSON, for programs.
type Inspection struct {
	Path       string    `json:"path"`
	Kind       string    `json:"kind"` // checkpoint, savepoint or stop-savepoint
	Checkpoint int64     `json:"checkpoint"`
	JobID      string    `json:"jobId"`
	JobName    string    `json:"jobName"`
	Writer     string    `json:"writer"` // the version of Rivulet that wrote it
	Triggered  time.Time `json:"triggered"`
	Completed  time.Time `json:"completed"`
	// Bytes are those of its files, with the metadata file.
	Bytes int64 `json:"bytes"`
	Files int   `json:"files"`
	// Verified says that all files were read and their checksums are right.
	Verified  bool                `json:"verified"`
	Operators []OperatorInspected `json:"operators"`
}

// OperatorInspected is an operator's part.
type OperatorInspected struct {
	UID            string `json:"uid,omitempty"` // empty when the id was made from the topology
	ID             string `json:"id"`
	Name           string `json:"name"`
	Parallelism    int    `json:"parallelism"`
	MaxParallelism int    `json:"maxParallelism"`
	// Finished is how many subtasks had ended.
	Finished int `json:"finishedSubtasks"`
	// Key is the schema of the keys; empty when it is not keyed.
	Key    string           `json:"key,omitempty"`
	States []StateInspected `json:"states"`
	// Splits are those of a source, with where they go on.
	Splits []Described `json:"splits,omitempty"`
	// Prepared are transactions that a restore commits.
	Prepared []Described `json:"prepared,omitempty"`
	// Sink says how a sink's transactions are found.
	Sink string `json:"sink,omitempty"`
	// Enumerator is how many bytes of a source's enumerator are stored.
	Enumerator int `json:"enumeratorBytes,omitempty"`
}

// StateInspected is one named state.
type StateInspected struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Schema string `json:"schema,omitempty"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
}

// Described is a connector's own entry: its bytes are told in words by a connector that is linked in.
type Described struct {
	ID    string `json:"id,omitempty"`
	Text  string `json:"text,omitempty"`
	Bytes int    `json:"bytes"`
}

// Inspect reads the savepoint or checkpoint in a directory (a path, or a file:// URI); verify reads its state too. The error wraps fs.ErrNotExist when there is none, and says what is damaged.
func Inspect(ctx context.Context, path string, verify bool) (*Inspection, error) {
	if !strings.Contains(path, "://") {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		path = "file://" + filepath.ToSlash(abs)
	}
	return inspect(ctx, storage.New(map[string]fs.FS{"file": fs.Local{}}, nil), path, verify)
}

func inspect(ctx context.Context, st *storage.Storage, path string, verify bool) (*Inspection, error) {
	s, err := st.Load(ctx, path)
	if err != nil {
		return nil, err
	}
	m := s.Metadata
	kind := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(m.GetKind().String(), "KIND_")), "_", "-")
	out := &Inspection{
		Path: s.Path, Kind: kind, Checkpoint: m.GetCheckpointId(), JobName: m.GetJobName(), Writer: m.GetWriter(), Bytes: s.Size, Files: 1,
		Triggered: time.UnixMilli(m.GetTriggerTimeMs()).UTC(), Completed: time.UnixMilli(m.GetCompleteTimeMs()).UTC(), Operators: []OperatorInspected{},
	}
	if len(m.GetJobId()) == len(base.JobID{}) {
		out.JobID = base.JobID(m.GetJobId()).String()
	}
	seen := map[string]bool{}
	for _, op := range m.GetOperators() {
		out.Operators = append(out.Operators, inspectOperator(op))
		for _, f := range filesOf(op) {
			if !seen[f.GetPath()] {
				seen[f.GetPath()] = true
				out.Files++
				out.Bytes += f.GetSize()
			}
		}
	}
	if verify {
		if err := st.Verify(ctx, s); err != nil {
			return nil, err
		}
		out.Verified = true
	}
	return out, nil
}

func filesOf(op *snapshotv1.Operator) (out []*snapshotv1.File) {
	for _, sub := range op.GetSubtasks() {
		for _, k := range sub.GetKeyed() {
			out = append(out, k.GetFiles()...)
		}
	}
	return out
}

func inspectOperator(op *snapshotv1.Operator) OperatorInspected {
	out := OperatorInspected{
		UID: op.GetUid(), Name: op.GetName(), Parallelism: int(op.GetParallelism()), MaxParallelism: int(op.GetMaxParallelism()),
		Key: schemaText(op.GetKeySchema()), States: []StateInspected{}, Enumerator: len(op.GetEnumerator()),
	}
	if len(op.GetId()) == len(base.OperatorID{}) {
		out.ID = base.OperatorID(op.GetId()).String()
	}
	if b := op.GetSink(); len(b) > 0 {
		if out.Sink = connector.Described(connector.Describer.Sink, b); out.Sink == "" {
			out.Sink = fmt.Sprintf("%d bytes of its connector", len(b))
		}
	}
	index := map[string]int{}
	add := func(s StateInspected) {
		key := s.Kind + " " + s.Name
		i, ok := index[key]
		if !ok {
			index[key] = len(out.States)
			out.States = append(out.States, s)
			return
		}
		out.States[i].Rows += s.Rows
		out.States[i].Bytes += s.Bytes
	}
	for _, sub := range op.GetSubtasks() {
		if sub.GetFinished() {
			out.Finished++
		}
		for _, k := range sub.GetKeyed() {
			for _, s := range k.GetStates() {
				add(StateInspected{s.GetName(), s.GetKind(), schemaText(s.GetSchema()), s.GetRows(), s.GetBytes()})
			}
		}
		for _, l := range sub.GetLists() {
			if l.GetName() == operator.SplitState {
				out.Splits = append(out.Splits, inspectSplits(l.GetEntries())...)
				continue
			}
			n := int64(0)
			for _, e := range l.GetEntries() {
				n += int64(len(e))
			}
			redistribution := strings.ToLower(strings.TrimPrefix(l.GetRedistribution().String(), "REDISTRIBUTION_"))
			add(StateInspected{Name: l.GetName(), Kind: "operator list, " + redistribution, Rows: int64(len(l.GetEntries())), Bytes: n})
		}
		for _, b := range sub.GetCommittables() {
			out.Prepared = append(out.Prepared, Described{Text: connector.Described(connector.Describer.Committable, b), Bytes: len(b)})
		}
	}
	return out
}

func inspectSplits(entries [][]byte) (out []Described) {
	for _, e := range entries {
		s, err := operator.DecodeSplit(e)
		if err != nil {
			out = append(out, Described{Text: err.Error(), Bytes: len(e)})
			continue
		}
		out = append(out, Described{ID: s.ID, Text: connector.Described(connector.Describer.Split, s.Data), Bytes: len(s.Data)})
	}
	return out
}

// schemaText is a stored schema in words.
func schemaText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	s, err := codec.DecodeSchema(b)
	if err != nil {
		return "unreadable: " + err.Error()
	}
	return s.String()
}
