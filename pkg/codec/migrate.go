package codec

import (
	"encoding/binary"
	"math"
	"reflect"
	"unsafe"
)

// Migrate returns a decoder of values that were written under another schema, as Compare allows it; where nothing changed it is c.Decode. It is safe for
// concurrent use, and slower than c.Decode.
func Migrate[T any](c Codec[T], writer *Schema) (decode func(src []byte, v *T) (int, error), report Report, err error) {
	reader := c.Schema()
	if report, err = Compare(writer, reader); err != nil {
		return nil, report, err
	}
	p, ok := c.(programmed)
	if !ok || report.AsIs() {
		// A codec of the user's own has matched by name and version.
		return c.Decode, report, nil
	}
	n := p.program()
	m := migration{was: writer.preorder(nil), is: reader.preorder(nil), plans: make(map[planKey]*plan), least: make(map[*Schema]int)}
	pl := m.plan(writer, reader, n)
	return func(src []byte, v *T) (int, error) {
		// Decoded elsewhere and stored whole, so that v does not have to be zero, and not be on the heap.
		fresh := new(T)
		k, err := pl.decode(src, unsafe.Pointer(fresh), reading{})
		if err != nil {
			return 0, n.wrap("decode under an older schema", err)
		}
		*v = *fresh
		return k, nil
	}, report, nil
}

type planKey struct {
	was *Schema
	n   *node
}

// plan decodes what was written under one schema into the memory of a type. It may be called before it is complete only to be stored.
type plan struct{ run decoder }

func (p *plan) decode(src []byte, at unsafe.Pointer, r reading) (int, error) {
	return p.run(src, at, r)
}

// migration makes plans. Compare has found that it can.
type migration struct {
	was, is []*Schema
	plans   map[planKey]*plan
	least   map[*Schema]int
}

func (m *migration) plan(was, is *Schema, n *node) *plan {
	was, is = resolve(was, m.was), resolve(is, m.is)
	key := planKey{was, n}
	if p, ok := m.plans[key]; ok {
		return p
	}
	p := &plan{}
	m.plans[key] = p
	if was.kind != is.kind {
		p.run = widen(was.kind, n)
		return p
	}
	switch was.kind {
	case kindStruct:
		p.run = m.structs(was, is, n)
	case kindArray:
		if n.elem == nil {
			p.run = n.decode
			break
		}
		elem := m.plan(was.elem, is.elem, n.elem)
		p.run = func(src []byte, q unsafe.Pointer, r reading) (int, error) {
			at := 0
			for i := range was.length {
				k, err := elem.decode(src[at:], unsafe.Add(q, uintptr(i)*n.elem.size), r)
				if err != nil {
					return 0, err
				}
				at += k
			}
			return at, nil
		}
	case kindSlice:
		elem, least := m.plan(was.elem, is.elem, n.elem), m.leastBytes(was.elem)
		p.run = func(src []byte, q unsafe.Pointer, r reading) (int, error) {
			if r.depth > maxDepth {
				return 0, ErrTooDeep
			}
			return n.decodeSlice(src, q, r.deeper(), least, elem.decode)
		}
	case kindPointer:
		elem := m.plan(was.elem, is.elem, n.elem)
		p.run = func(src []byte, q unsafe.Pointer, r reading) (int, error) {
			if r.depth > maxDepth {
				return 0, ErrTooDeep
			}
			return n.decodePointer(src, q, r.deeper(), elem.decode)
		}
	case kindMap:
		elem, least := m.plan(was.elem, is.elem, n.elem), m.leastBytes(was.elem)
		p.run = func(src []byte, q unsafe.Pointer, r reading) (int, error) {
			if r.depth > maxDepth {
				return 0, ErrTooDeep
			}
			return n.decodeMap(src, q, r.deeper(), least, elem.decode)
		}
	default:
		p.run = n.decode
	}
	return p
}

func (m *migration) structs(was, is *Schema, n *node) decoder {
	type part struct {
		off     uintptr
		plan    *plan
		skip    skipper
		dropped *Schema
	}
	to := match(was, is)
	parts := make([]part, len(was.fields))
	for i, f := range was.fields {
		if to[i] < 0 {
			for _, s := range m.was {
				m.leastBytes(s)
			}
			parts[i].skip = skipper{m.was, m.least}
			parts[i].dropped = f.schema
			continue
		}
		into := n.fields[to[i]]
		parts[i].off, parts[i].plan = into.off, m.plan(f.schema, is.fields[to[i]].schema, into.node)
	}
	return func(src []byte, p unsafe.Pointer, r reading) (int, error) {
		at := 0
		for i := range parts {
			t := &parts[i]
			var k int
			var err error
			if t.plan == nil {
				k, err = t.skip.skip(t.dropped, src[at:], r.depth)
			} else {
				k, err = t.plan.decode(src[at:], unsafe.Add(p, t.off), r)
			}
			if err != nil {
				return 0, err
			}
			at += k
		}
		return at, nil
	}
}

// leastBytes is the least number of bytes that a value of the schema takes.
func (m *migration) leastBytes(s *Schema) int { return leastBytes(s, m.was, m.least) }

func leastBytes(s *Schema, all []*Schema, known map[*Schema]int) int {
	s = resolve(s, all)
	if n, ok := known[s]; ok {
		return n
	}
	known[s] = 0 // while it is being found; a struct that holds itself has no values
	var n int
	switch s.kind {
	case kindTime:
		n = 12
	case kindProto, kindCustom:
		n = frameBytes
	case kindArray:
		n = min(s.length*min(leastBytes(s.elem, all, known), math.MaxInt32), math.MaxInt32)
	case kindStruct:
		n = 0
		for _, f := range s.fields {
			n = min(n+leastBytes(f.schema, all, known), math.MaxInt32)
		}
	default:
		n = max(s.kind.wordSize(), 1)
	}
	known[s] = n
	return n
}

// skipper passes over a stored field that is read no more.
type skipper struct {
	all   []*Schema
	least map[*Schema]int // of all, so that it is only read
}

func (k skipper) skip(s *Schema, src []byte, depth int) (int, error) {
	s = resolve(s, k.all)
	if depth > maxDepth {
		return 0, ErrTooDeep
	}
	if n := s.kind.wordSize(); n > 0 {
		if len(src) < n {
			return 0, ErrCorrupt
		}
		return n, nil
	}
	switch s.kind {
	case kindString:
		length, n, err := readLength(src, 1)
		return n + length, err
	case kindBytes:
		count, n, err := readCount(src, 1)
		return n + max(count, 0), err
	case kindTime:
		if len(src) < 12 {
			return 0, ErrCorrupt
		}
		return 12, nil
	case kindProto, kindCustom:
		_, _, n, err := readFrame(src)
		return n, err
	case kindPointer:
		if len(src) < 1 || src[0] > 1 {
			return 0, ErrCorrupt
		}
		if src[0] == 0 {
			return 1, nil
		}
		n, err := k.skip(s.elem, src[1:], depth+1)
		return n + 1, err
	case kindStruct:
		at := 0
		if k.least[s] == 0 {
			return 0, nil
		}
		for _, f := range s.fields {
			n, err := k.skip(f.schema, src[at:], depth+1)
			if err != nil {
				return 0, err
			}
			at += n
		}
		return at, nil
	case kindArray:
		return k.elements(s, src, 0, s.length, false, depth)
	case kindSlice, kindMap:
		var pad bool
		var least int
		if s.kind == kindMap {
			least = max(k.leastBytes(s.key), 1) + k.leastBytes(s.elem)
			pad = k.leastBytes(s.key) == 0
		} else {
			least = k.leastBytes(s.elem)
			pad = least == 0
		}
		count, n, err := readCount(src, least)
		if err != nil {
			return 0, err
		}
		return k.elements(s, src, n, count, pad, depth)
	}
	return 0, ErrCorrupt
}

func (k skipper) leastBytes(s *Schema) int { return k.least[resolve(s, k.all)] }

// elements passes over count elements or entries from src[at:] on, each after a zero byte if pad.
func (k skipper) elements(s *Schema, src []byte, at, count int, pad bool, depth int) (int, error) {
	if count > 0 && !pad && k.least[s] == 0 {
		return at, nil // an array of nothing, however long
	}
	for range count {
		if pad {
			at++
		}
		if at > len(src) {
			return 0, ErrCorrupt
		}
		if s.kind == kindMap {
			n, err := k.skip(s.key, src[at:], depth+1)
			if err != nil {
				return 0, err
			}
			at += n
		}
		n, err := k.skip(s.elem, src[at:], depth+1)
		if err != nil {
			return 0, err
		}
		at += n
	}
	return at, nil
}

// widen returns the decoder of a number into a wider one.
func widen(was kind, n *node) decoder {
	size := was.wordSize()
	kind := n.typ.Kind()
	return func(src []byte, p unsafe.Pointer, _ reading) (int, error) {
		if len(src) < size {
			return 0, ErrCorrupt
		}
		var v uint64
		switch size {
		case 1:
			v = uint64(src[0])
		case 2:
			v = uint64(binary.LittleEndian.Uint16(src))
		case 4:
			v = uint64(binary.LittleEndian.Uint32(src))
		}
		switch was {
		case kindFloat32:
			*(*float64)(p) = float64(math.Float32frombits(uint32(v)))
			return size, nil
		case kindInt8:
			v = uint64(int8(v))
		case kindInt16:
			v = uint64(int16(v))
		case kindInt32:
			v = uint64(int32(v))
		}
		switch kind {
		case reflect.Int16, reflect.Uint16:
			*(*uint16)(p) = uint16(v)
		case reflect.Int32, reflect.Uint32:
			*(*uint32)(p) = uint32(v)
		case reflect.Int, reflect.Uint:
			*(*uint)(p) = uint(v)
		default:
			*(*uint64)(p) = v
		}
		return size, nil
	}
}
