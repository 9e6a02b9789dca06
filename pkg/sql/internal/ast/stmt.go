package ast

// A Statement is one statement of a script.
type Statement interface {
	Node
	stmt()
}

// A QueryStatement is a query as a statement.
type QueryStatement struct {
	Span
	Query Query
}

// An Insert is INSERT INTO or INSERT OVERWRITE.
type Insert struct {
	Span
	Upsert    bool // UPSERT INTO, which Flink parses
	Overwrite bool
	Table     Names
	Hints     []Hint
	Partition []Assign // PARTITION (name = literal, ..)
	Columns   []Names  // nil where not given
	Query     Query
	Conflict  string // DEDUPLICATE, ERROR or NOTHING, of ON CONFLICT DO; or empty
}

// An Assign is name = value. X is nil where a partition is only named.
type Assign struct {
	Span
	Name Name
	X    Expr
}

// A StatementSet is STATEMENT SET BEGIN .. END.
type StatementSet struct {
	Span
	Inserts []*Insert
}

// A BeginStatementSet is BEGIN STATEMENT SET, and an EndStatementSet the END that
// closes it: the old form, of several statements.
type BeginStatementSet struct{ Span }

// EndStatementSet is END; see BeginStatementSet.
type EndStatementSet struct{ Span }

// An Execute is EXECUTE before a query, an INSERT or a statement set.
type Execute struct {
	Span
	Stmt Statement
}

// An ExecutePlan is EXECUTE PLAN 'path'.
type ExecutePlan struct {
	Span
	Path Text
}

// A CompilePlan is COMPILE [AND EXECUTE] PLAN 'path' FOR stmt.
type CompilePlan struct {
	Span
	Execute     bool
	Path        Text
	IfNotExists bool
	Stmt        Statement
}

// An Explain is EXPLAIN.
type Explain struct {
	Span
	PlanFor bool
	Details []string // ESTIMATED_COST, CHANGELOG_MODE, JSON_EXECUTION_PLAN, PLAN_ADVICE
	Stmt    Statement
}

// A Delete is DELETE FROM.
type Delete struct {
	Span
	Table Names
	Hints []Hint
	Alias *Name
	Where Expr
}

// An Update is UPDATE .. SET.
type Update struct {
	Span
	Table Names
	Hints []Hint
	Alias *Name
	Set   []Assign
	Where Expr
}

// A Truncate is TRUNCATE TABLE.
type Truncate struct {
	Span
	Table Names
}

// A CallStatement is CALL procedure(..).
type CallStatement struct {
	Span
	Call *Call
}

// A Set is SET 'key' = 'value', or SET alone, which lists what is set.
type Set struct {
	Span
	Key, Value *Text
}

// A Reset is RESET 'key', or RESET alone.
type Reset struct {
	Span
	Key *Text
}

// A Jar is ADD JAR or REMOVE JAR.
type Jar struct {
	Span
	Remove bool
	Path   Text
}

// A LoadModule is LOAD MODULE.
type LoadModule struct {
	Span
	Name Name
	With Properties
}

// An UnloadModule is UNLOAD MODULE.
type UnloadModule struct {
	Span
	Name Name
}

// A Use is USE, USE CATALOG or USE MODULES.
type Use struct {
	Span
	Kind  string  // empty for a database, CATALOG, MODULES
	Names []Names // one, or the modules
}

// A Show is one of the SHOW statements.
type Show struct {
	Span
	// Kind is what is shown: TABLES, VIEWS, MATERIALIZED TABLES, COLUMNS, CATALOGS,
	// DATABASES, CURRENT CATALOG, CURRENT DATABASE, FUNCTIONS, USER FUNCTIONS,
	// PROCEDURES, MODELS, CONNECTIONS, MODULES, FULL MODULES, JARS, JOBS, PARTITIONS,
	// or CREATE with TABLE, VIEW, CATALOG, MODEL, CONNECTION, MATERIALIZED TABLE.
	Kind      string
	Prep      string // FROM or IN
	Name      Names
	Not       bool
	Like      string // LIKE or ILIKE
	Pattern   *Text
	Partition []Assign
}

// A Describe is DESCRIBE of a table or of what Kind says.
type Describe struct {
	Span
	Kind     string // empty, CATALOG, DATABASE, FUNCTION, MODEL, CONNECTION, JOB
	Extended bool
	Name     Names
	Job      *Text
}

// A StopJob is STOP JOB.
type StopJob struct {
	Span
	Job              Text
	Savepoint, Drain bool
}

// An Analyze is ANALYZE TABLE.
type Analyze struct {
	Span
	Table      Names
	Partition  []Assign
	AllColumns bool
	Columns    Names
}

// A CreateCatalog is CREATE CATALOG.
type CreateCatalog struct {
	Span
	IfNotExists bool
	Name        Name
	Comment     *Text
	With        Properties
}

// A CreateDatabase is CREATE DATABASE.
type CreateDatabase struct {
	Span
	IfNotExists bool
	Name        Names
	Comment     *Text
	With        Properties
}

// A CreateView is CREATE VIEW.
type CreateView struct {
	Span
	Replace, Temporary, IfNotExists bool
	Name                            Names
	Columns                         Names
	Comment                         *Text
	Query                           Query
}

// A CreateFunction is CREATE FUNCTION.
type CreateFunction struct {
	Span
	Replace, Temporary, System, IfNotExists bool
	Name                                    Names
	Class                                   Text
	Language                                string
	Using                                   []Text
	With                                    Properties
}

// A CreateModel is CREATE MODEL.
type CreateModel struct {
	Span
	Temporary, IfNotExists bool
	Name                   Names
	Input, Output          []TableElement
	Comment                *Text
	With                   Properties
	Query                  Query
}

// A CreateConnection is CREATE CONNECTION.
type CreateConnection struct {
	Span
	Temporary, System, IfNotExists bool
	Name                           Names
	Comment                        *Text
	With                           Properties
}

// A CreateTable is CREATE TABLE, REPLACE TABLE, or CREATE [OR ALTER] MATERIALIZED
// TABLE.
type CreateTable struct {
	Span
	// Verb is CREATE, CREATE OR REPLACE, CREATE OR ALTER, or REPLACE.
	Verb                    string
	Temporary, Materialized bool
	IfNotExists             bool
	Name                    Names
	// Elements are those in parentheses, or Columns, if only names stand there.
	Elements    []TableElement
	Columns     []Names
	Comment     *Text
	Distributed *Distribution
	PartitionBy Names
	With        Properties
	Freshness   *Interval
	RefreshMode string // FULL, CONTINUOUS, or empty
	Like        *TableLike
	Query       Query
}

// A TableElement is what stands in the parentheses of CREATE TABLE: a *Column, a
// *Constraint or a *Watermark.
type TableElement interface {
	Node
	element()
}

// A Column is a column: physical if it has a type only, computed if As is set, of
// metadata if Metadata is.
type Column struct {
	Span
	Name       Names
	Type       *Type
	As         Expr
	Metadata   bool
	From       *Text // METADATA FROM 'key'
	Virtual    bool
	Constraint *Constraint
	Comment    *Text
}

// A Constraint is PRIMARY KEY or UNIQUE, of a table or of a column.
type Constraint struct {
	Span
	Name     *Name
	Kind     string // PRIMARY KEY, UNIQUE
	Columns  Names  // nil for a column's
	Enforced string // ENFORCED, NOT ENFORCED, or empty
}

// A Watermark is WATERMARK FOR column AS expression.
type Watermark struct {
	Span
	Column Names
	X      Expr
}

func (*Column) element()     {}
func (*Constraint) element() {}
func (*Watermark) element()  {}

// A Distribution is how a table is cut into buckets.
type Distribution struct {
	Span
	Kind    string // HASH, RANGE, or empty
	Columns Names
	Buckets *Number
}

// A TableLike is the LIKE clause of CREATE TABLE.
type TableLike struct {
	Span
	Table   Names
	Options []LikeOption
}

// A LikeOption says what is taken over from the other table.
type LikeOption struct {
	Span
	Merge   string // INCLUDING, EXCLUDING, OVERWRITING
	Feature string // ALL, CONSTRAINTS, DISTRIBUTION, GENERATED, METADATA, OPTIONS, PARTITIONS, WATERMARKS
}

// A Drop is one of the DROP statements.
type Drop struct {
	Span
	Kind              string // CATALOG, DATABASE, TABLE, VIEW, MATERIALIZED TABLE, FUNCTION, MODEL, CONNECTION
	Temporary, System bool
	IfExists          bool
	Name              Names
	Behavior          string // RESTRICT or CASCADE, or empty
}

// An Alter is ALTER of what Kind says, but for tables.
type Alter struct {
	Span
	Kind              string // CATALOG, DATABASE, VIEW, FUNCTION, MODEL, CONNECTION
	Temporary, System bool   // of FUNCTION
	IfExists          bool
	Name              Names
	Set               Properties
	Reset             []Text
	Comment           *Text
	Rename            Names
	Query             Query // ALTER VIEW v AS
	Class             *Text // ALTER FUNCTION f AS 'class'
	Language          string
}

// An AlterTable is ALTER [MATERIALIZED] TABLE. Do says what, and which fields are
// set.
type AlterTable struct {
	Span
	Materialized bool
	IfExists     bool
	Name         Names
	// Do is RENAME (To), RENAME COLUMN (Column, To), SET, RESET, ADD and MODIFY
	// (Elements), ADD and MODIFY DISTRIBUTION, ADD and DROP PARTITION, DROP
	// COLUMNS, DROP PRIMARY KEY, DROP CONSTRAINT, DROP DISTRIBUTION, DROP WATERMARK,
	// SUSPEND, RESUME, REFRESH, SET FRESHNESS, SET REFRESH_MODE, or AS.
	Do           string
	To           Names
	Column       Names
	Columns      []Names
	Paren        bool // Elements or Columns were in parentheses
	Set          Properties
	Reset        []Text
	Elements     []AlterElement
	Distribution *Distribution
	Constraint   *Name
	IfPart       bool // IF [NOT] EXISTS of partitions
	Partitions   []Partition
	Freshness    *Interval
	RefreshMode  string
	Query        Query
}

// An AlterElement is a column, constraint or watermark that is added or modified.
type AlterElement struct {
	Span
	Element TableElement
	Place   string // FIRST, AFTER, or empty
	After   Names
}

// A Partition names a partition by its keys.
type Partition struct {
	Span
	Keys []Assign
	With Properties
}

func (*QueryStatement) stmt()    {}
func (*Insert) stmt()            {}
func (*StatementSet) stmt()      {}
func (*BeginStatementSet) stmt() {}
func (*EndStatementSet) stmt()   {}
func (*Execute) stmt()           {}
func (*ExecutePlan) stmt()       {}
func (*CompilePlan) stmt()       {}
func (*Explain) stmt()           {}
func (*Delete) stmt()            {}
func (*Update) stmt()            {}
func (*Truncate) stmt()          {}
func (*CallStatement) stmt()     {}
func (*Set) stmt()               {}
func (*Reset) stmt()             {}
func (*Jar) stmt()               {}
func (*LoadModule) stmt()        {}
func (*UnloadModule) stmt()      {}
func (*Use) stmt()               {}
func (*Show) stmt()              {}
func (*Describe) stmt()          {}
func (*StopJob) stmt()           {}
func (*Analyze) stmt()           {}
func (*CreateCatalog) stmt()     {}
func (*CreateDatabase) stmt()    {}
func (*CreateView) stmt()        {}
func (*CreateFunction) stmt()    {}
func (*CreateModel) stmt()       {}
func (*CreateConnection) stmt()  {}
func (*CreateTable) stmt()       {}
func (*Drop) stmt()              {}
func (*Alter) stmt()             {}
func (*AlterTable) stmt()        {}
