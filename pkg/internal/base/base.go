// Package base is the vocabulary of the engine: the ids of jobs, vertices, attempts and checkpoints, key groups, and
// the classes of errors.
//
// Its law: distinct things have distinct types, so that a swapped argument does not compile.
package base

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// JobID identifies a job: 16 bytes, shown as 32 lower-case hex digits.
type JobID [16]byte

// OperatorID identifies an operator for ever: its state in a savepoint is found by it. It is made from the
// operator's uid, or from the shape of the graph when there is none (package graph).
type OperatorID [16]byte

// VertexID identifies a vertex of the job graph (a chain of operators): the id of its first operator.
type VertexID = OperatorID

// CheckpointID numbers the checkpoints and savepoints of a job, from 1.
type CheckpointID int64

// Attempt numbers the executions of one subtask, from 0.
type Attempt int32

// Epoch is a leader's fencing epoch: a call that carries a smaller one than the newest seen is refused.
type Epoch int64

// NewJobID returns a random job id.
func NewJobID() JobID {
	var id JobID
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
	return id
}

func (id JobID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the id is unset.
func (id JobID) IsZero() bool { return id == JobID{} }

func (id OperatorID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the id is unset.
func (id OperatorID) IsZero() bool { return id == OperatorID{} }

// ParseJobID reads 32 hex digits.
func ParseJobID(s string) (JobID, error) {
	b, err := parse16(s)
	if err != nil {
		return JobID{}, fmt.Errorf("job id %q: %w", s, err)
	}
	return JobID(b), nil
}

// ParseOperatorID reads 32 hex digits.
func ParseOperatorID(s string) (OperatorID, error) {
	b, err := parse16(s)
	if err != nil {
		return OperatorID{}, fmt.Errorf("operator id %q: %w", s, err)
	}
	return OperatorID(b), nil
}

func parse16(s string) (out [16]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return out, err
	}
	if len(b) != len(out) {
		return out, fmt.Errorf("has %d hex digits, want %d", len(s), 2*len(out))
	}
	copy(out[:], b)
	return out, nil
}

// SubtaskID names one attempt of one subtask of a vertex.
type SubtaskID struct {
	Job     JobID
	Vertex  VertexID
	Index   int
	Attempt Attempt
}

func (id SubtaskID) String() string {
	return fmt.Sprintf("%s/%s/%d#%d", id.Job, id.Vertex, id.Index, id.Attempt)
}
