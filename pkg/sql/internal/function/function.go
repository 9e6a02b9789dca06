// Package function is SQL's built-in functions: one table of names, signatures, result types and kernels, which binding, documentation and tests read.
//
// Start with Scalars (the table) and arithmetic.go (what an entry looks like). Its law: what a function answers, and for which arguments, is what Apache
// Flink answers; the recorded cases in test/conformance say what that is.
package function

import (
	"fmt"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

// Scalars has all scalar functions and operators.
var Scalars = expr.Table{}

// add registers functions; two of a name are a mistake of ours.
func add(fs ...*expr.Function) {
	for _, f := range fs {
		if Scalars[f.Name] != nil {
			panic("function " + f.Name + " is registered twice")
		}
		Scalars[f.Name] = f
	}
}

// cannotApply is the error for arguments of the wrong types.
func cannotApply(c *expr.Inference) error {
	types := make([]string, len(c.Args))
	for i, a := range c.Args {
		types[i] = a.Type.Nullable(true).String()
	}
	return fmt.Errorf("%s cannot be applied to (%s); it takes %s", c.Func.Name, strings.Join(types, ", "), strings.ReplaceAll(c.Func.Syntax, "\n", " or "))
}

// count checks the number of arguments.
func count(c *expr.Inference, least, most int) error {
	if n := len(c.Args); n < least || n > most {
		return fmt.Errorf("%s was given %d arguments; it takes %s", c.Func.Name, n, strings.ReplaceAll(c.Func.Syntax, "\n", " or "))
	}
	return nil
}

// cast replaces an argument by a cast of it, unless it has the type already but for NULL.
func cast(c *expr.Inference, i int, t *row.Type) {
	c.Args[i] = Cast(c.Args[i], t)
}

// Cast returns e as a type, nullable as e is.
func Cast(e *expr.Expr, t *row.Type) *expr.Expr {
	t = t.Nullable(!e.Type.NotNull)
	if e.Type.Same(t) {
		return e
	}
	if e.IsNull() {
		return expr.NullOf(t)
	}
	out := expr.Call("CAST", t, e)
	out.Pos = e.Pos
	return out
}

// nullableIf is t, NULL if one of the arguments can be.
func nullableIf(c *expr.Inference, t *row.Type) *row.Type { return t.Nullable(c.AnyNullable()) }
