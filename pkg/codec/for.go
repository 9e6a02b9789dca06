package codec

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"unsafe"
)

// For returns the codec of T: numbers, booleans, strings, times, structs with exported fields, arrays, slices, maps, pointers, proto messages, types with
// MarshalBinary and UnmarshalBinary, and types with a registered codec. The error names what in T cannot be serialized: "Click.Ctx: interfaces cannot be serialized".
func For[T any]() (Codec[T], error) {
	t := reflect.TypeFor[T]()
	if e, ok := registered(t); ok {
		return e.(erasedCodec[T]).c, nil
	}
	n, err := build(t, false)
	if err != nil {
		return nil, err
	}
	return codecOf[T](n), nil
}

// ForKey returns the codec of keys of type K: booleans, integers, strings, times, and structs and arrays of these. One key has one encoding, for ever,
// and two keys have two.
func ForKey[K any]() (Codec[K], error) {
	n, err := build(reflect.TypeFor[K](), true)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return codecOf[K](n), nil
}

func codecOf[T any](n *node) Codec[T] {
	switch n.op {
	case opRaw:
		return rawCodec[T]{n}
	case opString:
		return stringCodec[T]{n}
	}
	return programCodec[T]{n}
}

// programmed is a codec of For or ForKey.
type programmed interface{ program() *node }

// FixedSize returns the number of bytes of every encoding, if all have the same.
func FixedSize[T any](c Codec[T]) (n int, ok bool) {
	if p, is := c.(programmed); is && p.program().fixed >= 0 {
		return p.program().fixed, true
	}
	return 0, false
}

// Sharing returns a function that decodes as c does, except that strings may share the memory of src. So src must never change again; a batch that is
// copied once needs no further allocation for its strings.
func Sharing[T any](c Codec[T]) func(src []byte, v *T) (int, error) {
	switch c := c.(type) {
	case stringCodec[T]:
		return c.share
	case programCodec[T]:
		return c.share
	}
	return c.Decode
}

// noescape hides the address of a value from escape analysis. The programs do not keep the addresses they are given. What the value refers to is on the heap,
// because it came through an interface; so the codecs below are only ever handed out as a Codec.
//
// While x is a number, a stack that moves leaves it behind. So no call may stand there, and the checks of a race build would be calls.
//
//go:nosplit
//go:nocheckptr
func noescape(p unsafe.Pointer) unsafe.Pointer {
	x := uintptr(p)
	return *(*unsafe.Pointer)(unsafe.Pointer(&x))
}

// rawCodec is for types that lie in memory as they are encoded: numbers, and arrays and structs of them without gaps.
type rawCodec[T any] struct{ n *node }

func (c rawCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	if unsafe.Sizeof(v) == 8 {
		return binary.NativeEndian.AppendUint64(dst, binary.NativeEndian.Uint64(memory(unsafe.Pointer(&v), 8))), nil
	}
	return append(dst, memory(unsafe.Pointer(&v), int(unsafe.Sizeof(v)))...), nil
}

func (c rawCodec[T]) Decode(src []byte, v *T) (int, error) {
	if len(src) < int(unsafe.Sizeof(*v)) {
		return 0, c.n.wrap("decode", ErrCorrupt)
	}
	copy(memory(unsafe.Pointer(v), int(unsafe.Sizeof(*v))), src)
	return int(unsafe.Sizeof(*v)), nil
}

func (c rawCodec[T]) Size(v T) int    { return int(unsafe.Sizeof(v)) }
func (c rawCodec[T]) Mutable() bool   { return false }
func (c rawCodec[T]) Copy(v T) T      { return v }
func (c rawCodec[T]) Schema() *Schema { return c.n.schema }
func (c rawCodec[T]) program() *node  { return c.n }

// stringCodec is for types whose kind is string.
type stringCodec[T any] struct{ n *node }

func (c stringCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	s := *(*string)(unsafe.Pointer(&v))
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...), nil
}

func (c stringCodec[T]) decode(src []byte, v *T, r reading) (int, error) {
	s, n, err := r.string(src)
	if err != nil {
		return 0, c.n.wrap("decode", err)
	}
	*(*string)(unsafe.Pointer(v)) = s
	return n, nil
}

func (c stringCodec[T]) Decode(src []byte, v *T) (int, error) { return c.decode(src, v, reading{}) }

func (c stringCodec[T]) share(src []byte, v *T) (int, error) {
	return c.decode(src, v, reading{share: true})
}

func (c stringCodec[T]) Size(v T) int {
	return int(unsafe.Sizeof(v)) + len(*(*string)(unsafe.Pointer(&v)))
}

func (c stringCodec[T]) Mutable() bool   { return false }
func (c stringCodec[T]) Copy(v T) T      { return v }
func (c stringCodec[T]) Schema() *Schema { return c.n.schema }
func (c stringCodec[T]) program() *node  { return c.n }

// programCodec is for all other types.
type programCodec[T any] struct{ n *node }

func (c programCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	start := len(dst)
	var err error
	if c.n.calls {
		dst, err = c.n.append(dst, escaping(v), 0)
	} else {
		dst, err = c.n.append(dst, noescape(unsafe.Pointer(&v)), 0)
	}
	if err != nil {
		return dst[:start], c.n.wrap("encode", err)
	}
	return dst, nil
}

// escaping returns the address of a copy of v on the heap.
//
//go:noinline
func escaping[T any](v T) unsafe.Pointer {
	p := new(T)
	*p = v
	return unsafe.Pointer(p)
}

func (c programCodec[T]) decode(src []byte, v *T, r reading) (int, error) {
	n, err := c.n.decode(src, unsafe.Pointer(v), r)
	if err != nil {
		var zero T
		*v = zero
		return 0, c.n.wrap("decode", err)
	}
	return n, nil
}

func (c programCodec[T]) Decode(src []byte, v *T) (int, error) { return c.decode(src, v, reading{}) }

func (c programCodec[T]) share(src []byte, v *T) (int, error) {
	return c.decode(src, v, reading{share: true})
}

func (c programCodec[T]) Size(v T) int {
	size := int(unsafe.Sizeof(v))
	if !c.n.extra {
		return size
	}
	if c.n.calls {
		return size + c.n.beyond(escaping(v), 0)
	}
	return size + c.n.beyond(noescape(unsafe.Pointer(&v)), 0)
}

func (c programCodec[T]) Mutable() bool { return c.n.mutable }

func (c programCodec[T]) Copy(v T) T {
	if !c.n.mutable {
		return v
	}
	if c.n.calls {
		p := escaping(v)
		c.n.unshare(p, 0)
		return *(*T)(p)
	}
	c.n.unshare(noescape(unsafe.Pointer(&v)), 0)
	return v
}

func (c programCodec[T]) Schema() *Schema { return c.n.schema }
func (c programCodec[T]) program() *node  { return c.n }

func (n *node) wrap(verb string, err error) error {
	return fmt.Errorf("%s %v: %w", verb, n.typ, err)
}
