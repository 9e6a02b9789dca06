// Package row is the data model of SQL: types, values in columns, and batches of rows with their kinds.
//
// Start with Type (what a column may hold) and Vector (a column of a batch). Its law: no value is ever boxed. Values lie in slices of a few physical
// classes (see Class), whatever their type is; what a type says beyond its class (the width of an INT, the precision of a TIMESTAMP) is upheld by who
// makes values of it.
package row

import "fmt"

// Kind says what a row does to the result that a stream of changes describes. The numbers are Flink's, and lie in state and on the wire.
type Kind uint8

// The kinds of rows.
const (
	Insert       Kind = 0 // +I
	UpdateBefore Kind = 1 // -U: the row as it was
	UpdateAfter  Kind = 2 // +U: the row as it is now
	Delete       Kind = 3 // -D
)

// String is Flink's spelling.
func (k Kind) String() string {
	switch k {
	case Insert:
		return "+I"
	case UpdateBefore:
		return "-U"
	case UpdateAfter:
		return "+U"
	case Delete:
		return "-D"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Adds reports whether a row of this kind adds to the result (+I, +U); others take away from it.
func (k Kind) Adds() bool { return k == Insert || k == UpdateAfter }

// Kinds is a set of kinds: the changelog mode of a stream.
type Kinds uint8

// The usual changelog modes.
const (
	Append  Kinds = 1 << Insert
	Upsert  Kinds = 1<<Insert | 1<<UpdateAfter | 1<<Delete
	Retract Kinds = Upsert | 1<<UpdateBefore
)

// Has reports whether rows of a kind occur.
func (s Kinds) Has(k Kind) bool { return s&(1<<k) != 0 }

// With is the set with a kind.
func (s Kinds) With(k Kind) Kinds { return s | 1<<k }

// Without is the set without a kind.
func (s Kinds) Without(k Kind) Kinds { return s &^ (1 << k) }

// String is Flink's spelling in plans: I,UB,UA,D.
func (s Kinds) String() string {
	text := ""
	for i, n := range []string{"I", "UB", "UA", "D"} {
		if s.Has(Kind(i)) {
			if text != "" {
				text += ","
			}
			text += n
		}
	}
	return text
}
