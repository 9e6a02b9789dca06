package parse

import "github.com/rivulet-io/rivulet/pkg/sql/internal/ast"

// builtins are the functions whose arguments have a grammar of their own. Each is
// called after the name t, before the parenthesis.
var builtins map[string]func(p *parser, t token) ast.Expr

func init() {
	builtins = map[string]func(p *parser, t token) ast.Expr{
		"CAST": (*parser).cast, "TRY_CAST": (*parser).cast, "SAFE_CAST": (*parser).cast,
		"EXTRACT":  (*parser).extract,
		"POSITION": (*parser).position,
		"OVERLAY":  (*parser).overlay,
		"FLOOR":    (*parser).floor, "CEIL": (*parser).floor, "CEILING": (*parser).floor,
		"SUBSTRING": (*parser).substring,
		"TRIM":      (*parser).trim,
		"TRANSLATE": (*parser).translate, "CONVERT": (*parser).translate,
		"TIMESTAMPADD": (*parser).unitFirst, "TIMESTAMPDIFF": (*parser).unitFirst,
		"DATE_DIFF": (*parser).unitLast, "DATETIME_DIFF": (*parser).unitLast, "TIMESTAMP_DIFF": (*parser).unitLast, "TIME_DIFF": (*parser).unitLast,
		"DATETIME_TRUNC": (*parser).unitLast, "TIMESTAMP_TRUNC": (*parser).unitLast, "TIME_TRUNC": (*parser).unitLast,
		"DATE_TRUNC":  (*parser).dateTrunc,
		"JSON_EXISTS": (*parser).jsonQuery, "JSON_VALUE": (*parser).jsonQuery, "JSON_QUERY": (*parser).jsonQuery,
		"JSON_OBJECT": (*parser).jsonObject, "JSON_OBJECTAGG": (*parser).jsonObject,
		"JSON_ARRAY": (*parser).jsonArray, "JSON_ARRAYAGG": (*parser).jsonArray,
	}
	for _, w := range []string{"CLASSIFIER", "MATCH_NUMBER", "FIRST", "LAST", "PREV", "NEXT", "TUMBLE", "HOP", "SESSION", "CONTAINS_SUBSTR"} {
		builtins[w] = (*parser).plain
	}
}

// call begins a call of the function t and uses up its parenthesis.
func (p *parser) call(t token, form ast.Form) *ast.Call {
	p.expect("(")
	return &ast.Call{Name: ast.Names{{Span: t.Span, Text: p.text(t)}}, Form: form}
}

// done ends the call c of the function t with its parenthesis.
func (p *parser) done(c *ast.Call, t token) ast.Expr {
	p.expect(")")
	c.Span = p.from(t.Span)
	return c
}

// plain parses a function that only cannot be followed by FILTER and OVER.
func (p *parser) plain(t token) ast.Expr {
	c := &ast.Call{Name: ast.Names{{Span: t.Span, Text: p.text(t)}}}
	p.arguments(c)
	c.Span = p.from(t.Span)
	return c
}

func (p *parser) cast(t token) ast.Expr {
	p.expect("(")
	c := &ast.Cast{Func: t.word, X: p.expr()}
	p.expect("AS")
	if at := p.here(); p.accept("INTERVAL") {
		q := p.qualifier(false)
		c.Type = &ast.Type{Span: p.from(at), Kind: "INTERVAL", Unit: q, Prec: -1, Scale: -1}
	} else {
		c.Type = p.dataType()
	}
	p.expect(")")
	c.Span = p.from(t.Span)
	return c
}

func (p *parser) extract(t token) ast.Expr {
	c := p.call(t, ast.ExtractOf)
	c.Args = append(c.Args, p.unit())
	p.expect("FROM")
	c.Args = append(c.Args, p.expr())
	return p.done(c, t)
}

func (p *parser) position(t token) ast.Expr {
	c := p.call(t, ast.InOf)
	var x ast.Expr
	if p.is(0, "+", "-") {
		x = p.literal()
	} else {
		x = p.atom()
	}
	c.Args = append(c.Args, x)
	p.expect("IN")
	c.Args = append(c.Args, p.expr())
	if p.accept("FROM") {
		c.Args = append(c.Args, p.expr())
	}
	return p.done(c, t)
}

func (p *parser) overlay(t token) ast.Expr {
	c := p.call(t, ast.PlacingOf)
	c.Args = append(c.Args, p.expr())
	p.expect("PLACING")
	c.Args = append(c.Args, p.expr())
	p.expect("FROM")
	c.Args = append(c.Args, p.expr())
	if p.accept("FOR") {
		c.Args = append(c.Args, p.expr())
	}
	return p.done(c, t)
}

func (p *parser) floor(t token) ast.Expr {
	c := p.call(t, ast.Commas)
	c.Args = append(c.Args, p.expr())
	if p.accept("TO") {
		c.Form = ast.ToUnit
		c.Args = append(c.Args, p.unit())
	}
	p.done(c, t)
	if p.over(c); c.Over != nil {
		c.Span = p.from(t.Span)
	}
	return c
}

func (p *parser) substring(t token) ast.Expr {
	c := p.call(t, ast.Commas)
	c.Args = append(c.Args, p.expr())
	p.oneOf("FROM", ",")
	c.Args = append(c.Args, p.expr())
	if p.maybe("FOR", ",") != "" {
		c.Args = append(c.Args, p.expr())
	}
	return p.done(c, t)
}

func (p *parser) trim(t token) ast.Expr {
	c := p.call(t, ast.TrimOf)
	c.Trim = p.maybe("BOTH", "LEADING", "TRAILING")
	if !p.is(0, "FROM") {
		c.Args = append(c.Args, p.expr())
	} else if c.Trim == "" {
		p.note("an expression")
		p.unexpected()
	}
	if p.accept("FROM") {
		c.Args = append(c.Args, p.expr())
	}
	return p.done(c, t)
}

func (p *parser) translate(t token) ast.Expr {
	c := p.call(t, ast.Commas)
	c.Args = append(c.Args, p.expr())
	if p.accept("USING") {
		c.Form = ast.UsingOf
		n := p.name()
		c.Args = append(c.Args, &ast.Ident{Span: n.Span, Parts: ast.Names{n}})
		return p.done(c, t)
	}
	for p.err == nil && p.accept(",") {
		c.Args = append(c.Args, p.expr())
	}
	return p.done(c, t)
}

func (p *parser) unitFirst(t token) ast.Expr {
	c := p.call(t, ast.Commas)
	c.Args = append(c.Args, p.unit())
	for range 2 {
		p.expect(",")
		c.Args = append(c.Args, p.expr())
	}
	return p.done(c, t)
}

func (p *parser) unitLast(t token) ast.Expr {
	c := p.call(t, ast.Commas)
	c.Args = append(c.Args, p.expr())
	p.expect(",")
	if t.word == "DATE_DIFF" || t.word == "DATETIME_DIFF" || t.word == "TIMESTAMP_DIFF" || t.word == "TIME_DIFF" {
		c.Args = append(c.Args, p.expr())
		p.expect(",")
	}
	c.Args = append(c.Args, p.unit())
	return p.done(c, t)
}

func (p *parser) dateTrunc(t token) ast.Expr {
	c := p.call(t, ast.Commas)
	c.Args = append(c.Args, p.expr())
	p.expect(",")
	if timeUnits[p.peek(0).word] && p.is(1, ")", "(") {
		c.Args = append(c.Args, p.unit())
	} else {
		c.Args = append(c.Args, p.expr())
	}
	return p.done(c, t)
}

// jsonQuery parses JSON_EXISTS, JSON_VALUE and JSON_QUERY.
func (p *parser) jsonQuery(t token) ast.Expr {
	p.expect("(")
	j := &ast.JSONCall{Func: t.word, Input: p.expr()}
	if p.accept("FORMAT") {
		p.jsonFormat()
	}
	p.expect(",")
	j.Path = p.expr()
	if p.accept("PASSING") {
		j.Passing = list(p, func() ast.Passing {
			a := ast.Passing{X: p.expr()}
			p.expect("AS")
			a.Name = p.name()
			return a
		})
	}
	if t.word != "JSON_EXISTS" && p.accept("RETURNING") {
		j.Returning = p.dataType()
		if p.accept("FORMAT") {
			p.jsonFormat()
		}
	}
	does := []string{"ERROR", "NULL"}
	switch t.word {
	case "JSON_EXISTS":
		does = []string{"TRUE", "FALSE", "UNKNOWN", "ERROR"}
	case "JSON_VALUE":
		does = append(does, "DEFAULT")
	case "JSON_QUERY":
		does = append(does, "EMPTY")
		switch p.maybe("WITHOUT", "WITH") {
		case "WITHOUT":
			j.Wrapper = "WITHOUT ARRAY"
		case "WITH":
			j.Wrapper = "WITH UNCONDITIONAL ARRAY"
			if p.maybe("CONDITIONAL", "UNCONDITIONAL") == "CONDITIONAL" {
				j.Wrapper = "WITH CONDITIONAL ARRAY"
			}
		}
		if j.Wrapper != "" {
			p.accept("ARRAY")
			p.expect("WRAPPER")
		}
	}
	for p.err == nil {
		w := p.maybe(does...)
		if w == "" {
			break
		}
		b := ast.Behavior{Do: w}
		switch w {
		case "DEFAULT":
			b.Default = p.expr()
		case "EMPTY":
			b.Do += " " + p.oneOf("ARRAY", "OBJECT")
		}
		p.expect("ON")
		if t.word == "JSON_EXISTS" {
			b.Event = p.oneOf("ERROR")
			j.On = append(j.On, b)
			break
		}
		b.Event = p.oneOf("EMPTY", "ERROR")
		j.On = append(j.On, b)
	}
	p.expect(")")
	j.Span = p.from(t.Span)
	return j
}

// jsonFormat parses what follows FORMAT, which has no effect.
func (p *parser) jsonFormat() {
	p.expect("JSON")
	if p.accept("ENCODING") {
		p.oneOf("UTF8", "UTF16", "UTF32")
	}
}

// jsonObject parses JSON_OBJECT and JSON_OBJECTAGG.
func (p *parser) jsonObject(t token) ast.Expr {
	p.expect("(")
	j := &ast.JSONCall{Func: t.word}
	if t.word == "JSON_OBJECTAGG" {
		j.Pairs = []ast.Pair{p.pair()}
	} else if !p.at(")") && !p.nullClause() {
		j.Pairs = list(p, p.pair)
	}
	j.Nulls = p.onNull()
	p.expect(")")
	j.Span = p.from(t.Span)
	return j
}

// pair parses [KEY] k VALUE v or k : v.
func (p *parser) pair() ast.Pair {
	key := p.is(0, "KEY") && p.starts1(1)
	if key {
		p.next()
	}
	x := ast.Pair{Key: p.expr()}
	if p.at(":") && key {
		p.fail(*p.peek(0), "a key after KEY is followed by VALUE, not by a colon")
	}
	p.oneOf("VALUE", ":")
	x.Value = p.expr()
	if p.accept("FORMAT") {
		p.jsonFormat()
	}
	return x
}

// nullClause reports whether NULL ON NULL or ABSENT ON NULL is next.
func (p *parser) nullClause() bool { return p.is(0, "NULL", "ABSENT") && p.is(1, "ON") }

// onNull parses NULL ON NULL or ABSENT ON NULL, if it is next.
func (p *parser) onNull() string {
	w := p.maybe("NULL", "ABSENT")
	if w != "" {
		p.expect("ON", "NULL")
	}
	return w
}

// jsonArray parses JSON_ARRAY and JSON_ARRAYAGG.
func (p *parser) jsonArray(t token) ast.Expr {
	p.expect("(")
	j := &ast.JSONCall{Func: t.word}
	item := func() ast.Expr {
		x := p.expr()
		if p.accept("FORMAT") {
			p.jsonFormat()
		}
		return x
	}
	if t.word == "JSON_ARRAYAGG" {
		j.Items = []ast.Expr{item()}
		if p.at("ORDER") {
			j.OrderBy = p.orderBy()
		}
	} else if !p.at(")") && !p.nullClause() {
		j.Items = list(p, item)
	}
	j.Nulls = p.onNull()
	p.expect(")")
	if t.word == "JSON_ARRAYAGG" && p.is(0, "WITHIN") {
		j.WithinGroup = p.withinGroup()
	}
	j.Span = p.from(t.Span)
	return j
}
