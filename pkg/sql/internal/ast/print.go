package ast

import "strings"

// SQL returns the canonical text of n: one line, with all names in back-ticks but
// those of functions, keywords in upper case, and no parentheses but those that are
// needed. Parsing it gives n again, but for places, for how names and literals were
// spelled, and for aggregates' IGNORE NULLS, which may move. n is an Expr, a Query, a
// TableRef, a Statement, a *Type or Names.
func SQL(n Node) string {
	p := &printer{}
	switch n := n.(type) {
	case Expr:
		p.expr(n)
	case Query:
		p.query(n)
	case TableRef:
		p.table(n)
	case Statement:
		p.stmt(n)
	case *Type:
		p.typ(n)
	case Names:
		p.names(n)
	case TableElement:
		p.element(n)
	}
	return p.b.String()
}

// A printer writes the text of nodes.
type printer struct{ b strings.Builder }

// w writes words and signs as they are.
func (p *printer) w(s ...string) {
	for _, s := range s {
		p.b.WriteString(s)
	}
}

// opt writes s after a space, if it is not empty.
func (p *printer) opt(s string) {
	if s != "" {
		p.w(" ", s)
	}
}

// when writes s if ok.
func (p *printer) when(ok bool, s string) {
	if ok {
		p.w(s)
	}
}

// each writes what f does for each element, with commas between.
func each[T any](p *printer, all []T, f func(T)) {
	for i, x := range all {
		if i > 0 {
			p.w(", ")
		}
		f(x)
	}
}

// parens is each in parentheses.
func parens[T any](p *printer, all []T, f func(T)) {
	p.w("(")
	each(p, all, f)
	p.w(")")
}

func (p *printer) name(n Name) { p.w("`", strings.ReplaceAll(n.Text, "`", "``"), "`") }

func (p *printer) names(n Names) {
	for i, x := range n {
		p.when(i > 0, ".")
		p.name(x)
	}
}

// nameList writes names in parentheses.
func (p *printer) nameList(n Names) { parens(p, n, p.name) }

// optNames writes names in parentheses after a space, if there are any.
func (p *printer) optNames(n Names) {
	if len(n) > 0 {
		p.w(" ")
		p.nameList(n)
	}
}

// function writes the name of a function.
func (p *printer) function(n Names) {
	if len(n) == 1 && !n[0].Quoted {
		p.w(n[0].Text)
		return
	}
	p.names(n)
}

func (p *printer) str(s string) { p.w("'", strings.ReplaceAll(s, "'", "''"), "'") }

func (p *printer) text(t Text) { p.str(t.Value) }

// optText writes word and t, if t is there.
func (p *printer) optText(word string, t *Text) {
	if t != nil {
		p.w(" ", word, " ")
		p.text(*t)
	}
}

func (p *printer) property(x Property) {
	p.text(x.Key)
	p.w(" = ")
	p.text(x.Value)
}

func (p *printer) properties(x Properties) { parens(p, x, p.property) }

// with writes WITH and properties, if there were any.
func (p *printer) with(x Properties) {
	if x != nil {
		p.w(" WITH ")
		p.properties(x)
	}
}

// hints writes hints after a space, if there are any.
func (p *printer) hints(all []Hint) {
	if len(all) == 0 {
		return
	}
	p.w(" /*+ ")
	each(p, all, func(h Hint) {
		p.name(h.Name)
		switch {
		case h.Pairs != nil:
			p.properties(h.Pairs)
		case h.Names != nil:
			p.nameList(h.Names)
		case h.Items != nil:
			parens(p, h.Items, p.expr)
		}
	})
	p.w(" */")
}

// prec returns the precedence of the operator that x is, one above all for what is
// none.
func prec(x Expr) int {
	switch x := x.(type) {
	case *Binary:
		return x.Op.Precedence()
	case *Between, *In, *Quantified, *Like:
		return PrecIn
	case *Is:
		return PrecIs
	case *Unary:
		switch x.Op {
		case Not:
			return PrecNot
		case Exists, Unique:
			return PrecExists
		}
		return PrecSign
	case *Index:
		return PrecIndex
	}
	return PrecIndex + 1
}

// left returns what the text of x begins with, if that is an expression, and whether
// it needs parentheses there.
func left(x Expr) (Expr, bool) {
	switch x := x.(type) {
	case *Binary:
		return x.X, prec(x.X) < prec(x)
	case *Between:
		return x.X, prec(x.X) < PrecIn
	case *In:
		return x.X, prec(x.X) < PrecIn
	case *Quantified:
		return x.X, prec(x.X) < PrecIn
	case *Like:
		return x.X, prec(x.X) < PrecIn
	case *Is:
		return x.X, prec(x.X) < PrecIs
	case *Index:
		return x.X, prec(x.X) < PrecIndex
	case *Field:
		switch y := x.X.(type) {
		case *Index, *Field, *Subquery:
			return y, false
		case *Call:
			return y, y.Over != nil || y.Form == Bare
		}
		return x.X, true
	case *Call:
		if x.Recv == nil {
			return nil, false
		}
		switch y := x.Recv.(type) {
		case *Subquery:
			return y, false
		case *Call:
			return y, y.Over != nil || y.Form == Bare
		case *Field:
			return y, ofIndex(y)
		}
		return x.Recv, true
	}
	return nil, false
}

// ofIndex reports whether x is a field of an Index, or a field of such a field: no
// call by a point may follow it.
func ofIndex(x Expr) bool {
	for {
		f, ok := x.(*Field)
		if !ok {
			_, ok := x.(*Index)
			return ok
		}
		x = f.X
	}
}

// expr writes x. It goes down the left side in a loop, since that may be long.
func (p *printer) expr(x Expr) {
	type step struct {
		x      Expr
		parens bool
	}
	var steps []step
	for {
		l, parens := left(x)
		if l == nil {
			break
		}
		steps = append(steps, step{x, parens})
		p.when(parens, "(")
		x = l
	}
	p.atom(x)
	for i := len(steps) - 1; i >= 0; i-- {
		p.when(steps[i].parens, ")")
		p.tail(steps[i].x)
	}
}

// above writes x, in parentheses unless it binds tighter than least.
func (p *printer) above(x Expr, least int) {
	if prec(x) > least {
		p.expr(x)
		return
	}
	p.w("(")
	p.expr(x)
	p.w(")")
}

// tail writes what follows the left side of x.
func (p *printer) tail(x Expr) {
	not := func(yes bool) { p.when(yes, " NOT") }
	switch x := x.(type) {
	case *Binary:
		p.w(" ", string(x.Op), " ")
		p.above(x.Y, prec(x))
	case *Between:
		not(x.Not)
		p.w(" BETWEEN ")
		p.when(x.Symmetric, "SYMMETRIC ")
		p.above(x.Low, PrecIn)
		p.w(" AND ")
		p.above(x.High, PrecIn)
	case *In:
		not(x.Not)
		p.w(" IN ")
		p.listOrQuery(x.List, x.Query)
	case *Quantified:
		p.w(" ", string(x.Op))
		if x.All {
			p.w(" ALL ")
		} else {
			p.w(" SOME ")
		}
		p.listOrQuery(x.List, x.Query)
	case *Like:
		not(x.Not)
		p.w(" ", x.Op, " ")
		p.above(x.Pattern, PrecIn)
		if x.Escape != nil {
			p.w(" ESCAPE ")
			p.above(x.Escape, PrecIn)
		}
	case *Is:
		p.w(" IS")
		not(x.Not)
		p.w(" ", x.What)
	case *Index:
		p.w("[")
		p.when(x.Mode != "", x.Mode+" ")
		p.expr(x.I)
		p.w("]")
	case *Field:
		p.w(".")
		p.name(x.Name)
	case *Call:
		p.w(".")
		p.names(x.Name)
		p.arguments(x)
	}
}

func (p *printer) listOrQuery(list []Expr, q Query) {
	if q != nil {
		p.subquery(q)
		return
	}
	parens(p, list, p.expr)
}

func (p *printer) subquery(q Query) {
	p.w("(")
	p.query(q)
	p.w(")")
}

// atom writes an expression that does not begin with another one.
func (p *printer) atom(x Expr) {
	switch x := x.(type) {
	case *Ident:
		p.names(x.Parts)
	case *Star:
		p.names(x.Table)
		p.when(x.Table != nil, ".")
		p.w("*")
	case *Number:
		if x.Decimal {
			p.w("DECIMAL ")
			p.str(x.Text)
		} else {
			p.w(x.Text)
		}
	case *String:
		p.when(x.Charset != "", "_"+x.Charset)
		p.str(x.Value)
	case *Bytes:
		p.w("X'", x.Hex, "'")
	case *Const:
		p.w(x.Word)
	case *Temporal:
		p.w(x.Type, " ")
		p.str(x.Text)
	case *Interval:
		p.interval(x)
	case *IntervalOf:
		p.w("INTERVAL (")
		p.expr(x.X)
		p.w(") ")
		p.qualifier(x.Unit)
	case *Unit:
		if x.Keyword {
			p.w(x.Word)
		} else {
			p.name(Name{Text: x.Word})
		}
	case *Param:
		p.w("?")
	case *Default:
		p.w("DEFAULT")
	case *Unary:
		p.w(string(x.Op))
		// Two signs together would begin a comment.
		y, ok := x.X.(*Unary)
		p.when(prec(x) != PrecSign || ok && prec(y) == PrecSign, " ")
		p.above(x.X, prec(x)-1)
	case *Case:
		p.caseExpr(x)
	case *Cast:
		p.w(x.Func, "(")
		p.expr(x.X)
		p.w(" AS ")
		p.typ(x.Type)
		p.w(")")
	case *Call:
		p.call(x)
	case *JSONCall:
		p.json(x)
	case *Row:
		p.when(x.Explicit, "ROW")
		parens(p, x.Items, p.expr)
	case *Collection:
		p.w(x.Kind)
		switch {
		case x.Query != nil:
			p.subquery(x.Query)
		case x.Paren:
			parens(p, x.Items, p.expr)
		default:
			p.w("[")
			each(p, x.Items, p.expr)
			p.w("]")
		}
	case *Subquery:
		p.subquery(x.Query)
	case *NamedArg:
		p.name(x.Name)
		p.w(" => ")
		p.expr(x.X)
	case *TableArg:
		if x.Query != nil {
			p.subquery(x.Query)
		} else {
			p.w("TABLE ")
			p.names(x.Table)
		}
		if x.PartitionBy != nil {
			p.w(" PARTITION BY ")
			p.nameList(x.PartitionBy)
		}
		if x.OrderBy != nil {
			p.w(" ORDER BY ")
			parens(p, x.OrderBy, p.orderItem)
		}
	case *ModelArg:
		p.w("MODEL ")
		p.names(x.Model)
	case *DateMinus:
		p.w("(")
		p.above(x.X, PrecAdd-1)
		p.w(" - ")
		p.above(x.Y, PrecAdd)
		p.w(") ")
		p.qualifier(x.Unit)
	}
}

func (p *printer) interval(x *Interval) {
	p.w("INTERVAL ")
	p.when(x.Neg, "-")
	p.str(x.Text)
	p.w(" ")
	p.qualifier(x.Unit)
}

func (p *printer) qualifier(q Qualifier) {
	p.w(q.From)
	switch {
	case q.From == "SECOND" && q.Frac >= 0:
		p.w("(", itoa(q.Prec), ", ", itoa(q.Frac), ")")
	case q.Prec >= 0:
		p.w("(", itoa(q.Prec), ")")
	}
	if q.To != "" {
		p.w(" TO ", q.To)
		if q.Frac >= 0 {
			p.w("(", itoa(q.Frac), ")")
		}
	}
}

func (p *printer) caseExpr(x *Case) {
	p.w("CASE ")
	if x.Operand != nil {
		p.expr(x.Operand)
		p.w(" ")
	}
	for _, w := range x.Whens {
		p.w("WHEN ")
		each(p, w.Conds, p.expr)
		p.w(" THEN ")
		p.expr(w.Then)
		p.w(" ")
	}
	if x.Else != nil {
		p.w("ELSE ")
		p.expr(x.Else)
		p.w(" ")
	}
	p.w("END")
}

// call writes a call that is on nothing.
func (p *printer) call(x *Call) {
	p.when(x.Modifier != "", x.Modifier+" ")
	p.function(x.Name)
	arg := func(i int, before string) {
		if i < len(x.Args) {
			p.w(before)
			p.expr(x.Args[i])
		}
	}
	switch x.Form {
	case Bare:
		return
	case ExtractOf:
		p.w("(")
		arg(0, "")
		arg(1, " FROM ")
		p.w(")")
	case InOf:
		p.w("(")
		// An operand without operators around it.
		l, _ := left(x.Args[0])
		_, sign := x.Args[0].(*Unary)
		p.when(l != nil || sign, "(")
		arg(0, "")
		p.when(l != nil || sign, ")")
		arg(1, " IN ")
		arg(2, " FROM ")
		p.w(")")
	case PlacingOf:
		p.w("(")
		arg(0, "")
		arg(1, " PLACING ")
		arg(2, " FROM ")
		arg(3, " FOR ")
		p.w(")")
	case ToUnit:
		p.w("(")
		arg(0, "")
		arg(1, " TO ")
		p.w(")")
	case UsingOf:
		p.w("(")
		arg(0, "")
		arg(1, " USING ")
		p.w(")")
	case TrimOf:
		p.w("(", x.Trim)
		p.when(x.Trim != "", " ")
		last := len(x.Args) - 1
		if last > 0 {
			arg(0, "")
			p.w(" ")
		}
		p.when(last > 0 || x.Trim != "", "FROM ")
		arg(last, "")
		p.w(")")
	default:
		p.arguments(x)
	}
	if x.Nulls != "" {
		p.w(" ", x.Nulls, " NULLS")
	}
	if x.WithinDistinct != nil {
		p.w(" WITHIN DISTINCT ")
		parens(p, x.WithinDistinct, p.expr)
	}
	p.withinGroup(x.WithinGroup)
	if x.Filter != nil {
		p.w(" FILTER (WHERE ")
		p.expr(x.Filter)
		p.w(")")
	}
	if x.Over != nil {
		p.w(" OVER ")
		p.window(x.Over)
	}
}

// arguments writes the parentheses of a call.
func (p *printer) arguments(x *Call) {
	p.w("(")
	p.when(x.Quant != "", x.Quant+" ")
	each(p, x.Args, p.expr)
	p.orderBy(x.OrderBy)
	p.optText("SEPARATOR", x.Separator)
	p.w(")")
}

func (p *printer) withinGroup(o []OrderItem) {
	if o != nil {
		p.w(" WITHIN GROUP (ORDER BY ")
		each(p, o, p.orderItem)
		p.w(")")
	}
}

// orderBy writes ORDER BY after a space, if there are keys.
func (p *printer) orderBy(o []OrderItem) {
	if o != nil {
		p.w(" ORDER BY ")
		each(p, o, p.orderItem)
	}
}

func (p *printer) orderItem(o OrderItem) {
	p.expr(o.X)
	p.when(o.Desc, " DESC")
	p.when(o.Nulls != "", " NULLS "+o.Nulls)
}

func (p *printer) window(x *Window) {
	if !x.Parens {
		p.name(*x.Ref)
		return
	}
	p.w("(")
	space := ""
	part := func(s ...string) {
		p.w(space)
		p.w(s...)
		space = " "
	}
	if x.Ref != nil {
		part()
		p.name(*x.Ref)
	}
	if x.PartitionBy != nil {
		part("PARTITION BY ")
		each(p, x.PartitionBy, p.expr)
	}
	if x.OrderBy != nil {
		part("ORDER BY ")
		each(p, x.OrderBy, p.orderItem)
	}
	if x.Unit != "" {
		part(x.Unit, " ")
		p.when(x.High != nil, "BETWEEN ")
		p.bound(x.Low)
		if x.High != nil {
			p.w(" AND ")
			p.bound(*x.High)
		}
	}
	if x.Partial != "" {
		part(x.Partial, " PARTIAL")
	}
	p.w(")")
}

func (p *printer) bound(b Bound) {
	if b.X != nil {
		// The AND between bounds is none of the expression's.
		p.above(b.X, PrecIn)
		p.w(" ")
	}
	p.w(b.Kind)
}

func (p *printer) json(x *JSONCall) {
	p.w(x.Func, "(")
	if x.Input != nil {
		p.expr(x.Input)
		p.w(", ")
		p.expr(x.Path)
	}
	if x.Passing != nil {
		p.w(" PASSING ")
		each(p, x.Passing, func(a Passing) {
			p.expr(a.X)
			p.w(" AS ")
			p.name(a.Name)
		})
	}
	if x.Returning != nil {
		p.w(" RETURNING ")
		p.typ(x.Returning)
	}
	p.when(x.Wrapper != "", " "+x.Wrapper+" WRAPPER")
	for _, b := range x.On {
		p.w(" ", b.Do)
		if b.Default != nil {
			p.w(" ")
			p.expr(b.Default)
		}
		p.w(" ON ", b.Event)
	}
	each(p, x.Pairs, func(a Pair) {
		p.w("KEY ")
		p.expr(a.Key)
		p.w(" VALUE ")
		p.expr(a.Value)
	})
	each(p, x.Items, p.expr)
	p.orderBy(x.OrderBy)
	if x.Nulls != "" {
		p.when(x.Pairs != nil || x.Items != nil, " ")
		p.w(x.Nulls, " ON NULL")
	}
	p.w(")")
	p.withinGroup(x.WithinGroup)
}

// typ writes a type.
func (p *printer) typ(t *Type) {
	prec := func() {
		switch {
		case t.Prec >= 0 && t.Scale >= 0:
			p.w("(", itoa(t.Prec), ", ", itoa(t.Scale), ")")
		case t.Prec >= 0:
			p.w("(", itoa(t.Prec), ")")
		}
	}
	switch t.Kind {
	case "":
		p.names(t.Name)
	case "ARRAY", "MULTISET":
		p.w(t.Kind, "<")
		p.typ(t.Elem)
		p.w(">")
	case "MAP":
		p.w("MAP<")
		p.typ(t.Key)
		p.w(", ")
		p.typ(t.Elem)
		p.w(">")
	case "ROW":
		p.w("ROW<")
		each(p, t.Fields, p.typeField)
		p.w(">")
	case "STRUCTURED":
		p.w("STRUCTURED<")
		p.str(t.Class)
		p.when(t.Fields != nil, ", ")
		each(p, t.Fields, p.typeField)
		p.w(">")
	case "RAW":
		p.w("RAW(")
		p.str(t.Class)
		p.w(", ")
		p.str(t.Serializer)
		p.w(")")
	case "INTERVAL":
		p.w("INTERVAL ")
		p.qualifier(t.Unit)
	case "TIME_LTZ":
		p.w("TIME")
		prec()
		p.w(" WITH LOCAL TIME ZONE")
	default:
		p.w(t.Kind)
		prec()
		if t.Charset != "" {
			p.w(" CHARACTER SET ")
			p.name(Name{Text: t.Charset})
		}
	}
	p.opt(t.Null)
}

func (p *printer) typeField(f TypeField) {
	p.name(f.Name)
	p.w(" ")
	p.typ(f.Type)
	if f.Comment != nil {
		p.w(" ")
		p.text(*f.Comment)
	}
}
