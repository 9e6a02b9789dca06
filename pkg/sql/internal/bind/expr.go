package bind

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/function"
)

// bind binds one node; Expr puts a place to its errors.
func (b *Binder) bind(s *Scope, x ast.Expr) (*expr.Expr, error) {
	switch x := x.(type) {
	case *ast.Ident:
		return b.name(s, x)
	case *ast.Number:
		return number(x.Text, x.Decimal)
	case *ast.String:
		if x.SameLine != (ast.Span{}) {
			return nil, &Error{Pos: pos(x.SameLine), Err: errors.New("a string that goes on has to go on on another line")}
		}
		return expr.Constant(row.Sized(row.Char, utf8.RuneCountInString(x.Value)).Nullable(false), x.Value), nil
	case *ast.Bytes:
		raw, err := hex.DecodeString(x.Hex)
		if err != nil {
			return nil, errors.New("a literal of bytes has to have an even number of hexadecimal digits")
		}
		return expr.Constant(row.Sized(row.Binary, len(raw)).Nullable(false), string(raw)), nil
	case *ast.Const:
		switch x.Word {
		case "TRUE", "FALSE":
			return expr.Constant(row.Of(row.Boolean).Nullable(false), x.Word == "TRUE"), nil
		case "UNKNOWN":
			return expr.NullOf(row.Of(row.Boolean)), nil
		}
		return expr.NullOf(row.Of(row.Null)), nil
	case *ast.Temporal:
		return b.call("LITERAL "+x.Type, x, expr.Constant(row.String().Nullable(false), x.Text))
	case *ast.Interval:
		return interval(x)
	case *ast.Unit:
		return symbol(x.Word), nil
	case *ast.Unary:
		if n, ok := x.X.(*ast.Number); ok && x.Op == ast.Minus {
			return number("-"+n.Text, n.Decimal)
		}
		name := string(x.Op)
		if x.Op == ast.Minus || x.Op == ast.Plus {
			name = "unary " + name
		}
		return b.apply(s, x, name, x.X)
	case *ast.Binary:
		return b.binary(s, x)
	case *ast.Between:
		args := []ast.Expr{x.X, x.Low, x.High}
		if x.Symmetric {
			return b.negated(s, x, x.Not, "BETWEEN SYMMETRIC", args...)
		}
		return b.negated(s, x, x.Not, "BETWEEN", args...)
	case *ast.In:
		if x.Query != nil {
			return nil, errors.New("IN of a subquery cannot be run yet")
		}
		return b.negated(s, x, x.Not, "IN", append([]ast.Expr{x.X}, x.List...)...)
	case *ast.Like:
		args := []ast.Expr{x.X, x.Pattern}
		if x.Escape != nil {
			args = append(args, x.Escape)
		}
		return b.negated(s, x, x.Not, x.Op, args...)
	case *ast.Is:
		name := "IS " + x.What
		if x.Not {
			name = "IS NOT " + x.What
		}
		return b.apply(s, x, name, x.X)
	case *ast.Case:
		return b.cases(s, x)
	case *ast.Cast:
		e, err := b.Expr(s, x.X)
		if err != nil {
			return nil, err
		}
		t, err := Type(x.Type)
		if err != nil {
			return nil, err
		}
		return b.cast(x, x.Func, e, t)
	case *ast.Call:
		return b.function(s, x)
	case *ast.Index:
		return b.apply(s, x, "ITEM", x.X, x.I)
	case *ast.Field:
		e, err := b.Expr(s, x.X)
		if err != nil {
			return nil, err
		}
		return field(e, x.Name)
	case *ast.Row:
		return b.apply(s, x, "ROW", x.Items...)
	case *ast.Collection:
		if x.Query != nil {
			return nil, fmt.Errorf("%s of a query cannot be run yet", x.Kind)
		}
		return b.apply(s, x, x.Kind, x.Items...)
	case *ast.Default:
		return nil, errors.New("DEFAULT cannot stand here")
	case *ast.Param:
		return nil, errors.New("there are no parameters: ? has no value")
	}
	return nil, fmt.Errorf("%s cannot be run yet", strings.TrimPrefix(fmt.Sprintf("%T", x), "*ast."))
}

// all binds several expressions.
func (b *Binder) all(s *Scope, xs []ast.Expr) ([]*expr.Expr, error) {
	out := make([]*expr.Expr, len(xs))
	for i, x := range xs {
		var err error
		if out[i], err = b.Expr(s, x); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// apply binds a call whose arguments are given.
func (b *Binder) apply(s *Scope, n ast.Node, name string, xs ...ast.Expr) (*expr.Expr, error) {
	args, err := b.all(s, xs)
	if err != nil {
		return nil, err
	}
	return b.call(name, n, args...)
}

// negated is apply, and NOT of it.
func (b *Binder) negated(s *Scope, n ast.Node, not bool, name string, xs ...ast.Expr) (*expr.Expr, error) {
	e, err := b.apply(s, n, name, xs...)
	if err != nil || !not {
		return e, err
	}
	return b.call("NOT", n, e)
}

// call infers the type of a call.
func (b *Binder) call(name string, n ast.Node, args ...*expr.Expr) (*expr.Expr, error) {
	f := b.Functions[name]
	if f == nil {
		return nil, errorf(n, "there is no function %s%s", name, b.nearest(name))
	}
	c := &expr.Inference{Func: f, Args: slices.Clone(args), Session: b.Session}
	t, err := f.Infer(c)
	if err != nil {
		return nil, at(n, err)
	}
	e := expr.Call(name, t, c.Args...)
	e.Pos = pos(n)
	return e, nil
}

// binary binds an infix operator. Chains lean to the left and may be long, so they are walked by a loop.
func (b *Binder) binary(s *Scope, x *ast.Binary) (*expr.Expr, error) {
	chain := []*ast.Binary{x}
	left := x.X
	for {
		l, ok := left.(*ast.Binary)
		if !ok {
			break
		}
		chain, left = append(chain, l), l.X
	}
	e, err := b.Expr(s, left)
	if err != nil {
		return nil, err
	}
	for _, x := range slices.Backward(chain) {
		y, err := b.Expr(s, x.Y)
		if err != nil {
			return nil, err
		}
		if e, err = b.call(string(x.Op), x, e, y); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// cases binds CASE: with an operand, as comparisons with it.
func (b *Binder) cases(s *Scope, x *ast.Case) (*expr.Expr, error) {
	var args []*expr.Expr
	for _, w := range x.Whens {
		var when *expr.Expr
		for _, c := range w.Conds {
			one, err := b.Expr(s, c)
			if err != nil {
				return nil, err
			}
			if x.Operand != nil {
				operand, err := b.Expr(s, x.Operand)
				if err != nil {
					return nil, err
				}
				if one, err = b.call("=", c, operand, one); err != nil {
					return nil, err
				}
			}
			if when != nil {
				if one, err = b.call("OR", c, when, one); err != nil {
					return nil, err
				}
			}
			when = one
		}
		then, err := b.Expr(s, w.Then)
		if err != nil {
			return nil, err
		}
		args = append(args, when, then)
	}
	last := expr.NullOf(row.Of(row.Null))
	if x.Else != nil {
		var err error
		if last, err = b.Expr(s, x.Else); err != nil {
			return nil, err
		}
	}
	return b.call("CASE", x, append(args, last)...)
}

// cast binds CAST and TRY_CAST.
func (b *Binder) cast(n ast.Node, name string, e *expr.Expr, t *row.Type) (*expr.Expr, error) {
	f := b.Functions[name]
	if f == nil {
		return nil, errorf(n, "there is no function %s", name)
	}
	target := expr.NullOf(t)
	target.Type = t
	c := &expr.Inference{Func: f, Args: []*expr.Expr{e, target}, Session: b.Session}
	t, err := f.Infer(c)
	if err != nil {
		return nil, at(n, err)
	}
	out := expr.Call(name, t, c.Args[0])
	out.Pos = pos(n)
	return out, nil
}

// function binds a call in its many forms: keywords among the arguments become symbols.
func (b *Binder) function(s *Scope, x *ast.Call) (*expr.Expr, error) {
	name := strings.ToUpper(x.Name[len(x.Name)-1].Text)
	if x.Over != nil {
		return nil, errorf(x, "OVER cannot be run yet")
	}
	args := x.Args
	if x.Recv != nil {
		args = append([]ast.Expr{x.Recv}, args...)
	}
	bound, err := b.all(s, args)
	if err != nil {
		return nil, err
	}
	switch x.Form {
	case ast.TrimOf:
		if len(bound) == 1 {
			bound = append([]*expr.Expr{expr.Constant(row.Sized(row.Char, 1).Nullable(false), " ")}, bound...)
		}
		flag := x.Trim
		if flag == "" {
			flag = "BOTH"
		}
		bound = append([]*expr.Expr{symbol(flag)}, bound...)
	case ast.ToUnit:
		name += " TO"
	}
	return b.call(name, x, bound...)
}

// symbol is a keyword as an argument.
func symbol(word string) *expr.Expr {
	return expr.Constant(row.Of(row.Symbol).Nullable(false), word)
}

// name resolves a name: a column, with or without its table before it, and fields of rows after it.
func (b *Binder) name(s *Scope, x *ast.Ident) (*expr.Expr, error) {
	parts := x.Parts
	for n := 1; n <= len(parts); n++ { // the first n parts are the column
		i, err := s.find(parts[:n])
		if err != nil {
			return nil, at(parts[n-1], err)
		}
		if i < 0 {
			continue
		}
		e := expr.Column(i, s.Columns[i].Type)
		for _, p := range parts[n:] {
			if e, err = field(e, p); err != nil {
				return nil, err
			}
		}
		return e, nil
	}
	if len(parts) == 1 && b.Functions[strings.ToUpper(parts[0].Text)] != nil {
		if e, err := b.call(strings.ToUpper(parts[0].Text), x); err == nil { // PI, CURRENT_DATE
			return e, nil
		}
	}
	var names []string
	for _, c := range s.Columns {
		names = append(names, c.Name)
	}
	last := parts[len(parts)-1]
	if len(parts) > 1 && !slices.ContainsFunc(s.Columns, func(c Column) bool {
		return len(c.Table) > 0 && c.Table[len(c.Table)-1] == parts[len(parts)-2].Text
	}) {
		return nil, errorf(parts[0], "there is no table %q here", parts[0].Text)
	}
	return nil, errorf(last, "there is no column %q%s", last.Text, nearest(last.Text, names))
}

// find is the index of a column, -1 if there is none of that name.
func (s *Scope) find(parts ast.Names) (int, error) {
	found := -1
	name, table := parts[len(parts)-1].Text, parts[:len(parts)-1]
	for i, c := range s.Columns {
		if c.Name != name || len(table) > len(c.Table) {
			continue
		}
		tail := c.Table[len(c.Table)-len(table):]
		if slices.EqualFunc(tail, table, func(a string, b ast.Name) bool { return a == b.Text }) {
			if found >= 0 {
				return 0, fmt.Errorf("column %q is ambiguous: several tables have it", name)
			}
			found = i
		}
	}
	return found, nil
}

// field is a field of a row.
func field(e *expr.Expr, name ast.Name) (*expr.Expr, error) {
	if e.Type.Root != row.Row {
		return nil, errorf(name, "%s has no fields: there is no %q in it", e.Type, name.Text)
	}
	var names []string
	for i, f := range e.Type.Fields {
		if f.Name == name.Text {
			out := expr.Call("FIELD", f.Type.Nullable(!e.Type.NotNull || !f.Type.NotNull), e, expr.Constant(row.Of(row.Int).Nullable(false), int64(i)))
			out.Pos = pos(name)
			return out, nil
		}
		names = append(names, f.Name)
	}
	return nil, errorf(name, "there is no field %q in %s%s", name.Text, e.Type, nearest(name.Text, names))
}

// number is a numeric literal: exact, unless it has an exponent.
func number(text string, decimal bool) (*expr.Expr, error) {
	outOfRange := fmt.Errorf("the number %s is out of range", text)
	switch {
	case !decimal && strings.ContainsAny(text, "eE"):
		f, err := strconv.ParseFloat(text, 64)
		if err != nil && math.IsInf(f, 0) {
			return nil, outOfRange
		}
		return expr.Constant(row.Of(row.Double).Nullable(false), f), nil
	case !decimal && !strings.Contains(text, "."):
		x, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, outOfRange
		}
		if int64(int32(x)) == x {
			return expr.Constant(row.Of(row.Int).Nullable(false), x), nil
		}
		return expr.Constant(row.Of(row.BigInt).Nullable(false), x), nil
	}
	whole, fraction, _ := strings.Cut(strings.TrimLeft(text, "+-"), ".")
	unscaled, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return nil, outOfRange
	}
	digits := len(unscaled.String())
	if strings.HasPrefix(text, "-") {
		unscaled.Neg(unscaled)
	}
	d, ok := row.DecimalFromBig(unscaled)
	precision := max(digits, len(fraction)+1)
	if !ok || precision > row.MaxPrecision {
		return nil, outOfRange
	}
	return expr.Constant(row.DecimalOf(precision, len(fraction)).Nullable(false), d), nil
}

// nearest says which of some names is likely to be meant.
func nearest(name string, names []string) string {
	best, least := "", len(name)/2+1
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; is %q meant?", best)
}

func (b *Binder) nearest(name string) string {
	var names []string
	for n, f := range b.Functions {
		if !f.Hidden {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return nearest(name, names)
}

// distance is how many letters have to be changed, added or taken away.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		last := prev[0]
		prev[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = prev[j+1]
			prev[j+1] = min(cost, prev[j+1]+1, prev[j]+1)
		}
	}
	return prev[len(b)]
}

var _ = function.Scalars // the table that Binder.Functions is, in all but tests
