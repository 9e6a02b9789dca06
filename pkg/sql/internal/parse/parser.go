// Package parse reads SQL in Flink's dialect into the trees of package ast. Start
// with Script, for a file of statements, and Statement. Its law: it accepts what
// Flink 2.3 accepts, whether or not anything here can run it, and of the rest it
// reports the place that Flink reports. It is a recursive descent with precedence
// climbing for operators; time and memory are linear in the text, and nesting is
// bounded by MaxDepth.
package parse

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

const (
	// MaxDepth is how deep expressions, types and queries may be nested. Flink has no
	// such figure: its parser exhausts the stack of its thread at a few thousand.
	MaxDepth = 1000
	// MaxBytes is the longest text that is parsed.
	MaxBytes = 64 << 20
	// maxName is the length in characters that an identifier may have.
	maxName = 256
)

// A parser reads one statement. Its first error is kept and moves it to the end of
// the text, so that all productions return soon; what they return then is of no use
// but never nil where a node is promised.
type parser struct {
	lex  lexer
	buf  []token // what was read ahead of use is buf[i:]
	i    int
	prev token // the last one used
	// alias is the last word that was taken as a name without being asked for, as in
	// SELECT id FORM t.
	alias token
	// dangling is an operator that was left alone since nothing that it could apply to
	// follows it.
	dangling token
	// want collects what was looked for since prev, for the error message.
	want   []string
	err    *Error
	depth  int
	params int
	// suffixes counts ARRAY and MULTISET after types, around the one that is read.
	suffixes int
	// stopAnd says that AND ends the expression: it is that of BETWEEN.
	stopAnd bool
}

func newParser(text string) *parser {
	p := &parser{lex: lexer{src: text, line: 1, col: 1}}
	if len(text) > MaxBytes {
		p.lex.src = ""
		p.fail(token{}, fmt.Sprintf("the statement has %d bytes; at most %d are read", len(text), MaxBytes))
		return p
	}
	if !utf8.ValidString(text) {
		n := len(text)
		for i, r := range text {
			if _, size := utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && size == 1 {
				n = i
				break
			}
		}
		p.lex.advance(n)
		at := token{Span: ast.Span{Line: p.lex.line, Col: p.lex.col, Start: int32(n), End: int32(n)}}
		p.fail(at, "the text is not UTF-8")
	}
	return p
}

// peek returns the token k after the next one.
func (p *parser) peek(k int) *token {
	for len(p.buf)-p.i <= k {
		if p.i > 64 {
			p.buf = p.buf[:copy(p.buf, p.buf[p.i:])]
			p.i = 0
		}
		p.buf = append(p.buf, p.lex.next())
	}
	return &p.buf[p.i+k]
}

// next uses up the next token.
func (p *parser) next() token {
	t := *p.peek(0)
	if t.kind == bad {
		p.fail(t, "")
		return *p.peek(0)
	}
	p.prev, p.want = t, p.want[:0]
	if t.kind != eof {
		p.i++
	}
	return t
}

// at reports whether the next token is the word or sign w.
func (p *parser) at(w string) bool {
	if p.peek(0).word == w && p.peek(0).kind != bad {
		return true
	}
	p.note(w)
	return false
}

// note remembers that w would be right here.
func (p *parser) note(w string) {
	if len(p.want) < 400 {
		p.want = append(p.want, w)
	}
}

// is reports whether the token k after the next is one of ws, without a note.
func (p *parser) is(k int, ws ...string) bool {
	t := p.peek(k)
	return t.kind != bad && t.word != "" && slices.Contains(ws, t.word)
}

// accept uses up ws if they are next.
func (p *parser) accept(ws ...string) bool {
	for i, w := range ws {
		if !p.is(i, w) {
			if i == 0 {
				p.note(w)
			}
			return false
		}
	}
	for range ws {
		p.next()
	}
	return true
}

// expect uses up ws, one by one, or fails.
func (p *parser) expect(ws ...string) {
	for _, w := range ws {
		if !p.at(w) {
			p.unexpected()
			return
		}
		p.next()
	}
}

// oneOf uses up one of ws and returns it, or fails.
func (p *parser) oneOf(ws ...string) string {
	if w := p.maybe(ws...); w != "" {
		return w
	}
	p.unexpected()
	return ""
}

// maybe uses up one of ws and returns it, or "".
func (p *parser) maybe(ws ...string) string {
	for _, w := range ws {
		if p.at(w) {
			p.next()
			return w
		}
	}
	return ""
}

// unexpected fails at the next token.
func (p *parser) unexpected() { p.fail(*p.peek(0), "") }

// fail keeps the first error and ends the text. Without a reason it is that t is
// none of what was looked for.
func (p *parser) fail(t token, reason string) {
	if p.err != nil {
		return
	}
	if t.kind == bad {
		reason = t.word
	}
	e := &Error{Line: int(t.Line), Col: int(t.Col), Offset: int(t.Start), Reason: reason, Found: "end of statement", Unfinished: t.kind == eof && t.Line > 0}
	if t.End > t.Start {
		e.Found = p.text(t)
	}
	if d := p.dangling; reason == "" && d.Line > 0 && d.Start == t.Start && t.End > t.Start {
		next := p.peek(1)
		e.Reason = fmt.Sprintf("found %s after %s, expected an expression", p.quoted(*next), quote(p.text(d)))
		e.Unfinished = next.kind == eof
	} else if reason == "" {
		seen := map[string]bool{}
		for _, w := range p.want {
			if !seen[w] {
				seen[w] = true
				if !wordy(w) && !strings.Contains(w, " ") {
					w = quote(w)
				}
				e.Expected = append(e.Expected, w)
			}
		}
		if near := nearest(strings.ToUpper(e.Found), e.Expected); near != "" && (t.kind == ident || t.kind == keyword) {
			e.Hint = "did you mean " + near + "?"
		} else if near := nearest(strings.ToUpper(p.text(p.alias)), e.Expected); near != "" && p.alias.End == p.prev.End {
			e.Hint = fmt.Sprintf("%s at column %d was read as a name: did you mean %s?", quote(p.text(p.alias)), p.alias.Col, near)
		}
	}
	p.err = e
	p.lex.pos = len(p.lex.src)
	p.buf, p.i = []token{{kind: eof, Span: t.Span}}, 0
}

// quoted returns how t is named in messages.
func (p *parser) quoted(t token) string {
	if t.kind == eof || t.kind == bad {
		return "the end of the statement"
	}
	return quote(p.text(t))
}

// text returns what t looks like in the text.
func (p *parser) text(t token) string { return p.lex.src[t.Start:t.End] }

// enter goes n levels deeper; leave comes back.
func (p *parser) enter(n int) {
	if p.depth += n; p.depth > MaxDepth {
		p.fail(*p.peek(0), fmt.Sprintf("nested more than %d levels deep", MaxDepth))
	}
}

func (p *parser) leave(n int) { p.depth -= n }

// from returns the span from s to the last token used.
func (p *parser) from(s ast.Span) ast.Span { return s.To(p.prev.Span) }

// here returns the place of the next token.
func (p *parser) here() ast.Span { return p.peek(0).Span }

// list parses one or more of f, separated by commas.
func list[T any](p *parser, f func() T) []T {
	all := []T{f()}
	for p.err == nil && p.accept(",") {
		all = append(all, f())
	}
	return all
}

// parens parses a list in parentheses.
func parens[T any](p *parser, f func() T) []T {
	p.expect("(")
	all := list(p, f)
	p.expect(")")
	return all
}

// isName reports whether the token k after the next can be an identifier.
func (p *parser) isName(k int) bool {
	t := p.peek(k)
	return t.kind == ident || t.kind == quoted
}

// name parses one identifier.
func (p *parser) name() ast.Name {
	if !p.isName(0) {
		p.note("a name")
		p.unexpected()
		return ast.Name{}
	}
	t := p.next()
	s := p.text(t)
	if t.kind == quoted {
		s = strings.ReplaceAll(s[1:len(s)-1], "``", "`")
	}
	if len(s) > maxName && utf8.RuneCountInString(s) > maxName {
		p.fail(t, fmt.Sprintf("a name has more than %d characters", maxName))
	}
	return ast.Name{Span: t.Span, Text: s, Quoted: t.kind == quoted}
}

// names parses an identifier of one or more parts.
func (p *parser) names() ast.Names {
	all := ast.Names{p.name()}
	for p.err == nil && p.is(0, ".") && p.isName(1) {
		p.next()
		all = append(all, p.name())
	}
	return all
}

// nameList parses names in parentheses.
func (p *parser) nameList() ast.Names { return parens(p, p.name) }

// nameOrList parses one name, or several in parentheses.
func (p *parser) nameOrList() ast.Names {
	if p.at("(") {
		return p.nameList()
	}
	return ast.Names{p.name()}
}

// quotedText parses a plain string where no other kind of literal is allowed.
func (p *parser) quotedText() ast.Text {
	if p.peek(0).kind != str {
		p.note("a string")
		p.unexpected()
		return ast.Text{}
	}
	t := p.next()
	return ast.Text{Span: t.Span, Value: unquote(p.text(t))}
}

// anyText parses any string literal as a text.
func (p *parser) anyText() ast.Text {
	switch p.peek(0).kind {
	case str, charset, unicode, escaped, binary:
	default:
		p.note("a string")
		p.unexpected()
		return ast.Text{}
	}
	switch x := p.stringLiteral().(type) {
	case *ast.String:
		return ast.Text{Span: x.Span, Value: x.Value}
	case *ast.Bytes:
		return ast.Text{Span: x.Span, Value: x.Hex}
	}
	return ast.Text{}
}

// optText parses a text after the word w, if that is next.
func (p *parser) optText(w string) *ast.Text {
	if !p.accept(w) {
		return nil
	}
	t := p.quotedText()
	return &t
}

// unquote returns what a string's quotes enclose.
func unquote(s string) string { return strings.ReplaceAll(s[1:len(s)-1], "''", "'") }
