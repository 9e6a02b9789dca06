// Package ast is the syntax tree of a SQL statement in Flink's dialect, as the
// parser leaves it: names are not resolved, types not checked. Start with
// Statement and Expr. Its law: a tree holds what was written and where, nothing
// that was concluded; SQL prints it so that parsing the text gives the same tree.
//
// Nodes are plain structs, made by package parse and not changed afterwards.
// Chains of infix operators, set operations, joins and accesses lean to the left
// and may be as long as the text: walk their left side with a loop. All other
// nesting is bounded by the parser.
package ast

// Span is the place of a node in the text that was parsed. Every node has one.
type Span struct {
	// Line and Col, both from 1, are where the node begins. Columns count UTF-16
	// code units, as Flink does.
	Line, Col int32
	// Start and End are byte offsets; End is exclusive.
	Start, End int32
}

// At returns s, which makes every node that embeds a Span a Node.
func (s Span) At() Span { return s }

// To returns the span from the beginning of s to the end of t.
func (s Span) To(t Span) Span {
	s.End = max(s.End, t.End)
	return s
}

// A Node is a part of a statement that has a place in the text.
type Node interface{ At() Span }

// A Name is one identifier, without its quotes.
type Name struct {
	Span
	Text string
	// Quoted says that it stood in back-ticks. It matters for names of functions
	// only, some of which have a grammar of their own unless quoted.
	Quoted bool
}

// Names is an identifier of one or more parts, as in catalog.database.table.
type Names []Name

// At returns the span of all parts.
func (n Names) At() Span {
	if len(n) == 0 {
		return Span{}
	}
	return n[0].Span.To(n[len(n)-1].Span)
}

// A Text is a character string where only a string is allowed, as the keys and
// values of options are.
type Text struct {
	Span
	Value string
}

// A Property is a key with its value, as in WITH ('key' = 'value').
type Property struct {
	Span
	Key, Value Text
}

// Properties is a list of keys and values; nil means that there was none, an
// empty one that the parentheses were.
type Properties []Property

// A Hint is one of those between /*+ and */. At most one of its lists is set.
type Hint struct {
	Span
	Name  Name
	Pairs Properties // 'key' = 'value'; a key may have been an identifier
	Names Names
	Items []Expr // literals
}
