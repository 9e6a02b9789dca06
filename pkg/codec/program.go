package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
	"unsafe"
)

// sliceHeader is how a slice lies in memory.
type sliceHeader struct {
	data     unsafe.Pointer
	len, cap int
}

func memory(p unsafe.Pointer, n int) []byte { return unsafe.Slice((*byte)(p), n) }

// append encodes the value at p.
func (n *node) append(dst []byte, p unsafe.Pointer, depth int) ([]byte, error) {
	switch n.op {
	case opRaw:
		return append(dst, memory(p, n.n)...), nil
	case opBool:
		return append(dst, *(*byte)(p)), nil
	case opString:
		s := *(*string)(p)
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		return append(dst, s...), nil
	case opStruct:
		var err error
		for i := range n.steps {
			s := &n.steps[i]
			q := unsafe.Add(p, s.off)
			switch s.op {
			case opRaw:
				if s.n == 8 {
					dst = binary.NativeEndian.AppendUint64(dst, binary.NativeEndian.Uint64(memory(q, 8)))
				} else {
					dst = append(dst, memory(q, s.n)...)
				}
			case opString:
				v := *(*string)(q)
				dst = binary.AppendUvarint(dst, uint64(len(v)))
				dst = append(dst, v...)
			default:
				if dst, err = s.node.append(dst, q, depth); err != nil {
					return dst, err
				}
			}
		}
		return dst, nil
	}
	return n.appendRare(dst, p, depth)
}

func (n *node) appendRare(dst []byte, p unsafe.Pointer, depth int) ([]byte, error) {
	if depth > maxDepth {
		return dst, ErrTooDeep
	}
	switch n.op {
	case opSwap:
		dst = append(dst, memory(p, n.n)...)
		slices.Reverse(dst[len(dst)-n.n:])
		return dst, nil
	case opInt:
		return binary.LittleEndian.AppendUint64(dst, uint64(int64(*(*int32)(p)))), nil
	case opUint:
		return binary.LittleEndian.AppendUint64(dst, uint64(*(*uint32)(p))), nil
	case opBytes:
		b := *(*[]byte)(p)
		if b == nil {
			return append(dst, 0), nil
		}
		dst = binary.AppendUvarint(dst, uint64(len(b))+1)
		return append(dst, b...), nil
	case opTime:
		t := (*time.Time)(p)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(t.Unix()))
		return binary.LittleEndian.AppendUint32(dst, uint32(t.Nanosecond())), nil
	case opArray:
		var err error
		for i := range n.n {
			if dst, err = n.elem.append(dst, unsafe.Add(p, uintptr(i)*n.elem.size), depth); err != nil {
				return dst, err
			}
		}
		return dst, nil
	case opSlice:
		h := (*sliceHeader)(p)
		if h.data == nil {
			return append(dst, 0), nil
		}
		dst = binary.AppendUvarint(dst, uint64(h.len)+1)
		if n.elem.op == opRaw {
			return append(dst, memory(h.data, h.len*n.elem.n)...), nil
		}
		var err error
		for i := range h.len {
			if n.elem.min == 0 {
				dst = append(dst, 0) // so that no few bytes say that there are many elements
			}
			if dst, err = n.elem.append(dst, unsafe.Add(h.data, uintptr(i)*n.elem.size), depth+1); err != nil {
				return dst, err
			}
		}
		return dst, nil
	case opPointer:
		q := *(*unsafe.Pointer)(p)
		if q == nil {
			return append(dst, 0), nil
		}
		return n.elem.append(append(dst, 1), q, depth+1)
	case opMap:
		return n.appendMap(dst, p, depth+1)
	case opProto, opErased:
		return n.appendFramed(dst, p)
	case opSkip:
		return dst, nil
	}
	return n.append(dst, p, depth)
}

// mapEntry is an encoded entry in a buffer: the key, and then the value up to end.
type mapEntry struct{ start, value, end int }

func (n *node) appendMap(dst []byte, p unsafe.Pointer, depth int) ([]byte, error) {
	m := reflect.NewAt(n.typ, p).Elem()
	if m.IsNil() {
		return append(dst, 0), nil
	}
	dst = binary.AppendUvarint(dst, uint64(m.Len())+1)
	if m.Len() == 0 {
		return dst, nil
	}
	key, value := reflect.New(n.key.typ), reflect.New(n.elem.typ)
	kp, vp := key.UnsafePointer(), value.UnsafePointer()
	entries := make([]mapEntry, 0, m.Len())
	var buf []byte
	var err error
	for it := m.MapRange(); it.Next(); {
		e := mapEntry{start: len(buf)}
		key.Elem().SetIterKey(it)
		value.Elem().SetIterValue(it)
		if buf, err = n.key.append(buf, kp, depth); err != nil {
			return dst, err
		}
		e.value = len(buf)
		if buf, err = n.elem.append(buf, vp, depth); err != nil {
			return dst, err
		}
		e.end = len(buf)
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b mapEntry) int {
		if c := bytes.Compare(buf[a.start:a.value], buf[b.start:b.value]); c != 0 {
			return c
		}
		return bytes.Compare(buf[a.value:a.end], buf[b.value:b.end]) // NaNs
	})
	for _, e := range entries {
		if n.key.min == 0 {
			dst = append(dst, 0)
		}
		dst = append(dst, buf[e.start:e.end]...)
	}
	return dst, nil
}

// reading is how deep a decoder is, and whether strings may share the memory of what is read.
type reading struct {
	depth int
	share bool
}

func (r reading) deeper() reading { return reading{r.depth + 1, r.share} }

func readLength(src []byte, least int) (length, n int, err error) {
	v, n := binary.Uvarint(src)
	if n <= 0 || v > uint64(len(src)-n)/uint64(max(least, 1)) {
		return 0, 0, ErrCorrupt
	}
	return int(v), n, nil
}

func (r reading) string(src []byte) (string, int, error) {
	length, n, err := readLength(src, 1)
	if err != nil || length == 0 {
		return "", n, err
	}
	if r.share {
		return unsafe.String(&src[n], length), n + length, nil
	}
	return string(src[n : n+length]), n + length, nil
}

// decode decodes into the value at p, overwriting all of it. What p holds before is not used.
func (n *node) decode(src []byte, p unsafe.Pointer, r reading) (int, error) {
	switch n.op {
	case opRaw:
		if len(src) < n.n {
			return 0, ErrCorrupt
		}
		copy(memory(p, n.n), src)
		return n.n, nil
	case opBool:
		if len(src) < 1 || src[0] > 1 {
			return 0, ErrCorrupt
		}
		*(*byte)(p) = src[0]
		return 1, nil
	case opString:
		s, k, err := r.string(src)
		if err == nil {
			*(*string)(p) = s
		}
		return k, err
	case opStruct:
		at := 0
		for i := range n.steps {
			s := &n.steps[i]
			q := unsafe.Add(p, s.off)
			if s.op == opRaw {
				if len(src)-at < s.n {
					return 0, ErrCorrupt
				}
				if s.n == 8 {
					binary.NativeEndian.PutUint64(memory(q, 8), binary.NativeEndian.Uint64(src[at:]))
				} else {
					copy(memory(q, s.n), src[at:])
				}
				at += s.n
				continue
			}
			k, err := s.node.decode(src[at:], q, r)
			if err != nil {
				return 0, err
			}
			at += k
		}
		return at, nil
	}
	return n.decodeRare(src, p, r)
}

func (n *node) decodeRare(src []byte, p unsafe.Pointer, r reading) (int, error) {
	if r.depth > maxDepth {
		return 0, ErrTooDeep
	}
	switch n.op {
	case opSwap:
		if len(src) < n.n {
			return 0, ErrCorrupt
		}
		copy(memory(p, n.n), src)
		slices.Reverse(memory(p, n.n))
		return n.n, nil
	case opInt, opUint:
		if len(src) < 8 {
			return 0, ErrCorrupt
		}
		v := binary.LittleEndian.Uint64(src)
		if n.op == opInt && int64(int32(v)) != int64(v) || n.op == opUint && v > math.MaxUint32 {
			return 0, fmt.Errorf("the number does not fit in 32 bits: %w", ErrCorrupt)
		}
		*(*uint32)(p) = uint32(v)
		return 8, nil
	case opBytes:
		count, k, err := readCount(src, 1)
		if err != nil {
			return 0, err
		}
		if count < 0 {
			*(*[]byte)(p) = nil
			return k, nil
		}
		b := make([]byte, count)
		copy(b, src[k:])
		*(*[]byte)(p) = b
		return k + count, nil
	case opTime:
		if len(src) < 12 {
			return 0, ErrCorrupt
		}
		nanos := binary.LittleEndian.Uint32(src[8:])
		if nanos >= 1e9 {
			return 0, ErrCorrupt
		}
		*(*time.Time)(p) = time.Unix(int64(binary.LittleEndian.Uint64(src)), int64(nanos)).UTC()
		return 12, nil
	case opArray:
		at := 0
		for i := range n.n {
			k, err := n.elem.decode(src[at:], unsafe.Add(p, uintptr(i)*n.elem.size), r)
			if err != nil {
				return 0, err
			}
			at += k
		}
		return at, nil
	case opSlice:
		if n.elem.op == opRaw {
			return n.decodeRawSlice(src, p)
		}
		return n.decodeSlice(src, p, r.deeper(), n.elem.min, n.elem.decode)
	case opPointer:
		return n.decodePointer(src, p, r.deeper(), n.elem.decode)
	case opMap:
		return n.decodeMap(src, p, r.deeper(), n.elem.min, n.elem.decode)
	case opProto, opErased:
		return n.decodeFramed(src, p)
	case opSkip:
		reflect.NewAt(n.typ, p).Elem().SetZero()
		return 0, nil
	}
	return n.decode(src, p, r)
}

// readCount reads the number of elements of a slice or map, of at least least bytes each; -1 is nil.
func readCount(src []byte, least int) (count, n int, err error) {
	v, n := binary.Uvarint(src)
	if n <= 0 {
		return 0, 0, ErrCorrupt
	}
	if v == 0 {
		return -1, n, nil
	}
	if v-1 > uint64(len(src)-n)/uint64(max(least, 1)) {
		return 0, 0, ErrCorrupt
	}
	return int(v - 1), n, nil
}

// decoder decodes an element into the memory at p, which is zero.
type decoder func(src []byte, p unsafe.Pointer, r reading) (int, error)

func (n *node) makeSlice(count int) unsafe.Pointer {
	switch {
	case n.elem.op == opString:
		return unsafe.Pointer(unsafe.SliceData(make([]string, count)))
	case n.elem.op == opRaw && n.elem.size > 0:
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, (count*int(n.elem.size)+7)/8)))
	}
	return reflect.MakeSlice(n.typ, count, count).UnsafePointer()
}

func (n *node) decodeSlice(src []byte, p unsafe.Pointer, r reading, least int, elem decoder) (int, error) {
	count, at, err := readCount(src, least)
	if err != nil {
		return 0, err
	}
	if count < 0 {
		*(*sliceHeader)(p) = sliceHeader{}
		return at, nil
	}
	data := n.makeSlice(count)
	for i := range count {
		if least == 0 {
			if at++; at > len(src) || src[at-1] != 0 {
				return 0, ErrCorrupt
			}
		}
		k, err := elem(src[at:], unsafe.Add(data, uintptr(i)*n.elem.size), r)
		if err != nil {
			return 0, err
		}
		at += k
	}
	*(*sliceHeader)(p) = sliceHeader{data, count, count}
	return at, nil
}

// decodeRawSlice decodes elements that lie in memory as they are encoded.
func (n *node) decodeRawSlice(src []byte, p unsafe.Pointer) (int, error) {
	count, at, err := readCount(src, n.elem.n)
	if err != nil {
		return 0, err
	}
	if count < 0 {
		*(*sliceHeader)(p) = sliceHeader{}
		return at, nil
	}
	data := n.makeSlice(count)
	at += copy(memory(data, count*n.elem.n), src[at:])
	*(*sliceHeader)(p) = sliceHeader{data, count, count}
	return at, nil
}

func (n *node) decodePointer(src []byte, p unsafe.Pointer, r reading, elem decoder) (int, error) {
	if len(src) < 1 || src[0] > 1 {
		return 0, ErrCorrupt
	}
	if src[0] == 0 {
		*(*unsafe.Pointer)(p) = nil
		return 1, nil
	}
	q := reflect.New(n.elem.typ).UnsafePointer()
	k, err := elem(src[1:], q, r)
	if err != nil {
		return 0, err
	}
	*(*unsafe.Pointer)(p) = q
	return k + 1, nil
}

func (n *node) decodeMap(src []byte, p unsafe.Pointer, r reading, least int, elem decoder) (int, error) {
	dst := reflect.NewAt(n.typ, p).Elem()
	pad := n.key.min == 0
	count, at, err := readCount(src, max(n.key.min, 1)+least)
	if err != nil {
		return 0, err
	}
	if count < 0 {
		dst.SetZero()
		return at, nil
	}
	m := reflect.MakeMapWithSize(n.typ, count)
	key, value := reflect.New(n.key.typ), reflect.New(n.elem.typ)
	for range count {
		if pad {
			if at++; at > len(src) || src[at-1] != 0 {
				return 0, ErrCorrupt
			}
		}
		k, err := n.key.decode(src[at:], key.UnsafePointer(), r)
		if err != nil {
			return 0, err
		}
		at += k
		if k, err = elem(src[at:], value.UnsafePointer(), r); err != nil {
			return 0, err
		}
		at += k
		m.SetMapIndex(key.Elem(), value.Elem())
		value.Elem().SetZero()
	}
	dst.Set(m)
	return at, nil
}

// beyond is the memory that the value at p holds beyond its own, in bytes.
func (n *node) beyond(p unsafe.Pointer, depth int) int {
	if !n.extra {
		return 0
	}
	if depth > maxDepth {
		return hugeSize
	}
	total := 0
	switch n.op {
	case opString:
		return len(*(*string)(p))
	case opBytes:
		return cap(*(*[]byte)(p))
	case opStruct:
		for i := range n.steps {
			if s := &n.steps[i]; s.node.extra && total < hugeSize {
				total += s.node.beyond(unsafe.Add(p, s.off), depth)
			}
		}
	case opArray:
		for i := 0; i < n.n && total < hugeSize; i++ {
			total += n.elem.beyond(unsafe.Add(p, uintptr(i)*n.elem.size), depth)
		}
	case opSlice:
		h := (*sliceHeader)(p)
		total = h.cap * int(n.elem.size)
		for i := 0; n.elem.extra && i < h.len && total < hugeSize; i++ {
			total += n.elem.beyond(unsafe.Add(h.data, uintptr(i)*n.elem.size), depth+1)
		}
	case opPointer:
		if q := *(*unsafe.Pointer)(p); q != nil {
			total = int(n.elem.size) + n.elem.beyond(q, depth+1)
		}
	case opMap:
		total = n.beyondMap(p, depth)
	case opProto, opErased:
		total = n.beyondFramed(p)
	}
	return min(total, hugeSize)
}

func (n *node) beyondMap(p unsafe.Pointer, depth int) int {
	m := reflect.NewAt(n.typ, p).Elem()
	if m.IsNil() {
		return 0
	}
	total := 48 + m.Len()*(int(n.key.size+n.elem.size)*4/3+2)
	if !n.key.extra && !n.elem.extra {
		return total
	}
	key, value := reflect.New(n.key.typ), reflect.New(n.elem.typ)
	for it := m.MapRange(); it.Next() && total < hugeSize; {
		key.Elem().SetIterKey(it)
		value.Elem().SetIterValue(it)
		total += n.key.beyond(key.UnsafePointer(), depth+1) + n.elem.beyond(value.UnsafePointer(), depth+1)
	}
	return total
}

// unshare makes a value, which was copied as Go copies, a deep copy.
func (n *node) unshare(p unsafe.Pointer, depth int) {
	if !n.mutable {
		return
	}
	if depth > maxDepth {
		panic(fmt.Errorf("copy %v: %w", n.typ, ErrTooDeep))
	}
	switch n.op {
	case opBytes:
		if b := (*[]byte)(p); *b != nil {
			c := make([]byte, len(*b))
			copy(c, *b)
			*b = c
		}
	case opTime:
		t := (*time.Time)(p)
		*t = time.Unix(t.Unix(), int64(t.Nanosecond())).UTC()
	case opStruct:
		for i := range n.steps {
			if s := &n.steps[i]; s.node.mutable {
				s.node.unshare(unsafe.Add(p, s.off), depth)
			}
		}
	case opArray:
		for i := range n.n {
			n.elem.unshare(unsafe.Add(p, uintptr(i)*n.elem.size), depth)
		}
	case opSlice:
		h := (*sliceHeader)(p)
		if h.data == nil {
			return
		}
		old := reflect.NewAt(n.typ, p).Elem()
		c := reflect.MakeSlice(n.typ, h.len, h.len)
		reflect.Copy(c, old)
		*h = sliceHeader{c.UnsafePointer(), h.len, h.len}
		for i := 0; n.elem.mutable && i < h.len; i++ {
			n.elem.unshare(unsafe.Add(h.data, uintptr(i)*n.elem.size), depth+1)
		}
	case opPointer:
		q := *(*unsafe.Pointer)(p)
		if q == nil {
			return
		}
		c := reflect.New(n.elem.typ)
		c.Elem().Set(reflect.NewAt(n.elem.typ, q).Elem())
		*(*unsafe.Pointer)(p) = c.UnsafePointer()
		n.elem.unshare(c.UnsafePointer(), depth+1)
	case opMap:
		n.unshareMap(p, depth+1)
	case opProto, opErased:
		n.unshareFramed(p)
	case opSkip:
		reflect.NewAt(n.typ, p).Elem().SetZero()
	}
}

func (n *node) unshareMap(p unsafe.Pointer, depth int) {
	dst := reflect.NewAt(n.typ, p).Elem()
	if dst.IsNil() {
		return
	}
	m := reflect.MakeMapWithSize(n.typ, dst.Len())
	key, value := reflect.New(n.key.typ), reflect.New(n.elem.typ)
	for it := dst.MapRange(); it.Next(); {
		key.Elem().SetIterKey(it)
		value.Elem().SetIterValue(it)
		n.key.unshare(key.UnsafePointer(), depth)
		n.elem.unshare(value.UnsafePointer(), depth)
		m.SetMapIndex(key.Elem(), value.Elem())
	}
	dst.Set(m)
}
