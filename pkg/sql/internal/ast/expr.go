package ast

// An Expr is an expression, or what may stand for one as an argument of a call.
type Expr interface {
	Node
	expr()
}

// An Ident names a column, or a field inside of one: the parser cannot know.
type Ident struct {
	Span
	Parts Names
}

// A Star is * or t.*, in a select list or as the argument of COUNT.
type Star struct {
	Span
	Table Names // nil for *
}

// A Number is an unsigned numeric literal: exact, unless Text has an exponent.
type Number struct {
	Span
	Text string
	// Decimal marks the form DECIMAL '1.5', whose text may have a sign.
	Decimal bool
}

// A String is a character string literal.
type String struct {
	Span
	Value string
	// Charset is what followed the underscore of _charset'..', or empty.
	Charset string
	// SameLine is the place of the first fragment of 'a' 'b' that begins on the
	// line where the one before it ends, which Flink parses but refuses; else zero.
	SameLine Span
}

// A Bytes is a literal X'..'.
type Bytes struct {
	Span
	// Hex holds the digits, upper case. Flink refuses an odd number of them, but
	// not while parsing.
	Hex string
}

// A Const is a literal that is a keyword: TRUE, FALSE, UNKNOWN or NULL.
type Const struct {
	Span
	Word string
}

// A Temporal is a literal of a date, a time or a timestamp. Its text has not been
// checked.
type Temporal struct {
	Span
	Type string // DATE, TIME, DATETIME, TIMESTAMP, or TIMESTAMP WITH LOCAL TIME ZONE
	Text string
}

// An Interval is an interval literal, INTERVAL -'1' DAY.
type Interval struct {
	Span
	Neg  bool
	Text string // what is between the quotes
	Unit Qualifier
}

// An IntervalOf is an interval of a number of units, INTERVAL x DAY.
type IntervalOf struct {
	Span
	X    Expr
	Unit Qualifier
}

// A Qualifier is the unit or range of units of an interval.
type Qualifier struct {
	Span
	From, To string // YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND; To may be empty
	// Prec is the precision of the leading unit and Frac that of fractions of
	// seconds; -1 where not given.
	Prec, Frac int32
}

// A Unit is the name of a unit of time as an argument, as in EXTRACT(DAY FROM x):
// a keyword in upper case, or any other name as it was written.
type Unit struct {
	Span
	Word    string
	Keyword bool
}

// A Param is a ?, numbered from 0.
type Param struct {
	Span
	Index int
}

// A Default is DEFAULT as a value or an argument.
type Default struct{ Span }

// An Op is an operator, spelled as in the text.
type Op string

// The operators.
const (
	Plus    Op = "+"
	Minus   Op = "-"
	Times   Op = "*"
	Divide  Op = "/"
	Percent Op = "%"
	Concat  Op = "||"

	Equal          Op = "="
	NotEqual       Op = "<>"
	Less           Op = "<"
	LessOrEqual    Op = "<="
	Greater        Op = ">"
	GreaterOrEqual Op = ">="

	IsDistinctFrom    Op = "IS DISTINCT FROM"
	IsNotDistinctFrom Op = "IS NOT DISTINCT FROM"

	And Op = "AND"
	Or  Op = "OR"
	Not Op = "NOT"

	Exists Op = "EXISTS"
	Unique Op = "UNIQUE"

	MemberOf              Op = "MEMBER OF"
	SubmultisetOf         Op = "SUBMULTISET OF"
	NotSubmultisetOf      Op = "NOT SUBMULTISET OF"
	MultisetUnion         Op = "MULTISET UNION"
	MultisetUnionDistinct Op = "MULTISET UNION DISTINCT"
	MultisetIntersect     Op = "MULTISET INTERSECT"
	MultisetIntersectDist Op = "MULTISET INTERSECT DISTINCT"
	MultisetExcept        Op = "MULTISET EXCEPT"
	MultisetExceptDist    Op = "MULTISET EXCEPT DISTINCT"

	Contains            Op = "CONTAINS"
	Overlaps            Op = "OVERLAPS"
	PeriodEquals        Op = "EQUALS"
	Precedes            Op = "PRECEDES"
	Succeeds            Op = "SUCCEEDS"
	ImmediatelyPrecedes Op = "IMMEDIATELY PRECEDES"
	ImmediatelySucceeds Op = "IMMEDIATELY SUCCEEDS"
)

// The precedences of operators: what is higher binds tighter. Of two operators with
// the same the left one comes first.
const (
	PrecMultisetUnion     = 28
	PrecMultisetIntersect = 36
	PrecOr                = 44
	PrecAnd               = 48
	PrecNot               = 52
	PrecIs                = 56 // postfix
	PrecCompare           = 60
	PrecIn                = 64 // IN, BETWEEN, LIKE, and comparisons with SOME and ALL
	PrecAdd               = 80
	PrecExists            = 80 // prefix
	PrecMultiply          = 120
	PrecSign              = 160 // prefix
	PrecIndex             = 200
)

// Precedence returns the precedence of o between two operands.
func (o Op) Precedence() int {
	switch o {
	case Plus, Minus:
		return PrecAdd
	case Times, Divide, Percent, Concat:
		return PrecMultiply
	case And:
		return PrecAnd
	case Or:
		return PrecOr
	case MultisetUnion, MultisetUnionDistinct, MultisetExcept, MultisetExceptDist:
		return PrecMultisetUnion
	case MultisetIntersect, MultisetIntersectDist:
		return PrecMultisetIntersect
	}
	return PrecCompare
}

// A Unary is a prefix operator with its operand: + - NOT EXISTS UNIQUE.
type Unary struct {
	Span
	Op Op
	X  Expr
}

// A Binary is an infix operator with its operands.
type Binary struct {
	Span
	Op   Op
	X, Y Expr
}

// A Between is X [NOT] BETWEEN [SYMMETRIC] Low AND High.
type Between struct {
	Span
	Not, Symmetric bool
	X, Low, High   Expr
}

// An In is X [NOT] IN (List) or (Query).
type In struct {
	Span
	Not   bool
	X     Expr
	List  []Expr
	Query Query
}

// A Quantified compares X with some or with all of a list or of a query's rows.
type Quantified struct {
	Span
	Op    Op // a comparison
	All   bool
	X     Expr
	List  []Expr
	Query Query
}

// A Like matches X against a pattern.
type Like struct {
	Span
	Not     bool
	Op      string // LIKE, ILIKE, RLIKE, SIMILAR TO
	X       Expr
	Pattern Expr
	Escape  Expr // or nil
}

// An Is is a test of X by a postfix operator.
type Is struct {
	Span
	Not  bool
	X    Expr
	What string // NULL, TRUE, FALSE, UNKNOWN, EMPTY, A SET, JSON VALUE, JSON OBJECT, JSON ARRAY, JSON SCALAR
}

// A Case is CASE [Operand] WHEN .. THEN .. ELSE .. END.
type Case struct {
	Span
	Operand Expr // or nil
	Whens   []When
	Else    Expr // or nil
}

// A When is one branch of a Case. More than one condition is allowed where there
// is an operand.
type When struct {
	Conds []Expr
	Then  Expr
}

// A Cast is CAST(X AS Type) or one of its relatives.
type Cast struct {
	Span
	Func string // CAST, TRY_CAST, SAFE_CAST
	X    Expr
	Type *Type
}

// A Form is how the arguments of a Call were written.
type Form uint8

// The forms of calls.
const (
	Commas    Form = iota // f(a, b)
	Bare                  // CURRENT_DATE
	ExtractOf             // EXTRACT(unit FROM x)
	InOf                  // POSITION(a IN b FROM c)
	PlacingOf             // OVERLAY(a PLACING b FROM c FOR d)
	ToUnit                // FLOOR(x TO unit)
	TrimOf                // TRIM(flag chars FROM x): Args are [chars,] x
	UsingOf               // TRANSLATE(x USING name)
)

// A Call calls a function, an aggregate function, a table function or a procedure.
type Call struct {
	Span
	// Recv is what a call by x.f() is on; nil for all others.
	Recv Expr
	Name Names
	Form Form
	// Trim is BOTH, LEADING or TRAILING in TRIM; empty where not given.
	Trim string
	// Quant is DISTINCT, ALL, or empty.
	Quant string
	Args  []Expr

	OrderBy   []OrderItem // inside the parentheses, of ARRAY_AGG and its like
	Separator *Text

	Nulls          string // IGNORE or RESPECT
	WithinDistinct []Expr
	WithinGroup    []OrderItem
	Filter         Expr
	Over           *Window

	Modifier string // RUNNING or FINAL, in MATCH_RECOGNIZE
}

// A Window is what follows OVER, or a definition in the WINDOW clause.
type Window struct {
	Span
	// Ref is the named window that this one is (OVER w) or builds on (OVER (w ..)).
	Ref         *Name
	Parens      bool
	PartitionBy []Expr
	OrderBy     []OrderItem
	Unit        string // ROWS, RANGE, or empty: no frame
	Low         Bound
	High        *Bound // nil where there was no BETWEEN
	Partial     string // ALLOW or DISALLOW, or empty
}

// A Bound is an end of a frame: X is nil for CURRENT ROW and UNBOUNDED.
type Bound struct {
	Span
	Kind string // CURRENT ROW, UNBOUNDED PRECEDING, UNBOUNDED FOLLOWING, PRECEDING, FOLLOWING
	X    Expr
}

// A JSONCall is a call of one of the JSON functions that have a grammar of their
// own. What a function does not have is empty.
type JSONCall struct {
	Span
	Func string // JSON_EXISTS, JSON_VALUE, JSON_QUERY, JSON_OBJECT, JSON_OBJECTAGG, JSON_ARRAY, JSON_ARRAYAGG

	Input, Path Expr
	Passing     []Passing
	Returning   *Type
	Wrapper     string // WITHOUT ARRAY, WITH CONDITIONAL ARRAY, WITH UNCONDITIONAL ARRAY
	On          []Behavior

	Pairs   []Pair // JSON_OBJECT, JSON_OBJECTAGG
	Items   []Expr // JSON_ARRAY, JSON_ARRAYAGG
	OrderBy []OrderItem
	Nulls   string // NULL or ABSENT [ON NULL]

	WithinGroup []OrderItem
}

// A Passing is an argument of a JSON path.
type Passing struct {
	X    Expr
	Name Name
}

// A Pair is a key with a value, KEY k VALUE v.
type Pair struct{ Key, Value Expr }

// A Behavior is what a JSON function does ON EMPTY or ON ERROR.
type Behavior struct {
	Do      string // ERROR, NULL, DEFAULT, EMPTY ARRAY, EMPTY OBJECT, TRUE, FALSE, UNKNOWN
	Default Expr   // of DEFAULT
	Event   string // EMPTY or ERROR
}

// An Index is X[I].
type Index struct {
	Span
	Mode string // OFFSET, ORDINAL, SAFE_OFFSET, SAFE_ORDINAL; mostly empty
	X, I Expr
}

// A Field is X.Name where X is not a name itself.
type Field struct {
	Span
	X    Expr
	Name Name
}

// A Row is ROW(..), or a list of several expressions in parentheses.
type Row struct {
	Span
	Explicit bool
	Items    []Expr
}

// A Collection is ARRAY[..], MAP[..], MULTISET[..], or one of a query.
type Collection struct {
	Span
	Kind  string // ARRAY, MAP, MULTISET
	Paren bool   // items in parentheses
	Items []Expr
	Query Query
}

// A Subquery is a query where an expression is expected.
type Subquery struct {
	Span
	Query Query
}

// A NamedArg is an argument by name, name => x.
type NamedArg struct {
	Span
	Name Name
	X    Expr
}

// A TableArg is a table as an argument, TABLE t PARTITION BY .. ORDER BY .., or a
// query in its place. Exactly one of Table and Query is set.
type TableArg struct {
	Span
	Table       Names
	Query       Query
	PartitionBy Names
	OrderBy     []OrderItem
}

// A ModelArg is a model as an argument, MODEL m.
type ModelArg struct {
	Span
	Model Names
}

// A DateMinus is (x - y) DAY: the difference of two times in units.
type DateMinus struct {
	Span
	X, Y Expr
	Unit Qualifier
}

func (*Ident) expr()      {}
func (*Star) expr()       {}
func (*Number) expr()     {}
func (*String) expr()     {}
func (*Bytes) expr()      {}
func (*Const) expr()      {}
func (*Temporal) expr()   {}
func (*Interval) expr()   {}
func (*IntervalOf) expr() {}
func (*Unit) expr()       {}
func (*Param) expr()      {}
func (*Default) expr()    {}
func (*Unary) expr()      {}
func (*Binary) expr()     {}
func (*Between) expr()    {}
func (*In) expr()         {}
func (*Quantified) expr() {}
func (*Like) expr()       {}
func (*Is) expr()         {}
func (*Case) expr()       {}
func (*Cast) expr()       {}
func (*Call) expr()       {}
func (*JSONCall) expr()   {}
func (*Index) expr()      {}
func (*Field) expr()      {}
func (*Row) expr()        {}
func (*Collection) expr() {}
func (*Subquery) expr()   {}
func (*NamedArg) expr()   {}
func (*TableArg) expr()   {}
func (*ModelArg) expr()   {}
func (*DateMinus) expr()  {}

// A Type is a data type as it was written. Which fields are set follows from Kind.
type Type struct {
	Span
	// Kind is the name in upper case, in its long form where a type has two:
	// INTEGER, DECIMAL, VARCHAR, TIMESTAMP_LTZ, ARRAY, ROW, INTERVAL and so on; or
	// empty where Name says it.
	Kind string
	// Name is a type's name that is no keyword, a user's or VARIANT.
	Name Names
	// Prec and Scale are -1 where not given. VARCHAR's length is a precision.
	Prec, Scale int32
	// Elem is the type of elements of ARRAY and MULTISET, or of the values of MAP;
	// Key is the type of its keys.
	Key, Elem *Type
	Fields    []TypeField // of ROW and STRUCTURED
	// Unit is that of INTERVAL.
	Unit Qualifier
	// Class and Serializer are the arguments of RAW, Class that of STRUCTURED.
	Class, Serializer string
	Charset           string
	// Null is NULL or NOT NULL where that was written.
	Null string
}

// A TypeField is a field of a row type.
type TypeField struct {
	Span
	Name    Name
	Type    *Type
	Comment *Text
}
