package conformance

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/row"
)

// ReadRow appends a row, as case files spell it, to some columns.
func ReadRow(text string, cols []*row.Vector) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var values []any
	if err := d.Decode(&values); err != nil {
		return fmt.Errorf("%s is no row: %w", text, err)
	}
	if len(values) != len(cols) {
		return fmt.Errorf("%s has %d values, the table %d columns", text, len(values), len(cols))
	}
	for i, v := range cols {
		if err := read(v, values[i]); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// read appends a value.
func read(v *row.Vector, x any) error {
	t := v.Type
	bad := func() error { return fmt.Errorf("%v is no %s", x, t) }
	if x == nil {
		v.AppendNull()
		return nil
	}
	s, isText := x.(string)
	switch t.Root {
	case row.Boolean:
		b, ok := x.(bool)
		if !ok {
			return bad()
		}
		v.Bools = append(v.Bools, b)
	case row.TinyInt, row.SmallInt, row.Int, row.BigInt, row.IntervalYearMonth, row.IntervalDayTime:
		n, err := strconv.ParseInt(fmt.Sprint(x), 10, 64)
		if err != nil {
			return bad()
		}
		v.Ints = append(v.Ints, n)
	case row.Float, row.Double:
		bits := 64
		if t.Root == row.Float {
			bits = 32
		}
		f, err := strconv.ParseFloat(fmt.Sprint(x), bits)
		if err != nil && !math.IsInf(f, 0) {
			return bad()
		}
		v.Floats = append(v.Floats, f)
	case row.Decimal:
		d, ok := row.ParseDecimal([]byte(fmt.Sprint(x)), t.Scale)
		if !ok {
			return bad()
		}
		v.Decimals = append(v.Decimals, d)
	case row.Char, row.VarChar, row.Variant:
		if !isText {
			return bad()
		}
		v.AppendText([]byte(s))
	case row.Binary, row.VarBinary:
		b, err := hex.DecodeString(s)
		if err != nil || !isText {
			return bad()
		}
		v.AppendText(b)
	case row.Date:
		d, err := time.Parse("2006-01-02", strings.TrimPrefix(s, "+"))
		if err != nil {
			return bad()
		}
		v.Ints = append(v.Ints, floorDiv(d.Unix(), 86_400))
	case row.Time:
		d, err := time.Parse("15:04:05.999999999", s)
		if err != nil {
			return bad()
		}
		v.Ints = append(v.Ints, int64(d.Hour()*3_600_000+d.Minute()*60_000+d.Second()*1000+d.Nanosecond()/1_000_000))
	case row.Timestamp, row.TimestampLTZ:
		ms, nanos, err := ReadTime(strings.TrimSuffix(s, "Z"))
		if err != nil {
			return bad()
		}
		v.AppendTime(ms, nanos)
	case row.Array, row.Map, row.Multiset:
		items, ok := x.([]any)
		if !ok {
			return bad()
		}
		v.Spans = append(v.Spans, row.Span{Off: uint32(v.Children[0].Len()), Len: uint32(len(items))})
		for _, it := range items {
			if t.Root == row.Array {
				if err := read(v.Children[0], it); err != nil {
					return err
				}
				continue
			}
			pair, ok := it.([]any)
			if !ok || len(pair) != 2 {
				return bad()
			}
			for k, c := range v.Children {
				if err := read(c, pair[k]); err != nil {
					return err
				}
			}
		}
	case row.Row:
		fields, ok := x.([]any)
		if !ok || len(fields) != len(v.Children) {
			return bad()
		}
		for k, c := range v.Children {
			if err := read(c, fields[k]); err != nil {
				return err
			}
		}
	default:
		return bad()
	}
	return nil
}

// ReadTime reads a timestamp, as milliseconds since 1970 and nanoseconds within.
func ReadTime(s string) (ms int64, nanos int32, err error) {
	d, err := time.Parse("2006-01-02 15:04:05.999999999", s)
	if err != nil {
		return 0, 0, err
	}
	return d.UnixMilli(), int32(d.Nanosecond() % 1_000_000), nil
}
