package codec

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"sync"
	"unsafe"

	"google.golang.org/protobuf/proto"
)

// erased is a codec whose values are known by address.
type erased interface {
	append(dst []byte, p unsafe.Pointer) ([]byte, error)
	decode(src []byte, p unsafe.Pointer) error // all of src
	beyond(p unsafe.Pointer) int
	mutable() bool
	unshare(p unsafe.Pointer)
	schema() *Schema
}

var registry sync.Map // reflect.Type -> erased

func registered(t reflect.Type) (erased, bool) {
	e, ok := registry.Load(t)
	if !ok {
		return nil, false
	}
	return e.(erased), true
}

// Register makes For use a codec of the user's own wherever T occurs, except in keys. Its schema must be a CustomSchema. Register is for
// initialization: it panics when T has a codec already, or the schema is another.
func Register[T any](c Codec[T]) {
	t := reflect.TypeFor[T]()
	if s := c.Schema(); s == nil || s.kind != kindCustom || s.timed {
		panic(fmt.Sprintf("codec.Register(%v): the schema is not a CustomSchema", t))
	}
	if _, err := DecodeSchema(c.Schema().Encode()); err != nil {
		panic(fmt.Sprintf("codec.Register(%v): the schema's name or version is longer than %d bytes", t, maxSchemaName))
	}
	if _, ok := registry.LoadOrStore(t, erased(erasedCodec[T]{c})); ok {
		panic(fmt.Sprintf("codec.Register(%v): called twice", t))
	}
}

type erasedCodec[T any] struct{ c Codec[T] }

func (e erasedCodec[T]) append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	return e.c.Append(dst, *(*T)(p))
}

func (e erasedCodec[T]) decode(src []byte, p unsafe.Pointer) error {
	var v T // not *p, which may lie on a stack that the user's codec must not know
	n, err := e.c.Decode(src, &v)
	if err == nil && n != len(src) {
		err = fmt.Errorf("codec of %T took %d of %d bytes: %w", v, n, len(src), ErrCorrupt)
	}
	if err != nil {
		return err
	}
	*(*T)(p) = v
	return nil
}

func (e erasedCodec[T]) beyond(p unsafe.Pointer) int {
	var v T
	return max(e.c.Size(*(*T)(p))-int(unsafe.Sizeof(v)), 0)
}

func (e erasedCodec[T]) mutable() bool            { return e.c.Mutable() }
func (e erasedCodec[T]) unshare(p unsafe.Pointer) { *(*T)(p) = e.c.Copy(*(*T)(p)) }
func (e erasedCodec[T]) schema() *Schema          { return e.c.Schema() }

// binaryErased is the codec of a type with MarshalBinary and UnmarshalBinary.
type binaryErased struct{ typ reflect.Type }

func (e binaryErased) append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	v := reflect.NewAt(e.typ, p).Interface()
	if a, ok := v.(encoding.BinaryAppender); ok {
		return a.AppendBinary(dst)
	}
	b, err := v.(encoding.BinaryMarshaler).MarshalBinary()
	return append(dst, b...), err
}

func (e binaryErased) decode(src []byte, p unsafe.Pointer) error {
	v := reflect.New(e.typ)
	// A copy, because nothing forbids UnmarshalBinary to keep what only BinaryUnmarshaler's comment says it must copy.
	if err := v.Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(append([]byte(nil), src...)); err != nil {
		return fmt.Errorf("%v: %w", e.typ, err)
	}
	reflect.NewAt(e.typ, p).Elem().Set(v.Elem())
	return nil
}

func (e binaryErased) beyond(unsafe.Pointer) int { return int(e.typ.Size()) }
func (e binaryErased) mutable() bool             { return true }
func (e binaryErased) schema() *Schema           { return CustomSchema(e.typ.String(), nil) }

func (e binaryErased) unshare(p unsafe.Pointer) {
	b, err := e.append(nil, p)
	if err == nil {
		err = e.decode(b, p)
	}
	if err != nil {
		panic(fmt.Errorf("copy %v: %w", e.typ, err))
	}
}

const (
	frameBytes = 4
	frameNil   = math.MaxUint32
)

// message returns the proto message at p, nil for a nil pointer.
func (n *node) message(p unsafe.Pointer) proto.Message {
	if *(*unsafe.Pointer)(p) == nil {
		return nil
	}
	return reflect.NewAt(n.typ, p).Elem().Interface().(proto.Message)
}

func (n *node) setMessage(p unsafe.Pointer, m proto.Message) {
	*(*unsafe.Pointer)(p) = reflect.ValueOf(m).UnsafePointer()
}

// appendFramed appends what other code writes, with its length before it.
func (n *node) appendFramed(dst []byte, p unsafe.Pointer) (_ []byte, err error) {
	start := len(dst) + frameBytes
	dst = append(dst, 0, 0, 0, 0)
	if n.op == opErased {
		dst, err = n.erased.append(dst, p)
	} else if m := n.message(p); m == nil {
		binary.LittleEndian.PutUint32(dst[start-frameBytes:], frameNil)
		return dst, nil
	} else {
		dst, err = proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, m)
	}
	if err != nil {
		return dst, fmt.Errorf("%v: %w", n.typ, err)
	}
	size := len(dst) - start
	if uint64(size) >= frameNil {
		return dst, fmt.Errorf("%v: encoding of %d bytes has no valid length", n.typ, size)
	}
	binary.LittleEndian.PutUint32(dst[start-frameBytes:], uint32(size))
	return dst, nil
}

// readFrame returns what other code wrote, isNil for a nil message, and the bytes that both it and its length took.
func readFrame(src []byte) (frame []byte, isNil bool, n int, err error) {
	if len(src) < frameBytes {
		return nil, false, 0, ErrCorrupt
	}
	size := binary.LittleEndian.Uint32(src)
	if size == frameNil {
		return nil, true, frameBytes, nil
	}
	if uint64(size) > uint64(len(src)-frameBytes) {
		return nil, false, 0, ErrCorrupt
	}
	end := frameBytes + int(size)
	return src[frameBytes:end:end], false, end, nil
}

func (n *node) decodeFramed(src []byte, p unsafe.Pointer) (int, error) {
	frame, isNil, took, err := readFrame(src)
	switch {
	case err != nil:
		return 0, err
	case n.op == opErased:
		if isNil {
			return 0, ErrCorrupt
		}
		return took, n.erased.decode(frame, p)
	case isNil:
		*(*unsafe.Pointer)(p) = nil
		return took, nil
	}
	m := reflect.New(n.typ.Elem()).Interface().(proto.Message)
	if err := proto.Unmarshal(frame, m); err != nil {
		return 0, fmt.Errorf("%v: %w: %w", n.typ, ErrCorrupt, err)
	}
	n.setMessage(p, m)
	return took, nil
}

func (n *node) beyondFramed(p unsafe.Pointer) int {
	if n.op == opErased {
		return n.erased.beyond(p)
	}
	m := n.message(p)
	if m == nil {
		return 0
	}
	return int(n.typ.Elem().Size()) + proto.Size(m)
}

func (n *node) unshareFramed(p unsafe.Pointer) {
	if n.op == opErased {
		n.erased.unshare(p)
	} else if m := n.message(p); m != nil {
		n.setMessage(p, proto.Clone(m))
	}
}
