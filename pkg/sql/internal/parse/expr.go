package parse

import "github.com/rivulet-io/rivulet/pkg/sql/internal/ast"

// simple are the infix operators of one token.
var simple = set("= <> < <= > >= + - * / % || AND OR CONTAINS OVERLAPS EQUALS PRECEDES SUCCEEDS")

var (
	// calls are the reserved words that are names of functions.
	calls = set(`ABS AVG CARDINALITY CEILING CHAR CHAR_LENGTH CHARACTER_LENGTH COALESCE COLLECT COVAR_POP COVAR_SAMP CUME_DIST
		COUNT CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP DENSE_RANK ELEMENT EVERY EXP FIRST_VALUE FLOOR FUSION INTERSECTION
		GROUPING HOUR LAG LEAD LEFT LAST_VALUE LN LOCALTIME LOCALTIMESTAMP LOWER MAX MIN MINUTE MOD MONTH NTH_VALUE NTILE
		NULLIF OCTET_LENGTH PERCENTILE_CONT PERCENTILE_DISC PERCENT_RANK POWER RANK REGR_COUNT REGR_SXX REGR_SYY RIGHT
		ROW_NUMBER SECOND SOME SQRT STDDEV_POP STDDEV_SAMP SUM UPPER TRUNCATE USER VAR_POP VAR_SAMP YEAR`)

	// bare are the reserved words that are called without parentheses.
	bare = set(`CURRENT_CATALOG CURRENT_DATE CURRENT_DEFAULT_TRANSFORM_GROUP CURRENT_PATH CURRENT_ROLE CURRENT_SCHEMA CURRENT_TIME
		CURRENT_TIMESTAMP CURRENT_USER LOCALTIME LOCALTIMESTAMP SESSION_USER SYSTEM_USER USER`)

	// special are the other reserved words that begin a call, with a grammar of its
	// own or not.
	special = set(`CAST SAFE_CAST TRY_CAST EXTRACT POSITION CONVERT TRANSLATE OVERLAY CEIL SUBSTRING TRIM CONTAINS_SUBSTR
		DATE_TRUNC DATETIME_TRUNC TIMESTAMP_TRUNC TIME_TRUNC TIMESTAMP_DIFF TIME_DIFF CLASSIFIER MATCH_NUMBER NEXT PREV
		JSON_EXISTS JSON_VALUE JSON_QUERY JSON_OBJECT JSON_OBJECTAGG JSON_ARRAY JSON_ARRAYAGG ARRAY_CONCAT_AGG GROUP_CONCAT
		STRING_AGG DATE TIME TIMESTAMP DATETIME`)

	// queryWords begin a query.
	queryWords = []string{"SELECT", "VALUES", "WITH", "TABLE", "VALUE"}
)

// starts reports whether the tokens from k on can begin an expression. It looks at
// two of them, as Flink does, and so decides where an error is: an operator that is
// followed by what begins no expression is itself the wrong token.
func (p *parser) starts(k int) bool {
	t := p.peek(k)
	switch t.kind {
	case ident, quoted, integer, decimal, approx, str, charset, unicode, escaped, binary:
		return true
	case eof, bad:
		return false
	}
	call := p.is(k+1, "(")
	switch w := t.word; w {
	case "+", "-", "NOT", "EXISTS", "UNIQUE":
		return p.starts1(k + 1)
	case "TRUE", "FALSE", "UNKNOWN", "NULL", "?":
		return true
	case "DATE", "TIME", "DATETIME":
		return call || p.peek(k+1).kind == str
	case "TIMESTAMP":
		return call || p.peek(k+1).kind == str || p.is(k+1, "WITH")
	case "DECIMAL", "{D", "{T", "{TS":
		return p.peek(k+1).kind == str
	case "INTERVAL":
		n := p.peek(k + 1)
		return call || n.kind == str || n.kind == integer || n.kind == decimal || n.kind == approx || p.isName(k+1) || p.is(k+1, "+", "-", "DECIMAL")
	case "ARRAY", "MULTISET":
		return call || p.is(k+1, "[")
	case "ROW", "PERIOD":
		return call
	case "(":
		return p.starts1(k+1) || p.is(k+1, queryWords...)
	case "CASE":
		return p.starts1(k+1) || p.is(k+1, "WHEN")
	case "RUNNING":
		return p.isName(k+1) || calls[p.peek(k+1).word]
	case "SPECIFIC":
		return p.isName(k+1) || calls[p.peek(k+1).word]
	default:
		return bare[w] || (calls[w] || special[w]) && call
	}
}

// starts1 is starts for one token.
func (p *parser) starts1(k int) bool {
	t := p.peek(k)
	switch t.kind {
	case ident, quoted, integer, decimal, approx, str, charset, unicode, escaped, binary:
		return true
	case eof, bad:
		return false
	}
	switch w := t.word; w {
	case "+", "-", "NOT", "EXISTS", "UNIQUE", "TRUE", "FALSE", "UNKNOWN", "NULL", "?", "DECIMAL", "{D", "{T", "{TS",
		"INTERVAL", "ARRAY", "MULTISET", "ROW", "PERIOD", "(", "CASE", "RUNNING", "SPECIFIC":
		return true
	default:
		return bare[w] || calls[w] || special[w]
	}
}

// expr parses an expression.
func (p *parser) expr() ast.Expr {
	p.enter(1)
	defer p.leave(1)
	stop := p.stopAnd
	p.stopAnd = false
	x := p.above(0)
	p.stopAnd = stop
	return x
}

// exprs parses one or more expressions.
func (p *parser) exprs() []ast.Expr { return list(p, p.expr) }

// above parses an expression of operators with at least the given precedence.
func (p *parser) above(least int) ast.Expr {
	var ops []token
	for p.err == nil && p.is(0, "+", "-", "NOT", "EXISTS", "UNIQUE") {
		ops = append(ops, p.next())
	}
	p.enter(len(ops))
	defer p.leave(len(ops))
	x := p.primary()
	for i := len(ops) - 1; i >= 0; i-- {
		op, prec := ast.Op(ops[i].word), ast.PrecSign
		switch op {
		case ast.Not:
			prec = ast.PrecNot
		case ast.Exists, ast.Unique:
			prec = ast.PrecExists
		}
		x = p.infix(x, prec+1)
		x = &ast.Unary{Span: ops[i].Span.To(x.At()), Op: op, X: x}
	}
	return p.infix(x, least)
}

// infix parses the operators that follow x and have at least the given precedence.
func (p *parser) infix(x ast.Expr, least int) ast.Expr {
	for p.err == nil {
		y := p.infix1(x, least)
		if y == nil {
			p.note("an operator")
			return x
		}
		x = y
	}
	return x
}

// infix1 parses one operator that follows x, with what belongs to it; nil if there
// is none of at least the given precedence.
func (p *parser) infix1(x ast.Expr, least int) ast.Expr {
	t := *p.peek(0)
	if t.word == "" || t.kind == bad || t.kind == ident && t.word != "ILIKE" && t.word != "IMMEDIATELY" {
		return nil
	}
	at := x.At()
	if simple[t.word] {
		prec := ast.Op(t.word).Precedence()
		if prec < least || p.stopAnd && t.word == "AND" {
			return nil
		}
		if prec == ast.PrecCompare && p.is(1, "SOME", "ANY", "ALL") && t.kind == punct {
			if ast.PrecIn < least {
				return nil
			}
			p.next()
			q := &ast.Quantified{Op: ast.Op(t.word), X: x, All: p.next().word == "ALL"}
			q.List, q.Query = p.listOrQuery()
			q.Span = p.from(at)
			return q
		}
		if !p.starts(1) {
			p.dangling = t
			return nil
		}
		p.next()
		y := p.above(prec + 1)
		return &ast.Binary{Span: at.To(y.At()), Op: ast.Op(t.word), X: x, Y: y}
	}
	binary := func(op ast.Op, words int) ast.Expr {
		prec := op.Precedence()
		if prec < least || !p.starts(words) {
			return nil
		}
		for range words {
			p.next()
		}
		y := p.above(prec + 1)
		return &ast.Binary{Span: at.To(y.At()), Op: op, X: x, Y: y}
	}
	not, k := false, 0
	switch t.word {
	case "NOT":
		not, k = true, 1
	case "[":
		if ast.PrecIndex < least || !p.starts1(1) && !p.is(1, "OFFSET", "ORDINAL", "SAFE_OFFSET", "SAFE_ORDINAL") {
			return nil
		}
		p.next()
		y := &ast.Index{X: x, Mode: p.maybe("OFFSET", "ORDINAL", "SAFE_OFFSET", "SAFE_ORDINAL"), I: p.expr()}
		p.expect("]")
		y.Span = p.from(at)
		var e ast.Expr = y
		for p.err == nil && p.is(0, ".") && p.isName(1) {
			p.next()
			n := p.name()
			e = &ast.Field{Span: at.To(n.Span), X: e, Name: n}
		}
		return e
	case "!=":
		p.fail(t, "the operator != is not allowed: use <>")
		return nil
	case "IS":
		return p.is1(x, least)
	case "MEMBER":
		if p.is(1, "OF") {
			return binary(ast.MemberOf, 2)
		}
		return nil
	case "IMMEDIATELY":
		switch {
		case p.is(1, "PRECEDES"):
			return binary(ast.ImmediatelyPrecedes, 2)
		case p.is(1, "SUCCEEDS"):
			return binary(ast.ImmediatelySucceeds, 2)
		}
		return nil
	case "MULTISET":
		op := map[string]ast.Op{"UNION": ast.MultisetUnion, "INTERSECT": ast.MultisetIntersect, "EXCEPT": ast.MultisetExcept}[p.peek(1).word]
		switch {
		case op == "":
			return nil
		case p.is(2, "ALL"):
			return binary(op, 3)
		case p.is(2, "DISTINCT"):
			return binary(op+" DISTINCT", 3)
		}
		return binary(op, 2)
	}
	u := p.peek(k)
	switch u.word {
	case "IN":
		if ast.PrecIn < least || !not && !p.is(1, "(") {
			return nil
		}
		for range k + 1 {
			p.next()
		}
		in := &ast.In{Not: not, X: x}
		in.List, in.Query = p.listOrQuery()
		in.Span = p.from(at)
		return in
	case "BETWEEN":
		if ast.PrecIn < least || !not && !p.starts1(1) && !p.is(1, "SYMMETRIC", "ASYMMETRIC") {
			return nil
		}
		for range k + 1 {
			p.next()
		}
		b := &ast.Between{Not: not, X: x, Symmetric: p.maybe("SYMMETRIC", "ASYMMETRIC") == "SYMMETRIC"}
		stop := p.stopAnd
		p.stopAnd = true
		b.Low = p.above(0)
		p.stopAnd = stop
		p.expect("AND")
		b.High = p.above(ast.PrecIn + 1)
		b.Span = at.To(b.High.At())
		return b
	case "LIKE", "ILIKE", "RLIKE", "SIMILAR":
		words := k + 1
		op := u.word
		if op == "SIMILAR" {
			if op = "SIMILAR TO"; !p.is(k+1, "TO") {
				return nil
			}
			words++
		}
		if ast.PrecIn < least || !not && op != "SIMILAR TO" && !p.starts1(1) {
			return nil
		}
		for range words {
			p.next()
		}
		l := &ast.Like{Not: not, Op: op, X: x, Pattern: p.above(ast.PrecIn + 1)}
		l.Span = at.To(l.Pattern.At())
		if p.is(0, "ESCAPE") && p.starts1(1) {
			p.next()
			l.Escape = p.above(ast.PrecIn + 1)
			l.Span = at.To(l.Escape.At())
		}
		return l
	case "SUBMULTISET":
		if !p.is(k+1, "OF") {
			return nil
		}
		if not {
			return binary(ast.NotSubmultisetOf, 3)
		}
		return binary(ast.SubmultisetOf, 2)
	}
	return nil
}

// is1 parses an operator that begins with IS.
func (p *parser) is1(x ast.Expr, least int) ast.Expr {
	at := x.At()
	for _, d := range []struct {
		op    ast.Op
		words []string
	}{
		{ast.IsDistinctFrom, []string{"IS", "DISTINCT", "FROM"}},
		{ast.IsNotDistinctFrom, []string{"IS", "NOT", "DISTINCT", "FROM"}},
	} {
		ok := true
		for i, w := range d.words {
			ok = ok && p.is(i, w)
		}
		if !ok {
			continue
		}
		if ast.PrecCompare < least || !p.starts1(len(d.words)) {
			return nil
		}
		for range d.words {
			p.next()
		}
		y := p.above(ast.PrecCompare + 1)
		return &ast.Binary{Span: at.To(y.At()), Op: d.op, X: x, Y: y}
	}
	if ast.PrecIs < least || !p.is(1, "A", "NOT", "NULL", "TRUE", "FALSE", "UNKNOWN", "EMPTY", "JSON") {
		return nil
	}
	p.next()
	y := &ast.Is{X: x, Not: p.accept("NOT")}
	y.What = p.oneOf("NULL", "TRUE", "FALSE", "UNKNOWN", "A", "EMPTY", "JSON")
	switch y.What {
	case "A":
		p.expect("SET")
		y.What = "A SET"
	case "JSON":
		y.What = "JSON VALUE"
		if w := p.maybe("VALUE", "OBJECT", "ARRAY", "SCALAR"); w != "" {
			y.What = "JSON " + w
		}
	}
	y.Span = p.from(at)
	return y
}

// listOrQuery parses what follows IN: expressions or a query, in parentheses.
func (p *parser) listOrQuery() ([]ast.Expr, ast.Query) {
	p.expect("(")
	x := p.exprList()
	p.expect(")")
	if len(x) == 1 {
		if s, ok := x[0].(*ast.Subquery); ok {
			return nil, s.Query
		}
	}
	return x, nil
}

// exprList parses expressions, the first of which may be a query.
func (p *parser) exprList() []ast.Expr {
	x := []ast.Expr{p.exprOrQuery()}
	for p.err == nil && p.accept(",") {
		x = append(x, p.expr())
	}
	return x
}

// exprOrQuery parses an expression or a query; a query becomes a Subquery.
func (p *parser) exprOrQuery() ast.Expr {
	if p.is(0, queryWords...) {
		q := p.query()
		return &ast.Subquery{Span: q.At(), Query: q}
	}
	x := p.expr()
	if s, ok := x.(*ast.Subquery); ok && p.is(0, "UNION", "INTERSECT", "EXCEPT", "MINUS", "ORDER", "LIMIT", "OFFSET", "FETCH") {
		// OVER (.. ORDER BY) and table arguments decide themselves about ORDER.
		p.enter(1)
		defer p.leave(1)
		q := p.ordered(p.setOps(s.Query, 0))
		return &ast.Subquery{Span: q.At(), Query: q}
	}
	return x
}

// ident parses a compound identifier, which may end in a star.
func (p *parser) ident() ast.Expr {
	n := p.names()
	if p.is(0, ".") && p.is(1, "*") {
		p.next()
		p.next()
		return &ast.Star{Span: p.from(n.At()), Table: n}
	}
	return &ast.Ident{Span: n.At(), Parts: n}
}

// primary parses an operand, without the operators around it but with accesses by
// a point.
func (p *parser) primary() ast.Expr {
	x := p.atom()
	for p.err == nil && p.is(0, ".") && p.isName(1) {
		p.next()
		n := p.name()
		if !p.at("(") {
			x = &ast.Field{Span: p.from(x.At()), X: x, Name: n}
			continue
		}
		c := &ast.Call{Recv: x, Name: ast.Names{n}}
		p.arguments(c)
		c.Span = p.from(x.At())
		x = c
	}
	return x
}

// atom parses an operand.
func (p *parser) atom() ast.Expr {
	t := *p.peek(0)
	if t.word != "(" && t.word != "ROW" && !p.starts(0) {
		p.note("an expression")
		p.unexpected()
		return &ast.Const{}
	}
	switch t.kind {
	case integer, decimal, approx:
		return p.number()
	case str, charset, unicode, escaped, binary:
		return p.stringLiteral()
	case quoted:
		return p.nameOrCall()
	}
	call := p.is(1, "(")
	switch t.word {
	case "TRUE", "FALSE", "UNKNOWN", "NULL", "{D", "{T", "{TS":
		return p.literal()
	case "DATE", "TIME", "DATETIME", "TIMESTAMP":
		if !call {
			return p.temporal()
		}
		p.next()
		c := &ast.Call{Name: ast.Names{{Span: t.Span, Text: p.text(t)}}}
		p.arguments(c)
		c.Span = p.from(t.Span)
		return c
	case "DECIMAL":
		return p.number()
	case "INTERVAL":
		return p.interval(false)
	case "?":
		return p.param()
	case "ARRAY", "MULTISET":
		return p.collection()
	case "MAP":
		if call || p.is(1, "[") {
			return p.collection()
		}
	case "ROW", "PERIOD":
		p.next()
		return p.row(t.Span)
	case "(":
		return p.group()
	case "CASE":
		return p.caseExpr()
	case "MODEL":
		if p.isName(1) {
			p.next()
			n := p.names()
			return &ast.ModelArg{Span: p.from(t.Span), Model: n}
		}
	case "RUNNING", "FINAL":
		if (p.isName(1) || calls[p.peek(1).word]) && (p.is(2, "(", ".") || t.word == "RUNNING") {
			p.next()
			switch x := p.nameOrCall().(type) {
			case *ast.Call:
				x.Modifier = t.word
				x.Span = p.from(t.Span)
				return x
			default:
				p.note("(")
				p.unexpected()
				return x
			}
		}
	case "SPECIFIC":
		p.next()
		return p.nameOrCall()
	}
	if call {
		if f, ok := builtins[t.word]; ok {
			p.next()
			return f(p, t)
		}
	}
	if bare[t.word] && !call {
		p.next()
		return &ast.Call{Span: t.Span, Name: ast.Names{{Span: t.Span, Text: p.text(t)}}, Form: ast.Bare}
	}
	return p.nameOrCall()
}

// row parses the items of a row after its keyword at s.
func (p *parser) row(s ast.Span) *ast.Row {
	p.expect("(")
	r := &ast.Row{Explicit: true, Items: p.exprList()}
	p.expect(")")
	r.Span = p.from(s)
	return r
}

// group parses what is in parentheses: an expression, a query, or a row.
func (p *parser) group() ast.Expr {
	s := p.next().Span
	x := p.exprList()
	p.expect(")")
	if len(x) > 1 {
		return &ast.Row{Span: p.from(s), Items: x}
	}
	if b, ok := x[0].(*ast.Binary); ok && b.Op == ast.Minus && p.is(0, units...) && !p.is(1, ".", "(") {
		u := p.qualifier(false)
		return &ast.DateMinus{Span: p.from(s), X: b.X, Y: b.Y, Unit: u}
	}
	return x[0]
}

// caseExpr parses CASE .. END.
func (p *parser) caseExpr() ast.Expr {
	s := p.next().Span
	c := &ast.Case{}
	if !p.at("WHEN") {
		c.Operand = p.expr()
	}
	for {
		p.expect("WHEN")
		w := ast.When{Conds: p.exprs()}
		p.expect("THEN")
		w.Then = p.expr()
		c.Whens = append(c.Whens, w)
		if p.err != nil || !p.at("WHEN") {
			break
		}
	}
	if p.accept("ELSE") {
		c.Else = p.expr()
	}
	p.expect("END")
	c.Span = p.from(s)
	return c
}

// collection parses ARRAY[..], MAP(..) and their like.
func (p *parser) collection() ast.Expr {
	t := p.next()
	c := &ast.Collection{Kind: t.word}
	switch {
	case p.accept("("):
		c.Paren = true
		if !p.at(")") || t.word == "MULTISET" {
			c.Items = p.exprList()
		}
		p.expect(")")
		if len(c.Items) == 1 {
			if s, ok := c.Items[0].(*ast.Subquery); ok {
				c.Items, c.Query = nil, s.Query
			}
		}
		if t.word == "MULTISET" && c.Query == nil {
			p.fail(t, "MULTISET(..) needs a query: use MULTISET[..]")
		}
	default:
		p.expect("[")
		if !p.at("]") || t.word == "MULTISET" {
			c.Items = p.exprs()
		}
		p.expect("]")
	}
	c.Span = p.from(t.Span)
	return c
}

// nameOrCall parses an identifier, or a call if parentheses follow it.
func (p *parser) nameOrCall() ast.Expr {
	t := *p.peek(0)
	var n ast.Names
	if calls[t.word] || stringAggs[t.word] && t.kind == keyword {
		p.next()
		n = ast.Names{{Span: t.Span, Text: p.text(t)}}
	} else {
		n = p.names()
		if p.is(0, ".") && p.is(1, "*") {
			p.next()
			p.next()
			return &ast.Star{Span: p.from(n.At()), Table: n}
		}
		if !p.is(0, "(") {
			return &ast.Ident{Span: n.At(), Parts: n}
		}
	}
	c := &ast.Call{Name: n}
	if stringAggs[t.word] && t.kind != quoted && len(n) == 1 {
		p.aggregateArguments(c)
	} else {
		p.arguments(c)
	}
	p.aggregateClauses(c)
	c.Span = p.from(t.Span)
	return c
}

var stringAggs = set("ARRAY_AGG ARRAY_CONCAT_AGG GROUP_CONCAT STRING_AGG")

// arguments parses the parentheses of a call.
func (p *parser) arguments(c *ast.Call) {
	p.expect("(")
	if p.is(0, "*") {
		c.Args = []ast.Expr{&ast.Star{Span: p.next().Span}}
		p.expect(")")
		return
	}
	if p.accept(")") {
		return
	}
	c.Quant = p.maybe("DISTINCT", "ALL")
	c.Args = list(p, p.argument)
	p.expect(")")
}

// argument parses one argument of a call.
func (p *parser) argument() ast.Expr {
	at := p.here()
	if p.isName(0) && p.is(1, "=>") {
		n := p.name()
		p.next()
		x := &ast.NamedArg{Name: n, X: p.argumentValue()}
		x.Span = p.from(at)
		return x
	}
	return p.argumentValue()
}

func (p *parser) argumentValue() ast.Expr {
	at := p.here()
	if p.accept("DEFAULT") {
		return &ast.Default{Span: at}
	}
	a := &ast.TableArg{}
	if p.is(0, "TABLE") {
		p.next()
		a.Table = p.names()
	} else {
		x := p.exprOrQuery()
		s, ok := x.(*ast.Subquery)
		if !ok || !p.is(0, "PARTITION", "ORDER") {
			return x
		}
		a.Query = s.Query
	}
	if p.accept("PARTITION") {
		p.expect("BY")
		a.PartitionBy = p.nameOrList()
	}
	if p.accept("ORDER") {
		p.expect("BY")
		if p.accept("(") {
			a.OrderBy = list(p, p.orderItem)
			p.expect(")")
		} else {
			a.OrderBy = []ast.OrderItem{p.orderItem()}
		}
	}
	a.Span = p.from(at)
	return a
}

// aggregateArguments parses the parentheses of ARRAY_AGG and its like.
func (p *parser) aggregateArguments(c *ast.Call) {
	p.expect("(")
	c.Quant = p.maybe("DISTINCT", "ALL")
	c.Args = list(p, p.argument)
	if w := p.maybe("IGNORE", "RESPECT"); w != "" {
		p.expect("NULLS")
		c.Nulls = w
	}
	if p.at("ORDER") {
		c.OrderBy = p.orderBy()
	}
	if p.accept("SEPARATOR") {
		t := p.anyText()
		c.Separator = &t
	}
	p.expect(")")
}

// aggregateClauses parses what may follow the parentheses of a call.
func (p *parser) aggregateClauses(c *ast.Call) {
	if p.is(0, "IGNORE", "RESPECT") && p.is(1, "NULLS") {
		c.Nulls = p.next().word
		p.next()
	}
	if p.is(0, "WITHIN") && p.is(1, "DISTINCT") {
		p.next()
		p.next()
		c.WithinDistinct = parens(p, p.expr)
	}
	if p.is(0, "WITHIN") {
		c.WithinGroup = p.withinGroup()
	}
	if p.is(0, "FILTER") {
		p.next()
		p.expect("(", "WHERE")
		c.Filter = p.expr()
		p.expect(")")
	}
	p.over(c)
}

// withinGroup parses WITHIN GROUP (ORDER BY ..).
func (p *parser) withinGroup() []ast.OrderItem {
	p.expect("WITHIN", "GROUP", "(")
	o := p.orderBy()
	p.expect(")")
	return o
}

// over parses OVER, if it is next.
func (p *parser) over(c *ast.Call) {
	if !p.is(0, "OVER") {
		p.note("OVER")
		return
	}
	p.next()
	if p.isName(0) {
		n := p.name()
		c.Over = &ast.Window{Span: n.Span, Ref: &n}
		return
	}
	c.Over = p.window()
}

// window parses a window in parentheses.
func (p *parser) window() *ast.Window {
	at := p.here()
	p.expect("(")
	w := &ast.Window{Parens: true}
	if p.isName(0) {
		n := p.name()
		w.Ref = &n
	}
	if p.accept("PARTITION") {
		p.expect("BY")
		w.PartitionBy = p.exprs()
	}
	if p.at("ORDER") {
		w.OrderBy = p.orderBy()
	}
	if w.Unit = p.maybe("ROWS", "RANGE"); w.Unit != "" {
		if p.accept("BETWEEN") {
			w.Low = p.bound()
			p.expect("AND")
			b := p.bound()
			w.High = &b
		} else {
			w.Low = p.bound()
		}
	}
	if w.Partial = p.maybe("ALLOW", "DISALLOW"); w.Partial != "" {
		p.expect("PARTIAL")
	}
	p.expect(")")
	w.Span = p.from(at)
	return w
}

// bound parses an end of a frame.
func (p *parser) bound() ast.Bound {
	at := p.here()
	var b ast.Bound
	switch {
	case p.is(0, "CURRENT") && p.is(1, "ROW"):
		p.next()
		p.next()
		b.Kind = "CURRENT ROW"
	case p.is(0, "UNBOUNDED") && p.is(1, "PRECEDING", "FOLLOWING"):
		p.next()
		b.Kind = "UNBOUNDED " + p.next().word
	default:
		b.X = p.expr()
		b.Kind = p.oneOf("PRECEDING", "FOLLOWING")
	}
	b.Span = p.from(at)
	return b
}

// orderBy parses ORDER BY with its items.
func (p *parser) orderBy() []ast.OrderItem {
	p.expect("ORDER", "BY")
	return list(p, p.orderItem)
}

func (p *parser) orderItem() ast.OrderItem {
	at := p.here()
	o := ast.OrderItem{X: p.expr()}
	o.Desc = p.maybe("ASC", "DESC") == "DESC"
	if p.accept("NULLS") {
		o.Nulls = p.oneOf("FIRST", "LAST")
	}
	o.Span = p.from(at)
	return o
}
