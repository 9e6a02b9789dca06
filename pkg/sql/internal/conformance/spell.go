package conformance

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rivulet-io/rivulet/pkg/row"
)

// Spell appends the value of a row as case files spell it.
func Spell(dst []byte, v *row.Vector, i int) []byte {
	if v.IsNull(i) {
		return append(dst, "null"...)
	}
	t := v.Type
	i = v.At(i)
	switch t.Root {
	case row.Boolean:
		return strconv.AppendBool(dst, v.Bools[i])
	case row.TinyInt, row.SmallInt, row.Int, row.BigInt, row.IntervalYearMonth, row.IntervalDayTime:
		return strconv.AppendInt(dst, v.Ints[i], 10)
	case row.Float, row.Double:
		return spellFloat(dst, v.Floats[i], t.Root == row.Float)
	case row.Decimal:
		dst = v.Decimals[i].AppendText(append(dst, '"'), t.Scale)
		return append(dst, '"')
	case row.Char, row.VarChar, row.Variant:
		return spellText(dst, v.Text(i))
	case row.Binary, row.VarBinary:
		return append(hex.AppendEncode(append(dst, '"'), v.Text(i)), '"')
	case row.Date:
		return append(spellDate(append(dst, '"'), v.Ints[i]), '"')
	case row.Time:
		if v.Ints[i] < 0 || v.Ints[i] >= 86_400_000 {
			return fmt.Appendf(dst, `"out of range: %d ms"`, v.Ints[i])
		}
		return append(spellClock(append(dst, '"'), v.Ints[i], 0, t.Precision), '"')
	case row.Timestamp, row.TimestampLTZ:
		ms := v.Ints[i]
		day := floorDiv(ms, 86_400_000)
		dst = append(spellDate(append(dst, '"'), day), ' ')
		dst = spellClock(dst, ms-day*86_400_000, v.Nano(i), t.Precision)
		if t.Root == row.TimestampLTZ {
			dst = append(dst, 'Z')
		}
		return append(dst, '"')
	case row.Array, row.Map, row.Multiset:
		s := v.Spans[i]
		items := make([]string, s.Len)
		for k := range items {
			at := int(s.Off) + k
			item := Spell(nil, v.Children[0], at)
			if t.Root != row.Array {
				item = append(item, ", "...)
				item = append(append([]byte{'['}, Spell(item, v.Children[1], at)...), ']')
			}
			items[k] = string(item)
		}
		if t.Root != row.Array {
			slices.Sort(items)
		}
		return append(append(append(dst, '['), strings.Join(items, ", ")...), ']')
	case row.Row:
		dst = append(dst, '[')
		for k, c := range v.Children {
			if k > 0 {
				dst = append(dst, ", "...)
			}
			dst = Spell(dst, c, i)
		}
		return append(dst, ']')
	}
	return fmt.Appendf(dst, "a value of type %s", t)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func spellFloat(dst []byte, x float64, single bool) []byte {
	switch {
	case math.IsNaN(x):
		return append(dst, `"NaN"`...)
	case math.IsInf(x, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(x, -1):
		return append(dst, `"-Infinity"`...)
	}
	bits := 64
	if single {
		bits = 32
	}
	return strconv.AppendFloat(dst, x, 'g', -1, bits)
}

func spellDate(dst []byte, days int64) []byte {
	t := time.Unix(days*86_400, 0).UTC()
	y, m, d := t.Date()
	if y > 9999 {
		dst = append(dst, '+')
	}
	return fmt.Appendf(dst, "%04d-%02d-%02d", y, m, d)
}

// spellClock writes milliseconds of a day with digits after the point: more, if there are more.
func spellClock(dst []byte, ms int64, nanos int32, digits int) []byte {
	dst = fmt.Appendf(dst, "%02d:%02d:%02d", ms/3_600_000, ms/60_000%60, ms/1000%60)
	fraction := fmt.Sprintf("%09d", ms%1000*1_000_000+int64(nanos))
	n := max(digits, len(strings.TrimRight(fraction, "0")))
	if n > 0 {
		dst = append(append(dst, '.'), fraction[:n]...)
	}
	return dst
}

func spellText(dst, text []byte) []byte {
	dst = append(dst, '"')
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r < 0x20 || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = append(dst, text[:n]...)
		}
		text = text[n:]
	}
	return append(dst, '"')
}

// SameValue reports whether two spellings say the same value of a type: numbers in whatever form, bit by bit; all else letter by letter.
func SameValue(t *row.Type, a, b string) bool {
	if a == b {
		return true
	}
	x, y := decodeJSON(a), decodeJSON(b)
	return sameJSON(t, x, y)
}

func decodeJSON(s string) any {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

func sameJSON(t *row.Type, x, y any) bool {
	if x == nil || y == nil {
		return false // null was compared letter by letter, or is no JSON
	}
	switch t.Root {
	case row.Float, row.Double:
		bits := 64
		if t.Root == row.Float {
			bits = 32
		}
		f, err1 := strconv.ParseFloat(fmt.Sprint(x), bits)
		g, err2 := strconv.ParseFloat(fmt.Sprint(y), bits)
		return err1 == nil && err2 == nil && math.Float64bits(f) == math.Float64bits(g)
	case row.Array, row.Map, row.Multiset, row.Row:
		xs, ok1 := x.([]any)
		ys, ok2 := y.([]any)
		if !ok1 || !ok2 || len(xs) != len(ys) {
			return false
		}
		for i := range xs {
			et := t.Elem
			switch t.Root {
			case row.Row:
				et = t.Fields[i].Type
			case row.Map:
				et = row.Record(row.Field{Type: t.Key}, row.Field{Type: t.Elem})
			case row.Multiset:
				et = row.Record(row.Field{Type: t.Elem}, row.Field{Type: row.Of(row.Int)})
			}
			if xs[i] == nil || ys[i] == nil {
				if xs[i] != ys[i] {
					return false
				}
				continue
			}
			if !sameJSON(et, xs[i], ys[i]) {
				return false
			}
		}
		return true
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}
