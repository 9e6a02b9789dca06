package parse

import "github.com/rivulet-io/rivulet/pkg/sql/internal/ast"

// query parses a query with all that may surround it; anything else is an error.
func (p *parser) query() ast.Query {
	p.enter(1)
	defer p.leave(1)
	at := p.here()
	if !p.is(0, "WITH") {
		return p.ordered(p.setOps(p.leafQuery(), 0))
	}
	p.next()
	w := &ast.With{Recursive: p.accept("RECURSIVE")}
	w.Items = list(p, p.withItem)
	w.Body = p.setOps(p.leafQuery(), 0)
	w.Span = p.from(at)
	return p.ordered(w)
}

func (p *parser) withItem() ast.WithItem {
	w := ast.WithItem{Name: p.name()}
	if p.at("(") {
		w.Columns = p.nameList()
	}
	p.expect("AS")
	if !p.at("(") {
		p.unexpected()
		w.Query = &ast.Values{}
		return w
	}
	w.Query = p.parenQuery()
	w.Span = p.from(w.Name.Span)
	return w
}

// parenQuery parses a query in parentheses.
func (p *parser) parenQuery() ast.Query {
	at := *p.peek(0)
	p.expect("(")
	x := p.exprOrQuery()
	p.expect(")")
	return p.mustQuery(x, at)
}

// mustQuery returns the query that x is; if it is none, the token t begins what is
// wrong.
func (p *parser) mustQuery(x ast.Expr, t token) ast.Query {
	if s, ok := x.(*ast.Subquery); ok {
		return s.Query
	}
	p.fail(t, "an expression stands where a query is expected")
	return &ast.Values{Span: t.Span}
}

// leafQuery parses a query without set operations around it.
func (p *parser) leafQuery() ast.Query {
	t := *p.peek(0)
	switch t.word {
	case "SELECT":
		return p.selectQuery()
	case "VALUES":
		p.next()
		v := &ast.Values{Rows: list(p, p.valuesRow)}
		v.Span = p.from(t.Span)
		return v
	case "VALUE":
		p.fail(t, "VALUE is not allowed: use VALUES")
	case "TABLE":
		p.next()
		n := p.names()
		return &ast.Table{Span: p.from(t.Span), Name: n}
	}
	p.note("SELECT")
	p.note("VALUES")
	p.note("(")
	return p.mustQuery(p.expr(), t)
}

// valuesRow parses a row of VALUES.
func (p *parser) valuesRow() *ast.Row {
	at := p.here()
	r := &ast.Row{}
	switch {
	case p.is(0, "(") && p.is(1, "ROW") && p.is(2, "("):
		p.next()
		p.next()
		r.Items = p.valuesItems()
		p.expect(")")
	case p.is(0, "ROW") && p.is(1, "("), p.is(0, "("):
		p.accept("ROW")
		r.Items = p.valuesItems()
	default:
		r.Items = []ast.Expr{p.expr()}
	}
	r.Span = p.from(at)
	return r
}

func (p *parser) valuesItems() []ast.Expr {
	return parens(p, func() ast.Expr {
		if t := p.here(); p.accept("DEFAULT") {
			return &ast.Default{Span: t}
		}
		return p.exprOrQuery()
	})
}

// setOps parses the set operations that follow l and have at least the given
// precedence.
func (p *parser) setOps(l ast.Query, least int) ast.Query {
	for p.err == nil && (p.at("INTERSECT") || p.at("UNION") || p.at("EXCEPT") || p.is(0, "MINUS")) {
		t := *p.peek(0)
		if t.word == "MINUS" {
			p.fail(t, "MINUS is not allowed: use EXCEPT")
			return l
		}
		s := &ast.SetOp{Op: t.word, L: l}
		prec := s.Precedence()
		if prec < least {
			return l
		}
		p.next()
		s.All = p.maybe("ALL", "DISTINCT") == "ALL"
		s.R = p.setOps(p.leafQuery(), prec+1)
		s.Span = p.from(l.At())
		l = s
	}
	return l
}

// ordered parses ORDER BY, OFFSET and LIMIT after q.
func (p *parser) ordered(q ast.Query) ast.Query {
	o := &ast.Ordered{Body: q}
	if p.at("ORDER") {
		o.OrderBy = p.orderBy()
	}
	limit, fetch, offset := false, false, false
	switch {
	case p.accept("LIMIT"):
		limit = true
		if !p.accept("ALL") {
			o.Limit = p.numberOrParam()
			if p.is(0, ",") {
				p.fail(*p.peek(0), "LIMIT start, count is not allowed: use LIMIT count OFFSET start")
			}
		}
		offset = p.accept("OFFSET")
	case p.accept("OFFSET"):
		offset = true
	case p.accept("FETCH"):
		fetch = true
	}
	if offset {
		o.Offset = p.numberOrParam()
		p.maybe("ROW", "ROWS")
		if !limit {
			if p.is(0, "LIMIT") {
				p.fail(*p.peek(0), "LIMIT is not allowed after OFFSET: write it before")
			}
			fetch = p.accept("FETCH")
		}
	}
	if fetch {
		p.oneOf("FIRST", "NEXT")
		o.Limit = p.numberOrParam()
		p.oneOf("ROW", "ROWS")
		p.expect("ONLY")
	}
	if o.OrderBy == nil && o.Limit == nil && o.Offset == nil {
		return q
	}
	o.Span = p.from(q.At())
	return o
}

// selectQuery parses SELECT with its clauses.
func (p *parser) selectQuery() *ast.Select {
	at := p.next().Span
	s := &ast.Select{Hints: p.hints(), Stream: p.accept("STREAM")}
	s.Quant = p.maybe("ALL", "DISTINCT")
	s.Items = list(p, p.selectItem)
	if p.accept("FROM") {
		s.From = p.fromClause()
		if p.accept("WHERE") {
			s.Where = p.expr()
		}
		if p.at("GROUP") {
			s.GroupBy = p.groupBy()
		}
		if p.accept("HAVING") {
			s.Having = p.expr()
		}
		if p.accept("WINDOW") {
			s.Windows = list(p, func() ast.NamedWindow {
				w := ast.NamedWindow{Name: p.name()}
				p.expect("AS")
				w.Window = p.window()
				w.Span = p.from(w.Name.Span)
				return w
			})
		}
		if p.accept("QUALIFY") {
			s.Qualify = p.expr()
		}
	}
	s.Span = p.from(at)
	return s
}

func (p *parser) selectItem() ast.SelectItem {
	at := p.here()
	var x ast.SelectItem
	if p.is(0, "*") {
		x.X = &ast.Star{Span: p.next().Span}
	} else {
		x.X = p.expr()
	}
	x.Alias = p.optAlias()
	if x.Alias == nil && p.peek(0).kind == str {
		p.fail(*p.peek(0), "a string cannot be an alias: use back-ticks")
	}
	x.Span = p.from(at)
	return x
}

// optAlias parses [AS] name, if it is next.
func (p *parser) optAlias() *ast.Name {
	switch {
	case p.accept("AS"):
	case !p.isName(0):
		return nil
	default:
		p.alias = *p.peek(0)
	}
	n := p.name()
	return &n
}

func (p *parser) groupBy() *ast.GroupBy {
	at := p.here()
	p.expect("GROUP", "BY")
	g := &ast.GroupBy{Quant: p.maybe("DISTINCT", "ALL")}
	if g.Quant != "ALL" || p.starts1(0) || p.is(0, "ROLLUP", "CUBE") {
		g.Items = list(p, p.grouping)
	}
	g.Span = p.from(at)
	return g
}

func (p *parser) grouping() ast.Grouping {
	p.enter(1)
	defer p.leave(1)
	at := p.here()
	var g ast.Grouping
	switch {
	case p.accept("GROUPING", "SETS"):
		g.Kind = "GROUPING SETS"
		g.Sets = parens(p, p.grouping)
	case p.is(0, "ROLLUP", "CUBE"):
		g.Kind = p.next().word
		g.Exprs = parens(p, p.expr)
	case p.accept("(", ")"):
		g.Kind = "()"
	default:
		g.Exprs = []ast.Expr{p.expr()}
	}
	g.Span = p.from(at)
	return g
}

// fromClause parses what follows FROM.
func (p *parser) fromClause() ast.TableRef {
	l := p.joins()
	for p.err == nil && p.at(",") {
		j := &ast.Join{Kind: ",", KindAt: p.next().Span, L: l, R: p.joins()}
		j.Span = p.from(l.At())
		l = j
	}
	return l
}

// joins parses a table reference and the joins with it.
func (p *parser) joins() ast.TableRef { return p.moreJoins(p.tableRef()) }

// joinWords are the ways to say how to join.
var joinWords = []struct {
	kind  string
	words []string
}{
	{"INNER", []string{"JOIN"}},
	{"INNER", []string{"INNER", "JOIN"}},
	{"LEFT", []string{"LEFT", "JOIN"}},
	{"LEFT", []string{"LEFT", "OUTER", "JOIN"}},
	{"RIGHT", []string{"RIGHT", "JOIN"}},
	{"RIGHT", []string{"RIGHT", "OUTER", "JOIN"}},
	{"FULL", []string{"FULL", "JOIN"}},
	{"FULL", []string{"FULL", "OUTER", "JOIN"}},
	{"CROSS", []string{"CROSS", "JOIN"}},
}

// moreJoins parses the joins that follow l. As Flink it looks at three tokens; an
// incomplete join is an error at its first word.
func (p *parser) moreJoins(l ast.TableRef) ast.TableRef {
next:
	for p.err == nil {
		p.note("JOIN")
		k := 0
		if p.is(0, "NATURAL") {
			k = 1
		}
		for _, j := range joinWords {
			n := k
			for n-k < len(j.words) && p.is(n, j.words[n-k]) {
				n++
			}
			if n-k < len(j.words) {
				continue
			}
			if n < 3 && !p.startsTable(n) {
				break
			}
			l = p.join(l, j.kind, k == 1, n)
			continue next
		}
		if p.is(0, "CROSS") && p.is(1, "JOIN", "APPLY") {
			p.next()
			if p.at("APPLY") {
				p.fail(*p.peek(0), "APPLY is not allowed: use JOIN LATERAL")
			}
			p.unexpected()
		}
		break
	}
	return l
}

// join parses a join of l with n words to its kind.
func (p *parser) join(l ast.TableRef, kind string, natural bool, n int) ast.TableRef {
	at := p.here()
	for range n {
		p.next()
	}
	j := &ast.Join{Kind: kind, Natural: natural, KindAt: p.from(at), L: l, R: p.tableRef()}
	switch {
	case p.accept("ON"):
		j.On = p.expr()
	case p.accept("USING"):
		j.Using = p.nameList()
	}
	j.Span = p.from(l.At())
	return j
}

// startsTable reports whether the token k after the next can begin a table reference.
func (p *parser) startsTable(k int) bool {
	return p.isName(k) || p.is(k, "(", "LATERAL", "UNNEST", "TABLE")
}

// tableRef parses a table reference without joins.
func (p *parser) tableRef() ast.TableRef {
	p.enter(1)
	defer p.leave(1)
	at := p.here()
	var t ast.TableRef
	switch {
	case p.isName(0):
		t = p.tableName()
	case p.is(0, "(") || p.is(0, "LATERAL") && p.is(1, "("):
		lateral := p.accept("LATERAL")
		t = p.derived(lateral)
		t = p.match(t)
	case p.is(0, "UNNEST"):
		p.next()
		p.expect("(")
		u := &ast.Unnest{Args: p.exprList()}
		p.expect(")")
		if p.accept("WITH") {
			p.expect("ORDINALITY")
			u.Ordinality = true
		}
		u.Span = p.from(at)
		t = u
	case p.is(0, "LATERAL", "TABLE"):
		f := &ast.TableFunc{Lateral: p.accept("LATERAL")}
		p.expect("TABLE", "(")
		p.accept("SPECIFIC")
		f.Call = p.routine()
		p.expect(")")
		f.Span = p.from(at)
		t = f
	default:
		p.note("a table")
		p.unexpected()
		return &ast.TableName{Span: at}
	}
	if p.at("PIVOT") {
		t = p.pivot(t)
	}
	if p.at("UNPIVOT") {
		t = p.unpivot(t)
	}
	if n := p.optAlias(); n != nil {
		if _, ok := t.(*ast.Join); ok {
			p.fail(p.prev, "a join in parentheses cannot have an alias")
		}
		a := &ast.Alias{X: t, Name: *n}
		if p.at("(") {
			a.Columns = p.nameList()
		}
		a.Span = p.from(at)
		t = a
	}
	if p.at("TABLESAMPLE") {
		t = p.sample(t)
	}
	return t
}

// tableName parses a table by name, or a call of a table function.
func (p *parser) tableName() ast.TableRef {
	at := p.here()
	n := p.names()
	if p.is(0, "(") {
		f := &ast.TableFunc{Implicit: true, Call: p.routineArgs(n)}
		f.Span = p.from(at)
		return f
	}
	tn := &ast.TableName{Name: n, Hints: p.hints()}
	tn.Span = p.from(at)
	var t ast.TableRef = tn
	if p.is(0, "FOR") {
		p.next()
		p.expect("SYSTEM_TIME", "AS", "OF")
		s := &ast.Snapshot{X: t, Of: p.expr()}
		s.Span = p.from(at)
		t = s
	}
	return p.match(t)
}

// routine parses a call of a table function or a procedure.
func (p *parser) routine() *ast.Call { return p.routineArgs(p.names()) }

func (p *parser) routineArgs(n ast.Names) *ast.Call {
	p.expect("(")
	c := &ast.Call{Name: n}
	if !p.at(")") {
		c.Args = list(p, p.argument)
	}
	p.expect(")")
	c.Span = p.from(n.At())
	return c
}

// derived parses a query or a join in parentheses.
func (p *parser) derived(lateral bool) ast.TableRef {
	t := p.next()
	at := t.Span
	if p.is(0, "SELECT", "VALUES", "WITH", "VALUE") || p.is(0, "TABLE") && !p.is(1, "(") {
		d := &ast.Derived{Lateral: lateral, Query: p.query()}
		p.expect(")")
		d.Span = p.from(at)
		return d
	}
	r := p.joins()
	if d, ok := r.(*ast.Derived); ok && !d.Lateral && p.is(0, "UNION", "INTERSECT", "EXCEPT", "MINUS", "ORDER", "LIMIT", "OFFSET", "FETCH") {
		d.Query = p.ordered(p.setOps(d.Query, 0))
		r = d
	}
	p.expect(")")
	switch d := r.(type) {
	case *ast.Derived:
		d.Lateral = d.Lateral || lateral
		d.Span = p.from(at)
	default:
		if lateral {
			p.fail(t, "LATERAL needs a query or a table function")
		}
	}
	return r
}

// hints parses hints, if there are any.
func (p *parser) hints() []ast.Hint {
	if !p.accept("/*+") {
		return nil
	}
	h := list(p, p.hint)
	p.expect("*/")
	return h
}

func (p *parser) hint() ast.Hint {
	h := ast.Hint{Name: p.name()}
	if p.is(0, "(") {
		p.hintItems(&h)
	}
	h.Span = p.from(h.Name.Span)
	return h
}

// hintItems parses the list of a hint. Which of the three kinds it is shows in the
// tokens at its beginning; what fits none must be empty.
func (p *parser) hintItems(h *ast.Hint) {
	isText := func(k int) bool {
		switch p.peek(k).kind {
		case str, charset, unicode, escaped, binary:
			return true
		}
		return false
	}
	switch {
	case (p.isName(1) || isText(1)) && p.is(2, "=") && isText(3) && p.is(4, ",", ")"):
		h.Pairs = parens(p, func() ast.Property {
			at := p.here()
			var x ast.Property
			if p.isName(0) {
				n := p.name()
				x.Key = ast.Text{Span: n.Span, Value: n.Text}
			} else {
				x.Key = p.anyText()
			}
			p.expect("=")
			x.Value = p.anyText()
			x.Span = p.from(at)
			return x
		})
	case p.isName(1) && p.is(2, ",", ")"):
		h.Names = p.nameList()
	case (isText(1) || p.peek(1).kind == integer || p.peek(1).kind == decimal || p.peek(1).kind == approx) && p.is(2, ",", ")"), p.is(1, "+", "-"):
		h.Items = parens(p, func() ast.Expr {
			if isText(0) {
				return p.stringLiteral()
			}
			if p.is(0, "+", "-") {
				return p.literal()
			}
			return p.number()
		})
	default:
		p.expect("(", ")")
	}
}

func (p *parser) sample(t ast.TableRef) ast.TableRef {
	p.next()
	s := &ast.Sample{X: t, Method: p.oneOf("SUBSTITUTE", "BERNOULLI", "SYSTEM")}
	p.expect("(")
	if s.Method == "SUBSTITUTE" {
		x := p.anyText()
		s.Name = &x
		p.expect(")")
	} else {
		s.Percent = p.number()
		p.expect(")")
		if p.accept("REPEATABLE") {
			p.expect("(")
			if w := p.maybe("-", "+"); w == "-" {
				s.Seed = "-"
			}
			if p.peek(0).kind != integer {
				p.note("an integer")
				p.unexpected()
			} else {
				s.Seed += p.text(p.next())
			}
			p.expect(")")
		}
	}
	s.Span = p.from(t.At())
	return s
}

func (p *parser) pivot(t ast.TableRef) ast.TableRef {
	p.next()
	v := &ast.Pivot{X: t}
	p.expect("(")
	v.Aggs = list(p, func() ast.SelectItem {
		at := p.here()
		x := ast.SelectItem{X: p.atom()}
		x.Alias = p.optAlias()
		x.Span = p.from(at)
		return x
	})
	p.expect("FOR")
	v.Axes = p.nameOrList()
	p.expect("IN", "(")
	if !p.at(")") {
		v.Values = list(p, func() ast.PivotValue {
			at := p.here()
			x := ast.PivotValue{Row: p.valuesRow()}
			x.Alias = p.optAlias()
			x.Span = p.from(at)
			return x
		})
	}
	p.expect(")", ")")
	v.Span = p.from(t.At())
	return v
}

func (p *parser) unpivot(t ast.TableRef) ast.TableRef {
	p.next()
	u := &ast.Unpivot{X: t, Nulls: p.maybe("INCLUDE", "EXCLUDE")}
	if u.Nulls != "" {
		p.expect("NULLS")
	}
	p.expect("(")
	u.Measures = p.nameOrList()
	p.expect("FOR")
	u.Axes = p.nameOrList()
	p.expect("IN")
	u.Values = parens(p, func() ast.UnpivotValue {
		at := p.here()
		v := ast.UnpivotValue{Columns: p.nameOrList()}
		if p.accept("AS") {
			v.As = p.valuesRow()
		}
		v.Span = p.from(at)
		return v
	})
	p.expect(")")
	u.Span = p.from(t.At())
	return u
}
