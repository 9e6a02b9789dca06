package parse

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

// number parses an unsigned number, or DECIMAL '1.5'.
func (p *parser) number() *ast.Number {
	t := p.peek(0)
	switch {
	case t.kind == integer, t.kind == decimal, t.kind == approx:
		t := p.next()
		return &ast.Number{Span: t.Span, Text: p.text(t)}
	case p.is(0, "DECIMAL") && p.peek(1).kind == str:
		s := p.next().Span
		v := p.next()
		text := strings.Trim(unquote(p.text(v)), " ")
		if !isDecimal(text) {
			p.fail(v, "DECIMAL "+quote(p.text(v))+" is not a decimal number")
		}
		return &ast.Number{Span: p.from(s), Text: text, Decimal: true}
	}
	p.note("a number")
	p.unexpected()
	return &ast.Number{}
}

// isDecimal reports whether s is a decimal number, maybe with sign and exponent.
func isDecimal(s string) bool {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	n := digits(s, 0)
	some := n > 0
	if n < len(s) && s[n] == '.' {
		end := digits(s, n+1)
		some, n = some || end > n+1, end
	}
	if some && n < len(s) && s[n]|0x20 == 'e' {
		if n++; n < len(s) && (s[n] == '+' || s[n] == '-') {
			n++
		}
		end := digits(s, n)
		some, n = end > n, end
	}
	return some && n == len(s)
}

// numberOrParam parses what LIMIT may be.
func (p *parser) numberOrParam() ast.Expr {
	if p.at("?") {
		return p.param()
	}
	return p.number()
}

func (p *parser) param() ast.Expr {
	t := p.next()
	p.params++
	return &ast.Param{Span: t.Span, Index: p.params - 1}
}

// small parses an unsigned integer such as a precision.
func (p *parser) small() int32 {
	if p.peek(0).kind != integer {
		p.note("an integer")
		p.unexpected()
		return 0
	}
	t := p.next()
	n, err := strconv.ParseInt(p.text(t), 10, 32)
	if err != nil {
		p.fail(t, "the number "+quote(p.text(t))+" is above 2147483647")
	}
	return int32(n)
}

// optPrec parses a precision in parentheses; -1 where there is none.
func (p *parser) optPrec() int32 {
	if !p.accept("(") {
		return -1
	}
	n := p.small()
	p.expect(")")
	return n
}

// stringLiteral parses a string or a binary literal, with the fragments that go on.
func (p *parser) stringLiteral() ast.Expr {
	t := p.next()
	s := p.text(t)
	at := t.Span
	if t.kind == binary {
		hex := s[2 : len(s)-1]
		p.hex(t, hex)
		for p.err == nil && p.peek(0).kind == str {
			t := p.next()
			s := p.text(t)
			p.hex(t, s[1:len(s)-1])
			hex += s[1 : len(s)-1]
		}
		return &ast.Bytes{Span: p.from(at), Hex: strings.ToUpper(hex)}
	}
	x := &ast.String{}
	i := strings.IndexByte(s, '\'')
	if t.kind == escaped {
		v, ok := unescapeC(s[i+1 : len(s)-1])
		if !ok {
			p.fail(t, "a unicode escape of the string has not four digits")
		}
		return &ast.String{Span: at, Value: v}
	}
	if t.kind == charset {
		x.Charset = "ISO-8859-1"
		if s[0] == '_' {
			x.Charset = strings.ToUpper(s[1:i])
		}
		if !charsets[x.Charset] {
			p.fail(t, "the character set "+quote(x.Charset)+" is not known")
		}
	}
	var b strings.Builder
	b.WriteString(unquote(s[i:]))
	last := t
	for p.err == nil && p.peek(0).kind == str {
		t := p.next()
		if x.SameLine.Line == 0 && !strings.ContainsAny(p.lex.src[last.End:t.Start], "\n\r") {
			x.SameLine = t.Span
		}
		last = t
		b.WriteString(unquote(p.text(t)))
	}
	x.Value = b.String()
	if escape := '\\'; t.kind == unicode || p.at("UESCAPE") {
		if p.accept("UESCAPE") {
			e := p.quotedText()
			if t.kind != unicode {
				p.fail(p.prev, "UESCAPE needs a string that begins with U&")
			}
			r, size := utf8.DecodeRuneInString(e.Value)
			if size != len(e.Value) || strings.ContainsRune("0123456789abcdefABCDEF+\"' \t\n\r\f", r) {
				p.fail(p.prev, "UESCAPE needs one character that is no hexadecimal digit, plus, quote or space")
			}
			escape = r
		}
		v, ok := unescapeU(x.Value, escape)
		if !ok {
			p.fail(t, "a unicode escape of the string has not four digits")
		}
		x.Value = v
	}
	x.Span = p.from(at)
	return x
}

// charsets lists the character sets that Flink's runtime knows, by the names that a
// program would use for them.
var charsets = set("ISO-8859-1 ISO8859_1 LATIN1 US-ASCII ASCII UTF-8 UTF8 UTF-16 UTF16 UTF-16BE UTF-16LE UTF-32 UTF32 GBK GB2312 GB18030 BIG5 SHIFT_JIS EUC-JP EUC-KR WINDOWS-1250 WINDOWS-1251 WINDOWS-1252 ISO-8859-2 ISO-8859-15 KOI8-R")

// hex fails unless s consists of hexadecimal digits.
func (p *parser) hex(t token, s string) {
	for i := range len(s) {
		if !isHex(s[i]) {
			p.fail(t, "the binary literal "+quote(p.text(t))+" has characters that are no hexadecimal digits")
			return
		}
	}
}

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }

// unescapeU replaces \XXXX, with escape for the backslash, and doubled escapes.
func unescapeU(s string, escape rune) (string, bool) {
	var b strings.Builder
	var units []uint16
	flush := func() {
		b.WriteString(string(utf16.Decode(units)))
		units = units[:0]
	}
	e := string(escape)
	for {
		i := strings.Index(s, e)
		if i < 0 {
			flush()
			return b.String() + s, true
		}
		if i > 0 {
			flush()
			b.WriteString(s[:i])
		}
		s = s[i+len(e):]
		if strings.HasPrefix(s, e) {
			flush()
			b.WriteString(e)
			s = s[len(e):]
			continue
		}
		u, ok := unit(s)
		if !ok {
			return "", false
		}
		units, s = append(units, u), s[4:]
	}
}

// unit reads four hexadecimal digits.
func unit(s string) (uint16, bool) {
	if len(s) < 4 || !isHex(s[0]) {
		return 0, false
	}
	u, err := strconv.ParseUint(s[:4], 16, 16)
	return uint16(u), err == nil
}

// unescapeC replaces the escapes of E'..'.
func unescapeC(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\'' { // doubled
			i++
		}
		if c != '\\' || i+1 >= len(s) {
			b.WriteByte(c)
			continue
		}
		i++
		switch c := s[i]; c {
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			u, ok := unit(s[i+1:])
			if !ok {
				return "", false
			}
			b.WriteRune(rune(u))
			i += 4
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// qualifier parses the units of an interval. Only start says that no range is
// allowed, as for intervals of expressions.
func (p *parser) qualifier(start bool) ast.Qualifier {
	at := p.here()
	q := ast.Qualifier{Prec: -1, Frac: -1}
	for _, u := range units {
		if p.at(u) || p.is(0, u+"S") {
			p.next()
			q.From = u
			break
		}
	}
	if q.From == "" {
		p.unexpected()
		return q
	}
	if q.From == "SECOND" {
		if p.accept("(") {
			q.Prec = p.small()
			if p.accept(",") {
				q.Frac = p.small()
			}
			p.expect(")")
		}
	} else {
		q.Prec = p.optPrec()
	}
	if !start && rangeTo[q.From] != nil && p.is(0, "TO") {
		ends := rangeTo[q.From]
		for _, u := range ends {
			if p.is(1, u, u+"S") {
				p.next()
				p.next()
				q.To = u
			}
		}
		if q.To == "SECOND" && p.is(0, "(") {
			q.Frac = p.optPrec()
		}
	}
	q.Span = p.from(at)
	return q
}

var (
	units   = strings.Fields("YEAR QUARTER MONTH WEEK DAY HOUR MINUTE SECOND")
	rangeTo = map[string][]string{
		"YEAR":   {"MONTH"},
		"DAY":    {"HOUR", "MINUTE", "SECOND"},
		"HOUR":   {"MINUTE", "SECOND"},
		"MINUTE": {"SECOND"},
	}
	// timeUnits are the words that are units of time as arguments.
	timeUnits = set("NANOSECOND MICROSECOND MILLISECOND SECOND MINUTE HOUR DAY DAYOFWEEK DAYOFYEAR DOW DOY ISODOW ISOYEAR WEEK MONTH QUARTER YEAR EPOCH DECADE CENTURY MILLENNIUM")
)

// unit parses a unit of time, or a name in its place.
func (p *parser) unit() *ast.Unit {
	if t := p.peek(0); timeUnits[t.word] {
		t := p.next()
		u := &ast.Unit{Span: t.Span, Word: t.word, Keyword: true}
		if t.word == "WEEK" && p.is(0, "(") && p.is(1, "SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY") {
			p.next()
			u.Word = "WEEK(" + p.next().word + ")"
			p.expect(")")
			u.Span = p.from(t.Span)
		}
		return u
	}
	p.note("a unit of time")
	n := p.name()
	return &ast.Unit{Span: n.Span, Word: n.Text}
}

// interval parses INTERVAL and what follows. Only literal says that no expression
// is allowed.
func (p *parser) interval(literal bool) ast.Expr {
	at := p.here()
	p.expect("INTERVAL")
	sign := p.here()
	neg := p.maybe("-", "+") == "-"
	switch {
	case p.peek(0).kind == str:
		x := &ast.Interval{Neg: neg, Text: p.quotedText().Value, Unit: p.qualifier(false)}
		x.Span = p.from(at)
		return x
	case literal:
		p.note("a string")
		p.unexpected()
		return &ast.Interval{}
	}
	x := &ast.IntervalOf{}
	switch {
	case p.accept("("):
		x.X = p.expr()
		p.expect(")")
	case p.isName(0):
		x.X = p.ident()
	default:
		p.note("a string")
		x.X = p.number()
	}
	if neg {
		x.X = &ast.Unary{Span: sign.To(x.X.At()), Op: ast.Minus, X: x.X}
	}
	x.Unit = p.qualifier(true)
	x.Span = p.from(at)
	return x
}

// intervalLiteral parses an interval where only a literal is allowed.
func (p *parser) intervalLiteral() *ast.Interval {
	x, _ := p.interval(true).(*ast.Interval)
	return x
}

// temporal parses a literal that begins with the type's name.
func (p *parser) temporal() ast.Expr {
	t := p.next()
	x := &ast.Temporal{Type: t.word}
	if t.word == "TIMESTAMP" && p.accept("WITH") {
		p.expect("LOCAL", "TIME", "ZONE")
		x.Type = "TIMESTAMP WITH LOCAL TIME ZONE"
	}
	x.Text = p.quotedText().Value
	x.Span = p.from(t.Span)
	return x
}

// braced parses {d '..'} and its like.
func (p *parser) braced() ast.Expr {
	t := p.next()
	x := &ast.Temporal{Type: map[string]string{"{D": "DATE", "{T": "TIME", "{TS": "TIMESTAMP"}[t.word]}
	x.Text = p.quotedText().Value
	p.expect("}")
	x.Span = p.from(t.Span)
	return x
}

// literal parses a literal, with a sign if it is a number.
func (p *parser) literal() ast.Expr {
	t := p.peek(0)
	switch {
	case p.is(0, "+", "-"):
		s := p.next()
		n := p.number()
		if s.word == "+" {
			return n
		}
		return &ast.Unary{Span: p.from(s.Span), Op: ast.Minus, X: n}
	case t.kind == str, t.kind == charset, t.kind == unicode, t.kind == escaped, t.kind == binary:
		return p.stringLiteral()
	case p.is(0, "TRUE", "FALSE", "UNKNOWN", "NULL"):
		t := p.next()
		return &ast.Const{Span: t.Span, Word: t.word}
	case p.is(0, "{D", "{T", "{TS"):
		return p.braced()
	case p.is(0, "DATE", "TIME", "TIMESTAMP", "DATETIME"):
		return p.temporal()
	case p.is(0, "INTERVAL"):
		return p.interval(true)
	}
	p.note("a literal")
	return p.number()
}
