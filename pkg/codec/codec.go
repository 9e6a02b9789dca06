// Package codec turns values into bytes and back, for exchanges between tasks and for state that outlives the program.
//
// Start with Codec and For. Its law: what Decode returns never aliases the bytes it read, and bytes written under one
// schema can be read for ever, by the same or a compatible type.
//
// # Encoding
//
// Numbers and booleans take their size, little-endian; int, uint and time.Duration take 8 bytes. A time is its instant, 8 bytes of Unix seconds
// and 4 of nanoseconds, and comes back in UTC. A string is its length (uvarint) and its bytes. A []byte, slice or map is its length plus one, 0 being nil, and its
// elements, a map's sorted by encoded key. A pointer is 0 for nil, or 1 and its value. Structs and arrays are their fields and elements, with nothing between.
// What a proto message or a user's own code wrote is preceded by its length in 4 bytes, 0xffffffff being a nil message.
//
// # Fields
//
// All fields of a struct must be exported, or be left out by the tag `rivulet:"-"`; what is left out is zero after Decode and Copy. The tag
// `rivulet:"name,was=old"` gives the name that is stored, and the names under which older programs stored the field.
//
// # Cost
//
// A codec of For is a program over offsets, made once: it does not reflect per value, except for maps (about 100 ns an entry, each way), the allocation of slices of
// types with pointers, proto messages, and types with a MarshalBinary of their own. Types of fixed size are encoded and decoded without allocation.
package codec

import "errors"

// Codec encodes values of T. It is safe for concurrent use and does not reflect per value.
type Codec[T any] interface {
	// Append appends v's encoding to dst and returns it.
	Append(dst []byte, v T) ([]byte, error)
	// Decode reads one value from the front of src into v and returns the number of bytes it took. v may hold an older value, whose memory may be used again
	// only where the type has no references. What it leaves in v does not alias src.
	Decode(src []byte, v *T) (int, error)
	// Size is the size of v in memory, in bytes, right within a factor of two. It does not encode.
	Size(v T) int
	// Mutable reports whether a value that is handed over as it is could show that it was not encoded: because it holds references (slices, maps, pointers)
	// through which two holders would see each other's changes, a time's location, or a field that is not encoded.
	Mutable() bool
	// Copy returns a deep copy, which equals what Decode would return; for a type that is not Mutable, v itself. It panics where Append would fail.
	Copy(v T) T
	// Schema describes the encoding for ever.
	Schema() *Schema
}

var (
	// ErrCorrupt says that the bytes are not an encoding of the type or schema they are read as.
	ErrCorrupt = errors.New("malformed bytes")
	// ErrTooDeep says that a value is nested more than 10,000 levels deep, as one that contains itself is.
	ErrTooDeep = errors.New("nested more than 10000 levels deep: the value may contain itself")
)

// maxDepth bounds the nesting of values: pointers, slices, maps.
const maxDepth = 10000
