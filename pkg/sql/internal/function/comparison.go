package function

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"strconv"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

func init() {
	for _, op := range []string{"=", "<>", "<", "<=", ">", ">="} {
		add(&expr.Function{Name: op, Group: "comparison", Syntax: "value " + op + " value", Infer: inferCompare, Kernel: kernelCompare})
	}
	add(
		&expr.Function{Name: "IS DISTINCT FROM", Group: "comparison", Syntax: "value IS DISTINCT FROM value", Doc: "Two NULLs are not distinct.", Infer: inferDistinct, Kernel: kernelDistinct(true), Lenient: true},
		&expr.Function{Name: "IS NOT DISTINCT FROM", Group: "comparison", Syntax: "value IS NOT DISTINCT FROM value", Doc: "Two NULLs are not distinct.", Infer: inferDistinct, Kernel: kernelDistinct(false), Lenient: true},
		&expr.Function{Name: "BETWEEN", Group: "comparison", Syntax: "value [NOT] BETWEEN value AND value", Doc: "Both ends count.", Infer: inferBetween, Build: buildAnd},
		&expr.Function{Name: "BETWEEN SYMMETRIC", Group: "comparison", Syntax: "value [NOT] BETWEEN SYMMETRIC value AND value", Doc: "The ends may be in either order.", Infer: inferSymmetric, Build: buildOr},
		&expr.Function{Name: "IN", Group: "comparison", Syntax: "value [NOT] IN (value [, value]*)", Doc: "NULL if there is a NULL and no value is equal.", Infer: inferIn, Build: buildOr},
	)
}

// comparable makes two arguments comparable, by casts where SQL has them.
func comparable(c *expr.Inference) error {
	if err := count(c, 2, 2); err != nil {
		return err
	}
	a, b := c.Arg(0), c.Arg(1)
	equality := c.Func.Name == "=" || c.Func.Name == "<>"
	switch {
	case a.Root == row.Null && b.Root == row.Null, a.Root == row.Null, b.Root == row.Null:
		return errNull
	case a.Root.IsNumeric() && b.Root.IsNumeric(), a.Root.IsText() && b.Root.IsText(), a.Root.IsBytes() && b.Root.IsBytes():
		return nil
	case a.Root.IsText() || b.Root.IsText():
		text, other := 0, b
		if b.Root.IsText() {
			text, other = 1, a
		}
		switch {
		case other.Root.IsNumeric() && equality:
			return fmt.Errorf("%s and %s are not compared: cast one of them", c.Arg(0), c.Arg(1))
		case other.Root.IsNumeric(), other.Root.IsTime():
			cast(c, text, other)
			return nil
		case other.Root == row.Boolean:
			cast(c, 1-text, row.String())
			return nil
		}
		return cannotApply(c)
	case a.Root != b.Root && !(a.Root == row.Timestamp && b.Root == row.TimestampLTZ || a.Root == row.TimestampLTZ && b.Root == row.Timestamp):
		return cannotApply(c)
	case a.Root != b.Root:
		cast(c, 0, row.Sized(row.TimestampLTZ, a.Precision))
		cast(c, 1, row.Sized(row.TimestampLTZ, b.Precision))
		return nil
	case a.Root == row.Array || a.Root == row.Map || a.Root == row.Multiset || a.Root == row.Row:
		if !equality && a.Root != row.Row {
			return cannotApply(c)
		}
		if _, err := toCommon(c, 0, 1); err != nil {
			return cannotApply(c)
		}
	}
	return nil
}

func inferCompare(c *expr.Inference) (*row.Type, error) {
	if err := comparable(c); err != nil {
		return nil, err
	}
	return nullableIf(c, row.Of(row.Boolean)), nil
}

func inferDistinct(c *expr.Inference) (*row.Type, error) {
	if c.Args[0].IsNull() || c.Args[1].IsNull() {
		if t, err := toCommon(c, 0, 1); err == nil && t != nil {
			return row.Of(row.Boolean).Nullable(false), nil
		}
	}
	if err := comparable(c); err != nil {
		return nil, err
	}
	return row.Of(row.Boolean).Nullable(false), nil
}

// inferBetween makes it lower <= value AND value <= upper.
func inferBetween(c *expr.Inference) (*row.Type, error) {
	low, err := call(c, ">=", c.Args[0], c.Args[1])
	if err != nil {
		return nil, err
	}
	high, err := call(c, "<=", c.Args[0], c.Args[2])
	if err != nil {
		return nil, err
	}
	c.Args = []*expr.Expr{low, high}
	return nullableIf(c, row.Of(row.Boolean)), nil
}

func inferSymmetric(c *expr.Inference) (*row.Type, error) {
	x, a, b := c.Args[0], c.Args[1], c.Args[2]
	one, err := call(c, "BETWEEN", x, a, b)
	if err != nil {
		return nil, err
	}
	other, err := call(c, "BETWEEN", x, b, a)
	if err != nil {
		return nil, err
	}
	c.Args = []*expr.Expr{one, other}
	return nullableIf(c, row.Of(row.Boolean)), nil
}

// inferIn makes it a disjunction of comparisons.
func inferIn(c *expr.Inference) (*row.Type, error) {
	any := make([]*expr.Expr, 0, len(c.Args)-1)
	for _, a := range c.Args[1:] {
		if a.Type.Root == row.Null {
			a = expr.NullOf(c.Args[0].Type)
		}
		e, err := call(c, "=", c.Args[0], a)
		if err != nil {
			return nil, err
		}
		any = append(any, e)
	}
	c.Args = any
	return nullableIf(c, row.Of(row.Boolean)), nil
}

// order says which results of a comparison (-1, 0, 1) an operator takes.
func order(op string) (less, equal, greater bool) {
	return op == "<" || op == "<=" || op == "<>", op == "=" || op == "<=" || op == ">=", op == ">" || op == ">=" || op == "<>"
}

func kernelCompare(c *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
	less, equal, greater := order(e.Func)
	ca, cb := e.Args[0].Type.Class(), e.Args[1].Type.Class()
	switch {
	case ca == row.Ints && cb == row.Ints:
		return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			a, b, ma, mb, o := args[0].Ints, args[1].Ints, args[0].Mask(), args[1].Mask(), out.Bools
			expr.Each(sel, n, func(i int) {
				x, y := a[i&ma], b[i&mb]
				o[i] = x < y && less || x == y && equal || x > y && greater
			})
		}, nil
	case ca == row.Texts && cb == row.Texts && (e.Func == "=" || e.Func == "<>"):
		return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			expr.Each(sel, n, func(i int) { out.Bools[i] = bytes.Equal(args[0].Text(i), args[1].Text(i)) == equal })
		}, nil
	case isNumber(ca) && isNumber(cb) && ca != cb || ca == row.Floats && cb == row.Floats && c.Session.Folding:
		sa, sb := e.Args[0].Type, e.Args[1].Type
		exact := c.Session.Folding || ca == row.Decimals || cb == row.Decimals
		return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			expr.Each(sel, n, func(i int) {
				r, ok := compareNumbers(sa, args[0], args[0].At(i), sb, args[1], args[1].At(i), exact, c.Session.Folding)
				out.Bools[i] = ok && (r < 0 && less || r == 0 && equal || r > 0 && greater)
			})
		}, nil
	case ca == row.Floats:
		// As in Java: NaN is equal to itself, and neither less nor greater.
		return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			a, b, ma, mb, o := args[0].Floats, args[1].Floats, args[0].Mask(), args[1].Mask(), out.Bools
			expr.Each(sel, n, func(i int) {
				x, y := a[i&ma], b[i&mb]
				same := x == y || x != x && y != y
				switch e.Func {
				case "=":
					o[i] = same
				case "<>":
					o[i] = !same
				default:
					o[i] = x < y && less || x == y && equal || x > y && greater
				}
			})
		}, nil
	}
	return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		expr.Each(sel, n, func(i int) {
			r := Compare(args[0], args[0].At(i), args[1], args[1].At(i))
			out.Bools[i] = r < 0 && less || r == 0 && equal || r > 0 && greater
		})
	}, nil
}

func isNumber(c row.Class) bool { return c == row.Ints || c == row.Floats || c == row.Decimals }

// compareNumbers compares numbers of different classes: exactly, or as DOUBLEs. NaN is not comparable, but with NaN.
func compareNumbers(ta *row.Type, a *row.Vector, i int, tb *row.Type, b *row.Vector, j int, exact, shortest bool) (int, bool) {
	x, y := asFloat(a, i), asFloat(b, j)
	if math.IsNaN(x) || math.IsNaN(y) || math.IsInf(x, 0) || math.IsInf(y, 0) || !exact {
		switch {
		case x < y:
			return -1, true
		case x > y:
			return 1, true
		}
		return 0, x == y || math.IsNaN(x) && math.IsNaN(y)
	}
	return asRat(ta, a, i, shortest).Cmp(asRat(tb, b, j, shortest)), true
}

func asFloat(v *row.Vector, i int) float64 {
	switch v.Type.Class() {
	case row.Ints:
		return float64(v.Ints[i])
	case row.Floats:
		return v.Floats[i]
	}
	return v.Decimals[i].Float(v.Type.Scale)
}

// asRat is a number, exactly. With shortest a FLOAT or DOUBLE is the decimal number that it is written as: so the planner sees them.
func asRat(t *row.Type, v *row.Vector, i int, shortest bool) *big.Rat {
	switch t.Class() {
	case row.Ints:
		return new(big.Rat).SetInt64(v.Ints[i])
	case row.Floats:
		if shortest {
			bits := 64
			if t.Root == row.Float {
				bits = 32
			}
			r, _ := new(big.Rat).SetString(strconv.FormatFloat(v.Floats[i], 'g', -1, bits))
			return r
		}
		return new(big.Rat).SetFloat64(v.Floats[i])
	}
	return new(big.Rat).SetFrac(v.Decimals[i].Big(), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Scale)), nil))
}

// Compare orders two values that are not NULL and of the same class, at places in their vectors. NULLs inside come first, NaN last. It is also the order of
// sorting, MIN and MAX.
func Compare(a *row.Vector, i int, b *row.Vector, j int) int {
	switch a.Type.Class() {
	case row.Bools:
		return boolInt(a.Bools[i]) - boolInt(b.Bools[j])
	case row.Ints:
		return three(a.Ints[i], b.Ints[j])
	case row.Times:
		if r := three(a.Ints[i], b.Ints[j]); r != 0 {
			return r
		}
		return three(a.Nano(i), b.Nano(j))
	case row.Floats:
		x, y := a.Floats[i], b.Floats[j]
		if x != x || y != y {
			return boolInt(x != x) - boolInt(y != y)
		}
		return three(x, y)
	case row.Decimals:
		sa, sb := a.Type.Scale, b.Type.Scale
		x, okA := a.Decimals[i].Rescale(sa, max(sa, sb))
		y, okB := b.Decimals[j].Rescale(sb, max(sa, sb))
		if okA && okB {
			return x.Cmp(y)
		}
		return asRat(a.Type, a, i, false).Cmp(asRat(b.Type, b, j, false))
	case row.Texts:
		return bytes.Compare(a.Text(i), b.Text(j))
	case row.Rows:
		for k, c := range a.Children {
			if r := compareInner(c, i, b.Children[k], j); r != 0 {
				return r
			}
		}
	case row.Lists:
		x, y := a.Spans[i], b.Spans[j]
		if a.Type.Root != row.Array {
			return compareMaps(a, x, b, y)
		}
		for k := range min(x.Len, y.Len) {
			if r := compareInner(a.Children[0], int(x.Off+k), b.Children[0], int(y.Off+k)); r != 0 {
				return r
			}
		}
		return three(x.Len, y.Len)
	case row.Nothing:
	}
	return 0
}

// compareMaps is 0 for maps with the same entries in any order.
func compareMaps(a *row.Vector, x row.Span, b *row.Vector, y row.Span) int {
	if x.Len != y.Len {
		return three(x.Len, y.Len)
	}
	for k := range x.Len {
		found := false
		for l := range y.Len {
			if compareInner(a.Children[0], int(x.Off+k), b.Children[0], int(y.Off+l)) == 0 {
				found = compareInner(a.Children[1], int(x.Off+k), b.Children[1], int(y.Off+l)) == 0
				break
			}
		}
		if !found {
			return -1
		}
	}
	return 0
}

func compareInner(a *row.Vector, i int, b *row.Vector, j int) int {
	if x, y := a.IsNull(i), b.IsNull(j); x || y {
		return boolInt(y) - boolInt(x)
	}
	return Compare(a, a.At(i), b, b.At(j))
}

func three[T int64 | int32 | uint32 | float64](x, y T) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func boolInt(x bool) int {
	if x {
		return 1
	}
	return 0
}

func kernelDistinct(distinct bool) func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(c *expr.Compiler, e *expr.Expr) (expr.Kernel, error) {
		equal := *e
		equal.Func = "="
		k, err := kernelCompare(c, &equal)
		if err != nil {
			return nil, err
		}
		var known []int32 // the rows without NULL
		return func(in *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			known = known[:0]
			expr.Each(sel, n, func(i int) {
				a, b := args[0].IsNull(i), args[1].IsNull(i)
				if out.Bools[i] = a != b == distinct; !a && !b {
					known = append(known, int32(i))
				}
			})
			if len(known) == 0 {
				return
			}
			k(in, out, args, known, n)
			for _, i := range known {
				out.Bools[i] = out.Bools[i] != distinct
			}
		}, nil
	}
}
