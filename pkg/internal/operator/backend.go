package operator

import (
	"context"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/state"
)

// Backend is what a keyed operator asks of a state backend: the handles' tables, the key they stand on, and timers. It is used on the task's goroutine only.
type Backend interface {
	state.Backend
	// SetKey sets the current key by its encoding and hash; the backend copies what it keeps.
	SetKey(key []byte, h base.Hash)
	// SetNamespace sets the current namespace: a window, or nothing.
	SetNamespace(ns []byte)
	// Key and Namespace are the current ones, valid until they are set again.
	Key() []byte
	Namespace() []byte
	// Timers returns the queue of that name, restored.
	Timers(name string) Timers
	// Snapshot takes a view of all state; the returned function writes it on another goroutine.
	Snapshot(full bool) func(ctx context.Context, store task.SnapshotStore) (*snapshotv1.KeyedState, error)
	Close() error
}

// Timers is a queue of timers, each of a key, a namespace and a time, and each once.
type Timers interface {
	// Register and Delete are about the current key and namespace.
	Register(at event.Time)
	Delete(at event.Time)
	// Next is the earliest time.
	Next() (at event.Time, ok bool)
	// Pop removes the earliest timer if it is due at upTo, and makes its key and namespace the current ones.
	Pop(upTo event.Time) (at event.Time, ok bool)
}

// BackendConfig is what a backend is opened with.
type BackendConfig struct {
	Ctx       *task.Context
	Range     base.KeyGroupRange
	KeySchema []byte
}

// OpenBackend opens the backend of keyed operators.
var OpenBackend func(BackendConfig) (Backend, error)
