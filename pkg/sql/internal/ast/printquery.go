package ast

import (
	"slices"
	"strconv"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// query writes a query where any may stand.
func (p *printer) query(q Query) {
	switch q := q.(type) {
	case *Select:
		p.selectQuery(q)
	case *Values:
		p.w("VALUES ")
		each(p, q.Rows, p.valuesRow)
	case *Table:
		p.w("TABLE ")
		p.names(q.Name)
	case *SetOp:
		p.setOps(q)
	case *With:
		p.w("WITH ")
		p.when(q.Recursive, "RECURSIVE ")
		each(p, q.Items, func(i WithItem) {
			p.name(i.Name)
			p.optNames(i.Columns)
			p.w(" AS ")
			p.subquery(i.Query)
		})
		p.w(" ")
		p.operand(q.Body, 0)
	case *Ordered:
		if _, ok := q.Body.(*Ordered); ok {
			p.subquery(q.Body)
		} else {
			p.query(q.Body)
		}
		p.orderBy(q.OrderBy)
		if q.Limit != nil {
			p.w(" LIMIT ")
			p.expr(q.Limit)
		}
		if q.Offset != nil {
			p.w(" OFFSET ")
			p.expr(q.Offset)
		}
	}
}

// setOps writes set operations; their left side may be long.
func (p *printer) setOps(s *SetOp) {
	all := []*SetOp{s}
	for {
		l, ok := s.L.(*SetOp)
		if !ok || l.Precedence() < s.Precedence() {
			break
		}
		all, s = append(all, l), l
	}
	p.operand(s.L, s.Precedence())
	for i := len(all) - 1; i >= 0; i-- {
		p.w(" ", all[i].Op)
		p.when(all[i].All, " ALL")
		p.w(" ")
		p.operand(all[i].R, all[i].Precedence()+1)
	}
}

// operand writes a query as an operand of a set operation: in parentheses if it is
// one of less than least, or something that ends a query.
func (p *printer) operand(q Query, least int) {
	switch q := q.(type) {
	case *SetOp:
		if q.Precedence() < least {
			p.subquery(q)
			return
		}
	case *With, *Ordered:
		p.subquery(q)
		return
	}
	p.query(q)
}

// valuesRow writes a row of VALUES, or of PIVOT.
func (p *printer) valuesRow(r *Row) {
	// In a row of rows the first parenthesis would be taken for the inner one's.
	if i, ok := r.Items[0].(*Row); ok && i.Explicit {
		p.w("ROW")
	}
	parens(p, r.Items, p.expr)
}

func (p *printer) selectQuery(s *Select) {
	p.w("SELECT")
	p.hints(s.Hints)
	p.when(s.Stream, " STREAM")
	p.opt(s.Quant)
	p.w(" ")
	each(p, s.Items, p.selectItem)
	clause := func(word string, x Expr) {
		if x != nil {
			p.w(" ", word, " ")
			p.expr(x)
		}
	}
	if s.From != nil {
		p.w(" FROM ")
		p.table(s.From)
	}
	clause("WHERE", s.Where)
	if g := s.GroupBy; g != nil {
		p.w(" GROUP BY")
		p.opt(g.Quant)
		p.when(len(g.Items) > 0, " ")
		each(p, g.Items, p.grouping)
	}
	clause("HAVING", s.Having)
	if s.Windows != nil {
		p.w(" WINDOW ")
		each(p, s.Windows, func(w NamedWindow) {
			p.name(w.Name)
			p.w(" AS ")
			p.window(w.Window)
		})
	}
	clause("QUALIFY", s.Qualify)
}

func (p *printer) selectItem(i SelectItem) {
	p.expr(i.X)
	p.alias(i.Alias)
}

func (p *printer) alias(n *Name) {
	if n != nil {
		p.w(" AS ")
		p.name(*n)
	}
}

func (p *printer) grouping(g Grouping) {
	switch g.Kind {
	case "":
		p.expr(g.Exprs[0])
	case "()":
		p.w("()")
	case "GROUPING SETS":
		p.w("GROUPING SETS ")
		parens(p, g.Sets, p.grouping)
	default:
		p.w(g.Kind)
		parens(p, g.Exprs, p.expr)
	}
}

// table writes a table reference. Joins are long on the left side, others hardly.
func (p *printer) table(t TableRef) {
	var joins []*Join
	for {
		j, ok := t.(*Join)
		if !ok {
			break
		}
		joins, t = append(joins, j), j.L
	}
	p.tableFactor(t)
	for i := len(joins) - 1; i >= 0; i-- {
		p.join(joins[i])
	}
}

func (p *printer) join(j *Join) {
	if j.Kind == "," {
		p.w(", ")
		p.table(j.R)
		return
	}
	p.when(j.Natural, " NATURAL")
	p.w(" ", j.Kind, " JOIN ")
	p.tableFactor(j.R)
	if j.On != nil {
		p.w(" ON ")
		p.expr(j.On)
	}
	if j.Using != nil {
		p.w(" USING ")
		p.nameList(j.Using)
	}
}

// tableFactor writes a table reference, joins in parentheses.
func (p *printer) tableFactor(t TableRef) {
	switch t := t.(type) {
	case *Join:
		p.w("(")
		p.table(t)
		p.w(")")
	case *TableName:
		p.names(t.Name)
		p.hints(t.Hints)
	case *Derived:
		p.when(t.Lateral, "LATERAL ")
		p.subquery(t.Query)
	case *Unnest:
		p.w("UNNEST")
		parens(p, t.Args, p.expr)
		p.when(t.Ordinality, " WITH ORDINALITY")
	case *TableFunc:
		if t.Implicit {
			p.call(t.Call)
			return
		}
		p.when(t.Lateral, "LATERAL ")
		p.w("TABLE(")
		p.call(t.Call)
		p.w(")")
	case *Alias:
		p.tableFactor(t.X)
		p.alias(&t.Name)
		p.optNames(t.Columns)
	case *Snapshot:
		p.tableFactor(t.X)
		p.w(" FOR SYSTEM_TIME AS OF ")
		p.expr(t.Of)
	case *Sample:
		p.sample(t)
	case *Match:
		p.match(t)
	case *Pivot:
		p.pivot(t)
	case *Unpivot:
		p.unpivot(t)
	}
}

func (p *printer) sample(t *Sample) {
	p.tableFactor(t.X)
	p.w(" TABLESAMPLE ", t.Method, "(")
	if t.Name != nil {
		p.text(*t.Name)
	} else {
		p.expr(t.Percent)
	}
	p.w(")")
	if t.Seed != "" {
		p.w(" REPEATABLE(", t.Seed, ")")
	}
}

func (p *printer) pivot(t *Pivot) {
	p.tableFactor(t.X)
	p.w(" PIVOT (")
	each(p, t.Aggs, p.selectItem)
	p.w(" FOR ")
	p.nameList(t.Axes)
	p.w(" IN ")
	parens(p, t.Values, func(v PivotValue) {
		p.valuesRow(v.Row)
		p.alias(v.Alias)
	})
	p.w(")")
}

func (p *printer) unpivot(t *Unpivot) {
	p.tableFactor(t.X)
	p.w(" UNPIVOT")
	p.when(t.Nulls != "", " "+t.Nulls+" NULLS")
	p.w(" (")
	p.nameList(t.Measures)
	p.w(" FOR ")
	p.nameList(t.Axes)
	p.w(" IN ")
	parens(p, t.Values, func(v UnpivotValue) {
		p.nameList(v.Columns)
		if v.As != nil {
			p.w(" AS ")
			p.valuesRow(v.As)
		}
	})
	p.w(")")
}

func (p *printer) match(t *Match) {
	p.tableFactor(t.X)
	p.w(" MATCH_RECOGNIZE (")
	if t.PartitionBy != nil {
		p.w("PARTITION BY ")
		each(p, t.PartitionBy, p.expr)
		p.w(" ")
	}
	if t.OrderBy != nil {
		p.w("ORDER BY ")
		each(p, t.OrderBy, p.orderItem)
		p.w(" ")
	}
	if t.Measures != nil {
		p.w("MEASURES ")
		each(p, t.Measures, func(m Measure) {
			p.expr(m.X)
			p.alias(&m.Name)
		})
		p.w(" ")
	}
	p.when(t.Rows != "", t.Rows+" PER MATCH ")
	if t.After != "" {
		p.w("AFTER MATCH SKIP ", t.After, " ")
		if t.AfterVar != nil {
			p.name(*t.AfterVar)
			p.w(" ")
		}
	}
	p.w("PATTERN (")
	p.when(t.StrictStart, "^ ")
	p.pattern(t.Pattern)
	p.when(t.StrictEnd, " $")
	p.w(")")
	if t.Within != nil {
		p.w(" WITHIN ")
		p.interval(t.Within)
	}
	if t.Subsets != nil {
		p.w(" SUBSET ")
		each(p, t.Subsets, func(s Subset) {
			p.name(s.Name)
			p.w(" = ")
			parens(p, s.Vars, p.expr)
		})
	}
	p.w(" DEFINE ")
	each(p, t.Defines, func(d Define) {
		p.name(d.Name)
		p.w(" AS ")
		p.expr(d.X)
	})
	p.w(")")
}

// pattern writes a row pattern where any may stand.
func (p *printer) pattern(x Pattern) {
	switch x.Kind {
	case "VAR":
		p.name(x.Var)
	case "CONCAT":
		for i, s := range x.Subs {
			p.when(i > 0, " ")
			p.patternIn(s, "CONCAT", "ALTER")
		}
	case "ALTER":
		for i, s := range x.Subs {
			p.when(i > 0, " | ")
			p.patternIn(s, "ALTER")
		}
	case "EXCLUDE":
		p.w("{- ")
		p.pattern(x.Subs[0])
		p.w(" -}")
	case "PERMUTE":
		p.w("PERMUTE")
		parens(p, x.Subs, p.pattern)
	case "REPEAT":
		p.patternIn(x.Subs[0], "CONCAT", "ALTER", "REPEAT")
		switch {
		case x.Min == "0" && x.Max == "":
			p.w("*")
		case x.Min == "1" && x.Max == "":
			p.w("+")
		case x.Min == "0" && x.Max == "1":
			p.w("?")
		case x.Min == x.Max:
			p.w("{", x.Min, "}")
		default:
			p.w("{", x.Min, ",", x.Max, "}")
		}
		p.when(x.Reluctant, "?")
	}
}

// patternIn writes a row pattern, in parentheses if it is one of the kinds.
func (p *printer) patternIn(x Pattern, kinds ...string) {
	if slices.Contains(kinds, x.Kind) {
		p.w("(")
		p.pattern(x)
		p.w(")")
		return
	}
	p.pattern(x)
}
