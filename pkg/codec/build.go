package codec

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unsafe"

	"google.golang.org/protobuf/proto"
)

// op says what a node does.
type op uint8

const (
	opRaw  op = iota // n bytes, as they lie in memory
	opSwap           // a number of n bytes on a big-endian machine
	opInt            // an int or uint of 4 bytes, encoded in 8
	opUint
	opBool
	opString
	opBytes
	opTime
	opStruct
	opArray
	opSlice
	opMap
	opPointer
	opProto
	opErased // a registered codec, or a type's own MarshalBinary
	opSkip   // a field that is not encoded: zero when decoded
)

// node is the program for a type. It is immutable once built; programs of recursive types are cyclic.
type node struct {
	op      op
	n       int     // opRaw, opSwap: bytes; opArray: elements
	size    uintptr // in memory
	fixed   int     // encoded bytes, -1 if it varies
	min     int     // least encoded bytes
	mutable bool
	extra   bool // there may be memory beyond size
	calls   bool // a user's code gets a pointer into the value, which therefore may not lie on the stack
	typ     reflect.Type
	steps   []step  // opStruct, nested structs flattened
	fields  []field // opStruct, for migration
	key     *node
	elem    *node
	erased  erased
	schema  *Schema
}

// step is a part of a struct.
type step struct {
	off  uintptr
	op   op  // that of node
	n    int // that of node
	node *node
}

type field struct {
	off  uintptr
	node *node
}

var (
	littleEndian = func() bool { x := uint16(1); return *(*byte)(unsafe.Pointer(&x)) == 1 }()

	typeTime        = reflect.TypeFor[time.Time]()
	typeDuration    = reflect.TypeFor[time.Duration]()
	typeMessage     = reflect.TypeFor[proto.Message]()
	typeMarshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	typeUnmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// builder makes the program and schema of one type.
type builder struct {
	key    bool // the type is that of keys
	number int  // of the next schema, in pre-order
	seen   map[reflect.Type]seenType
}

type seenType struct {
	node   *node
	number int
}

func build(t reflect.Type, key bool) (*node, error) {
	b := builder{key: key, seen: make(map[reflect.Type]seenType)}
	n, s, err := b.build(t, typeName(t))
	if err != nil {
		return nil, err
	}
	if _, err := DecodeSchema(s.Encode()); err != nil {
		return nil, fmt.Errorf("%s: type is too large to be described", typeName(t))
	}
	n.schema = s
	return n, nil
}

func typeName(t reflect.Type) string {
	if t.Name() != "" {
		return t.Name()
	}
	return t.String()
}

func refuse(path, what string) error { return fmt.Errorf("%s: %s cannot be serialized", path, what) }

func refuseKey(path, what string) error { return fmt.Errorf("%s: %s cannot be keys", path, what) }

func (b *builder) build(t reflect.Type, path string) (*node, *Schema, error) {
	if e, ok := registered(t); ok {
		if b.key {
			return nil, nil, refuseKey(path, "types with a codec of their own")
		}
		b.number++
		return &node{op: opErased, size: t.Size(), fixed: -1, min: 4, mutable: e.mutable(), extra: true, typ: t, erased: e}, e.schema(), nil
	}
	if s, ok := b.seen[t]; ok {
		b.number++
		return s.node, &Schema{kind: kindRef, ref: s.number}, nil
	}
	n, s := &node{size: t.Size(), typ: t, fixed: -1}, &Schema{}
	number := b.number
	if t.Name() != "" {
		switch t.Kind() {
		case reflect.Struct, reflect.Array, reflect.Slice, reflect.Map, reflect.Pointer:
			if t != typeTime {
				s.name = t.String()
				b.seen[t] = seenType{n, number}
			}
		}
	}
	b.number++
	message, isMessage := messageName(t)
	switch {
	case t == typeTime:
		// Mutable, because only a copy is in UTC as what was encoded is.
		*n = node{op: opTime, size: t.Size(), fixed: 12, min: 12, mutable: true, typ: t}
		s.kind = kindTime
		return n, s, nil
	case t == typeDuration:
		n.word(8)
		s.kind = kindDuration
		return n, s, nil
	case isMessage:
		if b.key {
			return nil, nil, refuseKey(path, "proto messages")
		}
		*n = node{op: opProto, size: t.Size(), fixed: -1, min: 4, mutable: true, extra: true, typ: t}
		s.kind, s.name = kindProto, message
		delete(b.seen, t)
		return n, s, nil
	case t.Kind() == reflect.Struct && messageByValue(t):
		return nil, nil, fmt.Errorf("%s: a proto message cannot be serialized by value (use *%v)", path, t)
	case ownBinary(t):
		if b.key {
			return nil, nil, refuseKey(path, "types with a MarshalBinary of their own")
		}
		*n = node{op: opErased, size: t.Size(), fixed: -1, min: 4, mutable: true, extra: true, calls: true, typ: t, erased: binaryErased{t}}
		s.kind, s.name = kindCustom, t.String()
		delete(b.seen, t)
		return n, s, nil
	}
	var err error
	switch k := t.Kind(); k {
	case reflect.Bool:
		*n = node{op: opBool, size: 1, fixed: 1, min: 1, typ: t}
		s.kind = kindBool
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n.word(int(t.Size()))
		s.kind = kindInt8 + kind(k-reflect.Int8)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n.word(int(t.Size()))
		s.kind = kindUint8 + kind(k-reflect.Uint8)
	case reflect.Int, reflect.Uint:
		n.word(8)
		s.kind = kindInt64
		if k == reflect.Uint {
			s.kind = kindUint64
		}
		if t.Size() == 4 {
			n.op = opInt
			if k == reflect.Uint {
				n.op = opUint
			}
		}
	case reflect.Float32, reflect.Float64:
		if b.key {
			return nil, nil, refuseKey(path, "floating-point numbers")
		}
		n.word(int(t.Size()))
		s.kind = kindFloat32 + kind(k-reflect.Float32)
	case reflect.String:
		*n = node{op: opString, size: t.Size(), fixed: -1, min: 1, extra: true, typ: t}
		s.kind = kindString
	case reflect.Struct:
		err = b.structs(t, n, s, path)
	case reflect.Array:
		err = b.array(t, n, s, path)
	case reflect.Slice, reflect.Map, reflect.Pointer:
		if b.key {
			return nil, nil, refuseKey(path, map[reflect.Kind]string{reflect.Slice: "slices", reflect.Map: "maps", reflect.Pointer: "pointers"}[k])
		}
		n.min, n.mutable, n.extra = 1, true, true
		err = b.reference(t, n, s, path)
	case reflect.Uintptr, reflect.UnsafePointer:
		err = refuse(path, t.String())
	case reflect.Interface:
		err = refuse(path, "interfaces")
	case reflect.Chan:
		err = refuse(path, "channels")
	case reflect.Func:
		err = refuse(path, "functions")
	case reflect.Complex64, reflect.Complex128:
		err = refuse(path, "complex numbers")
	default:
		err = refuse(path, k.String())
	}
	if err != nil {
		return nil, nil, err
	}
	return n, s, nil
}

// messageName returns the full name of a generated proto message type. A type that merely inherits the methods of a message it embeds is none, and
// neither is one that has no descriptor before it has a value.
func messageName(t reflect.Type) (name string, ok bool) {
	if t.Kind() != reflect.Pointer || !t.Implements(typeMessage) {
		return "", false
	}
	defer func() {
		if recover() != nil {
			name, ok = "", false
		}
	}()
	m := reflect.Zero(t).Interface().(proto.Message).ProtoReflect()
	return string(m.Descriptor().FullName()), reflect.TypeOf(m.Type().Zero().Interface()) == t
}

func messageByValue(t reflect.Type) bool {
	_, ok := messageName(reflect.PointerTo(t))
	return ok
}

func (n *node) word(size int) {
	n.op, n.n, n.fixed, n.min = opRaw, size, size, size
	if !littleEndian && size > 1 {
		n.op = opSwap
	}
}

func (b *builder) structs(t reflect.Type, n *node, s *Schema, path string) error {
	n.op, n.fixed = opStruct, 0
	s.kind = kindStruct
	names := make(map[string]string)
	for f := range t.Fields() {
		if f.Name == "_" {
			continue
		}
		fpath := path + "." + f.Name
		tag := strings.Split(f.Tag.Get("rivulet"), ",")
		if tag[0] == "-" && len(tag) == 1 {
			if b.key {
				return fmt.Errorf("%s: a key's field cannot be left out", fpath)
			}
			n.mutable = true
			n.add(f.Offset, &node{op: opSkip, size: f.Type.Size(), mutable: true, typ: f.Type})
			continue
		}
		if !f.IsExported() {
			return fmt.Errorf("%s: unexported fields cannot be serialized (export it, or leave it out with the tag `rivulet:\"-\"`)", fpath)
		}
		sf := schemaField{name: f.Name}
		if tag[0] != "" {
			sf.name = tag[0]
		}
		for _, option := range tag[1:] {
			was, ok := strings.CutPrefix(option, "was=")
			if !ok || was == "" {
				return fmt.Errorf("%s: tag option %q is not was=NAME", fpath, option)
			}
			sf.was = append(sf.was, was)
		}
		if len(sf.name) > maxSchemaName {
			return fmt.Errorf("%s: name is too long", fpath)
		}
		for _, name := range append([]string{sf.name}, sf.was...) {
			if other, ok := names[name]; ok && other != f.Name {
				return fmt.Errorf("%s: stored name %q is also that of %s", fpath, name, other)
			}
			names[name] = f.Name
		}
		fn, fs, err := b.build(f.Type, fpath)
		if err != nil {
			return err
		}
		sf.schema = fs
		s.fields = append(s.fields, sf)
		n.fields = append(n.fields, field{f.Offset, fn})
		if n.fixed >= 0 {
			n.fixed += fn.fixed
			if fn.fixed < 0 {
				n.fixed = -1
			}
		}
		n.min += fn.min
		n.mutable = n.mutable || fn.mutable
		n.extra = n.extra || fn.extra
		n.calls = n.calls || fn.calls
		n.add(f.Offset, fn)
	}
	if len(n.steps) == 1 && n.steps[0].op == opRaw && n.steps[0].off == 0 && uintptr(n.steps[0].n) == n.size {
		n.op, n.n = opRaw, n.steps[0].n
	}
	return nil
}

// add appends a part to a struct's program. What lies side by side both in memory and in the encoding becomes one step.
func (n *node) add(off uintptr, part *node) {
	if part.op == opStruct {
		for _, s := range part.steps {
			n.add(off+s.off, s.node)
		}
		return
	}
	if last := len(n.steps) - 1; part.op == opRaw && last >= 0 {
		if s := &n.steps[last]; s.op == opRaw && s.off+uintptr(s.n) == off {
			s.n += part.n
			s.node = &node{op: opRaw, n: s.n, size: uintptr(s.n), fixed: s.n, min: s.n}
			return
		}
	}
	n.steps = append(n.steps, step{off, part.op, part.n, part})
}

func (b *builder) array(t reflect.Type, n *node, s *Schema, path string) error {
	elem, es, err := b.build(t.Elem(), path+"[]")
	if err != nil {
		return err
	}
	if t.Len() > maxArrayLength {
		return fmt.Errorf("%s: an array of %d elements is too long", path, t.Len())
	}
	s.kind, s.length, s.elem = kindArray, t.Len(), es
	n.op, n.n, n.elem = opArray, t.Len(), elem
	n.mutable, n.extra, n.calls = elem.mutable, elem.extra, elem.calls
	n.min = elem.min * n.n
	if elem.fixed >= 0 {
		n.fixed = elem.fixed * n.n
	}
	if elem.op == opRaw && elem.size == uintptr(elem.n) {
		n.op, n.n = opRaw, n.fixed
	}
	return nil
}

func (b *builder) reference(t reflect.Type, n *node, s *Schema, path string) (err error) {
	elemPath := path
	switch t.Kind() {
	case reflect.Slice:
		n.op, s.kind = opSlice, kindSlice
		if t.Elem().Kind() == reflect.Uint8 && t.Elem().PkgPath() == "" {
			n.op, s.kind = opBytes, kindBytes
			delete(b.seen, t)
			return nil
		}
		elemPath += "[]"
	case reflect.Pointer:
		n.op, s.kind = opPointer, kindPointer
	case reflect.Map:
		n.op, s.kind = opMap, kindMap
		if err := mapKey(t.Key(), path+"[key]"); err != nil {
			return err
		}
		if n.key, s.key, err = b.build(t.Key(), path+"[key]"); err != nil {
			return err
		}
		elemPath += "[value]"
	}
	n.elem, s.elem, err = b.build(t.Elem(), elemPath)
	return err
}

// mapKey refuses keys whose identity an encoding does not keep.
func mapKey(t reflect.Type, path string) error {
	switch t.Kind() {
	case reflect.Pointer:
		return fmt.Errorf("%s: pointers cannot be serialized as keys of a map", path)
	case reflect.Array:
		return mapKey(t.Elem(), path+"[]")
	case reflect.Struct:
		if t == typeTime {
			return nil
		}
		for f := range t.Fields() {
			if f.Tag.Get("rivulet") == "-" {
				return fmt.Errorf("%s.%s: a key's field cannot be left out", path, f.Name)
			}
			if f.IsExported() {
				if err := mapKey(f.Type, path+"."+f.Name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ownBinary reports whether the type brings MarshalBinary and UnmarshalBinary. Those that a struct merely inherits from a field it embeds would lose its other
// fields, so a struct that embeds a type which has them is encoded by its fields.
func ownBinary(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface || t.Name() == "" {
		return false
	}
	p := reflect.PointerTo(t)
	if !p.Implements(typeMarshaler) || !p.Implements(typeUnmarshaler) {
		return false
	}
	if t.Kind() != reflect.Struct {
		return true
	}
	fields := reflect.VisibleFields(t)
	return !slices.ContainsFunc(fields, func(f reflect.StructField) bool {
		return f.Anonymous && (f.Type.Implements(typeMarshaler) || reflect.PointerTo(f.Type).Implements(typeMarshaler))
	})
}

const hugeSize = math.MaxInt / 4
