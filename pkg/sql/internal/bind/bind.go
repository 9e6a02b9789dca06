// Package bind gives meaning to a syntax tree: it resolves names and infers types, and says what is wrong, and where.
//
// Start with Binder and Scope. Its law: a type that bind infers is the one that Flink infers, and an error has the line and the column of what is wrong.
package bind

import (
	"errors"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

// Error is a statement that cannot be planned, with the place of what is wrong in its text.
type Error struct {
	Pos expr.Pos
	Err error
}

func (e *Error) Error() string {
	if e.Pos.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d, column %d: %v", e.Pos.Line, e.Pos.Column, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// at is an error at a node, unless it has a place already.
func at(n ast.Node, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Pos: pos(n), Err: err}
}

func errorf(n ast.Node, format string, args ...any) error { return at(n, fmt.Errorf(format, args...)) }

func pos(n ast.Node) expr.Pos {
	s := n.At()
	return expr.Pos{Line: int(s.Line), Column: int(s.Col)}
}

// Binder binds the expressions of one statement.
type Binder struct {
	Functions expr.Table
	Session   *expr.Session
}

// Scope is what names mean at one place: the columns of the tables that FROM has put together.
type Scope struct {
	Columns []Column
}

// Column is a column that can be named.
type Column struct {
	// Table is the table's name or alias, in its parts, outermost first; nil if it has none.
	Table []string
	Name  string
	Type  *row.Type
}

// Expr binds an expression whose names are those of a scope.
func (b *Binder) Expr(s *Scope, x ast.Expr) (*expr.Expr, error) {
	e, err := b.bind(s, x)
	if err != nil {
		return nil, at(x, err)
	}
	if e.Pos.Line == 0 {
		c := *e
		c.Pos = pos(x)
		e = &c
	}
	return e, nil
}
