// Package rpc is what JobManager and TaskManagers have in common when they talk: how ids and errors travel, and how stale calls are refused.
//
// The services themselves are the generated interfaces of rivulet.rpc.v1; package grpcrpc puts them on a wire. Start with Fence and Failure.
// Its law: an error keeps its class on the way, as a field; and a call of an older epoch than the newest seen changes nothing.
package rpc

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
)

// ErrUnreachable is wrapped when a call did not reach a handler, or its answer was lost: it may be repeated.
var ErrUnreachable = errors.New("unreachable")

// Link is a registration as both ends know it: who leads, the number it gave the registration, and the version of the protocol that the two agreed upon.
type Link struct {
	Epoch        base.Epoch
	Registration int64
	Protocol     int32
}

// Header returns the header of a call under a registration; number is 0 for calls that are not numbered (see Once).
func (l Link) Header(job base.JobID, number int64) *rpcv1.Header {
	return &rpcv1.Header{JobId: job[:], Epoch: int64(l.Epoch), Protocol: l.Protocol, Registration: l.Registration, Sequence: number}
}

// Check refuses a call that was not made under this registration.
func (l Link) Check(h *rpcv1.Header) error {
	switch {
	case h.GetEpoch() != int64(l.Epoch):
		return fmt.Errorf("epoch %d, while %d leads here: %w", h.GetEpoch(), l.Epoch, base.ErrFenced)
	case h.GetRegistration() != l.Registration:
		return fmt.Errorf("registration %d, which is not %d: %w", h.GetRegistration(), l.Registration, base.ErrFenced)
	case h.GetProtocol() != l.Protocol:
		return base.Permanent(fmt.Errorf("a call in protocol version %d, while %d was agreed upon", h.GetProtocol(), l.Protocol))
	}
	return nil
}

// Job returns the job that a header names. A malformed id is an error of the caller's.
func Job(h *rpcv1.Header) (base.JobID, error) {
	if len(h.GetJobId()) != len(base.JobID{}) {
		return base.JobID{}, base.Permanent(fmt.Errorf("header: the job id has %d bytes, want %d", len(h.GetJobId()), len(base.JobID{})))
	}
	return base.JobID(h.GetJobId()), nil
}

// Operator reads an operator's id.
func Operator(b []byte) (base.OperatorID, error) {
	if len(b) != len(base.OperatorID{}) {
		return base.OperatorID{}, base.Permanent(fmt.Errorf("operator id: has %d bytes, want %d", len(b), len(base.OperatorID{})))
	}
	return base.OperatorID(b), nil
}

// Subtask returns the protobuf form of id; its job travels in the header.
func Subtask(id base.SubtaskID) *rpcv1.Subtask {
	return &rpcv1.Subtask{VertexId: id.Vertex[:], Index: int32(id.Index), Attempt: int32(id.Attempt)}
}

// SubtaskID reads what Subtask wrote.
func SubtaskID(job base.JobID, s *rpcv1.Subtask) (base.SubtaskID, error) {
	v, err := Operator(s.GetVertexId())
	if err != nil {
		return base.SubtaskID{}, fmt.Errorf("subtask: vertex: %w", err)
	}
	if s.GetIndex() < 0 || s.GetAttempt() < 0 {
		return base.SubtaskID{}, base.Permanent(fmt.Errorf("subtask: index %d, attempt %d: negative", s.GetIndex(), s.GetAttempt()))
	}
	return base.SubtaskID{Job: job, Vertex: v, Index: int(s.GetIndex()), Attempt: base.Attempt(s.GetAttempt())}, nil
}

// Stacker is an error that carries the stack of the panic it was made from.
type Stacker interface{ Stack() string }

// Failure describes err for the other end; nil for nil.
func Failure(err error, now time.Time) *rpcv1.Failure {
	if err == nil {
		return nil
	}
	f := &rpcv1.Failure{Class: int32(base.ClassOf(err)), Message: err.Error(), TimeMs: now.UnixMilli()}
	var s Stacker
	if errors.As(err, &s) {
		f.Stack = s.Stack()
	}
	return f
}

// remote is an error that happened at the other end.
type remote struct{ f *rpcv1.Failure }

func (r *remote) Error() string { return r.f.GetMessage() }

// Stack returns the stack of the panic at the other end, or nothing.
func (r *remote) Stack() string { return r.f.GetStack() }

// Is makes the sentinels of package base work across processes.
func (r *remote) Is(target error) bool {
	switch base.Class(r.f.GetClass()) {
	case base.ClassCorrupt:
		return target == base.ErrCorrupt
	case base.ClassFenced:
		return target == base.ErrFenced
	case base.ClassCanceled:
		return target == base.ErrCanceled
	}
	return false
}

// Error returns the error that Failure described, with its class; nil for nil.
func Error(f *rpcv1.Failure) error {
	if f == nil {
		return nil
	}
	return base.WithClass(&remote{f}, base.Class(f.GetClass()))
}

// Fence remembers the newest epoch seen and refuses older ones. The zero Fence has seen none. It is safe for concurrent use.
type Fence struct{ newest atomic.Int64 }

// Check returns an error that wraps base.ErrFenced when epoch is older than the newest seen.
func (f *Fence) Check(epoch int64) error {
	for {
		newest := f.newest.Load()
		if epoch < newest {
			return fmt.Errorf("epoch %d, while %d leads: %w", epoch, newest, base.ErrFenced)
		}
		if epoch == newest || f.newest.CompareAndSwap(newest, epoch) {
			return nil
		}
	}
}
