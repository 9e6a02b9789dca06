package function

import (
	"errors"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

// errNull is the error for a bare NULL where its type decides.
var errNull = errors.New("NULL cannot stand here without a type: use CAST(NULL AS ...)")

// call makes a call of another function, in Infer.
func call(c *expr.Inference, name string, args ...*expr.Expr) (*expr.Expr, error) {
	f := Scalars[name]
	in := &expr.Inference{Func: f, Args: args, Session: c.Session}
	t, err := f.Infer(in)
	if err != nil {
		return nil, err
	}
	out := expr.Call(name, t, in.Args...)
	if len(args) > 0 {
		out.Pos = args[0].Pos
	}
	return out, nil
}

// Common is the type that values of several types can have together (of the branches of CASE, the elements of an ARRAY, the sides of a UNION); nil if there is
// none. It is nullable if one of them is, or is the type of NULL.
func Common(types ...*row.Type) *row.Type {
	var out *row.Type
	nullable := false
	for _, t := range types {
		nullable = nullable || !t.NotNull
		switch {
		case t.Root == row.Null:
		case out == nil:
			out = t
		default:
			if out = common(out, t); out == nil {
				return nil
			}
		}
	}
	if out == nil {
		return row.Of(row.Null)
	}
	return out.Nullable(nullable).With(row.NoAttribute)
}

func common(a, b *row.Type) *row.Type {
	switch {
	case a.Same(b):
		return a
	case a.Root.IsNumeric() && b.Root.IsNumeric():
		r := widest(a.Root, b.Root)
		if r != row.Decimal {
			return row.Of(r)
		}
		a, b = asDecimal(a), asDecimal(b)
		s := max(a.Scale, b.Scale)
		p := max(a.Precision-a.Scale, b.Precision-b.Scale) + s
		if p > row.MaxPrecision {
			return row.DecimalOf(row.MaxPrecision, max(s-(p-row.MaxPrecision), 0))
		}
		return row.DecimalOf(p, s)
	case a.Root.IsText() && b.Root.IsText():
		return row.Sized(row.VarChar, max(a.Precision, b.Precision))
	case a.Root.IsBytes() && b.Root.IsBytes():
		return row.Sized(row.VarBinary, max(a.Precision, b.Precision))
	case a.Root == b.Root:
		switch a.Root {
		case row.Time, row.Timestamp, row.TimestampLTZ:
			return row.Sized(a.Root, max(a.Precision, b.Precision))
		case row.IntervalDayTime, row.IntervalYearMonth:
			return a
		case row.Array, row.Multiset:
			if e := Common(a.Elem, b.Elem); e != nil {
				return &row.Type{Root: a.Root, Elem: e}
			}
		case row.Map:
			k, v := Common(a.Key, b.Key), Common(a.Elem, b.Elem)
			if k != nil && v != nil {
				return row.MapOf(k, v)
			}
		case row.Row:
			if len(a.Fields) != len(b.Fields) {
				return nil
			}
			fields := make([]row.Field, len(a.Fields))
			for i, f := range a.Fields {
				t := Common(f.Type, b.Fields[i].Type)
				if t == nil {
					return nil
				}
				fields[i] = row.Field{Name: f.Name, Type: t}
			}
			return row.Record(fields...)
		}
	}
	return nil
}

// toCommon casts the arguments at some places to their common type, and returns it.
func toCommon(c *expr.Inference, at ...int) (*row.Type, error) {
	types := make([]*row.Type, len(at))
	for k, i := range at {
		types[k] = c.Arg(i)
	}
	t := Common(types...)
	if t == nil {
		return nil, fmt.Errorf("%s cannot mix values of types %s and %s", c.Func.Name, types[0], types[len(types)-1])
	}
	if t.Root == row.Null {
		return nil, errNull
	}
	for _, i := range at {
		cast(c, i, t)
	}
	return t, nil
}
