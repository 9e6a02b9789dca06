// Package expr is typed expressions: as data, as they lie in plans (Expr), and compiled, as they run over batches (Program).
//
// Start with Expr and Compile. Its law: an expression is evaluated for the rows that ask for it and no others (the right side of AND only where the left is
// not false), so an error in a row is an error of the query; and evaluating a batch allocates nothing once its vectors have grown.
package expr

import (
	"github.com/rivulet-io/rivulet/pkg/row"
)

// Pos is a place in the statement's text, both from 1; the zero Pos is none.
type Pos struct{ Line, Column int }

// Expr is a typed expression. It is one of a column, a literal, and a call of a function. Who changes an Expr changes a copy.
type Expr struct {
	Type *row.Type
	// Func is what a call calls: the name of a Function; empty for a column and a literal.
	Func string
	Args []*Expr
	// Column is which column of the input a column is, if Func is empty and Value nil.
	Column int
	// Value is a literal's value: a constant vector.
	Value *row.Vector
	// Pos is where it stands; it is not a part of a plan.
	Pos Pos
}

// Column returns the column of an input.
func Column(i int, t *row.Type) *Expr { return &Expr{Type: t, Column: i} }

// Literal returns a constant.
func Literal(v *row.Vector) *Expr { return &Expr{Type: v.Type, Value: v} }

// Call returns a call, of a type that the caller has inferred.
func Call(name string, t *row.Type, args ...*Expr) *Expr {
	return &Expr{Type: t, Func: name, Args: args, Column: -1}
}

// IsColumn reports whether e is a column.
func (e *Expr) IsColumn() bool { return e.Func == "" && e.Value == nil }

// IsNull reports whether e is a literal NULL.
func (e *Expr) IsNull() bool { return e.Value != nil && e.Value.IsNull(0) }

// Columns adds the columns that e reads to a set.
func (e *Expr) Columns(set map[int]bool) {
	if e.IsColumn() {
		set[e.Column] = true
	}
	for _, a := range e.Args {
		a.Columns(set)
	}
}

// Map returns e with f applied to each column: to move it over another input.
func (e *Expr) Map(f func(*Expr) *Expr) *Expr {
	if e.IsColumn() {
		return f(e)
	}
	if len(e.Args) == 0 {
		return e
	}
	c := *e
	c.Args = make([]*Expr, len(e.Args))
	for i, a := range e.Args {
		c.Args[i] = a.Map(f)
	}
	return &c
}

// Constant returns a literal of a class with a fixed size, or text.
func Constant[T bool | int64 | float64 | row.D128 | string](t *row.Type, x T) *Expr {
	v := &row.Vector{Type: t, Const: true}
	switch x := any(x).(type) {
	case bool:
		v.Bools = []bool{x}
	case int64:
		v.Ints = []int64{x}
	case float64:
		v.Floats = []float64{x}
	case row.D128:
		v.Decimals = []row.D128{x}
	case string:
		v.AppendText([]byte(x))
	}
	return Literal(v)
}

// NullOf returns the NULL of a type.
func NullOf(t *row.Type) *Expr {
	v := row.NewVector(t.Nullable(true))
	v.AppendNull()
	v.Const = true
	return Literal(v)
}
