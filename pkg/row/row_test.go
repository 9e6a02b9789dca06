package row_test

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/row"
)

func TestTypes(t *testing.T) {
	for want, typ := range map[string]*row.Type{
		"INT NOT NULL":                         row.Of(row.Int).Nullable(false),
		"STRING":                               row.String(),
		"BYTES":                                row.Bytes(),
		"VARCHAR(3)":                           row.Sized(row.VarChar, 3),
		"CHAR(1)":                              row.Of(row.Char),
		"DECIMAL(10, 2)":                       row.DecimalOf(10, 2),
		"TIMESTAMP(3) *ROWTIME*":               row.Sized(row.Timestamp, 3).With(row.Rowtime),
		"TIMESTAMP_LTZ(6)":                     row.Of(row.TimestampLTZ),
		"ARRAY<INT NOT NULL>":                  row.ArrayOf(row.Of(row.Int).Nullable(false)),
		"MAP<STRING, MULTISET<BOOLEAN>>":       row.MapOf(row.String(), row.MultisetOf(row.Of(row.Boolean))),
		"ROW<`a` INT, `b``c` STRING> NOT NULL": row.Record(row.Field{Name: "a", Type: row.Of(row.Int)}, row.Field{Name: "b`c", Type: row.String()}).Nullable(false),
		"INTERVAL SECOND(3)":                   {Root: row.IntervalDayTime, From: row.Second, To: row.Second, Precision: 3},
		"INTERVAL MONTH":                       {Root: row.IntervalYearMonth, From: row.Month, To: row.Month},
		"INTERVAL DAY(2) TO SECOND(6)":         row.Of(row.IntervalDayTime),
	} {
		if got := typ.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if !typ.Equal(typ.Nullable(typ.NotNull).Nullable(!typ.NotNull)) {
			t.Errorf("%s is not itself", want)
		}
	}
}

func random(r *rand.Rand) (row.D128, *big.Int) {
	x := new(big.Int)
	for range r.IntN(38) {
		x.Add(x.Mul(x, big.NewInt(10)), big.NewInt(r.Int64N(10)))
	}
	if r.IntN(2) == 0 {
		x.Neg(x)
	}
	d, ok := row.DecimalFromBig(x)
	if !ok {
		panic(x)
	}
	return d, x
}

// round is x / 10^n by the schoolbook: half away from zero.
func round(x *big.Int, n int) *big.Int {
	p := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
	half := new(big.Int).Quo(p, big.NewInt(2))
	if n == 0 {
		half.SetInt64(0)
	}
	return new(big.Int).Mul(big.NewInt(int64(x.Sign())), new(big.Int).Quo(new(big.Int).Add(new(big.Int).Abs(x), half), p))
}

func TestDecimals(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	same := func(what string, got row.D128, ok bool, want *big.Int) {
		t.Helper()
		w, fits := row.DecimalFromBig(want)
		if ok != fits || ok && got != w {
			t.Fatalf("%s: %v %v, want %v", what, got.Big(), ok, want)
		}
	}
	for range 20_000 {
		a, x := random(r)
		b, y := random(r)
		if a.Big().Cmp(x) != 0 || a.Cmp(b) != x.Cmp(y) || a.Sign() != x.Sign() {
			t.Fatalf("%v, %v", x, y)
		}
		sum := a.Add(b)
		same("sum", sum, sum.Fits(38), new(big.Int).Add(x, y))
		diff := a.Sub(b)
		same("difference", diff, diff.Fits(38), new(big.Int).Sub(x, y))
		n := r.IntN(38)
		up, ok := a.Rescale(0, n)
		same("scale up", up, ok, new(big.Int).Mul(x, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)))
		down, ok := a.Rescale(n, 0)
		same("scale down", down, ok, round(x, n))
		m, ok := a.Mul(b, n, 0)
		same("product", m, ok, round(new(big.Int).Mul(x, y), n))
		text := a.AppendText(nil, n)
		back, ok := row.ParseDecimal(text, n)
		if !ok || back != a {
			t.Fatalf("%s is not %v with scale %d", text, x, n)
		}
		if y.Sign() != 0 {
			q, ok := a.Div(b, 0, 0, 0)
			twice := new(big.Int).Quo(new(big.Int).Mul(x, big.NewInt(2)), y)
			half := new(big.Int).Add(twice, big.NewInt(int64(x.Sign()*y.Sign())))
			same("quotient", q, ok, half.Quo(half, big.NewInt(2)))
		}
	}
	for text, want := range map[string]string{"1.005": "1.01", "-1.005": "-1.01", "1e2": "100.00", ".5": "0.50", "5.": "5.00", "1E-3": "0.00", "0e999999999": "0.00"} {
		d, ok := row.ParseDecimal([]byte(text), 2)
		if got := string(d.AppendText(nil, 2)); !ok || got != want {
			t.Errorf("%s: %s %v, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "-", ".", "1e", "1 ", "x", "1e+", "1e40", "--1", "1.2.3", "0x1"} {
		if d, ok := row.ParseDecimal([]byte(text), 2); ok {
			t.Errorf("%q is %v", text, d)
		}
	}
	if f := (row.D128{Lo: 12345}).Float(3); f != 12.345 {
		t.Error(f)
	}
}

func TestVectors(t *testing.T) {
	typ := row.Record(row.Field{Name: "a", Type: row.ArrayOf(row.String())}, row.Field{Name: "m", Type: row.MapOf(row.Of(row.Int), row.Of(row.TimestampLTZ))})
	v := row.NewVector(typ)
	a, m := v.Children[0], v.Children[1]
	// row 0: [["x", NULL], {7: 5.000000001}], row 1: NULL, row 2: [[], NULL]
	a.Spans = append(a.Spans, row.Span{Off: 0, Len: 2})
	a.Children[0].AppendText([]byte("x"))
	a.Children[0].AppendNull()
	m.Spans = append(m.Spans, row.Span{Off: 0, Len: 1})
	m.Children[0].Ints = append(m.Children[0].Ints, 7)
	m.Children[1].AppendTime(5000, 1)
	v.AppendNull()
	a.Spans = append(a.Spans, row.Span{})
	m.AppendNull()

	c := row.NewVector(typ)
	for _, i := range []int{2, 1, 0} {
		c.Append(v, i)
	}
	v.Reset(0)
	clear(v.Children[0].Children[0].Data[:cap(v.Children[0].Children[0].Data)])
	if c.Len() != 3 || c.IsNull(0) || !c.IsNull(1) || c.IsNull(2) || !c.Children[0].IsNull(1) || !c.Children[1].IsNull(0) {
		t.Fatalf("%+v", c)
	}
	ca, cm := c.Children[0], c.Children[1]
	if ca.Spans[0].Len != 0 || ca.Spans[2] != (row.Span{Off: 0, Len: 2}) || string(ca.Children[0].Text(0)) != "x" || !ca.Children[0].IsNull(1) {
		t.Errorf("%+v", ca)
	}
	if s := cm.Spans[2]; s.Len != 1 || cm.Children[0].Ints[s.Off] != 7 || cm.Children[1].Ints[s.Off] != 5000 || cm.Children[1].Nano(int(s.Off)) != 1 {
		t.Errorf("%+v", cm)
	}
	k := &row.Vector{Type: row.Of(row.Int), Const: true, Ints: []int64{42}}
	if k.At(17) != 0 || k.Ints[17&k.Mask()] != 42 || k.IsNull(17) {
		t.Error("a constant is not the same in all rows")
	}
}

func TestBitmaps(t *testing.T) {
	var a, b row.Bitmap
	a, b = a.Set(3).Set(200), b.Set(64)
	o := row.Bitmap(nil).Or(b, a)
	for i := range 300 {
		if o.Get(i) != (i == 3 || i == 64 || i == 200) {
			t.Error(i)
		}
	}
	if o.Count() != 3 || !o.Any() {
		t.Error(o)
	}
	o.Clear(3)
	o.Clear(1000)
	if o.Count() != 2 || (row.Bitmap{0}).Any() {
		t.Error(o)
	}
	if k := row.Append.With(row.Delete); k.String() != "I,D" || !k.Has(row.Delete) || k.Without(row.Delete) != row.Append || row.Retract.String() != "I,UB,UA,D" {
		t.Error(k)
	}
}
