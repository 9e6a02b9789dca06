package function

import (
	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

func init() {
	add(
		&expr.Function{Name: "AND", Group: "logical", Syntax: "BOOLEAN AND BOOLEAN", Doc: "The right side is looked at only where the left one is not false.", Infer: inferLogic, Build: buildAnd},
		&expr.Function{Name: "OR", Group: "logical", Syntax: "BOOLEAN OR BOOLEAN", Doc: "The right side is looked at only where the left one is not true.", Infer: inferLogic, Build: buildOr},
		&expr.Function{Name: "NOT", Group: "logical", Syntax: "NOT BOOLEAN", Doc: "NULL stays NULL.", Infer: inferLogic, Kernel: kernelNot, Total: true},
		&expr.Function{Name: "IS NULL", Group: "comparison", Syntax: "value IS NULL", Infer: inferAlways, Kernel: kernelIsNull(true), Lenient: true},
		&expr.Function{Name: "IS NOT NULL", Group: "comparison", Syntax: "value IS NOT NULL", Infer: inferAlways, Kernel: kernelIsNull(false), Lenient: true},
		&expr.Function{Name: "IS TRUE", Group: "logical", Syntax: "BOOLEAN IS TRUE", Infer: inferIs, Kernel: kernelIs(true, true), Lenient: true},
		&expr.Function{Name: "IS NOT TRUE", Group: "logical", Syntax: "BOOLEAN IS NOT TRUE", Infer: inferIs, Kernel: kernelIs(true, false), Lenient: true},
		&expr.Function{Name: "IS FALSE", Group: "logical", Syntax: "BOOLEAN IS FALSE", Infer: inferIs, Kernel: kernelIs(false, true), Lenient: true},
		&expr.Function{Name: "IS NOT FALSE", Group: "logical", Syntax: "BOOLEAN IS NOT FALSE", Infer: inferIs, Kernel: kernelIs(false, false), Lenient: true},
		&expr.Function{Name: "IS UNKNOWN", Group: "logical", Syntax: "BOOLEAN IS UNKNOWN", Infer: inferIs, Kernel: kernelIsNull(true), Lenient: true},
		&expr.Function{Name: "IS NOT UNKNOWN", Group: "logical", Syntax: "BOOLEAN IS NOT UNKNOWN", Infer: inferIs, Kernel: kernelIsNull(false), Lenient: true},
	)
}

func inferLogic(c *expr.Inference) (*row.Type, error) {
	for _, a := range c.Args {
		switch a.Type.Root {
		case row.Boolean:
		case row.Null:
			return nil, errNull
		default:
			return nil, cannotApply(c)
		}
	}
	return nullableIf(c, row.Of(row.Boolean)), nil
}

// inferIs is the type of a test of a BOOLEAN: it has always an answer.
func inferIs(c *expr.Inference) (*row.Type, error) {
	if c.Arg(0).Root != row.Boolean {
		return nil, cannotApply(c)
	}
	return row.Of(row.Boolean).Nullable(false), nil
}

// kernelIs tests whether a value is (or, with yes false, is not) true, or false. NULL is neither.
func kernelIs(what, yes bool) func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
		return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			a := args[0]
			expr.Each(sel, n, func(i int) { out.Bools[i] = (!a.IsNull(i) && a.Bools[a.At(i)] == what) == yes })
		}, nil
	}
}

func inferAlways(*expr.Inference) (*row.Type, error) { return row.Of(row.Boolean).Nullable(false), nil }

func kernelNot(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
		a, m, o := args[0].Bools, args[0].Mask(), out.Bools
		expr.Each(sel, n, func(i int) { o[i] = !a[i&m] })
	}, nil
}

func kernelIsNull(want bool) func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
	return func(*expr.Compiler, *expr.Expr) (expr.Kernel, error) {
		return func(_ *expr.Input, out *row.Vector, args []*row.Vector, sel []int32, n int) {
			expr.Each(sel, n, func(i int) { out.Bools[i] = args[0].IsNull(i) == want })
		}, nil
	}
}

// connective is AND (decided by false) and OR (decided by true): NULL where no side decides and one is NULL.
type connective struct {
	decides bool
	a, b    expr.Evaluator
	out     *row.Vector
	rest    []int32
}

func buildAnd(c *expr.Compiler, e *expr.Expr) (expr.Evaluator, error) {
	return buildConnective(c, e, false)
}

func buildOr(c *expr.Compiler, e *expr.Expr) (expr.Evaluator, error) {
	return buildConnective(c, e, true)
}

// buildConnective compiles any number of sides, from the left.
func buildConnective(c *expr.Compiler, e *expr.Expr, decides bool) (expr.Evaluator, error) {
	sides, err := c.All(e.Args)
	if err != nil {
		return nil, err
	}
	out := sides[0]
	for _, b := range sides[1:] {
		out = &connective{decides: decides, a: out, b: b, out: row.NewVector(e.Type)}
	}
	return out, nil
}

func (k *connective) Eval(in *expr.Input, sel []int32) *row.Vector {
	a := k.a.Eval(in, sel)
	k.out.Reset(in.Len)
	o := k.out.Bools
	k.rest = k.rest[:0]
	expr.Each(sel, in.Len, func(i int) {
		null := a.IsNull(i)
		switch {
		case null:
			k.out.SetNull(i)
			o[i] = !k.decides
		default:
			o[i] = a.Bools[a.At(i)]
		}
		if null || o[i] != k.decides {
			k.rest = append(k.rest, int32(i))
		}
	})
	if len(k.rest) == 0 {
		return k.out
	}
	b := k.b.Eval(in, k.rest)
	for _, i32 := range k.rest {
		i := int(i32)
		switch {
		case b.IsNull(i):
			k.out.SetNull(i)
		case b.Bools[b.At(i)] == k.decides:
			k.out.Nulls.Clear(i)
			o[i] = k.decides
		}
	}
	return k.out
}
