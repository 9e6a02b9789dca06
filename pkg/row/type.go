package row

import (
	"fmt"
	"strconv"
	"strings"
)

// Root is a family of types: a Type without its parameters.
type Root uint8

// The roots, in the order of Flink's LogicalTypeRoot as far as we have them. They lie in plans: new ones go to the end.
const (
	Null Root = iota // of the literal NULL: it becomes any type
	Char
	VarChar
	Boolean
	Binary
	VarBinary
	Decimal
	TinyInt
	SmallInt
	Int
	BigInt
	Float
	Double
	Date
	Time
	Timestamp         // without time zone
	TimestampLTZ      // with local time zone: an instant
	IntervalYearMonth // in months
	IntervalDayTime   // in milliseconds
	Array
	Multiset
	Map
	Row
	Variant
	Symbol     // a keyword that is an argument, like DAY in EXTRACT: only in expressions
	Descriptor // DESCRIPTOR(column): only in arguments of table functions
)

var roots = [...]string{
	"NULL", "CHAR", "VARCHAR", "BOOLEAN", "BINARY", "VARBINARY", "DECIMAL", "TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DATE", "TIME",
	"TIMESTAMP", "TIMESTAMP_LTZ", "INTERVAL YEAR TO MONTH", "INTERVAL DAY TO SECOND", "ARRAY", "MULTISET", "MAP", "ROW", "VARIANT", "SYMBOL", "DESCRIPTOR",
}

// String is SQL's name.
func (r Root) String() string {
	if int(r) < len(roots) {
		return roots[r]
	}
	return fmt.Sprintf("Root(%d)", uint8(r))
}

// IsInteger reports TINYINT to BIGINT.
func (r Root) IsInteger() bool { return r >= TinyInt && r <= BigInt }

// IsNumeric reports all numbers.
func (r Root) IsNumeric() bool { return r >= Decimal && r <= Double }

// IsText reports CHAR and VARCHAR.
func (r Root) IsText() bool { return r == Char || r == VarChar }

// IsBytes reports BINARY and VARBINARY.
func (r Root) IsBytes() bool { return r == Binary || r == VarBinary }

// IsInterval reports both kinds of intervals.
func (r Root) IsInterval() bool { return r == IntervalYearMonth || r == IntervalDayTime }

// IsTime reports DATE, TIME and both TIMESTAMPs.
func (r Root) IsTime() bool { return r >= Date && r <= TimestampLTZ }

// MaxLength is the length of STRING and BYTES.
const MaxLength = 1<<31 - 1

// MaxPrecision is the largest precision of a DECIMAL.
const MaxPrecision = 38

// Attribute says that a TIMESTAMP or TIMESTAMP_LTZ column is a time attribute.
type Attribute uint8

// The attributes.
const (
	NoAttribute Attribute = iota
	Rowtime
	Proctime
)

// Unit is a field of an interval.
type Unit uint8

// The units of intervals.
const (
	NoUnit Unit = iota
	Year
	Month
	Day
	Hour
	Minute
	Second
)

// String is SQL's name.
func (u Unit) String() string {
	return [...]string{"", "YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"}[u]
}

// Type is the type of a column or an expression. It is immutable, and shared.
type Type struct {
	Root Root
	// NotNull: the zero value of a Type is nullable, as Flink's types are.
	NotNull bool
	// Precision is the length of CHAR, VARCHAR, BINARY, VARBINARY (characters or bytes), the precision of DECIMAL, and the digits of the fraction of a
	// second of TIME, TIMESTAMP, TIMESTAMP_LTZ and INTERVAL DAY TO SECOND.
	Precision int
	// Scale is DECIMAL's.
	Scale int
	// From and To are the units of an interval; Lead is the precision of its first one.
	From, To Unit
	Lead     int
	// Elem is the element of ARRAY and MULTISET, and the value of MAP; Key is MAP's.
	Elem, Key *Type
	// Fields are those of ROW.
	Fields []Field
	// Attribute marks time attributes. Two types that differ in it alone are the same.
	Attribute Attribute
}

// Field is a field of a ROW, or a column.
type Field struct {
	Name    string
	Type    *Type
	Comment string
}

// Of returns the nullable type of a root without parameters, or with SQL's defaults for them.
func Of(r Root) *Type {
	switch r {
	case Char, Binary:
		return &Type{Root: r, Precision: 1}
	case VarChar, VarBinary:
		return &Type{Root: r, Precision: MaxLength}
	case Decimal:
		return &Type{Root: r, Precision: 10}
	case Timestamp, TimestampLTZ:
		return &Type{Root: r, Precision: 6}
	case IntervalDayTime:
		return &Type{Root: r, Precision: 6, From: Day, To: Second, Lead: 2}
	case IntervalYearMonth:
		return &Type{Root: r, From: Year, To: Month, Lead: 2}
	}
	return &Type{Root: r}
}

// String type, as users call VARCHAR(2147483647).
func String() *Type { return Of(VarChar) }

// Bytes type, as users call VARBINARY(2147483647).
func Bytes() *Type { return Of(VarBinary) }

// Sized returns a type with a precision: a length, or fraction digits.
func Sized(r Root, precision int) *Type {
	t := *Of(r)
	t.Precision = precision
	return &t
}

// DecimalOf returns DECIMAL(precision, scale).
func DecimalOf(precision, scale int) *Type {
	return &Type{Root: Decimal, Precision: precision, Scale: scale}
}

// ArrayOf returns ARRAY<elem>.
func ArrayOf(elem *Type) *Type { return &Type{Root: Array, Elem: elem} }

// MultisetOf returns MULTISET<elem>.
func MultisetOf(elem *Type) *Type { return &Type{Root: Multiset, Elem: elem} }

// MapOf returns MAP<key, value>.
func MapOf(key, value *Type) *Type { return &Type{Root: Map, Key: key, Elem: value} }

// Record returns ROW<fields>.
func Record(fields ...Field) *Type { return &Type{Root: Row, Fields: fields} }

// Nullable is the type with or without NULL.
func (t *Type) Nullable(yes bool) *Type {
	if t.NotNull == !yes {
		return t
	}
	c := *t
	c.NotNull = !yes
	return &c
}

// With is the type as a time attribute, or, with NoAttribute, as a plain one.
func (t *Type) With(a Attribute) *Type {
	if t.Attribute == a {
		return t
	}
	c := *t
	c.Attribute = a
	return &c
}

// Equal reports whether two types are the same, nullability included, time attributes and comments not.
func (t *Type) Equal(o *Type) bool { return t.NotNull == o.NotNull && t.Same(o) }

// Same is Equal but for nullability at the top.
func (t *Type) Same(o *Type) bool {
	if t.Root != o.Root || t.Precision != o.Precision || t.Scale != o.Scale || t.From != o.From || t.To != o.To || t.Lead != o.Lead || len(t.Fields) != len(o.Fields) {
		return false
	}
	if (t.Elem == nil) != (o.Elem == nil) || t.Elem != nil && !t.Elem.Equal(o.Elem) || (t.Key == nil) != (o.Key == nil) || t.Key != nil && !t.Key.Equal(o.Key) {
		return false
	}
	for i, f := range t.Fields {
		if f.Name != o.Fields[i].Name || !f.Type.Equal(o.Fields[i].Type) {
			return false
		}
	}
	return true
}

// String is Flink's summary string, like VARCHAR(10) NOT NULL or TIMESTAMP(3) *ROWTIME*.
func (t *Type) String() string {
	var b strings.Builder
	t.write(&b)
	return b.String()
}

func (t *Type) write(b *strings.Builder) {
	sized := func(name string) { b.WriteString(name + "(" + strconv.Itoa(t.Precision) + ")") }
	switch t.Root {
	case Char, Binary, Time, Timestamp, TimestampLTZ:
		sized(t.Root.String())
	case VarChar, VarBinary:
		switch {
		case t.Precision != MaxLength:
			sized(t.Root.String())
		case t.Root == VarChar:
			b.WriteString("STRING")
		default:
			b.WriteString("BYTES")
		}
	case Decimal:
		fmt.Fprintf(b, "DECIMAL(%d, %d)", t.Precision, t.Scale)
	case IntervalYearMonth:
		b.WriteString("INTERVAL " + t.From.String())
		if t.From == Year || t.To == Year {
			fmt.Fprintf(b, "(%d)", t.Lead)
		}
		if t.To != t.From {
			b.WriteString(" TO " + t.To.String())
		}
	case IntervalDayTime:
		b.WriteString("INTERVAL " + t.From.String())
		if t.From == Day {
			fmt.Fprintf(b, "(%d)", t.Lead)
		}
		if t.To != t.From {
			b.WriteString(" TO " + t.To.String())
		}
		if t.To == Second {
			fmt.Fprintf(b, "(%d)", t.Precision)
		}
	case Array, Multiset:
		b.WriteString(t.Root.String() + "<")
		t.Elem.write(b)
		b.WriteByte('>')
	case Map:
		b.WriteString("MAP<")
		t.Key.write(b)
		b.WriteString(", ")
		t.Elem.write(b)
		b.WriteByte('>')
	case Row:
		b.WriteString("ROW<")
		for i, f := range t.Fields {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(Quote(f.Name) + " ")
			f.Type.write(b)
			if f.Comment != "" {
				b.WriteString(" '" + strings.ReplaceAll(f.Comment, "'", "''") + "'")
			}
		}
		b.WriteByte('>')
	default:
		b.WriteString(t.Root.String())
	}
	if t.NotNull {
		b.WriteString(" NOT NULL")
	}
	switch t.Attribute {
	case Rowtime:
		b.WriteString(" *ROWTIME*")
	case Proctime:
		b.WriteString(" *PROCTIME*")
	}
}

// Quote is an identifier in back quotes.
func Quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// Class is how the values of a type lie in a Vector.
type Class uint8

// The classes.
const (
	// Bools lie in Vector.Bools.
	Bools Class = iota
	// Ints lie in Vector.Ints: integers; DATE as days since 1970; TIME as milliseconds of the day; intervals as months or milliseconds.
	Ints
	// Floats lie in Vector.Floats: DOUBLE, and FLOAT as values that a float32 holds exactly.
	Floats
	// Decimals lie in Vector.Decimals, with the type's scale.
	Decimals
	// Times lie in Vector.Ints as milliseconds since 1970, and their nanoseconds within the millisecond in Vector.Nanos: TIMESTAMP (as if in UTC), TIMESTAMP_LTZ.
	Times
	// Texts lie in Vector.Spans and Vector.Data: CHAR, VARCHAR (UTF-8), BINARY, VARBINARY, VARIANT (JSON).
	Texts
	// Lists lie in Vector.Spans, which count elements of Vector.Children: ARRAY (one child), MAP and MULTISET (keys, and values or counts).
	Lists
	// Rows lie in Vector.Children, one for each field, of the same length.
	Rows
	// Nothing is the class of NULL: all values are.
	Nothing
)

// Class is the physical class of the type's values.
func (t *Type) Class() Class {
	switch t.Root {
	case Boolean:
		return Bools
	case TinyInt, SmallInt, Int, BigInt, Date, Time, IntervalYearMonth, IntervalDayTime:
		return Ints
	case Float, Double:
		return Floats
	case Decimal:
		return Decimals
	case Timestamp, TimestampLTZ:
		return Times
	case Char, VarChar, Binary, VarBinary, Variant:
		return Texts
	case Array, Multiset, Map:
		return Lists
	case Row:
		return Rows
	}
	return Nothing
}
