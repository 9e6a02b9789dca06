package parse

import (
	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

// A Part is one statement of a script, as text.
type Part struct {
	// Text is the statement from its first token on, without comments before it and
	// without the semicolon. Positions in it count from its beginning.
	Text string
	// At is where it begins in the script.
	At ast.Span
}

// Split cuts a script at the semicolons that end statements: not those in strings,
// quoted names and comments, nor those between BEGIN and END of a statement set.
// Empty statements are left out. Text that is wrong stays in the part where it is.
func Split(script string) []Part {
	if len(script) > MaxBytes {
		return []Part{{Text: script, At: ast.Span{Line: 1, Col: 1, End: MaxBytes}}}
	}
	l := lexer{src: script, line: 1, col: 1}
	var parts []Part
	var words []string // the first words of the statement
	begun, cases := false, 0
	var at, last ast.Span
	flush := func() {
		if at.Line > 0 {
			at.End = last.End
			parts = append(parts, Part{Text: script[at.Start:last.End], At: at})
		}
		at, words, begun, cases = ast.Span{}, words[:0], false, 0
	}
	for {
		t := l.next()
		switch {
		case t.kind == eof:
			flush()
			return parts
		case t.kind == bad:
			if at.Line == 0 {
				at = t.Span
			}
			at.Start = min(at.Start, int32(len(script)))
			last.End = int32(len(script))
			flush()
			return parts
		case t.word == ";" && !begun:
			flush()
			continue
		}
		if at.Line == 0 {
			at = t.Span
		}
		last = t.Span
		if len(words) < 12 {
			words = append(words, t.word)
			begun = begun || t.word == "BEGIN" && len(words) > 2 && words[len(words)-2] == "SET" && words[len(words)-3] == "STATEMENT"
		}
		switch {
		case begun && t.word == "CASE":
			cases++
		case begun && t.word == "END" && cases > 0:
			cases--
		case t.word == "END":
			begun = false
		}
	}
}

// A Parsed is one statement of a script, with its tree.
type Parsed struct {
	Part
	Stmt ast.Statement
}

// Script parses all statements of a script. The error is an *Error, whose Script
// says where its statement begins.
func Script(script string) ([]Parsed, error) {
	var all []Parsed
	for _, part := range Split(script) {
		p := newParser(part.Text)
		s := p.statement()
		p.end()
		if p.err != nil {
			p.err.Script = part.At
			return all, p.err
		}
		all = append(all, Parsed{Part: part, Stmt: s})
	}
	return all, nil
}
