package conformance

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/bind"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/parse"
)

// Result is one check of a case file: a case, an expression, a statement, an entry.
type Result struct {
	// What it is: the SQL, or the name of the case.
	What string
	Line int
	// Err is how it differs from what the file says; nil if it does not.
	Err error
}

// env is what the setup of a function file leaves: the one table there can be, with its one row.
type env struct {
	session expr.Session
	scope   bind.Scope
	cols    []*row.Vector
}

// setup runs the statements that function files need.
func setup(f *File) (*env, error) {
	e := &env{session: expr.Session{Zone: time.UTC, Catalog: "default_catalog", Database: "default_database"}}
	stmts, err := parse.Script(f.Sections["setup"])
	if err != nil {
		return nil, fmt.Errorf("%s: setup: %w", f.Path, err)
	}
	for _, s := range stmts {
		switch s := s.Stmt.(type) {
		case *ast.Set:
			switch s.Key.Value {
			case "table.local-time-zone":
				if e.session.Zone, err = time.LoadLocation(s.Value.Value); err != nil {
					return nil, err
				}
			case "table.exec.legacy-cast-behaviour":
				e.session.LegacyCast = strings.EqualFold(s.Value.Value, "enabled")
			default:
				return nil, fmt.Errorf("%s: setup: %s is not an option of expressions", f.Path, s.Key.Value)
			}
		case *ast.CreateTable:
			for _, c := range s.Elements {
				col, ok := c.(*ast.Column)
				if !ok || col.Type == nil {
					return nil, fmt.Errorf("%s: setup: the table of a function file has physical columns only", f.Path)
				}
				t, err := bind.Type(col.Type)
				if err != nil {
					return nil, err
				}
				e.scope.Columns = append(e.scope.Columns, bind.Column{Table: []string{s.Name[len(s.Name)-1].Text}, Name: col.Name[0].Text, Type: t})
				e.cols = append(e.cols, row.NewVector(t))
			}
		default:
			return nil, fmt.Errorf("%s: setup: a function file cannot have a %T", f.Path, s)
		}
	}
	for line := range strings.SplitSeq(f.Sections["input"], "\n") {
		if _, text, ok := strings.Cut(line, " +I "); ok {
			if err := ReadRow(text, e.cols); err != nil {
				return nil, fmt.Errorf("%s: input: %w", f.Path, err)
			}
		}
	}
	return e, nil
}

// Functions checks the expressions of a function file.
func Functions(f *File, table expr.Table) ([]Result, error) {
	e, err := setup(f)
	if err != nil {
		return nil, err
	}
	xs, err := f.Expressions()
	if err != nil {
		return nil, err
	}
	var out []Result
	for _, x := range xs {
		out = append(out, Result{What: x.SQL, Line: x.Line, Err: e.check(x, table, f.Has("from"))})
	}
	return out, nil
}

func (e *env) check(x Expression, table expr.Table, from bool) (failed error) {
	defer func() {
		if p := recover(); p != nil {
			failed = fmt.Errorf("it panicked: %v", p)
		}
	}()
	typ, value, class, err := e.eval(x.SQL, table, from)
	switch {
	case class != x.Class && x.Class == "":
		return fmt.Errorf("%s error: %w; it is to be %s, %s", class, err, x.Type, x.Value)
	case class != x.Class && class == "":
		return fmt.Errorf("it is %s, %s; it is to be a %s error (%s)", typ, value, x.Class, x.Value)
	case class != x.Class:
		return fmt.Errorf("%s error: %w; it is to be a %s error (%s)", class, err, x.Class, x.Value)
	case class != "":
		return nil
	case typ.String() != x.Type:
		return fmt.Errorf("its type is %s; it is to be %s", typ, x.Type)
	case !SameValue(typ, value, x.Value):
		return fmt.Errorf("it is %s; it is to be %s", value, x.Value)
	}
	return nil
}

// eval plans and evaluates SELECT text [FROM table]; class is that of the error.
func (e *env) eval(text string, table expr.Table, from bool) (t *row.Type, value, class string, err error) {
	tree, err := parse.Expression(text)
	if err != nil {
		return nil, "", "parse", err
	}
	scope := &bind.Scope{}
	if from {
		scope = &e.scope
	}
	b := &bind.Binder{Functions: table, Session: &e.session}
	x, err := b.Expr(scope, tree)
	if err == nil && x.Type.Root == row.Null {
		err = errors.New("NULL has no type here")
	}
	if err != nil {
		return nil, "", "validate", err
	}
	c := &expr.Compiler{Functions: table, Session: &e.session}
	if x, err = c.Fold(x); err != nil {
		return nil, "", "runtime", err
	}
	ev, err := c.Compile(x)
	if err != nil {
		return nil, "", "validate", err
	}
	in := &expr.Input{Cols: e.cols, Len: 1, Now: time.Now().UnixMilli()}
	v := ev.Eval(in, nil)
	if in.Err != nil {
		return nil, "", "runtime", in.Err
	}
	return x.Type, string(Spell(nil, v, 0)), "", nil
}
