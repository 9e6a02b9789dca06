package bind

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/row"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
	"github.com/rivulet-io/rivulet/pkg/sql/internal/expr"
)

// Type is what a written type means.
func Type(t *ast.Type) (*row.Type, error) {
	r, err := typeOf(t)
	if err != nil {
		return nil, at(t, err)
	}
	if t.Null == "NOT NULL" {
		r = r.Nullable(false)
	}
	return r, nil
}

var plainTypes = map[string]row.Root{
	"BOOLEAN": row.Boolean, "TINYINT": row.TinyInt, "SMALLINT": row.SmallInt, "INTEGER": row.Int, "INT": row.Int, "BIGINT": row.BigInt, "FLOAT": row.Float, "DOUBLE": row.Double,
	"DATE": row.Date, "NULL": row.Null, "VARIANT": row.Variant,
}

func typeOf(t *ast.Type) (*row.Type, error) {
	kind := t.Kind
	if kind == "" && len(t.Name) == 1 {
		kind = strings.ToUpper(t.Name[0].Text)
	}
	if r, ok := plainTypes[kind]; ok {
		return row.Of(r), nil
	}
	prec, given := int(t.Prec), t.Prec >= 0
	sized := func(r row.Root, least, most int) (*row.Type, error) {
		if !given {
			return row.Of(r), nil
		}
		if prec < least || prec > most {
			return nil, fmt.Errorf("%s(%d) has to be between %d and %d", r, prec, least, most)
		}
		return row.Sized(r, prec), nil
	}
	switch kind {
	case "CHAR", "CHARACTER":
		return sized(row.Char, 1, row.MaxLength)
	case "VARCHAR":
		if !given {
			prec, given = 1, true
		}
		return sized(row.VarChar, 1, row.MaxLength)
	case "STRING":
		return row.String(), nil
	case "BINARY":
		return sized(row.Binary, 1, row.MaxLength)
	case "VARBINARY":
		if !given {
			prec, given = 1, true
		}
		return sized(row.VarBinary, 1, row.MaxLength)
	case "BYTES":
		return row.Bytes(), nil
	case "DECIMAL", "DEC", "NUMERIC":
		d, err := sized(row.Decimal, 1, row.MaxPrecision)
		if err != nil || t.Scale < 0 {
			return d, err
		}
		if int(t.Scale) > d.Precision {
			return nil, fmt.Errorf("the scale of DECIMAL(%d, %d) is larger than its precision", d.Precision, t.Scale)
		}
		return row.DecimalOf(d.Precision, int(t.Scale)), nil
	case "TIME":
		return sized(row.Time, 0, 9)
	case "TIMESTAMP":
		return sized(row.Timestamp, 0, 9)
	case "TIMESTAMP_LTZ":
		return sized(row.TimestampLTZ, 0, 9)
	case "INTERVAL":
		return intervalType(t.Unit), nil
	case "ARRAY", "MULTISET":
		e, err := Type(t.Elem)
		if err != nil {
			return nil, err
		}
		if kind == "ARRAY" {
			return row.ArrayOf(e), nil
		}
		return row.MultisetOf(e), nil
	case "MAP":
		k, err := Type(t.Key)
		if err != nil {
			return nil, err
		}
		v, err := Type(t.Elem)
		if err != nil {
			return nil, err
		}
		return row.MapOf(k, v), nil
	case "ROW":
		fields := make([]row.Field, len(t.Fields))
		for i, f := range t.Fields {
			ft, err := Type(f.Type)
			if err != nil {
				return nil, err
			}
			fields[i] = row.Field{Name: f.Name.Text, Type: ft}
			if f.Comment != nil {
				fields[i].Comment = f.Comment.Value
			}
		}
		return row.Record(fields...), nil
	}
	return nil, fmt.Errorf("there is no type %s", kind)
}

var units = map[string]row.Unit{"YEAR": row.Year, "QUARTER": row.Month, "MONTH": row.Month, "WEEK": row.Day, "DAY": row.Day, "HOUR": row.Hour, "MINUTE": row.Minute, "SECOND": row.Second}

func intervalType(q ast.Qualifier) *row.Type {
	from := units[q.From]
	to := from
	if q.To != "" {
		to = units[q.To]
	}
	t := &row.Type{Root: row.IntervalDayTime, From: from, To: to, Lead: 2}
	if q.Prec >= 0 {
		t.Lead = int(q.Prec)
	}
	if from <= row.Month {
		t.Root = row.IntervalYearMonth
		return t
	}
	if to == row.Second {
		t.Precision = 6
		if q.Frac >= 0 {
			t.Precision = int(q.Frac)
		}
	}
	return t
}

// interval is an interval literal. Flink counts all of them in months or milliseconds, whatever their units are.
func interval(x *ast.Interval) (*expr.Expr, error) {
	months := x.Unit.From == "YEAR" || x.Unit.From == "QUARTER" || x.Unit.From == "MONTH"
	n, err := parseInterval(x.Text, x.Unit)
	if err != nil {
		return nil, err
	}
	if x.Neg {
		n = -n
	}
	if months {
		return expr.Constant((&row.Type{Root: row.IntervalYearMonth, From: row.Month, To: row.Month}).Nullable(false), n), nil
	}
	return expr.Constant((&row.Type{Root: row.IntervalDayTime, From: row.Second, To: row.Second, Precision: 3}).Nullable(false), n), nil
}

var errInterval = errors.New("malformed")

// parseInterval reads the text of an interval literal, as months or milliseconds.
func parseInterval(text string, q ast.Qualifier) (int64, error) {
	bad := func() (int64, error) {
		u := q.From
		if q.To != "" {
			u += " TO " + q.To
		}
		return 0, fmt.Errorf("the interval '%s' is %w: it has to be one of %s", text, errInterval, u)
	}
	s, neg := text, false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		neg, s = s[0] == '-', s[1:]
	}
	type part struct {
		unit string
		of   int64 // in months or milliseconds
		sep  byte  // before it
	}
	all := []part{{"YEAR", 12, 0}, {"MONTH", 1, '-'}, {"DAY", 86_400_000, 0}, {"HOUR", 3_600_000, ' '}, {"MINUTE", 60_000, ':'}, {"SECOND", 1000, ':'}}
	var parts []part
	switch q.From {
	case "WEEK":
		parts = []part{{"WEEK", 7 * 86_400_000, 0}}
	case "QUARTER":
		parts = []part{{"QUARTER", 3, 0}}
	default:
		in := false
		to := q.To
		if to == "" {
			to = q.From
		}
		for _, p := range all {
			in = in || p.unit == q.From
			if in {
				parts = append(parts, p)
			}
			if p.unit == to {
				break
			}
		}
	}
	var total int64
	for i, p := range parts {
		if i > 0 {
			if s == "" || s[0] != p.sep {
				return bad()
			}
			s = s[1:]
		}
		digits := 0
		var n int64
		for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' && digits < 18 {
			n = n*10 + int64(s[digits]-'0')
			digits++
		}
		if digits == 0 {
			return bad()
		}
		if n > (1<<62)/p.of {
			return bad()
		}
		total += n * p.of
		s = s[digits:]
		if p.unit == "SECOND" && s != "" && s[0] == '.' {
			s = s[1:]
			scale := int64(100)
			d := 0
			for d < len(s) && s[d] >= '0' && s[d] <= '9' && d < 9 {
				total += int64(s[d]-'0') * scale
				scale /= 10
				d++
			}
			s = s[d:]
		}
	}
	if s != "" {
		return bad()
	}
	if neg {
		total = -total
	}
	return total, nil
}
