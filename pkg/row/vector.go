package row

import "math/bits"

// Bitmap has a bit for each of a number of rows. Beyond its length all bits are 0, so the nil Bitmap has none set.
type Bitmap []uint64

// Get reports a bit.
func (m Bitmap) Get(i int) bool {
	w := i >> 6
	return w < len(m) && m[w]&(1<<(i&63)) != 0
}

// Set sets a bit, and returns the bitmap, grown to it.
func (m Bitmap) Set(i int) Bitmap {
	w := i >> 6
	for w >= len(m) {
		m = append(m, 0)
	}
	m[w] |= 1 << (i & 63)
	return m
}

// Clear clears a bit.
func (m Bitmap) Clear(i int) {
	if w := i >> 6; w < len(m) {
		m[w] &^= 1 << (i & 63)
	}
}

// Any reports whether a bit is set.
func (m Bitmap) Any() bool {
	for _, w := range m {
		if w != 0 {
			return true
		}
	}
	return false
}

// Count is the number of bits that are set.
func (m Bitmap) Count() int {
	n := 0
	for _, w := range m {
		n += bits.OnesCount64(w)
	}
	return n
}

// Or returns a | b in the memory of m, if it suffices; m may be a or b.
func (m Bitmap) Or(a, b Bitmap) Bitmap {
	if len(a) < len(b) {
		a, b = b, a
	}
	m = sized(m, len(a))
	for i, w := range a {
		if i < len(b) {
			w |= b[i]
		}
		m[i] = w
	}
	return m
}

// Span is a piece of Data, or of Children.
type Span struct{ Off, Len uint32 }

// Vector is a column of a batch. Which of its slices holds values says Type.Class; a value that is NULL may have anything there (a span must be within
// its data). Values of rows that a selection leaves out may be anything, too.
//
// A constant (Const) holds one value, at 0, for all rows: index with v.At(i). Whoever makes values for several rows writes to a vector that is none.
//
// A vector is lent for a call: who wants to keep it copies (Append). Vectors may share memory: nobody writes to one that it did not make.
type Vector struct {
	Type  *Type
	Const bool
	// Nulls has a bit for each value that is NULL.
	Nulls Bitmap

	Bools    []bool
	Ints     []int64
	Nanos    []int32 // nil: all are 0; else as long as Ints
	Floats   []float64
	Decimals []D128
	Spans    []Span
	Data     []byte
	Children []*Vector
}

// NewVector returns an empty vector of a type, with its children.
func NewVector(t *Type) *Vector {
	v := &Vector{Type: t}
	switch t.Root {
	case Array:
		v.Children = []*Vector{NewVector(t.Elem)}
	case Multiset:
		v.Children = []*Vector{NewVector(t.Elem), NewVector(Of(Int))}
	case Map:
		v.Children = []*Vector{NewVector(t.Key), NewVector(t.Elem)}
	case Row:
		for _, f := range t.Fields {
			v.Children = append(v.Children, NewVector(f.Type))
		}
	}
	return v
}

// At is where the value of a row lies.
func (v *Vector) At(i int) int {
	if v.Const {
		return 0
	}
	return i
}

// Mask makes At a bit operation, for loops: the value of row i lies at i & v.Mask().
func (v *Vector) Mask() int {
	if v.Const {
		return 0
	}
	return -1
}

// IsNull reports whether the value of row i is NULL.
func (v *Vector) IsNull(i int) bool {
	return v.Nulls != nil && v.Nulls.Get(v.At(i)) || v.Type.Root == Null
}

// Text is the text or bytes of row i; it shares the vector's memory.
func (v *Vector) Text(i int) []byte {
	s := v.Spans[v.At(i)]
	return v.Data[s.Off : s.Off+s.Len : s.Off+s.Len]
}

// Nano is the nanoseconds within the millisecond of row i.
func (v *Vector) Nano(i int) int32 {
	if v.Nanos == nil {
		return 0
	}
	return v.Nanos[v.At(i)]
}

// Reset empties the vector for n rows to be written at any place, and keeps its memory. No value is NULL, and those of the classes with a fixed size
// are whatever was there.
func (v *Vector) Reset(n int) {
	v.Const = false
	v.Nulls = v.Nulls[:0]
	v.Data = v.Data[:0]
	v.Nanos = nil
	switch v.Type.Class() {
	case Bools:
		v.Bools = sized(v.Bools, n)
	case Ints, Times:
		v.Ints = sized(v.Ints, n)
	case Floats:
		v.Floats = sized(v.Floats, n)
	case Decimals:
		v.Decimals = sized(v.Decimals, n)
	case Texts:
		v.Spans = sized(v.Spans, n)
	case Lists:
		v.Spans = sized(v.Spans, n)
		for _, c := range v.Children {
			c.Reset(0)
		}
	case Rows:
		for _, c := range v.Children {
			c.Reset(n)
		}
	case Nothing:
	}
}

func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 2*cap(s)))
	}
	return s[:n]
}

// SetNull makes the value of row i NULL, in a vector with room for it (Reset). A text and a list of it are empty.
func (v *Vector) SetNull(i int) {
	v.Nulls = v.Nulls.Set(i)
	if v.Spans != nil && i < len(v.Spans) {
		v.Spans[i] = Span{}
	}
	if v.Type.Root == Row {
		for _, c := range v.Children {
			c.SetNull(i)
		}
	}
}

// SetText gives row i a copy of a text.
func (v *Vector) SetText(i int, text []byte) {
	v.Spans[i] = Span{uint32(len(v.Data)), uint32(len(text))}
	v.Data = append(v.Data, text...)
}

// SetNano gives row i nanoseconds within its millisecond.
func (v *Vector) SetNano(i int, nanos int32) {
	if v.Nanos == nil {
		if nanos == 0 {
			return
		}
		v.Nanos = make([]int32, len(v.Ints))
	}
	v.Nanos[i] = nanos
}

// Len is the number of values that are there; that of a constant is 1.
func (v *Vector) Len() int {
	switch v.Type.Class() {
	case Bools:
		return len(v.Bools)
	case Ints, Times:
		return len(v.Ints)
	case Floats:
		return len(v.Floats)
	case Decimals:
		return len(v.Decimals)
	case Texts, Lists:
		return len(v.Spans)
	case Rows:
		if len(v.Children) > 0 {
			return v.Children[0].Len()
		}
	case Nothing:
	}
	return 0
}

// Append appends the value of row i of another vector of the same class, as a copy: nothing of from is kept.
func (v *Vector) Append(from *Vector, i int) {
	n := v.Len()
	v.appendAt(from, i, n)
}

func (v *Vector) appendAt(from *Vector, i, n int) {
	if from.IsNull(i) {
		v.AppendNull()
		return
	}
	i = from.At(i)
	switch v.Type.Class() {
	case Bools:
		v.Bools = append(v.Bools, from.Bools[i])
	case Ints:
		v.Ints = append(v.Ints, from.Ints[i])
	case Times:
		v.Ints = append(v.Ints, from.Ints[i])
		v.appendNano(from.Nano(i))
	case Floats:
		v.Floats = append(v.Floats, from.Floats[i])
	case Decimals:
		v.Decimals = append(v.Decimals, from.Decimals[i])
	case Texts:
		s := from.Spans[i]
		v.AppendText(from.Data[s.Off : s.Off+s.Len])
	case Lists:
		s := from.Spans[i]
		v.Spans = append(v.Spans, Span{uint32(v.Children[0].Len()), s.Len})
		for k, c := range v.Children {
			for e := range s.Len {
				c.Append(from.Children[k], int(s.Off+e))
			}
		}
	case Rows:
		for k, c := range v.Children {
			c.appendAt(from.Children[k], i, n)
		}
	case Nothing:
	}
}

func (v *Vector) appendNano(nanos int32) {
	switch {
	case v.Nanos != nil:
		v.Nanos = append(v.Nanos, nanos)
	case nanos != 0:
		v.SetNano(len(v.Ints)-1, nanos)
	}
}

// AppendText appends a copy of a text.
func (v *Vector) AppendText(text []byte) {
	v.Spans = append(v.Spans, Span{uint32(len(v.Data)), uint32(len(text))})
	v.Data = append(v.Data, text...)
}

// AppendTime appends a point in time.
func (v *Vector) AppendTime(millis int64, nanos int32) {
	v.Ints = append(v.Ints, millis)
	v.appendNano(nanos)
}

// Grow appends n values that are to be set (SetText, or by index); until then they are anything.
func (v *Vector) Grow(n int) {
	switch v.Type.Class() {
	case Bools:
		v.Bools = append(v.Bools, make([]bool, n)...)
	case Ints:
		v.Ints = append(v.Ints, make([]int64, n)...)
	case Times:
		v.Ints = append(v.Ints, make([]int64, n)...)
		if v.Nanos != nil {
			v.Nanos = append(v.Nanos, make([]int32, n)...)
		}
	case Floats:
		v.Floats = append(v.Floats, make([]float64, n)...)
	case Decimals:
		v.Decimals = append(v.Decimals, make([]D128, n)...)
	case Texts, Lists:
		v.Spans = append(v.Spans, make([]Span, n)...)
	case Rows:
		for _, c := range v.Children {
			c.Grow(n)
		}
	case Nothing:
	}
}

// AppendNull appends a NULL.
func (v *Vector) AppendNull() {
	n := v.Len()
	switch v.Type.Class() {
	case Bools:
		v.Bools = append(v.Bools, false)
	case Ints:
		v.Ints = append(v.Ints, 0)
	case Times:
		v.AppendTime(0, 0)
	case Floats:
		v.Floats = append(v.Floats, 0)
	case Decimals:
		v.Decimals = append(v.Decimals, D128{})
	case Texts, Lists:
		v.Spans = append(v.Spans, Span{})
	case Rows:
		for _, c := range v.Children {
			c.AppendNull()
		}
	case Nothing:
		return
	}
	v.Nulls = v.Nulls.Set(n)
}

// Bytes is about what the values take, in bytes.
func (v *Vector) Bytes() int {
	n := len(v.Nulls)*8 + len(v.Bools) + len(v.Ints)*8 + len(v.Nanos)*4 + len(v.Floats)*8 + len(v.Decimals)*16 + len(v.Spans)*8 + len(v.Data)
	for _, c := range v.Children {
		n += c.Bytes()
	}
	return n
}

// Batch is rows in columns.
//
// A batch is lent for a call, with its columns. Every consumer that keeps something of it copies.
type Batch struct {
	// Len is the number of rows that the columns have.
	Len int
	// Sel, when not nil, lists the rows that count, ascending: a filter leaves columns as they are.
	Sel []int32
	// Kinds are the rows' kinds; nil: all are inserts.
	Kinds []Kind
	Cols  []*Vector
}

// Rows is the number of rows that count.
func (b *Batch) Rows() int {
	if b.Sel != nil {
		return len(b.Sel)
	}
	return b.Len
}

// Row is where the i-th row that counts lies in the columns.
func (b *Batch) Row(i int) int {
	if b.Sel != nil {
		return int(b.Sel[i])
	}
	return i
}

// Kind is the kind of the row that lies at i in the columns.
func (b *Batch) Kind(i int) Kind {
	if b.Kinds == nil {
		return Insert
	}
	return b.Kinds[i]
}
