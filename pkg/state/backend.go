// Package state gives functions the keyed state they declare: Value, List, Map, Reducing and Aggregating.
//
// Its law: a handle reads and writes the state of the current key only, the engine sets the key, and nothing that Get returned
// aliases what is stored.
package state

import (
	"time"

	"github.com/rivulet-io/rivulet/pkg/codec"
)

// Kind is the shape of a state.
type Kind string

// The kinds of keyed state. Reducing and Aggregating states are stored as values.
const (
	KindValue       Kind = "value"
	KindList        Kind = "list"
	KindMap         Kind = "map"
	KindReducing    Kind = "reducing"
	KindAggregating Kind = "aggregating"
)

// Descriptor declares one state to a backend.
type Descriptor struct {
	// Name is unique within the operator.
	Name string
	Kind Kind
	// Value describes a row, of a state with TTL as codec.Schema.Timed says; MapKey a map's keys (nil otherwise).
	Value, MapKey *codec.Schema
	// RowBytes is the encoded size of a row when it is fixed, else 0.
	RowBytes int
	// TTL is how long a row lives; 0 is for ever. Rows of a state with TTL carry their time: 8 bytes, little-endian milliseconds, before the value.
	TTL time.Duration
}

// Backend keeps the keyed state of one operator's subtask. Engine packages implement it; nothing else needs to. It is used on the task's goroutine only.
type Backend interface {
	// Open returns the table of a state, with what was restored for it. Opening a name twice, or with a kind that differs from the restored one, is an error.
	// The table hands out rows as they were written: restored rows may be in an older schema, which Table.Schema tells.
	Open(d Descriptor) (Table, error)
	// Now is the processing time in milliseconds, for TTL.
	Now() int64
}

// Table keeps the rows of one state. A row is found by the current key, the current namespace (a window, or nothing) and sub: the encoded
// map key, or empty for a value. The current key and namespace are set by the engine. Bytes that are returned are valid until the next call on the backend.
type Table interface {
	// Get returns the row, which may be empty, or nil if there is none; schema is the number of the schema it was written under (see Schema), 0 for the present one.
	Get(sub []byte) (row []byte, schema int)
	// Put writes the row under the present schema.
	Put(sub, row []byte)
	// Delete removes the row.
	Delete(sub []byte)
	// Append adds a row at the end of the current key's list.
	Append(row []byte)
	// Scan calls f for each row of the current key and namespace until it returns false: a list's in order, a map's in no particular order. f may not write,
	// except by returning del = true, which removes the row.
	Scan(f func(sub, row []byte, schema int) (del, more bool))
	// Clear removes all rows of the current key and namespace.
	Clear()
	// Schema returns a schema that restored rows may be written under; 0 is the present one, and beyond the last it is nil.
	Schema(n int) *codec.Schema
	// SchemaKey is Schema for a map's keys.
	SchemaKey(n int) *codec.Schema
}
