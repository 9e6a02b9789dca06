package ast

import "strings"

// stmt writes a statement.
func (p *printer) stmt(s Statement) {
	switch s := s.(type) {
	case *QueryStatement:
		p.query(s.Query)
	case *Insert:
		p.insert(s)
	case *StatementSet:
		p.w("STATEMENT SET BEGIN ")
		for _, i := range s.Inserts {
			p.insert(i)
			p.w("; ")
		}
		p.w("END")
	case *BeginStatementSet:
		p.w("BEGIN STATEMENT SET")
	case *EndStatementSet:
		p.w("END")
	case *Execute:
		p.w("EXECUTE ")
		p.stmt(s.Stmt)
	case *ExecutePlan:
		p.w("EXECUTE PLAN ")
		p.text(s.Path)
	case *CompilePlan:
		p.w("COMPILE ")
		p.when(s.Execute, "AND EXECUTE ")
		p.w("PLAN ")
		p.text(s.Path)
		p.when(s.IfNotExists, " IF NOT EXISTS")
		p.w(" FOR ")
		p.stmt(s.Stmt)
	case *Explain:
		p.w("EXPLAIN ")
		p.when(s.PlanFor, "PLAN FOR ")
		p.w(strings.Join(s.Details, ", "))
		p.when(s.Details != nil, " ")
		p.stmt(s.Stmt)
	case *Delete:
		p.w("DELETE FROM ")
		p.target(s.Table, s.Hints, s.Alias)
		p.where(s.Where)
	case *Update:
		p.w("UPDATE ")
		p.target(s.Table, s.Hints, s.Alias)
		p.w(" SET ")
		each(p, s.Set, p.assign)
		p.where(s.Where)
	case *Truncate:
		p.w("TRUNCATE TABLE ")
		p.names(s.Table)
	case *CallStatement:
		p.w("CALL ")
		p.call(s.Call)
	case *Set:
		p.w("SET")
		if s.Key != nil {
			p.w(" ")
			p.property(Property{Key: *s.Key, Value: *s.Value})
		}
	case *Reset:
		p.w("RESET")
		if s.Key != nil {
			p.w(" ")
			p.text(*s.Key)
		}
	case *Jar:
		if s.Remove {
			p.w("REMOVE JAR ")
		} else {
			p.w("ADD JAR ")
		}
		p.text(s.Path)
	case *LoadModule:
		p.w("LOAD MODULE ")
		p.name(s.Name)
		p.with(s.With)
	case *UnloadModule:
		p.w("UNLOAD MODULE ")
		p.name(s.Name)
	case *Use:
		p.w("USE ")
		p.when(s.Kind != "", s.Kind+" ")
		each(p, s.Names, p.names)
	case *Show:
		p.show(s)
	case *Describe:
		p.w("DESCRIBE ")
		p.when(s.Kind != "", s.Kind+" ")
		p.when(s.Extended, "EXTENDED ")
		if s.Job != nil {
			p.text(*s.Job)
		} else {
			p.names(s.Name)
		}
	case *StopJob:
		p.w("STOP JOB ")
		p.text(s.Job)
		p.when(s.Savepoint, " WITH SAVEPOINT")
		p.when(s.Drain, " WITH DRAIN")
	case *Analyze:
		p.w("ANALYZE TABLE ")
		p.names(s.Table)
		if s.Partition != nil {
			p.w(" PARTITION ")
			parens(p, s.Partition, p.assign)
		}
		p.w(" COMPUTE STATISTICS")
		switch {
		case s.AllColumns:
			p.w(" FOR ALL COLUMNS")
		case s.Columns != nil:
			p.w(" FOR COLUMNS ")
			each(p, s.Columns, p.name)
		}
	case *Drop:
		p.w("DROP ")
		p.when(s.Temporary, "TEMPORARY ")
		p.when(s.System, "SYSTEM ")
		p.w(s.Kind, " ")
		p.when(s.IfExists, "IF EXISTS ")
		p.names(s.Name)
		p.opt(s.Behavior)
	case *Alter:
		p.alter(s)
	case *AlterTable:
		p.alterTable(s)
	default:
		p.create(s)
	}
}

// create writes what begins with CREATE or REPLACE.
func (p *printer) create(s Statement) {
	begin := func(kind string, temporary, ifNotExists bool) {
		p.w("CREATE ")
		p.when(temporary, "TEMPORARY ")
		p.w(kind, " ")
		p.when(ifNotExists, "IF NOT EXISTS ")
	}
	switch s := s.(type) {
	case *CreateCatalog:
		begin("CATALOG", false, s.IfNotExists)
		p.name(s.Name)
		p.optText("COMMENT", s.Comment)
		p.with(s.With)
	case *CreateDatabase:
		begin("DATABASE", false, s.IfNotExists)
		p.names(s.Name)
		p.optText("COMMENT", s.Comment)
		p.with(s.With)
	case *CreateView:
		p.w("CREATE ")
		p.when(s.Replace, "OR REPLACE ")
		p.when(s.Temporary, "TEMPORARY ")
		p.w("VIEW ")
		p.when(s.IfNotExists, "IF NOT EXISTS ")
		p.names(s.Name)
		p.optNames(s.Columns)
		p.optText("COMMENT", s.Comment)
		p.w(" AS ")
		p.query(s.Query)
	case *CreateFunction:
		p.w("CREATE ")
		p.when(s.Replace, "OR REPLACE ")
		p.when(s.Temporary, "TEMPORARY ")
		p.when(s.System, "SYSTEM ")
		p.w("FUNCTION ")
		p.when(s.IfNotExists, "IF NOT EXISTS ")
		p.names(s.Name)
		p.w(" AS ")
		p.text(s.Class)
		p.when(s.Language != "", " LANGUAGE "+s.Language)
		if s.Using != nil {
			p.w(" USING ")
			each(p, s.Using, func(t Text) {
				p.w("JAR ")
				p.text(t)
			})
		}
		p.with(s.With)
	case *CreateModel:
		begin("MODEL", s.Temporary, s.IfNotExists)
		p.names(s.Name)
		if s.Input != nil {
			p.w(" INPUT ")
			parens(p, s.Input, p.element)
		}
		if s.Output != nil {
			p.w(" OUTPUT ")
			parens(p, s.Output, p.element)
		}
		p.optText("COMMENT", s.Comment)
		p.with(s.With)
		p.as(s.Query)
	case *CreateConnection:
		kind := "CONNECTION"
		if s.System {
			kind = "SYSTEM CONNECTION"
		}
		begin(kind, s.Temporary, s.IfNotExists)
		p.names(s.Name)
		p.optText("COMMENT", s.Comment)
		p.with(s.With)
	case *CreateTable:
		p.createTable(s)
	}
}

// as writes AS and a query, if there is one.
func (p *printer) as(q Query) {
	if q != nil {
		p.w(" AS ")
		p.query(q)
	}
}

func (p *printer) where(x Expr) {
	if x != nil {
		p.w(" WHERE ")
		p.expr(x)
	}
}

// target writes the table that a statement changes.
func (p *printer) target(n Names, h []Hint, alias *Name) {
	p.names(n)
	p.hints(h)
	p.alias(alias)
}

func (p *printer) assign(a Assign) {
	p.name(a.Name)
	if a.X != nil {
		p.w(" = ")
		p.expr(a.X)
	}
}

func (p *printer) insert(s *Insert) {
	switch {
	case s.Upsert:
		p.w("UPSERT INTO ")
	case s.Overwrite:
		p.w("INSERT OVERWRITE ")
	default:
		p.w("INSERT INTO ")
	}
	p.names(s.Table)
	p.hints(s.Hints)
	if s.Partition != nil {
		p.w(" PARTITION ")
		parens(p, s.Partition, p.assign)
	}
	if s.Columns != nil {
		p.w(" ")
		parens(p, s.Columns, p.names)
	}
	p.w(" ")
	p.query(s.Query)
	p.when(s.Conflict != "", " ON CONFLICT DO "+s.Conflict)
}

func (p *printer) show(s *Show) {
	p.w("SHOW ", s.Kind)
	p.opt(s.Prep)
	if s.Name != nil {
		p.w(" ")
		p.names(s.Name)
	}
	if s.Partition != nil {
		p.w(" PARTITION ")
		parens(p, s.Partition, p.assign)
	}
	if s.Pattern != nil {
		p.when(s.Not, " NOT")
		p.w(" ", s.Like, " ")
		p.text(*s.Pattern)
	}
}

func (p *printer) createTable(s *CreateTable) {
	p.w(s.Verb, " ")
	p.when(s.Temporary, "TEMPORARY ")
	p.when(s.Materialized, "MATERIALIZED ")
	p.w("TABLE ")
	p.when(s.IfNotExists, "IF NOT EXISTS ")
	p.names(s.Name)
	if s.Elements != nil {
		p.w(" ")
		parens(p, s.Elements, p.element)
	}
	if s.Columns != nil {
		p.w(" ")
		parens(p, s.Columns, p.names)
	}
	p.optText("COMMENT", s.Comment)
	if s.Distributed != nil {
		p.w(" DISTRIBUTED")
		p.distribution(s.Distributed)
	}
	if s.PartitionBy != nil {
		p.w(" PARTITIONED BY ")
		p.nameList(s.PartitionBy)
	}
	p.with(s.With)
	if s.Freshness != nil {
		p.w(" FRESHNESS = ")
		p.interval(s.Freshness)
	}
	p.when(s.RefreshMode != "", " REFRESH_MODE = "+s.RefreshMode)
	if l := s.Like; l != nil {
		p.w(" LIKE ")
		p.names(l.Table)
		if l.Options != nil {
			p.w(" (")
			for i, o := range l.Options {
				p.when(i > 0, " ")
				p.w(o.Merge, " ", o.Feature)
			}
			p.w(")")
		}
	}
	p.as(s.Query)
}

func (p *printer) distribution(d *Distribution) {
	if d.Columns != nil {
		p.w(" BY ")
		p.w(d.Kind)
		p.nameList(d.Columns)
	}
	if d.Buckets != nil {
		p.w(" INTO ")
		p.expr(d.Buckets)
		p.w(" BUCKETS")
	}
}

// element writes a column, a constraint or a watermark.
func (p *printer) element(e TableElement) {
	switch e := e.(type) {
	case *Column:
		p.names(e.Name)
		if e.As != nil {
			p.w(" AS ")
			p.expr(e.As)
		} else {
			p.w(" ")
			p.typ(e.Type)
		}
		p.when(e.Metadata, " METADATA")
		p.optText("FROM", e.From)
		p.when(e.Virtual, " VIRTUAL")
		if e.Constraint != nil {
			p.w(" ")
			p.element(e.Constraint)
		}
		p.optText("COMMENT", e.Comment)
	case *Constraint:
		if e.Name != nil {
			p.w("CONSTRAINT ")
			p.name(*e.Name)
			p.w(" ")
		}
		p.w(e.Kind)
		p.optNames(e.Columns)
		p.opt(e.Enforced)
	case *Watermark:
		p.w("WATERMARK FOR ")
		p.names(e.Column)
		p.w(" AS ")
		p.expr(e.X)
	}
}

func (p *printer) alter(s *Alter) {
	p.w("ALTER ")
	p.when(s.Temporary, "TEMPORARY ")
	p.when(s.System, "SYSTEM ")
	p.w(s.Kind, " ")
	p.when(s.IfExists, "IF EXISTS ")
	p.names(s.Name)
	switch {
	case s.Set != nil:
		p.w(" SET ")
		p.properties(s.Set)
	case s.Reset != nil:
		p.w(" RESET ")
		parens(p, s.Reset, p.text)
	case s.Rename != nil:
		p.w(" RENAME TO ")
		p.names(s.Rename)
	}
	p.optText("COMMENT", s.Comment)
	p.optText("AS", s.Class)
	p.when(s.Language != "", " LANGUAGE "+s.Language)
	p.as(s.Query)
}

func (p *printer) alterTable(s *AlterTable) {
	p.w("ALTER ")
	p.when(s.Materialized, "MATERIALIZED ")
	p.w("TABLE ")
	p.when(s.IfExists, "IF EXISTS ")
	p.names(s.Name)
	switch s.Do {
	case "RENAME COLUMN":
		p.w(" RENAME ")
		p.names(s.Column)
	case "ADD PARTITION", "DROP PARTITION", "DROP COLUMNS", "AS":
		verb, _, _ := strings.Cut(s.Do, " ")
		p.when(verb != "AS", " "+verb)
	default:
		p.w(" ", s.Do)
	}
	if s.To != nil {
		p.w(" TO ")
		p.names(s.To)
	}
	switch s.Do {
	case "SET":
		p.w(" ")
		p.properties(s.Set)
	case "RESET":
		p.w(" ")
		parens(p, s.Reset, p.text)
	case "RESUME":
		p.with(s.Set)
	case "SET FRESHNESS":
		p.w(" = ")
		p.interval(s.Freshness)
	case "SET REFRESH_MODE":
		p.w(" = ", s.RefreshMode)
	case "ADD PARTITION", "DROP PARTITION", "REFRESH":
		p.partitions(s)
	}
	if s.Elements != nil {
		list(p, s.Elements, s.Paren, p.alterElement)
	}
	if s.Columns != nil {
		list(p, s.Columns, s.Paren, p.names)
	}
	if s.Distribution != nil {
		p.distribution(s.Distribution)
	}
	if s.Constraint != nil {
		p.w(" ")
		p.name(*s.Constraint)
	}
	p.as(s.Query)
}

// list writes elements after a space, in parentheses if they were.
func list[T any](p *printer, all []T, paren bool, f func(T)) {
	p.w(" ")
	if paren {
		parens(p, all, f)
	} else {
		each(p, all, f)
	}
}

func (p *printer) alterElement(e AlterElement) {
	p.element(e.Element)
	p.opt(e.Place)
	if e.After != nil {
		p.w(" ")
		p.names(e.After)
	}
}

// partitions writes those of ADD, DROP and REFRESH.
func (p *printer) partitions(s *AlterTable) {
	if s.IfPart {
		p.when(s.Do == "ADD PARTITION", " IF NOT EXISTS")
		p.when(s.Do == "DROP PARTITION", " IF EXISTS")
	}
	for i, x := range s.Partitions {
		p.when(i > 0 && s.Do == "DROP PARTITION", ",")
		p.w(" PARTITION ")
		parens(p, x.Keys, p.assign)
		p.with(x.With)
	}
}
