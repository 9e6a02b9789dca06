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
		&expr.Function{Name: "CASE", Group: "conditional", Syntax: "CASE WHEN condition THEN value [WHEN ...] [ELSE value] END", Doc: "The value of the first condition that is true.", Build: buildCase},
	)
}

func inferLogic(c *expr.Inference) (*row.Type, error) {
	for _, a := range c.Args {
		if a.Type.Root != row.Boolean && a.Type.Root != row.Null {
			return nil, cannotApply(c)
		}
	}
	return nullableIf(c, row.Of(row.Boolean)), nil
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

// choose is CASE: conditions and values, and at last the value of ELSE. All values have the type of the result.
type choose struct {
	conditions []*expr.Predicate
	values     []expr.Evaluator
	out        *row.Vector
	left, next []int32
	from       []int32       // for each row, which value it takes
	vecs       []*row.Vector // of the values
}

func buildCase(c *expr.Compiler, e *expr.Expr) (expr.Evaluator, error) {
	k := &choose{out: row.NewVector(e.Type)}
	for i, a := range e.Args {
		if i%2 == 0 && i < len(e.Args)-1 {
			p, err := c.NewPredicate(a)
			if err != nil {
				return nil, err
			}
			k.conditions = append(k.conditions, p)
			continue
		}
		v, err := c.Compile(a)
		if err != nil {
			return nil, err
		}
		k.values = append(k.values, v)
	}
	k.vecs = make([]*row.Vector, len(k.values))
	return k, nil
}

func (k *choose) Eval(in *expr.Input, sel []int32) *row.Vector {
	if cap(k.from) < in.Len {
		k.from = make([]int32, in.Len)
	}
	k.from = k.from[:in.Len]
	for i := range k.from {
		k.from[i] = -1
	}
	k.left = expr.Without(k.left[:0], sel, in.Len, nil)
	for c := range k.values {
		rows := k.left
		if c < len(k.conditions) {
			rows = k.conditions[c].Select(in, k.left)
		}
		for _, i := range rows {
			k.from[i] = int32(c)
		}
		if len(rows) > 0 {
			k.vecs[c] = k.values[c].Eval(in, rows)
		}
		k.next = k.next[:0]
		for _, i := range k.left {
			if k.from[i] < 0 {
				k.next = append(k.next, i)
			}
		}
		k.left, k.next = k.next, k.left
	}
	k.out.Reset(0)
	for _, f := range k.from {
		if f < 0 {
			k.out.AppendNull()
			continue
		}
		k.out.Append(k.vecs[f], k.out.Len())
	}
	return k.out
}
