package expr

import (
	"errors"
	"fmt"
	"time"

	"github.com/rivulet-io/rivulet/pkg/row"
)

// Session is what an expression knows of its surroundings: the settings of the session that it was planned in, which travel with the plan.
type Session struct {
	// Zone is table.local-time-zone.
	Zone *time.Location
	// LegacyCast is table.exec.legacy-cast-behaviour ENABLED: what cannot be cast is NULL.
	LegacyCast bool
	// Database and Catalog are the current ones.
	Catalog, Database string
	// Folding says that the planner evaluates a constant: Flink does that by other code, which now and then has other results.
	Folding bool
}

// Input is the rows that expressions are evaluated for. The caller fills in what is exported, and resets Err before each batch.
type Input struct {
	Cols []*row.Vector
	// Len is the number of rows in Cols.
	Len int
	// Now is the processing time in milliseconds, at the start of the batch.
	Now int64
	// Watermark is the operator's, in milliseconds; event.Min before the first.
	Watermark int64
	// Err is the first error of a row.
	Err error
}

// Fail records an error of a row. Evaluation goes on: the caller looks at Err afterwards.
func (in *Input) Fail(err error) {
	if in.Err == nil {
		in.Err = err
	}
}

// Evaluator is a compiled expression. It belongs to one operator's goroutine: it keeps vectors from call to call.
type Evaluator interface {
	// Eval returns the values for the rows of in that sel lists (nil: all of them). The vector is lent until the next call; other rows have any value.
	Eval(in *Input, sel []int32) *row.Vector
}

// Kernel computes the values of a function for the rows that sel lists (nil: 0 to n), into out, which has room for n. Arguments may be constants.
// For a strict function the rows with a NULL argument are left out of sel, unless the function is Total: then its kernel computes anything there.
type Kernel func(in *Input, out *row.Vector, args []*row.Vector, sel []int32, n int)

// Function is what an expression can call.
type Function struct {
	// Name is the SQL name, in upper case, or an operator.
	Name string
	// Group is the chapter of the documentation: arithmetic, string, temporal ...
	Group string
	// Syntax and Doc are for the documentation; Syntax has a line for each form.
	Syntax, Doc string
	// Infer checks a call's arguments and returns the type of the result. It may replace arguments by casts of them. Errors say what was found and what forms there are.
	Infer func(c *Inference) (*row.Type, error)
	// Kernel returns the function for arguments of these types; nil if Build is set. A literal argument can be looked at: e.Args[i].Value.
	Kernel func(c *Compiler, e *Expr) (Kernel, error)
	// Build compiles what is no ordinary function: one that evaluates arguments for some rows only (AND, CASE).
	Build func(c *Compiler, e *Expr) (Evaluator, error)
	// Lenient functions see NULL arguments. All others are strict: NULL if an argument is.
	Lenient bool
	// Total functions can be computed of any values: they never fail, and are as fast as finding out for which rows.
	Total bool
	// Volatile functions are not evaluated by the planner (RAND, NOW): they differ from row to row.
	Volatile bool
	// Hidden functions are not documented: users write them another way.
	Hidden bool
}

// Inference is a call whose type is asked for.
type Inference struct {
	Func    *Function
	Args    []*Expr
	Session *Session
}

// Arg is the type of an argument.
func (c *Inference) Arg(i int) *row.Type { return c.Args[i].Type }

// AnyNullable reports whether one of the arguments can be NULL.
func (c *Inference) AnyNullable() bool {
	for _, a := range c.Args {
		if !a.Type.NotNull {
			return true
		}
	}
	return false
}

// Table finds functions by name.
type Table map[string]*Function

// Compiler makes evaluators.
type Compiler struct {
	Functions Table
	Session   *Session
}

// ErrNoFunction is wrapped when a plan calls a function that this program does not have.
var ErrNoFunction = errors.New("no such function")

// Compile makes an evaluator for one operator.
func (c *Compiler) Compile(e *Expr) (Evaluator, error) {
	switch {
	case e.Value != nil:
		return literal{e.Value}, nil
	case e.Func == "":
		return column(e.Column), nil
	}
	f := c.Functions[e.Func]
	if f == nil {
		return nil, fmt.Errorf("%s: %w", e.Func, ErrNoFunction)
	}
	if f.Build != nil {
		return f.Build(c, e)
	}
	k, err := f.Kernel(c, e)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Func, err)
	}
	args, err := c.All(e.Args)
	if err != nil {
		return nil, err
	}
	n := &call{kernel: k, args: args, vecs: make([]*row.Vector, len(args)), strict: !f.Lenient, total: f.Total, out: row.NewVector(e.Type)}
	n.alone = true
	for _, a := range e.Args {
		n.alone = n.alone && a.Value != nil
	}
	return n, nil
}

// All makes evaluators for several expressions.
func (c *Compiler) All(es []*Expr) ([]Evaluator, error) {
	out := make([]Evaluator, len(es))
	for i, e := range es {
		var err error
		if out[i], err = c.Compile(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Fold returns the literal that an expression without columns and volatile functions is; any other as it is, with its constant parts folded.
func (c *Compiler) Fold(e *Expr) (*Expr, error) {
	if e.Func == "" {
		return e, nil
	}
	constant := true
	if f := c.Functions[e.Func]; f == nil || f.Volatile {
		constant = false
	}
	folded := *e
	folded.Args = make([]*Expr, len(e.Args))
	for i, a := range e.Args {
		constant = constant && isConstant(c.Functions, a)
		folded.Args[i] = a
	}
	if !constant {
		for i, a := range e.Args {
			f, err := c.Fold(a)
			if err != nil {
				return nil, err
			}
			folded.Args[i] = f
		}
		return &folded, nil
	}
	session := *c.Session
	session.Folding = true
	inner := &Compiler{Functions: c.Functions, Session: &session}
	ev, err := inner.Compile(e)
	if err != nil {
		return nil, err
	}
	in := &Input{Len: 1}
	v := ev.Eval(in, nil)
	if in.Err != nil {
		return nil, in.Err
	}
	out := row.NewVector(e.Type)
	out.Append(v, 0)
	out.Const = true
	return &Expr{Type: e.Type, Value: out, Pos: e.Pos}, nil
}

func isConstant(t Table, e *Expr) bool {
	if e.Value != nil {
		return true
	}
	if e.Func == "" {
		return false
	}
	if f := t[e.Func]; f == nil || f.Volatile {
		return false
	}
	for _, a := range e.Args {
		if !isConstant(t, a) {
			return false
		}
	}
	return true
}

type literal struct{ v *row.Vector }

func (l literal) Eval(*Input, []int32) *row.Vector { return l.v }

type column int

func (c column) Eval(in *Input, _ []int32) *row.Vector { return in.Cols[c] }

// call evaluates its arguments, then its kernel.
type call struct {
	kernel        Kernel
	args          []Evaluator
	vecs          []*row.Vector
	out           *row.Vector
	strict, total bool
	alone         bool // all arguments are literals: one row is computed for all
	sel           []int32
}

func (c *call) Eval(in *Input, sel []int32) *row.Vector {
	for i, a := range c.args {
		c.vecs[i] = a.Eval(in, sel)
	}
	n := in.Len
	if c.alone && len(c.args) > 0 {
		n, sel = 1, nil
	}
	c.out.Reset(n)
	if c.strict {
		for _, v := range c.vecs {
			switch {
			case v.Const:
				if v.IsNull(0) {
					return c.null(n)
				}
			case v.Nulls != nil:
				c.out.Nulls = c.out.Nulls.Or(c.out.Nulls, v.Nulls)
			}
		}
		if !c.total && c.out.Nulls.Any() {
			sel = Without(c.sel[:0], sel, n, c.out.Nulls)
			c.sel = sel
		}
	}
	c.kernel(in, c.out, c.vecs, sel, n)
	c.out.Const = c.alone && len(c.args) > 0
	return c.out
}

// null is the answer to a constant NULL.
func (c *call) null(n int) *row.Vector {
	c.out.Reset(1)
	c.out.SetNull(0)
	c.out.Const = true
	return c.out
}

// Without appends to dst the rows of sel (nil: 0 to n) that are not in a bitmap.
func Without(dst, sel []int32, n int, not row.Bitmap) []int32 {
	if sel != nil {
		for _, i := range sel {
			if !not.Get(int(i)) {
				dst = append(dst, i)
			}
		}
		return nonNil(dst)
	}
	for i := range n {
		if !not.Get(i) {
			dst = append(dst, int32(i))
		}
	}
	return nonNil(dst)
}

// nonNil makes an empty selection one of no rows: nil is one of all.
func nonNil(sel []int32) []int32 {
	if sel == nil {
		return []int32{}
	}
	return sel
}

// Each calls f for the rows of a selection.
func Each(sel []int32, n int, f func(i int)) {
	if sel == nil {
		for i := range n {
			f(i)
		}
		return
	}
	for _, i := range sel {
		f(int(i))
	}
}

// Predicate selects rows by a boolean expression.
type Predicate struct {
	e   Evaluator
	sel []int32
}

// NewPredicate compiles a condition.
func (c *Compiler) NewPredicate(e *Expr) (*Predicate, error) {
	ev, err := c.Compile(e)
	return &Predicate{e: ev}, err
}

// Select returns the rows of sel (nil: all) for which the condition is true: neither false nor NULL. The selection is lent until the next call.
func (p *Predicate) Select(in *Input, sel []int32) []int32 {
	v := p.e.Eval(in, sel)
	if v.Const {
		if v.IsNull(0) || !v.Bools[0] {
			return []int32{}
		}
		return sel
	}
	p.sel = True(p.sel[:0], v, sel, in.Len)
	return p.sel
}

// True appends to dst the rows of sel (nil: 0 to n) where a boolean vector is true.
func True(dst []int32, v *row.Vector, sel []int32, n int) []int32 {
	nulls := v.Nulls.Any()
	if sel == nil {
		for i := range n {
			if v.Bools[i] && !(nulls && v.Nulls.Get(i)) {
				dst = append(dst, int32(i))
			}
		}
		return nonNil(dst)
	}
	for _, i := range sel {
		if v.Bools[i] && !(nulls && v.Nulls.Get(int(i))) {
			dst = append(dst, i)
		}
	}
	return nonNil(dst)
}
