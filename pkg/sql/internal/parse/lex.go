package parse

import (
	"strings"
	"unicode/utf8"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

// kind says what a token is.
type kind uint8

const (
	eof     kind = iota
	ident        // a word that is no reserved one
	quoted       // `..`
	keyword      // a reserved word
	punct        // an operator or separator; word holds it
	integer      // 12
	decimal      // 1.5 1. .5
	approx       // 1e3
	str          // '..'
	charset      // _charset'..' and N'..'
	unicode      // U&'..'
	escaped      // E'..'
	binary       // X'..'
	bad          // not a token: word says why
)

// A token is one word, literal or sign of the text.
type token struct {
	kind kind
	// word is the keyword in upper case, reserved or not, or the sign; empty for
	// all else.
	word string
	ast.Span
}

// A lexer cuts a text into tokens, in one pass.
type lexer struct {
	src  string
	pos  int
	line int32 // of pos
	col  int32
	// lastLine and lastCol are the place of the character before pos: where Flink
	// says that a text ends.
	lastLine, lastCol int32
}

// advance moves over the next n bytes, which must end between characters.
func (l *lexer) advance(n int) {
	end := l.pos + n
	for l.pos < end {
		c := l.src[l.pos]
		size, units := 1, int32(1)
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(l.src[l.pos:])
			size = n
			if r >= 0x10000 {
				units = 2
			}
		}
		l.pos += size
		l.lastLine, l.lastCol = l.line, l.col+units-1
		if c == '\n' || c == '\r' && (l.pos >= len(l.src) || l.src[l.pos] != '\n') {
			l.line, l.col = l.line+1, 1
		} else {
			l.col += units
		}
	}
}

// next returns the next token.
func (l *lexer) next() token {
	if t, ok := l.skip(); !ok {
		return t
	}
	if l.pos >= len(l.src) {
		return token{kind: eof, Span: ast.Span{Line: max(l.lastLine, 1), Col: max(l.lastCol, 1), Start: int32(l.pos), End: int32(l.pos)}}
	}
	t := token{Span: ast.Span{Line: l.line, Col: l.col, Start: int32(l.pos)}}
	kind, word, n := l.scan()
	t.kind, t.word = kind, word
	if t.kind == bad {
		t.End = t.Start + int32(n)
		return t
	}
	l.advance(n)
	t.End = int32(l.pos)
	return t
}

// skip moves over white space and comments. It reports a comment without an end.
func (l *lexer) skip() (token, bool) {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			l.advance(1)
		case strings.HasPrefix(l.src[l.pos:], "--") || strings.HasPrefix(l.src[l.pos:], "//"):
			n := strings.IndexAny(l.src[l.pos:], "\n\r")
			if n < 0 {
				n = len(l.src) - l.pos
			}
			l.advance(n)
		case strings.HasPrefix(l.src[l.pos:], "/*") && !strings.HasPrefix(l.src[l.pos:], "/*+"):
			n := strings.Index(l.src[l.pos+2:], "*/")
			if n < 0 {
				l.advance(len(l.src) - l.pos)
				at := ast.Span{Line: l.lastLine, Col: l.lastCol + 1, Start: int32(l.pos), End: int32(l.pos)}
				if c := l.src[len(l.src)-1]; c == '\n' || c == '\r' {
					at.Line, at.Col = at.Line+1, 1
				}
				return token{kind: bad, word: "the comment has no end", Span: at}, false
			}
			l.advance(2 + n + 2)
		default:
			return token{}, true
		}
	}
	return token{}, true
}

// scan finds the token that begins at the current place and its length in bytes.
// For a bad one the word says what is wrong.
func (l *lexer) scan() (k kind, word string, n int) {
	s := l.src[l.pos:]
	c := s[0]
	switch {
	case isDigit(c), c == '.' && len(s) > 1 && isDigit(s[1]):
		return number(s)
	case c == '\'':
		if n := quotedEnd(s, 0, '\''); n > 0 {
			return str, "", n
		}
		return punct, "'", 1
	case c == '`':
		n := quotedEnd(s, 0, '`')
		if i := strings.IndexAny(s[:max(n, 0)], "\n\r"); n < 0 || i >= 0 {
			return bad, "the quoted identifier has no end", 1
		}
		if n == 2 {
			return bad, "the quoted identifier is empty", 2
		}
		return quoted, "", n
	}
	if n := len(s) - len(strings.TrimLeftFunc(s, isPart)); n > 0 && isLetter(first(s)) {
		return l.word(s, n)
	}
	for i := 3; i > 0; i-- {
		if len(s) < i {
			continue
		}
		if w, ok := signs[s[:i]]; ok {
			if w == "{" {
				return brace(s)
			}
			return punct, w, i
		}
	}
	_, n = utf8.DecodeRuneInString(s)
	return bad, "no token begins with " + quote(s[:n]), n
}

// word classifies the word s[:n], or the literal that begins with it.
func (l *lexer) word(s string, n int) (kind, string, int) {
	var up [longest]byte
	if n <= longest {
		for i := range n {
			c := s[i]
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			up[i] = c
		}
	}
	if len(s) > n {
		one := s[0] | 0x20
		switch {
		case s[n] == '\'' && n == 1 && one == 'x':
			if e := quotedEnd(s, n, '\''); e > 0 {
				return binary, "", e
			}
		case s[n] == '\'' && n == 1 && one == 'n':
			if e := quotedEnd(s, n, '\''); e > 0 {
				return charset, "", e
			}
		case s[n] == '\'' && n == 1 && one == 'e':
			if e := escapedEnd(s, n); e > 0 {
				return escaped, "", e
			}
		case s[n] == '&' && n == 1 && one == 'u' && len(s) > n+1 && s[n+1] == '\'':
			if e := quotedEnd(s, n+1, '\''); e > 0 {
				return unicode, "", e
			}
		case s[0] == '_' && n > 1:
			// The name of a character set may go on with signs that no word has.
			q := n
			for q < len(s) && q < n+longest && (isDigit(s[q]) || isLetter(rune(s[q])) && s[q] < utf8.RuneSelf || strings.IndexByte(":.-_", s[q]) >= 0) {
				q++
			}
			if q < len(s) && s[q] == '\'' {
				if e := quotedEnd(s, q, '\''); e > 0 {
					return charset, "", e
				}
			}
		}
	}
	if n == 1 && s[0] == '$' {
		return punct, "$", 1
	}
	if n <= longest {
		if w, ok := keywords[string(up[:n])]; ok {
			if w.reserved {
				return keyword, w.text, n
			}
			return ident, w.text, n
		}
	}
	return ident, "", n
}

// number scans a numeric literal.
func number(s string) (kind, string, int) {
	k, n := integer, digits(s, 0)
	if n < len(s) && s[n] == '.' {
		k, n = decimal, digits(s, n+1)
	}
	if n < len(s) && s[n]|0x20 == 'e' {
		e := n + 1
		if e < len(s) && (s[e] == '+' || s[e] == '-') {
			e++
		}
		if end := digits(s, e); end > e {
			k, n = approx, end
		}
	}
	return k, "", n
}

// brace scans what begins with {: {d, {t, {ts and {fn are tokens.
func brace(s string) (kind, string, int) {
	i := 1
	for i < len(s) && s[i] == ' ' {
		i++
	}
	rest := strings.ToLower(s[i:min(i+2, len(s))])
	switch {
	case rest == "ts":
		return punct, "{TS", i + 2
	case rest == "fn":
		return punct, "{FN", i + 2
	case strings.HasPrefix(rest, "d"):
		return punct, "{D", i + 1
	case strings.HasPrefix(rest, "t"):
		return punct, "{T", i + 1
	}
	return punct, "{", 1
}

// quotedEnd returns the end of the string whose quote q is at s[i]; a doubled
// quote does not end it. It is -1 if nothing does.
func quotedEnd(s string, i int, q byte) int {
	for i++; ; i++ {
		n := strings.IndexByte(s[i:], q)
		if n < 0 {
			return -1
		}
		i += n + 1
		if i >= len(s) || s[i] != q {
			return i
		}
	}
}

// escapedEnd is quotedEnd for strings with backslashes.
func escapedEnd(s string, i int) int {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			if i+1 >= len(s) || s[i+1] != '\'' {
				return i + 1
			}
			i++
		}
	}
	return -1
}

func digits(s string, i int) int {
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

func first(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// letterRanges are the characters that begin an identifier, and digitRanges those
// beyond 0 to 9 that go on with it.
var (
	letterRanges = [][2]rune{
		{'$', '$'},
		{'A', 'Z'},
		{'_', '_'},
		{'a', 'z'},
		{0xc0, 0xd6},
		{0xd8, 0xf6},
		{0xf8, 0x1fff},
		{0x3040, 0x318f},
		{0x3300, 0x337f},
		{0x3400, 0x3d2d},
		{0x4e00, 0x9fff},
		{0xf900, 0xfaff},
	}
	digitRanges = [][2]rune{
		{0x660, 0x669},
		{0x6f0, 0x6f9},
		{0x966, 0x96f},
		{0x9e6, 0x9ef},
		{0xa66, 0xa6f},
		{0xae6, 0xaef},
		{0xb66, 0xb6f},
		{0xbe7, 0xbef},
		{0xc66, 0xc6f},
		{0xce6, 0xcef},
		{0xd66, 0xd6f},
		{0xe50, 0xe59},
		{0xed0, 0xed9},
		{0x1040, 0x1049},
	}
)

func isLetter(r rune) bool { return in(letterRanges, r) }

func isPart(r rune) bool { return '0' <= r && r <= '9' || in(letterRanges, r) || in(digitRanges, r) }

func in(ranges [][2]rune, r rune) bool {
	for _, x := range ranges {
		if r < x[0] {
			return false
		}
		if r <= x[1] {
			return true
		}
	}
	return false
}

// signs holds the operators and separators.
var signs = func() map[string]string {
	m := map[string]string{}
	for s := range strings.FieldsSeq("( ) { } [ ] ; . , = > < ? : <= >= <> != + - * / % || => .. \" | ^ $ /*+ */") {
		m[s] = s
	}
	return m
}()
