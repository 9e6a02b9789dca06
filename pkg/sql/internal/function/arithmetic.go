package function

import (
	"errors"
	"math"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

var errDivisionByZero = errors.New("division by zero")

func init() {
	add(
		&expr.Function{
			Name: "+", Group: "arithmetic", Syntax: "NUMERIC + NUMERIC", Doc: "The sum. Integers wrap around.", Infer: inferPlus, Kernel: kernelPlus, Total: true,
		},
		&expr.Function{
			Name: "-", Group: "arithmetic", Syntax: "NUMERIC - NUMERIC", Doc: "The difference. Integers wrap around.", Infer: inferPlus, Kernel: kernelMinus, Total: true,
		},
		&expr.Function{
			Name: "*", Group: "arithmetic", Syntax: "NUMERIC * NUMERIC", Doc: "The product. Integers wrap around.", Infer: inferTimes, Kernel: kernelTimes, Total: true,
		},
		&expr.Function{
			Name: "/", Group: "arithmetic", Syntax: "NUMERIC / NUMERIC", Doc: "The quotient; of integers, cut off.", Infer: inferDivide, Kernel: kernelDivide,
		},
	)
}

// numbers checks that there are two numeric arguments and brings both to the same class, unless one is a DECIMAL and the other an integer or a DECIMAL:
// then both become DECIMALs of their own scales. It returns the wider root.
func numbers(c *expr.Inference) (row.Root, error) {
	if err := count(c, 2, 2); err != nil {
		return 0, err
	}
	a, b := c.Arg(0), c.Arg(1)
	if c.Args[0].IsNull() && a.Root == row.Null || c.Args[1].IsNull() && b.Root == row.Null {
		return 0, errNull
	}
	if !a.Root.IsNumeric() || !b.Root.IsNumeric() {
		return 0, cannotApply(c)
	}
	r := widest(a.Root, b.Root)
	switch r {
	case row.Float, row.Double:
		for i := range c.Args {
			if c.Arg(i).Class() != row.Floats {
				cast(c, i, row.Of(row.Double))
			}
		}
	case row.Decimal:
		for i := range c.Args {
			if c.Arg(i).Root != row.Decimal {
				cast(c, i, asDecimal(c.Arg(i)))
			}
		}
	}
	return r, nil
}

// widest is the root of the result of arithmetic: the wider integer; a DECIMAL for one with an integer; DOUBLE for one with a FLOAT or DOUBLE; and of FLOAT and
// DOUBLE the one that stands first, for Flink takes them for equally precise.
func widest(a, b row.Root) row.Root {
	switch {
	case a == b:
		return a
	case a >= row.Float && b >= row.Float:
		return a
	case a >= row.Float || b >= row.Float:
		if a == row.Decimal || b == row.Decimal {
			return row.Double
		}
		return max(a, b)
	case a == row.Decimal || b == row.Decimal:
		return row.Decimal
	}
	return max(a, b)
}

// asDecimal is the DECIMAL that holds all values of an integer type.
func asDecimal(t *row.Type) *row.Type {
	switch t.Root {
	case row.TinyInt:
		return row.DecimalOf(3, 0)
	case row.SmallInt:
		return row.DecimalOf(5, 0)
	case row.Int:
		return row.DecimalOf(10, 0)
	case row.BigInt:
		return row.DecimalOf(19, 0)
	}
	return t
}

// capped is DECIMAL(p, s), with fraction digits given up, but for six, where p is over 38.
func capped(p, s int) *row.Type {
	if p <= row.MaxPrecision {
		return row.DecimalOf(p, s)
	}
	whole := p - s
	return row.DecimalOf(row.MaxPrecision, max(row.MaxPrecision-whole, min(s, 6)))
}

// inferPlus: DECIMALs have max(s) fraction digits and one digit more than the larger needs.
func inferPlus(c *expr.Inference) (*row.Type, error) {
	r, err := numbers(c)
	if err != nil {
		return nil, err
	}
	t := row.Of(r)
	if r == row.Decimal {
		a, b := c.Arg(0), c.Arg(1)
		s := max(a.Scale, b.Scale)
		t = capped(max(a.Precision-a.Scale, b.Precision-b.Scale)+s+1, s)
	}
	return nullableIf(c, t), nil
}

func inferTimes(c *expr.Inference) (*row.Type, error) {
	r, err := numbers(c)
	if err != nil {
		return nil, err
	}
	t := row.Of(r)
	if r == row.Decimal {
		a, b := c.Arg(0), c.Arg(1)
		t = capped(a.Precision+b.Precision+1, a.Scale+b.Scale)
	}
	return nullableIf(c, t), nil
}

func inferDivide(c *expr.Inference) (*row.Type, error) {
	r, err := numbers(c)
	if err != nil {
		return nil, err
	}
	t := row.Of(r)
	if r == row.Decimal {
		a, b := c.Arg(0), c.Arg(1)
		s := max(6, a.Scale+b.Precision+1)
		t = capped(a.Precision-a.Scale+b.Scale+s, s)
	}
	return nullableIf(c, t), nil
}

// wrap cuts an integer to the width of its type, as Java does.
func wrap(r row.Root, x int64) int64 {
	switch r {
	case row.TinyInt:
		return int64(int8(x))
	case row.SmallInt:
		return int64(int16(x))
	case row.Int:
		return int64(int32(x))
	}
	return x
}

// ints2 is the kernel of a total function of two integers.
func ints2(r row.Root, f func(a, b int64) int64) expr.Kernel {
	return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		a, b, ma, mb, o := args[0].Ints, args[1].Ints, args[0].Mask(), args[1].Mask(), out.Ints
		expr.Each(sel, n, func(i int) { o[i] = wrap(r, f(a[i&ma], b[i&mb])) })
	}
}

// floats2 is the kernel of a total function of two floating-point numbers; FLOATs are rounded.
func floats2(r row.Root, f func(a, b float64) float64) expr.Kernel {
	return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		a, b, ma, mb, o := args[0].Floats, args[1].Floats, args[0].Mask(), args[1].Mask(), out.Floats
		if r == row.Float {
			expr.Each(sel, n, func(i int) { o[i] = float64(float32(f(a[i&ma], b[i&mb]))) })
			return
		}
		expr.Each(sel, n, func(i int) { o[i] = f(a[i&ma], b[i&mb]) })
	}
}

// decimals2 is the kernel of a function of two DECIMALs; what does not fit is NULL.
func decimals2(t *row.Type, f func(a, b row.D128) (row.D128, bool)) expr.Kernel {
	return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		a, b, ma, mb, o := args[0].Decimals, args[1].Decimals, args[0].Mask(), args[1].Mask(), out.Decimals
		expr.Each(sel, n, func(i int) {
			x, ok := f(a[i&ma], b[i&mb])
			if !ok || !x.Fits(t.Precision) {
				out.SetNull(i)
				return
			}
			o[i] = x
		})
	}
}

// both compiles a function of two numbers that Infer has brought together.
func both(e *expr.Expr, ints func(a, b int64) int64, floats func(a, b float64) float64, decimals func(a, b row.D128) (row.D128, bool)) (expr.Kernel, error) {
	switch e.Type.Class() {
	case row.Floats:
		return floats2(e.Type.Root, floats), nil
	case row.Decimals:
		return decimals2(e.Type, decimals), nil
	}
	return ints2(e.Type.Root, ints), nil
}

func scales(e *expr.Expr) (a, b, out int) {
	return e.Args[0].Type.Scale, e.Args[1].Type.Scale, e.Type.Scale
}

func kernelPlus(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	return both(e, func(a, b int64) int64 { return a + b }, func(a, b float64) float64 { return a + b }, sums(e, row.D128.Add))
}

func kernelMinus(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	return both(e, func(a, b int64) int64 { return a - b }, func(a, b float64) float64 { return a - b }, sums(e, row.D128.Sub))
}

// sums brings two DECIMALs to the larger scale, then their sum to the result's.
func sums(e *expr.Expr, f func(a, b row.D128) row.D128) func(a, b row.D128) (row.D128, bool) {
	sa, sb, so := scales(e)
	s := max(sa, sb)
	return func(a, b row.D128) (row.D128, bool) {
		a, ok := a.Rescale(sa, s)
		if !ok {
			return a, false
		}
		if b, ok = b.Rescale(sb, s); !ok {
			return b, false
		}
		return f(a, b).Rescale(s, so)
	}
}

func kernelTimes(_ *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	sa, sb, so := scales(e)
	return both(e, func(a, b int64) int64 { return a * b }, func(a, b float64) float64 { return a * b },
		func(a, b row.D128) (row.D128, bool) { return a.Mul(b, sa+sb, so) })
}

func kernelDivide(c *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	sa, sb, so := scales(e)
	switch e.Type.Class() {
	case row.Floats:
		divide := floats2(e.Type.Root, func(a, b float64) float64 { return a / b })
		if !c.Session.Folding {
			return divide, nil
		}
		return func(in *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			if args[1].Floats[0] == 0 {
				in.Fail(errDivisionByZero)
			}
			divide(in, out, args, sel, n)
		}, nil
	case row.Decimals:
		return func(in *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			decimals2(e.Type, func(a, b row.D128) (row.D128, bool) {
				if b.Sign() == 0 {
					in.Fail(errDivisionByZero)
					return b, false
				}
				return a.Div(b, sa, sb, so)
			})(in, out, args, sel, n)
		}, nil
	}
	return func(in *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		ints2(e.Type.Root, func(a, b int64) int64 {
			switch {
			case b == 0:
				in.Fail(errDivisionByZero)
				return 0
			case b == -1 && a == math.MinInt64:
				return a
			}
			return a / b
		})(in, out, args, sel, n)
	}, nil
}
