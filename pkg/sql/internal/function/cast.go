package function

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

func init() {
	add(
		&expr.Function{Name: "CAST", Group: "conversion", Syntax: "CAST(value AS type)", Doc: "The value as another type. What cannot be converted fails the job; a number that does not fit wraps around, a DECIMAL that does not fit is NULL.", Infer: inferCast, Kernel: kernelCast(false)},
		&expr.Function{Name: "TRY_CAST", Group: "conversion", Syntax: "TRY_CAST(value AS type)", Doc: "As CAST, but NULL for what cannot be converted.", Infer: inferCast, Kernel: kernelCast(true)},
	)
}

// inferCast checks the cast of the first argument to the type of the second, which binding makes up.
func inferCast(c *expr.Inference) (*row.Type, error) {
	from, to := c.Arg(0), c.Arg(1)
	if !castable(from, to) {
		return nil, fmt.Errorf("%s cannot be cast to %s", from.Nullable(true), to.Nullable(true))
	}
	return to.Nullable(!from.NotNull || c.Func.Name == "TRY_CAST"), nil
}

// castable says which casts there are.
func castable(from, to *row.Type) bool {
	exact := func(r row.Root) bool { return r.IsNumeric() || r == row.Boolean }
	f, t := from.Root, to.Root
	switch {
	case f == row.Null:
		return true
	case t.IsText():
		return f != row.Variant && f != row.Symbol && f != row.Descriptor
	case f.IsText():
		return !isNested(t) && t != row.Variant && !t.IsInterval()
	case exact(f):
		return exact(t) || f.IsInteger() && t.IsInterval()
	case f.IsBytes():
		return t.IsBytes()
	case f == row.Date:
		return t == row.Date || t == row.Timestamp || t == row.TimestampLTZ
	case f == row.Time:
		return t == row.Time || t == row.Timestamp || t == row.TimestampLTZ
	case f == row.Timestamp, f == row.TimestampLTZ:
		return t.IsTime()
	case f.IsInterval():
		return f == t || t.IsInteger()
	case f == row.Row && t == row.Row:
		if len(from.Fields) != len(to.Fields) {
			return false
		}
		for i := range from.Fields {
			if !castable(from.Fields[i].Type, to.Fields[i].Type) {
				return false
			}
		}
		return true
	case isNested(f) && f == t:
		return castable(from.Elem, to.Elem) && (from.Key == nil || castable(from.Key, to.Key))
	}
	return f == t
}

func isNested(r row.Root) bool { return r >= row.Array && r <= row.Row }

// caster writes the value at k of a vector, which is not NULL, as row i of another.
type caster func(out *row.Vector, i int, v *row.Vector, k int) error

func kernelCast(try bool) func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(c *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
		from, to := e.Args[0].Type, e.Type
		f, err := casterOf(c.Session, from, to)
		if err != nil {
			return nil, err
		}
		lenient := try || c.Session.LegacyCast
		return func(in *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			v := args[0]
			expr.Each(sel, n, func(i int) {
				k := v.At(i)
				err := f(out, i, v, k)
				switch {
				case err == nil:
				case lenient && !isStrict(err):
					out.SetNull(i)
				default:
					in.Fail(fmt.Errorf("%s cannot be cast to %s: %w", show(v, k), to.Nullable(true), err))
				}
			})
		}, nil
	}
}

// strictError is an error that TRY_CAST does not catch, since Flink's does not.
type strictError struct{ error }

func isStrict(err error) bool { _, ok := err.(strictError); return ok } //nolint:errorlint // it is never wrapped

// show is a value for messages.
func show(v *row.Vector, k int) string {
	if v.Type.Root.IsText() {
		return "'" + string(v.Text(k)) + "'"
	}
	return string(appendText(nil, time.UTC, v, k, false))
}

// casterOf finds the conversion between two types.
func casterOf(s *expr.Session, from, to *row.Type) (caster, error) {
	f, t := from.Root, to.Root
	legacy := s.LegacyCast
	switch {
	case f == row.Null:
		return func(out *row.Vector, i int, _ *row.Vector, _ int) error { out.SetNull(i); return nil }, nil
	case t.IsText():
		return toText(s, from, to, legacy), nil
	case t.IsBytes():
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			b := v.Text(k)
			if len(b) > to.Precision {
				b = b[:to.Precision]
			}
			out.SetText(i, b)
			if t == row.Binary && !legacy {
				pad(out, i, to.Precision-len(b), 0)
			}
			return nil
		}, nil
	case isNested(t):
		return nestedCaster(s, from, to)
	}
	switch to.Class() {
	case row.Bools:
		return toBool(from), nil
	case row.Floats:
		return toFloat(from, t == row.Float), nil
	case row.Decimals:
		return toDecimal(from, to), nil
	case row.Times:
		return toTimes(s.Zone, from, to), nil
	case row.Ints:
		switch t {
		case row.Date:
			return toDate(s.Zone, from), nil
		case row.Time:
			return toTime(s.Zone, from, to.Precision), nil
		}
		return toInt(from, t), nil
	case row.Texts:
		return func(out *row.Vector, i int, v *row.Vector, k int) error { out.SetText(i, v.Text(k)); return nil }, nil
	}
	return nil, fmt.Errorf("%s cannot be cast to %s", from, to)
}

// pad appends to the text of row i, which is the last one that was set.
func pad(out *row.Vector, i, n int, with byte) {
	for range n {
		out.Data = append(out.Data, with)
	}
	if n > 0 {
		out.Spans[i].Len += uint32(n)
	}
}

// toText writes a value, cut to the type's length, and filled up with spaces if it is a CHAR.
func toText(s *expr.Session, from, to *row.Type, legacy bool) caster {
	var buf []byte
	return func(out *row.Vector, i int, v *row.Vector, k int) error {
		var text []byte
		switch {
		case from.Root.IsText():
			text = v.Text(k)
		case from.Root.IsBytes():
			text = v.Text(k)
			if !utf8.Valid(text) {
				text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
			}
		default:
			buf = appendText(buf[:0], s.Zone, v, k, legacy)
			text = buf
		}
		n := len(text)
		if to.Precision < row.MaxLength && (len(text) > to.Precision || to.Root == row.Char) {
			n = utf8.RuneCount(text)
			if n > to.Precision && !legacy {
				text = text[:prefix(text, to.Precision)]
			}
		}
		out.SetText(i, text)
		if to.Root == row.Char {
			pad(out, i, to.Precision-n, ' ')
		}
		return nil
	}
}

// prefix is how many bytes the first n characters have.
func prefix(text []byte, n int) int {
	at := 0
	for ; n > 0 && at < len(text); n-- {
		_, size := utf8.DecodeRune(text[at:])
		at += size
	}
	return at
}

// appendText writes a value as a cast to STRING does.
func appendText(dst []byte, zone *time.Location, v *row.Vector, k int, legacy bool) []byte {
	t := v.Type
	switch t.Root {
	case row.Boolean:
		text := "FALSE"
		if v.Bools[k] {
			text = "TRUE"
		}
		if legacy {
			text = strings.ToLower(text)
		}
		return append(dst, text...)
	case row.TinyInt, row.SmallInt, row.Int, row.BigInt:
		return strconv.AppendInt(dst, v.Ints[k], 10)
	case row.Float, row.Double:
		return AppendFloat(dst, v.Floats[k], t.Root == row.Float)
	case row.Decimal:
		return v.Decimals[k].AppendText(dst, t.Scale)
	case row.Date:
		return appendDate(dst, v.Ints[k])
	case row.Time:
		return appendClock(dst, v.Ints[k], 0, t.Precision)
	case row.Timestamp:
		return appendTime(dst, v.Ints[k], v.Nano(k), t.Precision)
	case row.TimestampLTZ:
		return appendTime(dst, toLocal(zone, v.Ints[k]), v.Nano(k), t.Precision)
	case row.IntervalYearMonth, row.IntervalDayTime:
		return appendInterval(dst, t, v.Ints[k])
	case row.Char, row.VarChar, row.Binary, row.VarBinary, row.Variant:
		return append(dst, v.Text(k)...)
	case row.Array:
		s := v.Spans[k]
		dst = append(dst, '[')
		for e := range int(s.Len) {
			dst = appendElement(separated(dst, e), zone, v.Children[0], int(s.Off)+e, legacy)
		}
		return append(dst, ']')
	case row.Map, row.Multiset:
		s := v.Spans[k]
		dst = append(dst, '{')
		for e := range int(s.Len) {
			dst = appendElement(separated(dst, e), zone, v.Children[0], int(s.Off)+e, legacy)
			dst = appendElement(append(dst, '='), zone, v.Children[1], int(s.Off)+e, legacy)
		}
		return append(dst, '}')
	case row.Row:
		dst = append(dst, '(')
		for e, c := range v.Children {
			dst = appendElement(separated(dst, e), zone, c, k, legacy)
		}
		return append(dst, ')')
	}
	return dst
}

func separated(dst []byte, e int) []byte {
	if e > 0 {
		return append(dst, ", "...)
	}
	return dst
}

func appendElement(dst []byte, zone *time.Location, v *row.Vector, k int, legacy bool) []byte {
	if v.IsNull(k) {
		return append(dst, "NULL"...)
	}
	return appendText(dst, zone, v, v.At(k), legacy)
}

func toBool(from *row.Type) caster {
	switch from.Class() {
	case row.Texts:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			switch strings.ToLower(string(v.Text(k))) {
			case "t", "true", "y", "yes", "1":
				out.Bools[i] = true
			case "f", "false", "n", "no", "0":
				out.Bools[i] = false
			default:
				return fmt.Errorf("it is none of true, t, yes, y, 1, false, f, no, n, 0")
			}
			return nil
		}
	case row.Ints:
		return func(out *row.Vector, i int, v *row.Vector, k int) error { out.Bools[i] = v.Ints[k] != 0; return nil }
	case row.Floats:
		return func(out *row.Vector, i int, v *row.Vector, k int) error { out.Bools[i] = v.Floats[k] != 0; return nil }
	case row.Decimals:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Bools[i] = v.Decimals[k].Sign() != 0
			return nil
		}
	}
	return func(out *row.Vector, i int, v *row.Vector, k int) error { out.Bools[i] = v.Bools[k]; return nil }
}

// limits are the least and the largest value of an integer type.
func limits(r row.Root) (least, most int64) {
	switch r {
	case row.TinyInt:
		return math.MinInt8, math.MaxInt8
	case row.SmallInt:
		return math.MinInt16, math.MaxInt16
	case row.Int:
		return math.MinInt32, math.MaxInt32
	}
	return math.MinInt64, math.MaxInt64
}

func toInt(from *row.Type, to row.Root) caster {
	switch from.Class() {
	case row.Texts:
		least, most := limits(to)
		return func(out *row.Vector, i int, v *row.Vector, k int) (err error) {
			out.Ints[i], err = parseInteger(v.Text(k), least, most)
			return err
		}
	case row.Bools:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Ints[i] = int64(boolInt(v.Bools[k]))
			return nil
		}
	case row.Floats:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Ints[i] = javaInt(v.Floats[k], to)
			return nil
		}
	case row.Decimals:
		scale := from.Scale
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			b := new(big.Int).Quo(v.Decimals[k].Big(), pow10(scale))
			low := new(big.Int).And(b, new(big.Int).SetUint64(math.MaxUint64)) // in two's complement
			out.Ints[i] = wrap(to, int64(low.Uint64()))
			return nil
		}
	}
	return func(out *row.Vector, i int, v *row.Vector, k int) error {
		out.Ints[i] = wrap(to, v.Ints[k])
		return nil
	}
}

// javaInt converts as Java does: NaN is 0, what is too large the largest; to the small types by way of INT.
func javaInt(x float64, to row.Root) int64 {
	least, most := limits(max(to, row.Int))
	switch {
	case x != x:
		return 0
	case x <= float64(least):
		return wrap(to, least)
	case x >= float64(most):
		return wrap(to, most)
	}
	return wrap(to, int64(x))
}

func toFloat(from *row.Type, single bool) caster {
	narrow := func(x float64) float64 {
		if single {
			return float64(float32(x))
		}
		return x
	}
	switch from.Class() {
	case row.Texts:
		return func(out *row.Vector, i int, v *row.Vector, k int) (err error) {
			out.Floats[i], err = parseFloat(string(v.Text(k)), single)
			return err
		}
	case row.Bools:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Floats[i] = float64(boolInt(v.Bools[k]))
			return nil
		}
	case row.Ints:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Floats[i] = float64(v.Ints[k])
			if single {
				out.Floats[i] = float64(float32(v.Ints[k]))
			}
			return nil
		}
	case row.Decimals:
		scale := from.Scale
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Floats[i] = narrow(v.Decimals[k].Float(scale))
			return nil
		}
	}
	return func(out *row.Vector, i int, v *row.Vector, k int) error {
		out.Floats[i] = narrow(v.Floats[k])
		return nil
	}
}

func toDecimal(from, to *row.Type) caster {
	set := func(out *row.Vector, i int, d row.D128, ok bool) error {
		if !ok || !d.Fits(to.Precision) {
			out.SetNull(i)
			return nil
		}
		out.Decimals[i] = d
		return nil
	}
	switch from.Class() {
	case row.Texts:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			d, ok := row.ParseDecimal(bytes.TrimFunc(v.Text(k), func(r rune) bool { return r <= ' ' }), to.Scale)
			if !ok || !d.Fits(to.Precision) {
				return fmt.Errorf("it is no number with %d digits", to.Precision)
			}
			out.Decimals[i] = d
			return nil
		}
	case row.Bools:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			d, ok := row.DecimalFrom(int64(boolInt(v.Bools[k]))).Rescale(0, to.Scale)
			return set(out, i, d, ok)
		}
	case row.Ints:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			d, ok := row.DecimalFrom(v.Ints[k]).Rescale(0, to.Scale)
			return set(out, i, d, ok)
		}
	case row.Floats:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			x := v.Floats[k]
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return strictError{fmt.Errorf("it is no number")}
			}
			d, ok := row.ParseDecimal(strconv.AppendFloat(nil, x, 'e', -1, 64), to.Scale)
			return set(out, i, d, ok)
		}
	}
	return func(out *row.Vector, i int, v *row.Vector, k int) error {
		d, ok := v.Decimals[k].Rescale(from.Scale, to.Scale)
		return set(out, i, d, ok)
	}
}

func toDate(zone *time.Location, from *row.Type) caster {
	switch from.Root {
	case row.Timestamp: // towards 1970
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Ints[i] = v.Ints[k] / dayMillis
			return nil
		}
	case row.TimestampLTZ:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Ints[i] = floorDiv(toLocal(zone, v.Ints[k]), dayMillis)
			return nil
		}
	case row.Date:
		return func(out *row.Vector, i int, v *row.Vector, k int) error { out.Ints[i] = v.Ints[k]; return nil }
	}
	return func(out *row.Vector, i int, v *row.Vector, k int) (err error) {
		out.Ints[i], err = parseDate(string(v.Text(k)))
		return err
	}
}

func toTime(zone *time.Location, from *row.Type, precision int) caster {
	switch from.Root {
	case row.Timestamp:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Ints[i] = v.Ints[k] % dayMillis
			return nil
		}
	case row.TimestampLTZ:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Ints[i] = floorMod(toLocal(zone, v.Ints[k]), dayMillis)
			return nil
		}
	case row.Time:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			out.Ints[i], _ = cutTime(v.Ints[k], 0, min(precision, 3))
			return nil
		}
	}
	return func(out *row.Vector, i int, v *row.Vector, k int) error {
		ms, err := parseClock(string(v.Text(k)))
		out.Ints[i], _ = cutTime(ms, 0, min(precision, 3))
		return err
	}
}

func toTimes(zone *time.Location, from, to *row.Type) caster {
	set := func(out *row.Vector, i int, ms int64, nanos int32) {
		ms, nanos = cutTime(ms, nanos, to.Precision)
		out.Ints[i] = ms
		out.SetNano(i, nanos)
	}
	local := to.Root == row.TimestampLTZ // what is read is the local time of an instant
	setLocal := func(out *row.Vector, i int, ms int64, nanos int32) {
		if local {
			ms = toInstant(zone, ms)
		}
		set(out, i, ms, nanos)
	}
	switch from.Root {
	case row.Date:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			setLocal(out, i, v.Ints[k]*dayMillis, 0)
			return nil
		}
	case row.Time:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			setLocal(out, i, v.Ints[k], 0)
			return nil
		}
	case row.Timestamp:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			setLocal(out, i, v.Ints[k], v.Nano(k))
			return nil
		}
	case row.TimestampLTZ:
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			ms := v.Ints[k]
			if !local {
				ms = toLocal(zone, ms)
			}
			set(out, i, ms, v.Nano(k))
			return nil
		}
	}
	return func(out *row.Vector, i int, v *row.Vector, k int) error {
		ms, nanos, err := parseTimestamp(string(v.Text(k)))
		if err != nil {
			return err
		}
		setLocal(out, i, ms, nanos)
		return nil
	}
}

// nestedCaster converts element by element.
func nestedCaster(s *expr.Session, from, to *row.Type) (caster, error) {
	parts := func(t *row.Type) []*row.Type {
		switch t.Root {
		case row.Row:
			out := make([]*row.Type, len(t.Fields))
			for i, f := range t.Fields {
				out[i] = f.Type
			}
			return out
		case row.Map:
			return []*row.Type{t.Key, t.Elem}
		case row.Multiset:
			return []*row.Type{t.Elem, row.Of(row.Int)}
		}
		return []*row.Type{t.Elem}
	}
	fp, tp := parts(from), parts(to)
	casts := make([]caster, len(tp))
	for i := range tp {
		var err error
		if casts[i], err = casterOf(s, fp[i], tp[i]); err != nil {
			return nil, err
		}
	}
	one := func(c int, out *row.Vector, i int, v *row.Vector, k int) error {
		if v.IsNull(k) {
			out.SetNull(i)
			return nil
		}
		return casts[c](out, i, v, v.At(k))
	}
	if to.Root == row.Row {
		return func(out *row.Vector, i int, v *row.Vector, k int) error {
			for c := range casts {
				if err := one(c, out.Children[c], i, v.Children[c], k); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
	return func(out *row.Vector, i int, v *row.Vector, k int) error {
		span := v.Spans[k]
		at := out.Children[0].Len()
		for c := range casts {
			out.Children[c].Grow(int(span.Len))
			for e := range int(span.Len) {
				if err := one(c, out.Children[c], at+e, v.Children[c], int(span.Off)+e); err != nil {
					return err
				}
			}
		}
		out.Spans[i] = row.Span{Off: uint32(at), Len: span.Len}
		return nil
	}, nil
}
