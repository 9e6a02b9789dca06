package parse

import "github.com/rivulet-io/rivulet/pkg/sql/internal/ast"

// properties parses ('key' = 'value', ..), which may be empty.
func (p *parser) properties() ast.Properties {
	p.expect("(")
	if p.accept(")") {
		return ast.Properties{}
	}
	x := list(p, func() ast.Property {
		k := p.anyText()
		p.expect("=")
		v := p.anyText()
		return ast.Property{Span: p.from(k.Span), Key: k, Value: v}
	})
	p.expect(")")
	return x
}

// with parses WITH and properties, if it is next.
func (p *parser) with() ast.Properties {
	if !p.accept("WITH") {
		return nil
	}
	return p.properties()
}

// keys parses ('key', ..), which may be empty.
func (p *parser) keys() []ast.Text {
	p.expect("(")
	if p.accept(")") {
		return nil
	}
	x := list(p, p.anyText)
	p.expect(")")
	return x
}

// create parses CREATE of anything.
func (p *parser) create() ast.Statement {
	at := p.next().Span
	replace := p.accept("OR", "REPLACE")
	temporary := p.accept("TEMPORARY")
	t := *p.peek(0)
	switch {
	case p.at("CATALOG"):
		p.next()
		c := &ast.CreateCatalog{IfNotExists: p.ifNotExists(), Name: p.name(), Comment: p.optText("COMMENT"), With: p.with()}
		c.Span = p.from(at)
		return c
	case p.is(0, "OR"), p.at("MATERIALIZED"):
		verb := "CREATE"
		if p.accept("OR") {
			p.expect("ALTER")
			verb = "CREATE OR ALTER"
		}
		p.expect("MATERIALIZED")
		switch {
		case temporary:
			p.fail(p.prev, "a materialized table cannot be temporary")
		case replace:
			p.fail(p.prev, "a materialized table cannot be replaced: use CREATE OR ALTER")
		}
		return p.createTable(at, &ast.CreateTable{Verb: verb, Materialized: true})
	case p.at("TABLE"):
		c := &ast.CreateTable{Verb: "CREATE", Temporary: temporary}
		if replace {
			c.Verb = "CREATE OR REPLACE"
		}
		return p.createTable(at, c)
	case p.at("VIEW"):
		p.next()
		v := &ast.CreateView{Replace: replace, Temporary: temporary, IfNotExists: p.ifNotExists(), Name: p.names()}
		if p.at("(") {
			v.Columns = p.nameList()
		}
		v.Comment = p.optText("COMMENT")
		p.expect("AS")
		v.Query = p.query()
		v.Span = p.from(at)
		return v
	case p.at("DATABASE"):
		p.next()
		d := &ast.CreateDatabase{IfNotExists: p.ifNotExists(), Name: p.names(), Comment: p.optText("COMMENT"), With: p.with()}
		d.Span = p.from(at)
		return d
	case p.at("MODEL"):
		p.next()
		return p.createModel(at, temporary)
	case p.at("FUNCTION"), p.is(0, "SYSTEM") && p.is(1, "FUNCTION"):
		f := &ast.CreateFunction{Replace: replace, Temporary: temporary, System: p.accept("SYSTEM")}
		if f.System && !temporary {
			p.fail(t, "a system function can only be temporary: use CREATE TEMPORARY SYSTEM FUNCTION")
		}
		p.next()
		return p.createFunction(at, f)
	case p.at("CONNECTION"), p.at("SYSTEM"):
		c := &ast.CreateConnection{Temporary: temporary, System: p.accept("SYSTEM")}
		if c.System && !temporary {
			p.fail(t, "a system connection can only be temporary: use CREATE TEMPORARY SYSTEM CONNECTION")
		}
		p.expect("CONNECTION")
		c.IfNotExists, c.Name, c.Comment = p.ifNotExists(), p.names(), p.optText("COMMENT")
		p.expect("WITH")
		c.With = p.properties()
		c.Span = p.from(at)
		return c
	}
	p.unexpected()
	return &ast.CreateCatalog{}
}

// createFunction parses what follows CREATE FUNCTION.
func (p *parser) createFunction(at ast.Span, f *ast.CreateFunction) ast.Statement {
	f.IfNotExists = p.ifNotExists()
	if f.System {
		f.Name = ast.Names{p.name()}
	} else {
		f.Name = p.names()
	}
	p.expect("AS")
	f.Class = p.quotedText()
	f.Language = p.language()
	if t := *p.peek(0); p.accept("USING") {
		if f.Language == "SQL" || f.Language == "PYTHON" {
			p.fail(t, "USING JAR does not go with LANGUAGE "+f.Language)
		}
		f.Using = list(p, func() ast.Text {
			p.expect("JAR")
			return p.quotedText()
		})
	}
	f.With = p.with()
	f.Span = p.from(at)
	return f
}

func (p *parser) language() string {
	if !p.accept("LANGUAGE") {
		return ""
	}
	return p.oneOf("JAVA", "SCALA", "SQL", "PYTHON")
}

// createModel parses what follows CREATE MODEL.
func (p *parser) createModel(at ast.Span, temporary bool) ast.Statement {
	m := &ast.CreateModel{Temporary: temporary, IfNotExists: p.ifNotExists(), Name: p.names()}
	if p.accept("INPUT") {
		m.Input = p.elements()
	}
	if p.accept("OUTPUT") {
		m.Output = p.elements()
	}
	m.Comment = p.optText("COMMENT")
	m.With = p.with()
	if p.accept("AS") {
		m.Query = p.query()
	}
	m.Span = p.from(at)
	return m
}

// replaceTable parses REPLACE TABLE.
func (p *parser) replaceTable() ast.Statement {
	at := p.next().Span
	return p.createTable(at, &ast.CreateTable{Verb: "REPLACE", Temporary: p.accept("TEMPORARY")})
}

// createTable parses a table from the word TABLE on.
func (p *parser) createTable(at ast.Span, c *ast.CreateTable) ast.Statement {
	p.expect("TABLE")
	if !c.Materialized {
		c.IfNotExists = p.ifNotExists()
	}
	c.Name = p.names()
	paren := *p.peek(0)
	if p.at("(") {
		// Names only, or elements: two tokens decide.
		if p.isName(1) && p.is(2, ",", ")") || p.isName(1) && p.is(2, ".") && p.isName(3) && p.is(4, ",", ")", ".") {
			c.Columns = parens(p, p.names)
		} else {
			c.Elements = p.elements()
		}
	}
	c.Comment = p.optText("COMMENT")
	if p.accept("DISTRIBUTED") {
		c.Distributed = p.distribution()
	}
	if p.accept("PARTITIONED") {
		p.expect("BY")
		c.PartitionBy = p.nameList()
	}
	c.With = p.with()
	if c.Materialized {
		if p.accept("FRESHNESS") {
			p.expect("=")
			c.Freshness = p.intervalLiteral()
		}
		if p.accept("REFRESH_MODE") {
			p.expect("=")
			c.RefreshMode = p.oneOf("FULL", "CONTINUOUS")
		}
	}
	switch {
	case c.Materialized || c.Verb == "REPLACE" || p.at("AS"):
		p.expect("AS")
		c.Query = p.query()
	case p.accept("LIKE"):
		c.Like = p.tableLike()
	}
	if c.Columns != nil && c.Query == nil {
		p.fail(paren, "a column without a type needs AS with a query")
	}
	c.Span = p.from(at)
	return c
}

func (p *parser) tableLike() *ast.TableLike {
	at := p.here()
	l := &ast.TableLike{Table: p.names()}
	if p.accept("(") {
		for {
			at := p.here()
			o := ast.LikeOption{Merge: p.oneOf("INCLUDING", "EXCLUDING", "OVERWRITING")}
			o.Feature = p.oneOf("ALL", "CONSTRAINTS", "DISTRIBUTION", "GENERATED", "METADATA", "OPTIONS", "PARTITIONS", "WATERMARKS")
			o.Span = p.from(at)
			l.Options = append(l.Options, o)
			if p.err != nil || p.at(")") {
				break
			}
		}
		p.expect(")")
	}
	l.Span = p.from(at)
	return l
}

func (p *parser) distribution() *ast.Distribution {
	at := p.here()
	d := &ast.Distribution{}
	if p.accept("BY") {
		d.Kind = p.maybe("HASH", "RANGE")
		d.Columns = p.nameList()
	} else if !p.at("INTO") {
		p.unexpected()
	}
	if p.accept("INTO") {
		t := *p.peek(0)
		d.Buckets = p.number()
		if t.kind != integer {
			p.fail(t, "the number of buckets must be a positive integer")
		}
		p.expect("BUCKETS")
	}
	d.Span = p.from(at)
	return d
}

// elements parses columns, constraints and watermarks in parentheses.
func (p *parser) elements() []ast.TableElement {
	watermark := false
	return parens(p, func() ast.TableElement {
		t := *p.peek(0)
		e := p.element()
		if _, ok := e.(*ast.Watermark); ok {
			if watermark {
				p.fail(t, "a table can have one WATERMARK only")
			}
			watermark = true
		}
		return e
	})
}

func (p *parser) element() ast.TableElement {
	at := p.here()
	switch {
	case p.at("CONSTRAINT"), p.at("PRIMARY"), p.at("UNIQUE"):
		return p.constraint(true)
	case p.at("WATERMARK"):
		p.next()
		p.expect("FOR")
		w := &ast.Watermark{Column: p.names()}
		p.expect("AS")
		w.X = p.expr()
		w.Span = p.from(at)
		return w
	}
	return p.column()
}

// column parses a column of any kind.
func (p *parser) column() *ast.Column {
	at := p.here()
	c := &ast.Column{}
	// What follows the name decides; without a type the column is computed.
	if t := p.peek(1); p.isName(0) && !(t.kind == ident || t.kind == quoted || typeWords[t.word] || t.word == ".") {
		c.Name = ast.Names{p.name()}
		p.note("a type")
		p.expect("AS")
		c.As = p.expr()
		c.Comment = p.optText("COMMENT")
		c.Span = p.from(at)
		return c
	}
	c.Name = p.names()
	c.Type = p.fullType()
	if p.accept("METADATA") {
		c.Metadata = true
		if p.accept("FROM") {
			t := p.anyText()
			c.From = &t
		}
		c.Virtual = p.accept("VIRTUAL")
	} else if p.at("CONSTRAINT") || p.at("PRIMARY") || p.at("UNIQUE") {
		c.Constraint = p.constraint(false)
	}
	c.Comment = p.optText("COMMENT")
	c.Span = p.from(at)
	return c
}

// constraint parses a constraint, with columns if it is that of a table.
func (p *parser) constraint(table bool) *ast.Constraint {
	at := p.here()
	c := &ast.Constraint{}
	if p.accept("CONSTRAINT") {
		n := p.name()
		c.Name = &n
	}
	c.Kind = p.oneOf("PRIMARY", "UNIQUE")
	if c.Kind == "PRIMARY" {
		p.expect("KEY")
		c.Kind = "PRIMARY KEY"
	}
	if table {
		c.Columns = p.nameList()
	}
	switch {
	case p.accept("ENFORCED"):
		c.Enforced = "ENFORCED"
	case p.accept("NOT"):
		p.expect("ENFORCED")
		c.Enforced = "NOT ENFORCED"
	}
	c.Span = p.from(at)
	return c
}

// drop parses DROP of anything.
func (p *parser) drop() ast.Statement {
	at := p.next().Span
	d := &ast.Drop{Temporary: p.accept("TEMPORARY")}
	t := *p.peek(0)
	if d.System = p.accept("SYSTEM"); d.System {
		d.Kind = p.oneOf("FUNCTION", "CONNECTION")
		if d.Kind == "CONNECTION" && !d.Temporary {
			p.fail(t, "a system connection can only be temporary: use DROP TEMPORARY SYSTEM CONNECTION")
		}
	} else {
		d.Kind = p.oneOf("TABLE", "VIEW", "DATABASE", "CATALOG", "FUNCTION", "MODEL", "CONNECTION", "MATERIALIZED")
	}
	if d.Kind == "MATERIALIZED" {
		if d.Temporary {
			p.fail(p.prev, "a materialized table cannot be temporary")
		}
		p.expect("TABLE")
		d.Kind = "MATERIALIZED TABLE"
	}
	d.IfExists = p.ifExists()
	d.Name = p.names()
	if d.Kind == "DATABASE" {
		d.Behavior = p.maybe("RESTRICT", "CASCADE")
	}
	d.Span = p.from(at)
	return d
}

// alter parses ALTER of anything.
func (p *parser) alter() ast.Statement {
	at := p.next().Span
	if p.is(0, "MATERIALIZED") || p.is(0, "TABLE") {
		a := &ast.AlterTable{Materialized: p.accept("MATERIALIZED")}
		p.expect("TABLE")
		a.IfExists = !a.Materialized && p.ifExists()
		a.Name = p.names()
		p.alterTable(a)
		a.Span = p.from(at)
		return a
	}
	a := &ast.Alter{Temporary: p.accept("TEMPORARY")}
	if a.Temporary {
		a.System = p.accept("SYSTEM")
		p.expect("FUNCTION")
		a.Kind = "FUNCTION"
	} else {
		p.note("TABLE")
		a.Kind = p.oneOf("CATALOG", "DATABASE", "VIEW", "FUNCTION", "MODEL", "CONNECTION")
	}
	switch a.Kind {
	case "FUNCTION", "MODEL", "CONNECTION":
		a.IfExists = p.ifExists()
	}
	if a.Kind == "CATALOG" {
		a.Name = ast.Names{p.name()}
	} else {
		a.Name = p.names()
	}
	do := map[string][]string{
		"CATALOG": {"SET", "RESET", "COMMENT"}, "DATABASE": {"SET"}, "VIEW": {"RENAME", "AS"}, "FUNCTION": {"AS"},
		"MODEL": {"RENAME", "SET", "RESET"}, "CONNECTION": {"RENAME", "SET", "RESET"},
	}[a.Kind]
	switch p.oneOf(do...) {
	case "SET":
		a.Set = p.properties()
	case "RESET":
		a.Reset = p.keys()
		if a.Reset == nil {
			a.Reset = []ast.Text{}
		}
	case "COMMENT":
		t := p.quotedText()
		a.Comment = &t
	case "RENAME":
		p.expect("TO")
		a.Rename = p.names()
	case "AS":
		if a.Kind == "FUNCTION" {
			t := p.quotedText()
			a.Class = &t
			a.Language = p.language()
		} else {
			a.Query = p.query()
		}
	}
	a.Span = p.from(at)
	return a
}

// alterTable parses what is done to a table.
func (p *parser) alterTable(a *ast.AlterTable) {
	does := []string{"RENAME", "SET", "RESET", "ADD", "MODIFY", "DROP"}
	if a.Materialized {
		does = []string{"SUSPEND", "RESUME", "REFRESH", "SET", "RESET", "AS", "ADD", "MODIFY", "DROP"}
	}
	a.Do = p.oneOf(does...)
	switch a.Do {
	case "RENAME":
		if !p.accept("TO") {
			a.Do = "RENAME COLUMN"
			a.Column = p.names()
			p.expect("TO")
		}
		a.To = p.names()
	case "SET":
		switch {
		case a.Materialized && p.accept("FRESHNESS"):
			a.Do = "SET FRESHNESS"
			p.expect("=")
			a.Freshness = p.intervalLiteral()
		case a.Materialized && p.accept("REFRESH_MODE"):
			a.Do = "SET REFRESH_MODE"
			p.expect("=")
			a.RefreshMode = p.oneOf("FULL", "CONTINUOUS")
		default:
			a.Set = p.properties()
		}
	case "RESET":
		a.Reset = p.keys()
	case "RESUME":
		a.Set = p.with()
	case "REFRESH":
		if at := p.here(); p.accept("PARTITION") {
			a.Partitions = []ast.Partition{{Keys: p.assigns(), Span: p.from(at)}}
		}
	case "AS":
		a.Query = p.query()
	case "ADD", "MODIFY":
		p.addOrModify(a)
	case "DROP":
		p.dropFromTable(a)
	}
}

// addOrModify parses what ALTER TABLE adds or modifies.
func (p *parser) addOrModify(a *ast.AlterTable) {
	partition := p.is(0, "PARTITION") || p.is(0, "IF") && p.is(1, "NOT")
	switch {
	case a.Do == "ADD" && !a.Materialized && partition:
		a.Do = "ADD PARTITION"
		a.IfPart = p.ifNotExists()
		for {
			at := p.here()
			p.expect("PARTITION")
			x := ast.Partition{Keys: p.assigns(), With: p.with()}
			x.Span = p.from(at)
			a.Partitions = append(a.Partitions, x)
			if p.err != nil || !p.at("PARTITION") {
				break
			}
		}
	case p.accept("DISTRIBUTION"):
		a.Do += " DISTRIBUTION"
		a.Distribution = p.distribution()
	case p.at("("):
		a.Paren = true
		a.Elements = parens(p, p.alterElement)
	default:
		a.Elements = []ast.AlterElement{p.alterElement()}
	}
}

func (p *parser) alterElement() ast.AlterElement {
	at := p.here()
	e := ast.AlterElement{Element: p.element()}
	if _, ok := e.Element.(*ast.Column); ok {
		if e.Place = p.maybe("FIRST", "AFTER"); e.Place == "AFTER" {
			e.After = p.names()
		}
	}
	e.Span = p.from(at)
	return e
}

// dropFromTable parses what ALTER TABLE drops.
func (p *parser) dropFromTable(a *ast.AlterTable) {
	partition := p.is(0, "PARTITION") || p.is(0, "IF") && p.is(1, "EXISTS")
	switch {
	case !a.Materialized && partition:
		a.Do = "DROP PARTITION"
		a.IfPart = p.ifExists()
		a.Partitions = list(p, func() ast.Partition {
			at := p.here()
			p.expect("PARTITION")
			return ast.Partition{Keys: p.assigns(), Span: p.from(at)}
		})
	case p.accept("PRIMARY"):
		p.expect("KEY")
		a.Do = "DROP PRIMARY KEY"
	case p.accept("CONSTRAINT"):
		a.Do = "DROP CONSTRAINT"
		n := p.name()
		a.Constraint = &n
	case p.accept("DISTRIBUTION"):
		a.Do = "DROP DISTRIBUTION"
	case p.accept("WATERMARK"):
		a.Do = "DROP WATERMARK"
	case p.at("("):
		a.Do = "DROP COLUMNS"
		a.Paren = true
		a.Columns = parens(p, p.names)
	default:
		a.Do = "DROP COLUMNS"
		a.Columns = []ast.Names{p.names()}
	}
}
