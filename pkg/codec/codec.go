// Package codec turns values into bytes and back, for exchanges between tasks and for state that outlives the program.
//
// Start with Codec and For. Its law: what Decode returns never aliases the bytes it read, and bytes written under one
// schema can be read for ever, by the same or a compatible type.
package codec

// Codec encodes values of T. It is safe for concurrent use and does not reflect per value.
type Codec[T any] interface {
	// Append appends v's encoding to dst and returns it.
	Append(dst []byte, v T) ([]byte, error)
	// Decode reads one value from the front of src into v and returns the number of bytes it took. v may hold an older value, whose memory may be used again
	// only where the type has no references. What it leaves in v does not alias src.
	Decode(src []byte, v *T) (int, error)
	// Size is the size of v in memory, in bytes, right within a factor of two. It does not encode.
	Size(v T) int
	// Mutable reports whether a value holds references (slices, maps, pointers) through which two holders would see each other's changes.
	Mutable() bool
	// Copy returns a deep copy; for a type that is not Mutable, v itself.
	Copy(v T) T
	// Schema describes the encoding for ever.
	Schema() *Schema
}
