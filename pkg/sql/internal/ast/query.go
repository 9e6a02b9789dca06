package ast

// A Query is what yields rows: SELECT, VALUES, TABLE t, and what is made of them.
type Query interface {
	Node
	query()
}

// A Select is one SELECT with its clauses, except ORDER BY and LIMIT.
type Select struct {
	Span
	Hints   []Hint
	Stream  bool
	Quant   string // DISTINCT, ALL, or empty
	Items   []SelectItem
	From    TableRef // or nil
	Where   Expr
	GroupBy *GroupBy
	Having  Expr
	Windows []NamedWindow
	Qualify Expr
}

// A SelectItem is one entry of the select list.
type SelectItem struct {
	Span
	X     Expr
	Alias *Name
}

// A GroupBy is the GROUP BY clause.
type GroupBy struct {
	Span
	Quant string // DISTINCT, ALL, or empty
	Items []Grouping
}

// A Grouping is one element of GROUP BY.
type Grouping struct {
	Span
	Kind  string     // empty for one expression; GROUPING SETS, ROLLUP, CUBE, or ()
	Exprs []Expr     // one, or those of ROLLUP and CUBE
	Sets  []Grouping // of GROUPING SETS
}

// A NamedWindow is one definition of the WINDOW clause.
type NamedWindow struct {
	Span
	Name   Name
	Window *Window
}

// Values is VALUES with its rows.
type Values struct {
	Span
	Rows []*Row
}

// A Table is the query TABLE t.
type Table struct {
	Span
	Name Names
}

// A SetOp is a UNION, an INTERSECT or an EXCEPT of two queries.
type SetOp struct {
	Span
	Op   string // UNION, INTERSECT, EXCEPT
	All  bool
	L, R Query
}

// The precedences of set operations.
const (
	PrecUnion     = 24 // and EXCEPT
	PrecIntersect = 36
)

// Precedence returns the precedence of s.
func (s *SetOp) Precedence() int {
	if s.Op == "INTERSECT" {
		return PrecIntersect
	}
	return PrecUnion
}

// A With is a query with its common table expressions.
type With struct {
	Span
	Recursive bool
	Items     []WithItem
	Body      Query
}

// A WithItem is one common table expression.
type WithItem struct {
	Span
	Name    Name
	Columns Names
	Query   Query
}

// An Ordered is a query with ORDER BY, OFFSET or LIMIT.
type Ordered struct {
	Span
	Body    Query
	OrderBy []OrderItem
	Offset  Expr // a Number or a Param, or nil
	Limit   Expr // likewise
}

// An OrderItem is one sort key.
type OrderItem struct {
	Span
	X     Expr
	Desc  bool
	Nulls string // FIRST, LAST, or empty
}

func (*Select) query()  {}
func (*Values) query()  {}
func (*Table) query()   {}
func (*SetOp) query()   {}
func (*With) query()    {}
func (*Ordered) query() {}

// A TableRef is what stands in FROM. A wrapper (Alias, Snapshot, Match and so on)
// has in X what it applies to.
type TableRef interface {
	Node
	tableRef()
}

// A TableName names a table, with its hints.
type TableName struct {
	Span
	Name  Names
	Hints []Hint
}

// A Derived is a query in FROM.
type Derived struct {
	Span
	Lateral bool
	Query   Query
}

// An Unnest is UNNEST(..).
type Unnest struct {
	Span
	Args       []Expr
	Ordinality bool
}

// A TableFunc is TABLE(f(..)), or f(..) in its place.
type TableFunc struct {
	Span
	Lateral  bool
	Implicit bool // without TABLE()
	Call     *Call
}

// A Join joins two table references.
type Join struct {
	Span
	Kind    string // ",", INNER, LEFT, RIGHT, FULL, CROSS
	Natural bool
	L, R    TableRef
	On      Expr
	Using   Names
	// KindAt is the place of the keywords that say the kind, or of the comma.
	KindAt Span
}

// An Alias gives a table reference a name, and maybe its columns.
type Alias struct {
	Span
	X       TableRef
	Name    Name
	Columns Names
}

// A Snapshot is FOR SYSTEM_TIME AS OF.
type Snapshot struct {
	Span
	X  TableRef
	Of Expr
}

// A Sample is TABLESAMPLE.
type Sample struct {
	Span
	X       TableRef
	Method  string // BERNOULLI, SYSTEM, SUBSTITUTE
	Percent *Number
	Name    *Text // of SUBSTITUTE
	Seed    string
}

// A Match is MATCH_RECOGNIZE.
type Match struct {
	Span
	X           TableRef
	PartitionBy []Expr
	OrderBy     []OrderItem
	Measures    []Measure
	Rows        string // ONE ROW or ALL ROWS, or empty
	After       string // PAST LAST ROW, TO NEXT ROW, TO FIRST, TO LAST, or empty
	AfterVar    *Name
	// StrictStart and StrictEnd are the anchors ^ and $.
	StrictStart, StrictEnd bool
	Pattern                Pattern
	Within                 *Interval
	Subsets                []Subset
	Defines                []Define
}

// A Measure is an output column of a Match.
type Measure struct {
	Span
	X    Expr
	Name Name
}

// A Subset is a union of pattern variables.
type Subset struct {
	Span
	Name Name
	Vars []Expr
}

// A Define is the condition of a pattern variable.
type Define struct {
	Span
	Name Name
	X    Expr
}

// A Pattern is a row pattern or a part of it.
type Pattern struct {
	Span
	Kind string    // VAR, CONCAT, ALTER, REPEAT, EXCLUDE, PERMUTE
	Var  Name      // of VAR
	Subs []Pattern // of all others; REPEAT and EXCLUDE have one
	// Min and Max are the numbers of REPEAT as written; Max is empty for no limit.
	Min, Max  string
	Reluctant bool
}

// A Pivot is PIVOT (aggregates FOR axes IN (values)).
type Pivot struct {
	Span
	X      TableRef
	Aggs   []SelectItem
	Axes   Names
	Values []PivotValue
}

// A PivotValue is one column group of a Pivot.
type PivotValue struct {
	Span
	Row   *Row
	Alias *Name
}

// An Unpivot is UNPIVOT (measures FOR axes IN (columns AS values)).
type Unpivot struct {
	Span
	X        TableRef
	Nulls    string // INCLUDE or EXCLUDE, or empty
	Measures Names
	Axes     Names
	Values   []UnpivotValue
}

// An UnpivotValue is one group of columns of an Unpivot.
type UnpivotValue struct {
	Span
	Columns Names
	As      *Row
}

func (*TableName) tableRef() {}
func (*Derived) tableRef()   {}
func (*Unnest) tableRef()    {}
func (*TableFunc) tableRef() {}
func (*Join) tableRef()      {}
func (*Alias) tableRef()     {}
func (*Snapshot) tableRef()  {}
func (*Sample) tableRef()    {}
func (*Match) tableRef()     {}
func (*Pivot) tableRef()     {}
func (*Unpivot) tableRef()   {}
