package parse

import (
	"errors"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

// statements are the ways to go on after the first word of a statement that is no
// query.
var statements map[string]func(p *parser) ast.Statement

func init() {
	statements = map[string]func(p *parser) ast.Statement{
		"ADD":      (*parser).jar,
		"ALTER":    (*parser).alter,
		"ANALYZE":  (*parser).analyze,
		"BEGIN":    (*parser).beginStatementSet,
		"CALL":     (*parser).callStatement,
		"COMPILE":  (*parser).compilePlan,
		"CREATE":   (*parser).create,
		"DELETE":   (*parser).deleteStatement,
		"DESC":     (*parser).describe,
		"DESCRIBE": (*parser).describe,
		"DROP":     (*parser).drop,
		"END":      (*parser).endStatementSet,
		"EXECUTE":  (*parser).execute,
		"EXPLAIN":  (*parser).explain,
		"INSERT":   (*parser).insertStatement,
		"LOAD":     (*parser).loadModule,
		"REMOVE":   (*parser).jar,
		"REPLACE":  (*parser).replaceTable,
		"RESET":    (*parser).reset,
		"SET":      (*parser).set,
		"SHOW":     (*parser).show,
		"STOP":     (*parser).stopJob,
		"TRUNCATE": (*parser).truncate,
		"UNLOAD":   (*parser).unloadModule,
		"UPDATE":   (*parser).update,
		"UPSERT":   (*parser).insertStatement,
		"USE":      (*parser).use,
	}
}

// second says which words must follow those that begin a statement only before
// them: some are no reserved words, and of the others the error is then at the
// first word.
var second = map[string][]string{
	"ADD": {"JAR"}, "ANALYZE": {"TABLE"}, "BEGIN": {"STATEMENT"}, "COMPILE": {"PLAN", "AND"}, "LOAD": {"MODULE"},
	"REMOVE": {"JAR"}, "REPLACE": {"TABLE", "TEMPORARY"}, "SHOW": showWords, "STOP": {"JOB"}, "TRUNCATE": {"TABLE"},
	"UNLOAD": {"MODULE"},
}

// beginnings lists the words that begin a statement, for the hint.
var beginnings = strings.Fields("SELECT INSERT CREATE DROP ALTER EXPLAIN DESCRIBE SHOW USE SET RESET EXECUTE BEGIN END WITH VALUES DELETE UPDATE TRUNCATE CALL ANALYZE COMPILE STOP LOAD UNLOAD REPLACE")

// ErrSeveral says that a text which has to be one statement is several, all of which
// fit the grammar.
var ErrSeveral = errors.New("several statements where only one is allowed: give them one by one")

// Statement parses text as one statement, which semicolons may end. The error is an
// *Error, or ErrSeveral.
func Statement(text string) (ast.Statement, error) {
	p := newParser(text)
	s, several := p.statement(), false
	for p.err == nil && p.accept(";") {
		if p.peek(0).kind != eof && !p.is(0, ";") {
			several = true
			p.statement()
		}
	}
	p.end()
	if p.err != nil {
		return nil, p.err
	}
	if several {
		return nil, ErrSeveral
	}
	return s, nil
}

// Expression parses text as one expression. The error is an *Error.
func Expression(text string) (ast.Expr, error) {
	p := newParser(text)
	x := p.expr()
	p.end()
	if p.err != nil {
		return nil, p.err
	}
	return x, nil
}

// Query parses text as one query, as that of a view is kept. The error is an
// *Error.
func Query(text string) (ast.Query, error) {
	p := newParser(text)
	q := p.query()
	p.end()
	if p.err != nil {
		return nil, p.err
	}
	return q, nil
}

// end fails unless the text has ended.
func (p *parser) end() {
	if p.err == nil && p.peek(0).kind != eof {
		p.note("the end of the statement")
		p.unexpected()
	}
}

// statement parses one statement.
func (p *parser) statement() ast.Statement {
	t := *p.peek(0)
	if f := statements[t.word]; f != nil && p.begins(t) {
		return f(p)
	}
	if t.kind == eof || t.kind == keyword && !p.starts(0) && !p.is(0, queryWords...) {
		p.note("a statement")
		p.unexpected()
		return &ast.EndStatementSet{}
	}
	q := p.query()
	if p.err != nil && p.err.Offset == int(t.Start) {
		if near := nearest(strings.ToUpper(p.text(t)), beginnings); near != "" {
			p.err.Hint = "did you mean " + near + "?"
		}
	}
	return &ast.QueryStatement{Span: q.At(), Query: q}
}

// begins reports whether t, which may begin a statement, does so before the token
// that follows it.
func (p *parser) begins(t token) bool {
	switch t.word {
	case "DESC":
		return p.isName(1) || p.peek(1).kind == keyword
	case "USE":
		return p.isName(1) || p.is(1, "MODULES")
	}
	w := second[t.word]
	if w == nil || p.is(1, w...) {
		return true
	}
	for _, w := range w {
		p.note(t.word + " " + w)
	}
	return false
}

// insertStatement and endStatementSet parse what their names say.
func (p *parser) endStatementSet() ast.Statement {
	return &ast.EndStatementSet{Span: p.next().Span}
}

func (p *parser) insertStatement() ast.Statement { return p.insert() }

// insert parses INSERT or UPSERT.
func (p *parser) insert() *ast.Insert {
	at := p.here()
	i := &ast.Insert{Upsert: p.is(0, "UPSERT")}
	p.next()
	switch {
	case p.accept("INTO"):
	case p.is(0, "OVERWRITE"):
		if i.Upsert {
			p.fail(*p.peek(0), "OVERWRITE goes with INSERT only")
		}
		p.next()
		i.Overwrite = true
	default:
		p.expect("INTO")
	}
	i.Table = p.names()
	i.Hints = p.hints()
	if p.accept("PARTITION") {
		i.Partition = p.assigns()
	}
	// A parenthesis begins the columns if a name follows it, and else the query.
	if p.at("(") && p.isName(1) {
		i.Columns = parens(p, p.names)
	}
	i.Query = p.query()
	if p.is(0, "ON") {
		p.next()
		p.expect("CONFLICT", "DO")
		i.Conflict = p.oneOf("DEDUPLICATE", "ERROR", "NOTHING")
	}
	i.Span = p.from(at)
	return i
}

// assigns parses name = literal, in parentheses, as of a partition.
func (p *parser) assigns() []ast.Assign {
	return parens(p, func() ast.Assign {
		a := ast.Assign{Name: p.name()}
		p.expect("=")
		a.X = p.literal()
		a.Span = p.from(a.Name.Span)
		return a
	})
}

// optAssigns is assigns where the values may be left out.
func (p *parser) optAssigns() []ast.Assign {
	return parens(p, func() ast.Assign {
		a := ast.Assign{Name: p.name()}
		if p.accept("=") {
			a.X = p.literal()
		}
		a.Span = p.from(a.Name.Span)
		return a
	})
}

func (p *parser) beginStatementSet() ast.Statement {
	at := p.here()
	p.expect("BEGIN", "STATEMENT", "SET")
	return &ast.BeginStatementSet{Span: p.from(at)}
}

// statementSet parses STATEMENT SET BEGIN .. END.
func (p *parser) statementSet() *ast.StatementSet {
	at := p.here()
	p.expect("STATEMENT", "SET", "BEGIN")
	s := &ast.StatementSet{}
	for {
		if !p.at("INSERT") && !p.at("UPSERT") {
			p.unexpected()
			break
		}
		s.Inserts = append(s.Inserts, p.insert())
		p.expect(";")
		if p.err != nil || p.at("END") {
			break
		}
	}
	p.expect("END")
	s.Span = p.from(at)
	return s
}

func (p *parser) execute() ast.Statement {
	at := p.next().Span
	if p.accept("PLAN") {
		return &ast.ExecutePlan{Path: p.anyText(), Span: p.from(at)}
	}
	return &ast.Execute{Stmt: p.dml(), Span: p.from(at)}
}

// dml parses a statement set, an INSERT or a query.
func (p *parser) dml() ast.Statement {
	switch {
	case p.at("STATEMENT"):
		return p.statementSet()
	case p.at("INSERT"), p.at("UPSERT"):
		return p.insert()
	}
	q := p.query()
	return &ast.QueryStatement{Span: q.At(), Query: q}
}

func (p *parser) compilePlan() ast.Statement {
	at := p.next().Span
	c := &ast.CompilePlan{}
	if p.accept("AND") {
		p.expect("EXECUTE")
		c.Execute = true
	}
	p.expect("PLAN")
	c.Path = p.anyText()
	if !c.Execute {
		c.IfNotExists = p.ifNotExists()
	}
	p.expect("FOR")
	switch {
	case p.at("STATEMENT"):
		c.Stmt = p.statementSet()
	case p.at("INSERT"), p.at("UPSERT"):
		c.Stmt = p.insert()
	default:
		p.unexpected()
	}
	c.Span = p.from(at)
	return c
}

func (p *parser) explain() ast.Statement {
	at := p.next().Span
	e := &ast.Explain{}
	details := []string{"ESTIMATED_COST", "CHANGELOG_MODE", "JSON_EXECUTION_PLAN", "PLAN_ADVICE"}
	switch {
	case p.accept("PLAN", "FOR"):
		e.PlanFor = true
	case p.is(0, details...):
		e.Details = list(p, func() string {
			t := *p.peek(0)
			w := p.oneOf(details...)
			for _, d := range e.Details {
				if d == w {
					p.fail(t, "the detail "+w+" stands there twice")
				}
			}
			return w
		})
	}
	switch {
	case p.is(0, "REPLACE") && p.is(1, "TABLE", "TEMPORARY"):
		e.Stmt = p.replaceTable()
	case p.is(0, "EXECUTE"):
		x := &ast.Execute{Span: p.next().Span}
		x.Stmt = p.dml()
		x.Span = p.from(x.Span)
		e.Stmt = x
	case p.is(0, "CREATE"):
		t := *p.peek(0)
		e.Stmt = p.create()
		if c, ok := e.Stmt.(*ast.CreateTable); !ok || c.Query == nil || c.Materialized {
			p.fail(t, "EXPLAIN goes with CREATE TABLE .. AS only, of all statements with CREATE")
		}
	case p.peek(0).kind == eof:
		p.note("a statement")
		p.unexpected()
	default:
		e.Stmt = p.dml()
	}
	e.Span = p.from(at)
	return e
}

func (p *parser) deleteStatement() ast.Statement {
	at := p.next().Span
	p.expect("FROM")
	d := &ast.Delete{Table: p.names(), Hints: p.hints(), Alias: p.optAlias()}
	if p.accept("WHERE") {
		d.Where = p.expr()
	}
	d.Span = p.from(at)
	return d
}

func (p *parser) update() ast.Statement {
	at := p.next().Span
	u := &ast.Update{Table: p.names(), Hints: p.hints(), Alias: p.optAlias()}
	p.expect("SET")
	u.Set = list(p, func() ast.Assign {
		a := ast.Assign{Name: p.name()}
		p.expect("=")
		a.X = p.expr()
		a.Span = p.from(a.Name.Span)
		return a
	})
	if p.accept("WHERE") {
		u.Where = p.expr()
	}
	u.Span = p.from(at)
	return u
}

func (p *parser) truncate() ast.Statement {
	at := p.next().Span
	p.expect("TABLE")
	return &ast.Truncate{Table: p.names(), Span: p.from(at)}
}

func (p *parser) callStatement() ast.Statement {
	at := p.next().Span
	return &ast.CallStatement{Call: p.routine(), Span: p.from(at)}
}

// set parses SET, also in the form without quotes that Flink's client takes.
func (p *parser) set() ast.Statement {
	at := p.next().Span
	s := &ast.Set{}
	switch t := p.peek(0); {
	case t.kind == eof || p.is(0, ";"):
	case t.kind == str || t.kind == charset || t.kind == unicode || t.kind == escaped:
		k := p.anyText()
		p.expect("=")
		v := p.anyText()
		s.Key, s.Value = &k, &v
	default:
		s.Key, s.Value = p.rawSetting(at)
	}
	s.Span = p.from(at)
	return s
}

// rawSetting parses key = value without quotes: words without spaces.
func (p *parser) rawSetting(at ast.Span) (key, value *ast.Text) {
	first := *p.peek(0)
	src := p.lex.src
	k := int(first.Start)
	e := k
	for e < len(src) && !strings.ContainsRune(" \t\r\n\f='", rune(src[e])) {
		e++
	}
	v := e
	for v < len(src) && strings.ContainsRune(" \t\r\n\f", rune(src[v])) {
		v++
	}
	if e == k || v >= len(src) || src[v] != '=' {
		p.note("a string")
		p.unexpected()
		return nil, nil
	}
	for v++; v < len(src) && strings.ContainsRune(" \t\r\n\f", rune(src[v])); v++ {
	}
	end := v
	if v < len(src) && src[v] == '\'' {
		if n := quotedEnd(src, v, '\''); n > 0 {
			end = n
		}
	} else {
		for end < len(src) && !strings.ContainsRune(" \t\r\n\f;", rune(src[end])) {
			end++
		}
	}
	if end == v {
		p.note("a value")
		p.unexpected()
		return nil, nil
	}
	// The lexer goes on behind the value.
	p.buf, p.i = p.buf[:0], 0
	p.lex = lexer{src: src, pos: int(first.Start), line: first.Line, col: first.Col}
	span := func(to int) ast.Span {
		s := ast.Span{Line: p.lex.line, Col: p.lex.col, Start: int32(p.lex.pos), End: int32(to)}
		p.lex.advance(to - p.lex.pos)
		return s
	}
	key = &ast.Text{Span: span(e), Value: src[k:e]}
	span(v)
	value = &ast.Text{Span: span(end), Value: src[v:end]}
	if src[v] == '\'' {
		value.Value = unquote(value.Value)
	}
	p.prev = token{Span: value.Span}
	return key, value
}

func (p *parser) reset() ast.Statement {
	at := p.next().Span
	r := &ast.Reset{}
	if t := p.peek(0); t.kind != eof && !p.is(0, ";") {
		if p.isName(0) || t.kind == keyword {
			var words []string
			for p.err == nil && (p.isName(0) || p.peek(0).kind == keyword || p.is(0, ".", "-")) {
				words = append(words, p.text(p.next()))
			}
			r.Key = &ast.Text{Span: p.from(t.Span), Value: strings.Join(words, "")}
		} else {
			k := p.anyText()
			r.Key = &k
		}
	}
	r.Span = p.from(at)
	return r
}

func (p *parser) jar() ast.Statement {
	t := p.next()
	p.expect("JAR")
	return &ast.Jar{Remove: t.word == "REMOVE", Path: p.quotedText(), Span: p.from(t.Span)}
}

func (p *parser) loadModule() ast.Statement {
	at := p.next().Span
	p.expect("MODULE")
	return &ast.LoadModule{Name: p.name(), With: p.with(), Span: p.from(at)}
}

func (p *parser) unloadModule() ast.Statement {
	at := p.next().Span
	p.expect("MODULE")
	return &ast.UnloadModule{Name: p.name(), Span: p.from(at)}
}

func (p *parser) use() ast.Statement {
	at := p.next().Span
	u := &ast.Use{}
	switch {
	case p.is(0, "CATALOG") && p.isName(1):
		p.next()
		u.Kind = "CATALOG"
		u.Names = []ast.Names{{p.name()}}
	case p.accept("MODULES"):
		u.Kind = "MODULES"
		u.Names = list(p, func() ast.Names { return ast.Names{p.name()} })
	default:
		u.Names = []ast.Names{p.names()}
	}
	u.Span = p.from(at)
	return u
}

var showWords = strings.Fields("CATALOGS CURRENT DATABASES FUNCTIONS USER MODELS CONNECTIONS TABLES VIEWS MATERIALIZED COLUMNS CREATE MODULES FULL PARTITIONS PROCEDURES JARS JOBS")

func (p *parser) show() ast.Statement {
	at := p.next().Span
	s := &ast.Show{Kind: p.oneOf(showWords...)}
	from, like, ilike := false, false, false
	switch s.Kind {
	case "CATALOGS":
		like, ilike = true, true
	case "CURRENT":
		s.Kind += " " + p.oneOf("CATALOG", "DATABASE")
	case "DATABASES", "PROCEDURES":
		from, like, ilike = true, true, true
	case "USER":
		p.expect("FUNCTIONS")
		s.Kind = "USER FUNCTIONS"
		from, like, ilike = true, true, true
	case "FUNCTIONS":
		from, like, ilike = true, true, true
	case "MATERIALIZED":
		p.expect("TABLES")
		s.Kind = "MATERIALIZED TABLES"
		from, like = true, true
	case "MODELS", "CONNECTIONS", "TABLES", "VIEWS":
		from, like = true, true
	case "FULL":
		p.expect("MODULES")
		s.Kind = "FULL MODULES"
	case "COLUMNS":
		s.Prep = p.oneOf("FROM", "IN")
		s.Name = p.names()
		like = true
	case "PARTITIONS":
		s.Name = p.names()
		if p.accept("PARTITION") {
			s.Partition = p.assigns()
		}
	case "CREATE":
		w := p.oneOf("TABLE", "VIEW", "CATALOG", "MODEL", "CONNECTION", "MATERIALIZED")
		if w == "MATERIALIZED" {
			p.expect("TABLE")
			w += " TABLE"
		}
		s.Kind += " " + w
		if w == "CATALOG" {
			s.Name = ast.Names{p.name()}
		} else {
			s.Name = p.names()
		}
	}
	if from {
		if s.Prep = p.maybe("FROM", "IN"); s.Prep != "" {
			s.Name = p.names()
		}
	}
	if like {
		s.Not = p.accept("NOT")
		switch {
		case p.accept("LIKE"):
			s.Like = "LIKE"
		case ilike && p.accept("ILIKE"):
			s.Like = "ILIKE"
		case s.Not:
			p.unexpected()
		}
		if s.Like != "" {
			x := p.quotedText()
			s.Pattern = &x
		}
	}
	s.Span = p.from(at)
	return s
}

func (p *parser) describe() ast.Statement {
	at := p.next().Span
	d := &ast.Describe{}
	switch {
	case p.is(0, "CATALOG", "DATABASE", "MODEL", "CONNECTION") && (p.isName(1) || p.is(1, "EXTENDED")), p.is(0, "FUNCTION"):
		d.Kind = p.next().word
	case p.is(0, "JOB") && p.peek(1).kind == str:
		p.next()
		d.Kind = "JOB"
		t := p.quotedText()
		d.Job = &t
		d.Span = p.from(at)
		return d
	}
	d.Extended = p.accept("EXTENDED")
	if d.Kind == "CATALOG" {
		d.Name = ast.Names{p.name()}
	} else {
		d.Name = p.names()
	}
	d.Span = p.from(at)
	return d
}

func (p *parser) stopJob() ast.Statement {
	at := p.next().Span
	p.expect("JOB")
	s := &ast.StopJob{Job: p.quotedText()}
	s.Savepoint = p.accept("WITH", "SAVEPOINT")
	if t := *p.peek(0); p.accept("WITH", "DRAIN") {
		if s.Drain = true; !s.Savepoint {
			p.fail(t, "WITH DRAIN needs WITH SAVEPOINT before it")
		}
	}
	s.Span = p.from(at)
	return s
}

func (p *parser) analyze() ast.Statement {
	at := p.next().Span
	p.expect("TABLE")
	a := &ast.Analyze{Table: p.names()}
	if p.accept("PARTITION") {
		a.Partition = p.optAssigns()
	}
	p.expect("COMPUTE", "STATISTICS")
	if p.accept("FOR") {
		if p.accept("ALL") {
			p.expect("COLUMNS")
			a.AllColumns = true
		} else {
			p.expect("COLUMNS")
			a.Columns = list(p, p.name)
		}
	}
	a.Span = p.from(at)
	return a
}

// ifNotExists parses IF NOT EXISTS, if it is next, and ifExists IF EXISTS.
func (p *parser) ifNotExists() bool { return p.accept("IF", "NOT", "EXISTS") }

func (p *parser) ifExists() bool { return p.accept("IF", "EXISTS") }
