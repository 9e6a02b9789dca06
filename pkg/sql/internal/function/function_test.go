package function_test

import (
	"testing"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/function"
)

// call infers the type of a call, as binding does.
func call(t *testing.T, name string, args ...*expr.Expr) *expr.Expr {
	t.Helper()
	f := function.Scalars[name]
	if f == nil {
		t.Fatal("no function", name)
	}
	typ := args[len(args)-1].Type
	if f.Infer != nil {
		c := &expr.Inference{Func: f, Args: args, Session: &expr.Session{}}
		var err error
		if typ, err = f.Infer(c); err != nil {
			t.Fatal(err)
		}
		args = c.Args
	}
	return expr.Call(name, typ, args...)
}

func ints(x ...int64) *row.Vector { return &row.Vector{Type: row.Of(row.BigInt), Ints: x} }

// eval evaluates e over two columns of BIGINTs, for the rows of sel.
func eval(t *testing.T, e *expr.Expr, sel []int32, cols ...*row.Vector) (*row.Vector, error) {
	t.Helper()
	c := &expr.Compiler{Functions: function.Scalars, Session: &expr.Session{}}
	ev, err := c.Compile(e)
	if err != nil {
		t.Fatal(err)
	}
	in := &expr.Input{Cols: cols, Len: len(cols[0].Ints)}
	return ev.Eval(in, sel), in.Err
}

func TestErrorsOfRowsThatNobodyAsksFor(t *testing.T) {
	a, b := expr.Column(0, row.Of(row.BigInt)), expr.Column(1, row.Of(row.BigInt))
	x, y := ints(6, 1, 8), ints(3, 0, 0)
	y.Nulls = y.Nulls.Set(2)
	div := call(t, "/", a, b)
	if _, err := eval(t, div, nil, x, y); err == nil {
		t.Error("1 / 0 has a result")
	}
	v, err := eval(t, div, []int32{0, 2}, x, y)
	if err != nil || v.Ints[0] != 2 || v.IsNull(0) || !v.IsNull(2) {
		t.Errorf("%+v, %v", v, err)
	}
	never := call(t, "IS NULL", call(t, "/", b, b))
	guarded := call(t, "AND", call(t, "IS NULL", b), never)
	if v, err = eval(t, guarded, nil, x, y); err != nil || v.Bools[0] || v.Bools[1] || !v.Bools[2] {
		t.Errorf("%+v, %v", v, err)
	}
	cased := call(t, "CASE", call(t, "IS NOT NULL", b), a, div)
	if v, err = eval(t, cased, nil, x, y); err != nil || v.Ints[0] != 6 || v.Ints[1] != 1 || !v.IsNull(2) {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestThreeValues(t *testing.T) {
	values := []*expr.Expr{expr.Constant(row.Of(row.Boolean), false), expr.Constant(row.Of(row.Boolean), true), expr.NullOf(row.Of(row.Boolean))}
	word := func(v *row.Vector) string {
		if v.IsNull(1) {
			return "?"
		}
		return map[bool]string{true: "T", false: "F"}[v.Bools[v.At(1)]]
	}
	got := ""
	for _, name := range []string{"AND", "OR"} {
		for _, a := range values {
			for _, b := range values {
				v, err := eval(t, call(t, name, a, b), nil, ints(0, 0))
				if err != nil {
					t.Fatal(err)
				}
				got += word(v)
			}
			got += " "
		}
	}
	for _, a := range values {
		v, _ := eval(t, call(t, "NOT", a), nil, ints(0, 0))
		got += word(v)
	}
	if want := "FFF FT? F?? FT? TTT ?T? TF?"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFold(t *testing.T) {
	c := &expr.Compiler{Functions: function.Scalars, Session: &expr.Session{}}
	one := expr.Constant(row.DecimalOf(5, 2).Nullable(false), row.DecimalFrom(123))
	two := expr.Constant(row.DecimalOf(6, 3).Nullable(false), row.DecimalFrom(1234))
	for name, want := range map[string]string{"-": "DECIMAL(7, 3) NOT NULL -0.004", "*": "DECIMAL(12, 5) NOT NULL 1.51782", "/": "DECIMAL(15, 9) NOT NULL 0.996758509"} {
		e, err := c.Fold(call(t, name, one, two))
		if err != nil || e.Value == nil {
			t.Fatal(e, err)
		}
		if got := e.Type.String() + " " + string(e.Value.Decimals[0].AppendText(nil, e.Type.Scale)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if _, err := c.Fold(call(t, "/", one, expr.Constant(row.DecimalOf(5, 2), row.DecimalFrom(0)))); err == nil {
		t.Error("a division by zero was folded")
	}
	part, err := c.Fold(call(t, "+", expr.Column(0, row.Of(row.BigInt)), call(t, "+", expr.Constant(row.Of(row.BigInt), int64(1)), expr.Constant(row.Of(row.BigInt), int64(2)))))
	if err != nil || part.Value != nil || part.Args[1].Value == nil || part.Args[1].Value.Ints[0] != 3 {
		t.Errorf("%+v, %v", part, err)
	}
}

func BenchmarkPlus(b *testing.B) {
	const n = 1024
	x, y := ints(make([]int64, n)...), ints(make([]int64, n)...)
	c := &expr.Compiler{Functions: function.Scalars, Session: &expr.Session{}}
	ev, err := c.Compile(expr.Call("+", row.Of(row.BigInt), expr.Column(0, row.Of(row.BigInt)), expr.Column(1, row.Of(row.BigInt))))
	if err != nil {
		b.Fatal(err)
	}
	in := &expr.Input{Cols: []*row.Vector{x, y}, Len: n}
	b.ReportAllocs()
	for b.Loop() {
		ev.Eval(in, nil)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
}
