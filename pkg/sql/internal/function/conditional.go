package function

import (
	"errors"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

func init() {
	add(
		&expr.Function{
			Name: "CASE", Group: "conditional", Syntax: "CASE WHEN condition THEN value [WHEN ...] [ELSE value] END\nCASE value WHEN value [, ...] THEN value [WHEN ...] [ELSE value] END",
			Doc: "The value of the first condition that is true; NULL if none is and there is no ELSE.", Infer: inferCase, Build: buildCase,
		},
		&expr.Function{Name: "IF", Group: "conditional", Syntax: "IF(condition, value, value)", Doc: "The first value where the condition is true, else the second.", Infer: inferIf, Build: buildCase},
		&expr.Function{Name: "COALESCE", Group: "conditional", Syntax: "COALESCE(value [, value]*)", Doc: "The first argument that is not NULL.", Infer: inferCoalesce, Build: buildCoalesce},
		&expr.Function{Name: "IFNULL", Group: "conditional", Syntax: "IFNULL(value, value)", Doc: "The second argument where the first is NULL.", Infer: inferIfNull, Build: buildCoalesce},
		&expr.Function{Name: "NULLIF", Group: "conditional", Syntax: "NULLIF(value, value)", Doc: "NULL where both are equal, else the first.", Infer: inferNullIf, Build: buildCase},
	)
}

// inferCase: conditions and values take turns, and at last comes the value of ELSE.
func inferCase(c *expr.Inference) (*row.Type, error) {
	var values []int
	last := len(c.Args) - 1
	none := true
	for i, a := range c.Args {
		if i%2 == 0 && i < last {
			if a.Type.Root != row.Boolean {
				return nil, errors.New("a condition of CASE has to be a BOOLEAN, not " + a.Type.String())
			}
			continue
		}
		none = none && a.Type.Root == row.Null
		values = append(values, i)
	}
	if none {
		return nil, errors.New("CASE has no value but NULL: at least one has to have a type")
	}
	return toCommon(c, values...)
}

func inferIf(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 3, 3); err != nil {
		return nil, err
	}
	if c.Arg(0).Root != row.Boolean {
		return nil, cannotApply(c)
	}
	t, err := toCommon(c, 1, 2)
	if err != nil {
		return nil, err
	}
	return nullableIf(c, t), nil
}

func places(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// inferCoalesce: NULL only if all arguments can be.
func inferCoalesce(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 1, len(c.Args)); err != nil {
		return nil, err
	}
	t, err := toCommon(c, places(len(c.Args))...)
	if err != nil {
		return nil, err
	}
	nullable := true
	for _, a := range c.Args {
		nullable = nullable && !a.Type.NotNull
	}
	return t.Nullable(nullable), nil
}

func inferIfNull(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 2, 2); err != nil {
		return nil, err
	}
	return inferCoalesce(c)
}

// inferNullIf makes NULLIF(a, b) a CASE WHEN a = b THEN NULL ELSE a.
func inferNullIf(c *expr.Inference) (*row.Type, error) {
	if err := count(c, 2, 2); err != nil {
		return nil, err
	}
	a := c.Args[0]
	equal, err := call(c, "=", a, c.Args[1])
	if err != nil {
		return nil, err
	}
	t := a.Type.Nullable(true)
	c.Args = []*expr.Expr{equal, expr.NullOf(t), a}
	return t, nil
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
	k.from = none(k.from, in.Len)
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
	gather(k.out, k.vecs, k.from)
	return k.out
}

// buildCoalesce compiles COALESCE: the conditions are that the values are not NULL, and each is evaluated once.
func buildCoalesce(c *expr.Compiler, e *expr.Expr) (expr.Evaluator, error) {
	args, err := c.All(e.Args)
	return &coalesce{args: args, out: row.NewVector(e.Type), vecs: make([]*row.Vector, len(args))}, err
}

type coalesce struct {
	args       []expr.Evaluator
	out        *row.Vector
	vecs       []*row.Vector
	from       []int32
	left, next []int32
}

func (k *coalesce) Eval(in *expr.Input, sel []int32) *row.Vector {
	k.from = none(k.from, in.Len)
	k.left = expr.Without(k.left[:0], sel, in.Len, nil)
	for c := range k.args {
		if len(k.left) == 0 {
			break
		}
		v := k.args[c].Eval(in, k.left)
		k.vecs[c] = v
		k.next = k.next[:0]
		for _, i := range k.left {
			if v.IsNull(int(i)) {
				k.next = append(k.next, i)
				continue
			}
			k.from[i] = int32(c)
		}
		k.left, k.next = k.next, k.left
	}
	gather(k.out, k.vecs, k.from)
	return k.out
}

// none is n times -1.
func none(s []int32, n int) []int32 {
	if cap(s) < n {
		s = make([]int32, n)
	}
	s = s[:n]
	for i := range s {
		s[i] = -1
	}
	return s
}

// gather fills out with a value of one of some vectors for each row; from says which, -1 is NULL.
func gather(out *row.Vector, vecs []*row.Vector, from []int32) {
	out.Reset(0)
	for i, f := range from {
		if f < 0 {
			out.AppendNull()
			continue
		}
		out.Append(vecs[f], i)
	}
}
