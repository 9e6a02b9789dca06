package parse

import (
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

// typeWords are the reserved words that begin a type.
var typeWords = set(`STRING BYTES TIMESTAMP_LTZ ARRAY MULTISET MAP RAW ROW STRUCTURED BOOLEAN INTEGER INT TINYINT SMALLINT BIGINT
	REAL DOUBLE FLOAT BINARY VARBINARY DECIMAL DEC NUMERIC ANY CHARACTER CHAR VARCHAR DATE TIME TIMESTAMP`)

// dataType parses a type without NOT NULL after it.
func (p *parser) dataType() *ast.Type {
	defer func(n int) { p.suffixes = n }(p.suffixes)
	t := p.typeName()
	for p.err == nil && p.is(0, "ARRAY", "MULTISET") {
		t = p.suffixed(t)
	}
	return t
}

// fullType parses a type that may be followed by NULL or NOT NULL, as that of a
// column.
func (p *parser) fullType() *ast.Type {
	defer func(n int) { p.suffixes = n }(p.suffixes)
	t := p.typeName()
	for p.err == nil {
		k := 0
		switch {
		case p.is(0, "NULL"):
			k = 1
		case p.is(0, "NOT") && p.is(1, "NULL"):
			k = 2
		}
		if !p.is(k, "ARRAY", "MULTISET") {
			break
		}
		if k > 0 {
			t.Null = p.nullable()
		}
		t = p.suffixed(t)
	}
	t.Null = p.nullable()
	t.Span = p.from(t.Span)
	return t
}

// suffixed parses ARRAY or MULTISET after the type of its elements.
func (p *parser) suffixed(t *ast.Type) *ast.Type {
	if p.suffixes++; p.suffixes > MaxDepth {
		p.fail(*p.peek(0), fmt.Sprintf("types nested more than %d levels deep", MaxDepth))
	}
	w := p.next().word
	return &ast.Type{Span: p.from(t.Span), Kind: w, Elem: t, Prec: -1, Scale: -1}
}

// nullable parses NULL or NOT NULL, if it is next.
func (p *parser) nullable() string {
	switch {
	case p.accept("NULL"):
		return "NULL"
	case p.accept("NOT"):
		p.expect("NULL")
		return "NOT NULL"
	}
	return ""
}

// typeName parses a type without suffixes.
func (p *parser) typeName() *ast.Type {
	p.enter(1)
	defer p.leave(1)
	t := *p.peek(0)
	x := &ast.Type{Span: t.Span, Prec: -1, Scale: -1}
	open := p.is(1, "<")
	word := t.word
	switch {
	case t.kind == quoted, (word == "ARRAY" || word == "MULTISET" || word == "MAP" || word == "STRUCTURED") && !open,
		word == "RAW" && !p.is(1, "("), word == "ROW" && !open && !p.is(1, "(", "<>"):
		word = ""
	}
	if word == "" || word != "MAP" && !typeWords[word] {
		p.note("a type")
		if t.kind == keyword {
			p.unexpected()
			return x
		}
		x.Name = p.names()
		x.Span = p.from(t.Span)
		return x
	}
	p.next()
	x.Kind = word
	switch word {
	case "INT":
		x.Kind = "INTEGER"
	case "DOUBLE":
		p.accept("PRECISION")
	case "BINARY":
		if p.accept("VARYING") {
			x.Kind = "VARBINARY"
		}
		x.Prec = p.optPrec()
	case "CHARACTER", "CHAR", "VARCHAR":
		if word != "VARCHAR" {
			x.Kind = "CHAR"
			if p.accept("VARYING") {
				x.Kind = "VARCHAR"
			}
		}
		x.Prec = p.optPrec()
		if p.accept("CHARACTER") {
			p.expect("SET")
			x.Charset = p.name().Text
		}
	case "VARBINARY", "TIMESTAMP_LTZ":
		x.Prec = p.optPrec()
	case "DECIMAL", "DEC", "NUMERIC", "ANY":
		if word != "ANY" {
			x.Kind = "DECIMAL"
		}
		if p.accept("(") {
			x.Prec = p.small()
			if p.accept(",") {
				x.Scale = p.small()
			}
			p.expect(")")
		}
	case "TIME", "TIMESTAMP":
		x.Prec = p.optPrec()
		switch {
		case p.accept("WITHOUT", "TIME", "ZONE"):
		case p.accept("WITH"):
			p.expect("LOCAL", "TIME", "ZONE")
			x.Kind += "_LTZ"
		}
	case "ARRAY", "MULTISET":
		p.expect("<")
		x.Elem = p.elemType()
		p.expect(">")
	case "MAP":
		p.expect("<")
		x.Key = p.fullType()
		p.expect(",")
		x.Elem = p.fullType()
		p.expect(">")
	case "RAW":
		p.expect("(")
		x.Class = p.anyText().Value
		p.expect(",")
		x.Serializer = p.anyText().Value
		p.expect(")")
	case "ROW":
		switch {
		case p.accept("<>"):
		case p.accept("<"):
			x.Fields = p.typeFields(">")
			p.expect(">")
		default:
			p.expect("(")
			x.Fields = p.typeFields(")")
			p.expect(")")
		}
	case "STRUCTURED":
		p.expect("<")
		x.Class = p.anyText().Value
		if p.accept(",") {
			x.Fields = p.typeFields(">")
		}
		p.expect(">")
	}
	x.Span = p.from(t.Span)
	return x
}

// elemType parses the type inside of ARRAY<..>: suffixes are not allowed there.
func (p *parser) elemType() *ast.Type {
	t := p.typeName()
	t.Null = p.nullable()
	t.Span = p.from(t.Span)
	return t
}

// typeFields parses the fields of a row type, up to end.
func (p *parser) typeFields(end string) []ast.TypeField {
	if p.at(end) {
		return nil
	}
	return list(p, func() ast.TypeField {
		n := p.name()
		f := ast.TypeField{Name: n, Type: p.fullType()}
		if p.peek(0).kind == str {
			c := p.quotedText()
			f.Comment = &c
		}
		f.Span = p.from(n.Span)
		return f
	})
}
