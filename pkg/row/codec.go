package row

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrMalformed is wrapped when bytes are no rows of the types that were expected.
var ErrMalformed = errors.New("malformed rows")

// width is how many bytes a value takes in an encoded row; 0: it says so itself.
func (t *Type) width() int {
	switch t.Root {
	case Boolean, TinyInt:
		return 1
	case SmallInt:
		return 2
	case Int, Float, Date, Time, IntervalYearMonth:
		return 4
	case BigInt, Double, IntervalDayTime:
		return 8
	case Timestamp, TimestampLTZ:
		return 12
	case Decimal:
		return 16
	}
	return 0
}

// Width is the size of an encoded row of these types in bytes, or 0 if rows differ in size.
func Width(types []*Type) int {
	n := (len(types) + 7) / 8
	for _, t := range types {
		w := t.width()
		if w == 0 {
			return 0
		}
		n += w
	}
	return n
}

// AppendRow appends the row that lies at i in some columns, in this form, which lies in state and stays as it is:
//
//	+-----------------------+---------+---------+ ...
//	| NULLs: a bit for each | value 0 | value 1 |
//	| column, lowest first  |         |         |
//	+-----------------------+---------+---------+ ...
//
// A value is a little-endian integer of the type's width (TINYINT 1, SMALLINT 2, INT, FLOAT, DATE, TIME and INTERVAL YEAR TO MONTH 4, BIGINT, DOUBLE and
// INTERVAL DAY TO SECOND 8 bytes; BOOLEAN one byte, 0 or 1; TIMESTAMPs 8 bytes of milliseconds and 4 of nanoseconds within; DECIMAL 16 bytes of the
// unscaled value, low half first). Texts and bytes have their length before them (uvarint); an ARRAY its number of elements (uvarint), then they as one row;
// MAP and MULTISET the number, then a row of the keys and one of the values; a ROW is a row. Where there is NULL, a value of a fixed width is 0, and any
// other is empty (one byte, 0; a ROW has nothing).
func AppendRow(dst []byte, cols []*Vector, i int) []byte { return appendRow(dst, cols, i, false) }

// AppendKey is AppendRow of a key: values that SQL takes for equal have the same bytes (-0.0 is 0.0, and all NaN are one).
func AppendKey(dst []byte, cols []*Vector, i int) []byte { return appendRow(dst, cols, i, true) }

func appendRow(dst []byte, cols []*Vector, i int, key bool) []byte {
	at := len(dst)
	for range (len(cols) + 7) / 8 {
		dst = append(dst, 0)
	}
	for k, v := range cols {
		if v.IsNull(i) {
			dst[at+k/8] |= 1 << (k % 8)
			dst = appendNothing(dst, v.Type)
			continue
		}
		dst = appendValue(dst, v, v.At(i), key)
	}
	return dst
}

var zeros [16]byte

func appendNothing(dst []byte, t *Type) []byte {
	if w := t.width(); w > 0 {
		return append(dst, zeros[:w]...)
	}
	if t.Root == Row {
		return dst
	}
	return append(dst, 0)
}

func appendValue(dst []byte, v *Vector, i int, key bool) []byte {
	le := binary.LittleEndian
	switch v.Type.Root {
	case Boolean:
		if v.Bools[i] {
			return append(dst, 1)
		}
		return append(dst, 0)
	case TinyInt:
		return append(dst, byte(v.Ints[i]))
	case SmallInt:
		return le.AppendUint16(dst, uint16(v.Ints[i]))
	case Int, Date, Time, IntervalYearMonth:
		return le.AppendUint32(dst, uint32(v.Ints[i]))
	case BigInt, IntervalDayTime:
		return le.AppendUint64(dst, uint64(v.Ints[i]))
	case Timestamp, TimestampLTZ:
		return le.AppendUint32(le.AppendUint64(dst, uint64(v.Ints[i])), uint32(v.Nano(i)))
	case Float, Double:
		x := v.Floats[i]
		if key && x == 0 {
			x = 0
		}
		if key && math.IsNaN(x) {
			x = math.NaN()
		}
		if v.Type.Root == Float {
			return le.AppendUint32(dst, math.Float32bits(float32(x)))
		}
		return le.AppendUint64(dst, math.Float64bits(x))
	case Decimal:
		d := v.Decimals[i]
		return le.AppendUint64(le.AppendUint64(dst, d.Lo), uint64(d.Hi))
	case Char, VarChar, Binary, VarBinary, Variant:
		s := v.Spans[i]
		return append(binary.AppendUvarint(dst, uint64(s.Len)), v.Data[s.Off:s.Off+s.Len]...)
	case Array, Map, Multiset:
		s := v.Spans[i]
		dst = binary.AppendUvarint(dst, uint64(s.Len))
		for _, c := range v.Children {
			dst = appendElements(dst, c, s, key)
		}
		return dst
	case Row:
		return appendRow(dst, v.Children, i, key)
	}
	return dst
}

// appendElements writes elements of one vector as a row.
func appendElements(dst []byte, v *Vector, s Span, key bool) []byte {
	at := len(dst)
	for range (s.Len + 7) / 8 {
		dst = append(dst, 0)
	}
	for k := range int(s.Len) {
		i := int(s.Off) + k
		if v.IsNull(i) {
			dst[at+k/8] |= 1 << (k % 8)
			dst = appendNothing(dst, v.Type)
			continue
		}
		dst = appendValue(dst, v, v.At(i), key)
	}
	return dst
}

// ReadRow appends a row to some columns, and returns how many bytes it took.
func ReadRow(src []byte, cols []*Vector) (int, error) {
	r := reader{src: src}
	r.row(cols)
	if r.bad {
		return 0, fmt.Errorf("%w: %d bytes are no row of %d columns", ErrMalformed, len(src), len(cols))
	}
	return r.at, nil
}

type reader struct {
	src []byte
	at  int
	bad bool
}

// take returns the next n bytes; some n bytes when there are none.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.src)-r.at {
		r.bad = true
		if n <= len(zeros) {
			return zeros[:max(n, 0)]
		}
		return nil
	}
	r.at += n
	return r.src[r.at-n : r.at : r.at]
}

// count reads a number of things, each of which takes at least least/8 bytes of what is left.
func (r *reader) count(leastBits int) int {
	n, k := binary.Uvarint(r.src[r.at:])
	if k <= 0 || n > uint64(len(r.src)-r.at-k)*8/uint64(max(leastBits, 1)) {
		r.bad = true
		return 0
	}
	r.at += k
	return int(n)
}

func (r *reader) row(cols []*Vector) {
	nulls := r.take((len(cols) + 7) / 8)
	for k, v := range cols {
		r.value(v, !r.bad && nulls[k/8]&(1<<(k%8)) != 0)
	}
}

func (r *reader) elements(v *Vector, n int) {
	nulls := r.take((n + 7) / 8)
	for k := range n {
		if r.bad {
			return
		}
		r.value(v, nulls[k/8]&(1<<(k%8)) != 0)
	}
}

// value appends one value.
func (r *reader) value(v *Vector, null bool) {
	le := binary.LittleEndian
	if null {
		if w := v.Type.width(); w > 0 {
			r.take(w)
		} else if v.Type.Root != Row {
			r.take(1)
		}
		v.AppendNull()
		return
	}
	switch v.Type.Root {
	case Boolean:
		v.Bools = append(v.Bools, r.take(1)[0] != 0)
	case TinyInt:
		v.Ints = append(v.Ints, int64(int8(r.take(1)[0])))
	case SmallInt:
		v.Ints = append(v.Ints, int64(int16(le.Uint16(r.take(2)))))
	case Int, Date, Time, IntervalYearMonth:
		v.Ints = append(v.Ints, int64(int32(le.Uint32(r.take(4)))))
	case BigInt, IntervalDayTime:
		v.Ints = append(v.Ints, int64(le.Uint64(r.take(8))))
	case Timestamp, TimestampLTZ:
		b := r.take(12)
		v.AppendTime(int64(le.Uint64(b)), int32(le.Uint32(b[8:])))
	case Float:
		v.Floats = append(v.Floats, float64(math.Float32frombits(le.Uint32(r.take(4)))))
	case Double:
		v.Floats = append(v.Floats, math.Float64frombits(le.Uint64(r.take(8))))
	case Decimal:
		b := r.take(16)
		v.Decimals = append(v.Decimals, D128{Lo: le.Uint64(b), Hi: int64(le.Uint64(b[8:]))})
	case Char, VarChar, Binary, VarBinary, Variant:
		v.AppendText(r.take(r.count(8)))
	case Array, Map, Multiset:
		n := r.count(1)
		v.Spans = append(v.Spans, Span{uint32(v.Children[0].Len()), uint32(n)})
		for _, c := range v.Children {
			r.elements(c, n)
		}
	case Row:
		r.row(v.Children)
	}
}

// AppendBatch appends the rows of a batch that has no selection, in this form, which is the wire's and lives as long as a connection:
//
//	rows (uvarint) | kinds: 0, or 1 and a byte for each row | columns
//
// A column is a byte that says whether there are NULLs (1), whether there are nanoseconds (2), and whether it is a constant (4), then the bitmap of the
// NULLs (8 bytes for each 64 rows), then the values of fixed width as in AppendRow, one after the other (the nanoseconds after all the milliseconds), or the
// lengths (4 bytes each) and then the data, or the children. A constant has one value.
func AppendBatch(dst []byte, b *Batch) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.Len))
	if b.Kinds == nil {
		dst = append(dst, 0)
	} else {
		dst = append(dst, 1)
		for _, k := range b.Kinds[:b.Len] {
			dst = append(dst, byte(k))
		}
	}
	for _, v := range b.Cols {
		dst = appendColumn(dst, v, b.Len)
	}
	return dst
}

// The flags of a column on the wire.
const (
	someNull = 1 << iota
	hasNanos
	isConstant
)

func appendColumn(dst []byte, v *Vector, n int) []byte {
	le := binary.LittleEndian
	flags := byte(0)
	if v.Const {
		flags, n = flags|isConstant, 1
	}
	nulls := v.Nulls.Any()
	if nulls {
		flags |= someNull
	}
	if v.Nanos != nil {
		flags |= hasNanos
	}
	dst = append(dst, flags)
	if nulls {
		for w := range (n + 63) / 64 {
			x := uint64(0)
			if w < len(v.Nulls) {
				x = v.Nulls[w]
			}
			dst = le.AppendUint64(dst, x)
		}
	}
	switch v.Type.Root {
	case Boolean:
		for _, x := range v.Bools[:n] {
			dst = append(dst, bit(x))
		}
	case TinyInt:
		for _, x := range v.Ints[:n] {
			dst = append(dst, byte(x))
		}
	case SmallInt:
		for _, x := range v.Ints[:n] {
			dst = le.AppendUint16(dst, uint16(x))
		}
	case Int, Date, Time, IntervalYearMonth:
		for _, x := range v.Ints[:n] {
			dst = le.AppendUint32(dst, uint32(x))
		}
	case BigInt, IntervalDayTime, Timestamp, TimestampLTZ:
		for _, x := range v.Ints[:n] {
			dst = le.AppendUint64(dst, uint64(x))
		}
		if v.Nanos != nil {
			for _, x := range v.Nanos[:n] {
				dst = le.AppendUint32(dst, uint32(x))
			}
		}
	case Float:
		for _, x := range v.Floats[:n] {
			dst = le.AppendUint32(dst, math.Float32bits(float32(x)))
		}
	case Double:
		for _, x := range v.Floats[:n] {
			dst = le.AppendUint64(dst, math.Float64bits(x))
		}
	case Decimal:
		for _, x := range v.Decimals[:n] {
			dst = le.AppendUint64(le.AppendUint64(dst, x.Lo), uint64(x.Hi))
		}
	case Char, VarChar, Binary, VarBinary, Variant:
		for i := range n {
			dst = le.AppendUint32(dst, v.length(i, nulls))
		}
		for i := range n {
			if l := v.length(i, nulls); l > 0 {
				s := v.Spans[i]
				dst = append(dst, v.Data[s.Off:s.Off+l]...)
			}
		}
	case Array, Map, Multiset:
		total := uint32(0)
		for i := range n {
			l := v.length(i, nulls)
			dst = le.AppendUint32(dst, l)
			total += l
		}
		for _, c := range v.Children {
			flat := NewVector(c.Type)
			for i := range n {
				for e := range v.length(i, nulls) {
					flat.Append(c, int(v.Spans[i].Off+e))
				}
			}
			dst = appendColumn(dst, flat, int(total))
		}
	case Row:
		for _, c := range v.Children {
			dst = appendColumn(dst, c, n)
		}
	}
	return dst
}

// length is that of a text or a list; of a NULL it is 0, whatever its span says.
func (v *Vector) length(i int, nulls bool) uint32 {
	if nulls && v.Nulls.Get(i) {
		return 0
	}
	return v.Spans[i].Len
}

func bit(x bool) byte {
	if x {
		return 1
	}
	return 0
}

// maxRows is how many rows a batch on the wire may have.
const maxRows = 1 << 20

// ReadBatch reads what AppendBatch wrote into a batch with columns of the same types, whose memory it uses. Texts are copied out of src.
func ReadBatch(src []byte, b *Batch) error {
	r := reader{src: src}
	rows, k := binary.Uvarint(src)
	if k <= 0 || rows > maxRows {
		return fmt.Errorf("%w: %d bytes begin with no number of rows up to %d", ErrMalformed, len(src), maxRows)
	}
	n := int(rows)
	r.at = k
	b.Len, b.Sel, b.Kinds = n, nil, b.Kinds[:0]
	switch r.take(1)[0] {
	case 0:
		b.Kinds = nil
	case 1:
		for _, k := range r.take(n) {
			b.Kinds = append(b.Kinds, Kind(k))
			r.bad = r.bad || k > byte(Delete)
		}
	default:
		r.bad = true
	}
	for _, v := range b.Cols {
		if r.bad {
			break
		}
		r.column(v, n)
	}
	if r.bad || r.at != len(src) {
		b.Len = 0
		return fmt.Errorf("%w: %d bytes are no batch of %d columns", ErrMalformed, len(src), len(b.Cols))
	}
	return nil
}

func (r *reader) column(v *Vector, n int) {
	le := binary.LittleEndian
	flags := r.take(1)[0]
	if flags > 7 {
		r.bad = true
	}
	constant := flags&isConstant != 0
	if constant {
		n = 1
	}
	w := v.Type.width()
	if v.Type.Class() == Times {
		w = 8
	}
	if r.bad || w > 0 && n > (len(r.src)-r.at)/w {
		r.bad = true
		return
	}
	v.Reset(n)
	v.Const = constant
	if flags&someNull != 0 {
		for range (n + 63) / 64 {
			v.Nulls = append(v.Nulls, le.Uint64(r.take(8)))
		}
		if k := n % 64; k > 0 && len(v.Nulls) > 0 {
			v.Nulls[len(v.Nulls)-1] &= 1<<k - 1
		}
	}
	switch v.Type.Root {
	case Boolean:
		for i, x := range r.take(n) {
			v.Bools[i] = x != 0
		}
	case TinyInt:
		for i, x := range r.take(n) {
			v.Ints[i] = int64(int8(x))
		}
	case SmallInt:
		for i := range v.Ints {
			v.Ints[i] = int64(int16(le.Uint16(r.take(2))))
		}
	case Int, Date, Time, IntervalYearMonth:
		for i := range v.Ints {
			v.Ints[i] = int64(int32(le.Uint32(r.take(4))))
		}
	case BigInt, IntervalDayTime, Timestamp, TimestampLTZ:
		for i := range v.Ints {
			v.Ints[i] = int64(le.Uint64(r.take(8)))
		}
		if flags&hasNanos != 0 {
			v.Nanos = sized(v.Nanos, n)
			for i := range v.Nanos {
				v.Nanos[i] = int32(le.Uint32(r.take(4)))
			}
		}
	case Float:
		for i := range v.Floats {
			v.Floats[i] = float64(math.Float32frombits(le.Uint32(r.take(4))))
		}
	case Double:
		for i := range v.Floats {
			v.Floats[i] = math.Float64frombits(le.Uint64(r.take(8)))
		}
	case Decimal:
		for i := range v.Decimals {
			lo := le.Uint64(r.take(8))
			v.Decimals[i] = D128{Lo: lo, Hi: int64(le.Uint64(r.take(8)))}
		}
	case Char, VarChar, Binary, VarBinary, Variant:
		total := r.spans(v, n)
		v.Data = append(v.Data, r.take(total)...)
	case Array, Map, Multiset:
		total := r.spans(v, n)
		for _, c := range v.Children {
			if !r.bad {
				r.column(c, total)
			}
		}
	case Row:
		for _, c := range v.Children {
			if !r.bad {
				r.column(c, n)
			}
		}
	}
}

// spans reads lengths, one after the other in the data, and returns their sum.
func (r *reader) spans(v *Vector, n int) int {
	lengths := r.take(4 * n)
	if r.bad {
		v.Spans = v.Spans[:0]
		return 0
	}
	total := uint64(0)
	for i := range n {
		l := binary.LittleEndian.Uint32(lengths[4*i:])
		v.Spans[i] = Span{uint32(total), l}
		total += uint64(l)
	}
	// An element takes a byte at least, but for an array of rows without columns.
	if total > uint64(len(r.src)-r.at)*64 || total > MaxLength {
		r.bad = true
		return 0
	}
	return int(total)
}
