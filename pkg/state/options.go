package state

import (
	"time"

	"github.com/rivulet-io/rivulet/pkg/codec"
)

// Runtime is what handles are made from: a function's runtime. Its methods are called on the task's goroutine.
type Runtime interface {
	// StateBackend returns the backend of the function's operator and subtask.
	StateBackend() Backend
	// FailState ends the task with err, after the call into the function during which it happened.
	FailState(err error)
}

// Update says what renews the life of a state with a time to live.
type Update uint8

// The kinds of Update.
const (
	OnCreateAndWrite Update = iota // each write
	OnReadAndWrite                 // each read too
)

// Visibility says whether a state that has outlived its time can be seen.
type Visibility uint8

// The kinds of Visibility.
const (
	NeverReturnExpired          Visibility = iota
	ReturnExpiredIfNotCleanedUp            // it is returned once more if it was not removed yet
)

// TTL limits how long a value, a list's element or a map's entry lives, in processing time. What has outlived it is removed when it is read, and in passing by
// the backend. Rows restored from a state that had no TTL live from the restore on.
type TTL struct {
	// Duration is how long after its last renewal a row lives, in whole milliseconds, rounded up. 0 is for ever.
	Duration   time.Duration
	Update     Update
	Visibility Visibility
}

// Option configures a state.
type Option interface{ apply(*options) }

type options struct {
	ttl   TTL
	value any // a codec
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithTTL limits how long a state lives.
func WithTTL(t TTL) Option { return optionFunc(func(o *options) { o.ttl = t }) }

// WithCodec has the state's values, elements, or accumulators encoded by c instead of codec.For.
func WithCodec[V any](c codec.Codec[V]) Option {
	return optionFunc(func(o *options) { o.value = c })
}
