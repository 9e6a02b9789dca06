package parse

import "github.com/rivulet-io/rivulet/pkg/sql/internal/ast"

// match parses MATCH_RECOGNIZE after t, if it is next.
func (p *parser) match(t ast.TableRef) ast.TableRef {
	if !p.accept("MATCH_RECOGNIZE") {
		return t
	}
	m := &ast.Match{X: t}
	p.expect("(")
	if p.accept("PARTITION") {
		p.expect("BY")
		m.PartitionBy = p.exprs()
	}
	if p.at("ORDER") {
		m.OrderBy = p.orderBy()
	}
	if p.accept("MEASURES") {
		m.Measures = list(p, func() ast.Measure {
			at := p.here()
			x := ast.Measure{X: p.expr()}
			p.expect("AS")
			x.Name = p.name()
			x.Span = p.from(at)
			return x
		})
	}
	switch {
	case p.accept("ONE"):
		p.expect("ROW", "PER", "MATCH")
		m.Rows = "ONE ROW"
	case p.accept("ALL"):
		p.expect("ROWS", "PER", "MATCH")
		m.Rows = "ALL ROWS"
	}
	if p.accept("AFTER") {
		p.expect("MATCH", "SKIP")
		p.afterMatch(m)
	}
	p.expect("PATTERN", "(")
	m.StrictStart = p.accept("^")
	m.Pattern = p.pattern()
	m.StrictEnd = p.accept("$")
	p.expect(")")
	if p.accept("WITHIN") {
		m.Within = p.intervalLiteral()
	}
	if p.accept("SUBSET") {
		m.Subsets = list(p, func() ast.Subset {
			x := ast.Subset{Name: p.name()}
			p.expect("=")
			x.Vars = parens(p, p.expr)
			x.Span = p.from(x.Name.Span)
			return x
		})
	}
	p.expect("DEFINE")
	m.Defines = list(p, func() ast.Define {
		x := ast.Define{Name: p.name()}
		p.expect("AS")
		x.X = p.expr()
		x.Span = p.from(x.Name.Span)
		return x
	})
	p.expect(")")
	m.Span = p.from(t.At())
	return m
}

// afterMatch parses where to go on after a match.
func (p *parser) afterMatch(m *ast.Match) {
	if p.accept("PAST") {
		p.expect("LAST", "ROW")
		m.After = "PAST LAST ROW"
		return
	}
	p.expect("TO")
	switch {
	case p.accept("NEXT", "ROW"):
		m.After = "TO NEXT ROW"
		return
	case p.is(0, "FIRST") && p.isName(1):
		p.next()
		m.After = "TO FIRST"
	default:
		if p.is(0, "LAST") && p.isName(1) {
			p.next()
		}
		m.After = "TO LAST"
	}
	n := p.name()
	m.AfterVar = &n
}

// pattern parses alternatives of concatenations.
func (p *parser) pattern() ast.Pattern {
	p.enter(1)
	defer p.leave(1)
	return p.several("ALTER", func() bool { return p.accept("|") }, func() ast.Pattern {
		return p.several("CONCAT", func() bool { return p.isName(0) || p.is(0, "(", "{", "PERMUTE") }, p.patternFactor)
	})
}

// several parses one or more of f, as long as more says so.
func (p *parser) several(kind string, more func() bool, f func() ast.Pattern) ast.Pattern {
	x := f()
	all := []ast.Pattern{x}
	for p.err == nil && more() {
		all = append(all, f())
	}
	if len(all) == 1 {
		return x
	}
	return ast.Pattern{Span: p.from(x.Span), Kind: kind, Subs: all}
}

// patternFactor parses a variable or a group, with its quantifier.
func (p *parser) patternFactor() ast.Pattern {
	x := p.patternPrimary()
	q := ast.Pattern{Kind: "REPEAT", Subs: []ast.Pattern{x}}
	switch p.maybe("*", "+", "?") {
	case "*":
		q.Min = "0"
	case "+":
		q.Min = "1"
	case "?":
		q.Min, q.Max = "0", "1"
	default:
		if !p.is(0, "{") || p.is(1, "-") {
			return x
		}
		p.next()
		switch {
		case p.accept(","):
			q.Max = p.number().Text
		default:
			q.Min = p.number().Text
			if q.Max = q.Min; p.accept(",") {
				if q.Max = ""; !p.at("}") {
					q.Max = p.number().Text
				}
			}
		}
		p.expect("}")
	}
	q.Reluctant = p.accept("?")
	q.Span = p.from(x.Span)
	return q
}

func (p *parser) patternPrimary() ast.Pattern {
	at := p.here()
	switch {
	case p.accept("("):
		x := p.pattern()
		p.expect(")")
		return x
	case p.accept("{"):
		p.expect("-")
		x := ast.Pattern{Kind: "EXCLUDE", Subs: []ast.Pattern{p.pattern()}}
		p.expect("-", "}")
		x.Span = p.from(at)
		return x
	case p.accept("PERMUTE"):
		x := ast.Pattern{Kind: "PERMUTE", Subs: parens(p, p.pattern)}
		x.Span = p.from(at)
		return x
	}
	n := p.name()
	return ast.Pattern{Span: n.Span, Kind: "VAR", Var: n}
}
