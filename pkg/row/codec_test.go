package row_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/row"
)

// types are of every root, nested too.
func types() []*row.Type {
	out := []*row.Type{row.DecimalOf(38, 3), row.Sized(row.Timestamp, 3), row.Of(row.Null)}
	for r := row.Char; r <= row.IntervalDayTime; r++ {
		out = append(out, row.Of(r))
	}
	out = append(out, row.Of(row.Variant))
	flat := out[3:]
	for _, t := range flat {
		out = append(out, row.ArrayOf(t))
	}
	return append(out, row.MapOf(row.String(), row.ArrayOf(row.Of(row.Int))), row.MultisetOf(row.String()), row.Record(),
		row.Record(row.Field{Name: "a", Type: row.String()}, row.Field{Name: "b", Type: row.Record(row.Field{Name: "c", Type: row.Of(row.Timestamp)})}))
}

// put appends a random value.
func put(r *rand.Rand, v *row.Vector) {
	if r.IntN(5) == 0 {
		v.AppendNull()
		return
	}
	n := func() int64 { return int64(r.Uint64()) >> r.IntN(60) }
	switch t := v.Type; t.Class() {
	case row.Bools:
		v.Bools = append(v.Bools, r.IntN(2) == 0)
	case row.Ints:
		x := n()
		switch t.Root {
		case row.TinyInt:
			x = int64(int8(x))
		case row.SmallInt:
			x = int64(int16(x))
		case row.BigInt, row.IntervalDayTime:
		default:
			x = int64(int32(x))
		}
		v.Ints = append(v.Ints, x)
	case row.Times:
		v.AppendTime(n(), int32(r.IntN(2)*r.IntN(1_000_000)))
	case row.Floats:
		x := []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), r.NormFloat64()}[r.IntN(5)]
		if t.Root == row.Float {
			x = float64(float32(x))
		}
		v.Floats = append(v.Floats, x)
	case row.Decimals:
		d, _ := random(r)
		v.Decimals = append(v.Decimals, d)
	case row.Texts:
		v.AppendText([]byte(fmt.Sprint(n()))[:r.IntN(2)])
	case row.Lists:
		k := r.IntN(4)
		v.Spans = append(v.Spans, row.Span{Off: uint32(v.Children[0].Len()), Len: uint32(k)})
		for _, c := range v.Children {
			for range k {
				put(r, c)
			}
		}
	case row.Rows:
		for _, c := range v.Children {
			put(r, c)
		}
	case row.Nothing:
	}
}

// batch returns n random rows of some types.
func batch(r *rand.Rand, ts []*row.Type, n int) *row.Batch {
	b := empty(ts)
	b.Len = n
	for range n {
		for _, v := range b.Cols {
			put(r, v)
		}
		if len(ts)%2 == 0 {
			b.Kinds = append(b.Kinds, row.Kind(r.IntN(4)))
		}
	}
	return b
}

func empty(ts []*row.Type) *row.Batch {
	b := &row.Batch{}
	for _, t := range ts {
		b.Cols = append(b.Cols, row.NewVector(t))
	}
	return b
}

// rows are all rows as bytes.
func rows(b *row.Batch) (out [][]byte) {
	for i := range b.Len {
		out = append(out, row.AppendRow([]byte(b.Kind(i).String()), b.Cols, i))
	}
	return out
}

func TestRowsAndBatches(t *testing.T) {
	all := types()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		var ts []*row.Type
		for range r.IntN(6) {
			ts = append(ts, all[r.IntN(len(all))])
		}
		b := batch(r, ts, r.IntN(200))
		want := rows(b)
		back, wire := empty(ts), empty(ts)
		for _, w := range want {
			n, err := row.ReadRow(w[2:], back.Cols)
			if err != nil || n != len(w)-2 {
				t.Fatalf("seed %d: %v: %d of %d bytes, %v", seed, ts, n, len(w)-2, err)
			}
			if width := row.Width(ts); width != 0 && width != n {
				t.Fatalf("seed %d: %v: a row has %d bytes, not %d", seed, ts, n, width)
			}
			back.Len++
		}
		for range 2 { // the second time into memory that is used
			if err := row.ReadBatch(row.AppendBatch(nil, b), wire); err != nil {
				t.Fatalf("seed %d: %v: %v", seed, ts, err)
			}
		}
		back.Kinds = b.Kinds
		for i, got := range [][][]byte{rows(back), rows(wire)} {
			if len(got) != len(want) {
				t.Fatalf("seed %d: %d rows, want %d", seed, len(got), len(want))
			}
			for k := range want {
				if !bytes.Equal(got[k], want[k]) {
					t.Fatalf("seed %d, %d: %v: row %d is %x, want %x", seed, i, ts, k, got[k], want[k])
				}
			}
		}
	}
}

// The form of rows lies in state: it never changes.
func TestGoldenRow(t *testing.T) {
	b := empty([]*row.Type{row.Of(row.TinyInt), row.String(), row.Of(row.Double), row.DecimalOf(10, 2), row.Of(row.Timestamp), row.ArrayOf(row.Of(row.Int)), row.MapOf(row.String(), row.Of(row.Boolean)), row.Of(row.Int), row.Of(row.BigInt)})
	c := b.Cols
	c[0].Ints = []int64{-2}
	c[1].AppendText([]byte("é!"))
	c[2].Floats = []float64{1.5}
	c[3].Decimals = []row.D128{row.DecimalFrom(-1)}
	c[4].AppendTime(1, 2)
	c[5].Spans = []row.Span{{Off: 0, Len: 2}}
	c[5].Children[0].Ints = []int64{7}
	c[5].Children[0].AppendNull()
	c[6].Spans = []row.Span{{Off: 0, Len: 1}}
	c[6].Children[0].AppendText([]byte("k"))
	c[6].Children[1].Bools = []bool{true}
	c[7].AppendNull()
	c[8].Ints = []int64{258}
	const want = "8000" + "fe" + "03c3a921" + "000000000000f83f" + "ffffffffffffffffffffffffffffffff" + "010000000000000002000000" + "02" + "02" + "0700000000000000" + "01" + "00" + "016b" + "00" + "01" + "00000000" + "0201000000000000"
	if got := fmt.Sprintf("%x", row.AppendRow(nil, c, 0)); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
}

func TestKeys(t *testing.T) {
	v := row.NewVector(row.Of(row.Double))
	v.Floats = []float64{0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(math.Float64bits(math.NaN()) + 1)}
	key := func(i int) string { return string(row.AppendKey(nil, []*row.Vector{v}, i)) }
	if key(0) != key(1) || key(2) != key(3) || key(0) == key(2) {
		t.Error("keys that SQL takes for equal differ, or the other way round")
	}
}

func FuzzRead(f *testing.F) {
	all := types()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		ts := []*row.Type{all[r.IntN(len(all))], all[r.IntN(len(all))]}
		b := batch(r, ts, 3)
		f.Add(row.AppendBatch(nil, b), seed)
		f.Add(row.AppendRow(nil, b.Cols, 0), seed)
	}
	f.Fuzz(func(t *testing.T, src []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		ts := []*row.Type{all[r.IntN(len(all))], all[r.IntN(len(all))]}
		b := empty(ts)
		if err := row.ReadBatch(src, b); err == nil {
			again := empty(ts)
			if err := row.ReadBatch(row.AppendBatch(nil, b), again); err != nil || len(rows(again)) != len(rows(b)) {
				t.Error(err)
			}
		} else if !errors.Is(err, row.ErrMalformed) {
			t.Error(err)
		}
		b = empty(ts)
		if n, err := row.ReadRow(src, b.Cols); err == nil {
			row.AppendRow(nil, b.Cols, 0)
			if n > len(src) {
				t.Error(n)
			}
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	ts := []*row.Type{row.Of(row.BigInt), row.String(), row.Sized(row.Timestamp, 3)}
	r := rand.New(rand.NewPCG(1, 1))
	in, out := batch(r, ts, 1000), empty(ts)
	var wire []byte
	b.ReportAllocs()
	for b.Loop() {
		wire = row.AppendBatch(wire[:0], in)
		if err := row.ReadBatch(wire, out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/row")
}
