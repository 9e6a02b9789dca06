package codec_test

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/codec"
)

// migrate encodes a value under its type, and decodes it as another, through the schema's bytes.
func migrate[Old, New any](t *testing.T, old Old) (New, codec.Report, error) {
	t.Helper()
	writer, reader := must[Old](t), must[New](t)
	b, err := writer.Append(nil, old)
	if err != nil {
		t.Fatal(err)
	}
	s, err := codec.DecodeSchema(writer.Schema().Encode())
	if err != nil {
		t.Fatal(err)
	}
	var v New
	decode, report, err := codec.Migrate(reader, s)
	if err != nil {
		return v, report, err
	}
	n, err := decode(append(b, 0xcc), &v)
	if err != nil || n != len(b) {
		t.Fatalf("decode = %d, %v, want %d", n, err, len(b))
	}
	for cut := range b {
		var x New
		if _, err := decode(b[:cut], &x); err == nil {
			t.Errorf("decoded from %d of %d bytes", cut, len(b))
		}
	}
	return v, report, nil
}

type addressV1 struct {
	Street string
	Zip    int32
	Gone   map[string][]*int64
}

type addressV2 struct {
	City   string
	Zip    int64
	Street string
}

type personV1 struct {
	Name   string
	Home   addressV1
	Others []addressV1
	ByKind map[string]addressV1
	Work   *addressV1
	Three  [2]addressV1
	Score  float32
	Left   time.Time
	Blob   []byte
	Next   *personV1
}

type personV2 struct {
	Full   string `rivulet:"full_name,was=Name"`
	Age    int
	Home   addressV2
	Others []addressV2
	ByKind map[string]addressV2
	Work   *addressV2
	Three  [2]addressV2
	Score  float64
	Next   *personV2
}

func TestMigrate(t *testing.T) {
	n := int64(1)
	a := func(street string) addressV1 {
		return addressV1{Street: street, Zip: -7, Gone: map[string][]*int64{"x": {nil, &n}}}
	}
	b := func(street string) addressV2 { return addressV2{Street: street, Zip: -7} }
	work1, work2 := a("w"), b("w")
	got, report, err := migrate[personV1, personV2](t, personV1{
		Name: "Ann", Home: a("h"), Others: []addressV1{a("o"), {}}, ByKind: map[string]addressV1{"k": a("m")}, Work: &work1,
		Three: [2]addressV1{a("3"), {}}, Score: 1.5, Left: time.Unix(1, 1), Blob: []byte("blob"), Next: &personV1{Name: "Bob"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := personV2{
		Full: "Ann", Home: b("h"), Others: []addressV2{b("o"), {}}, ByKind: map[string]addressV2{"k": b("m")}, Work: &work2,
		Three: [2]addressV2{b("3"), {}}, Score: 1.5, Next: &personV2{Full: "Bob"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("migrated value (-want +got):\n%s", d)
	}
	// The type of an address is reported where it is met first.
	wantReport := codec.Report{
		Added:   []string{"personV2.Age", "personV2.Home.City"},
		Dropped: []string{"personV2.Left", "personV2.Blob", "personV2.Home.Gone"},
		Renamed: []string{"personV2.full_name (was Name)"},
		Widened: []string{"personV2.Home.Zip (was int32, is int64)", "personV2.Score (was float32, is float64)"},
		Moved:   []string{"personV2.Home"},
	}
	if d := cmp.Diff(wantReport, report); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}
}

func TestMigrateWidening(t *testing.T) {
	if v, _, err := migrate[int8, int16](t, -8); err != nil || v != -8 {
		t.Error(v, err)
	}
	if v, _, err := migrate[int16, int32](t, -300); err != nil || v != -300 {
		t.Error(v, err)
	}
	if v, _, err := migrate[int32, int](t, math.MinInt32); err != nil || v != math.MinInt32 {
		t.Error(v, err)
	}
	if v, _, err := migrate[uint8, uint32](t, 200); err != nil || v != 200 {
		t.Error(v, err)
	}
	if v, _, err := migrate[[]uint32, []uint64](t, []uint32{1, math.MaxUint32}); err != nil || !slices.Equal(v, []uint64{1, math.MaxUint32}) {
		t.Error(v, err)
	}
	if v, _, err := migrate[[3]float32, [3]float64](t, [3]float32{1, -2.5, float32(math.Inf(1))}); err != nil || v != [3]float64{1, -2.5, math.Inf(1)} {
		t.Error(v, err)
	}
	// int is stored as int64, and names of types do not matter.
	if v, r, err := migrate[int, int64](t, -1); err != nil || v != -1 || !r.AsIs() {
		t.Error(v, r, err)
	}
	if v, r, err := migrate[word, string](t, "w"); err != nil || v != "w" || !r.AsIs() {
		t.Error(v, r, err)
	}
}

func TestMigrateRename(t *testing.T) {
	type v1 struct{ A, B int }
	type renamed struct {
		New int `rivulet:",was=A"`
		B   int
	}
	v, r, err := migrate[v1, renamed](t, v1{1, 2})
	if err != nil || v != (renamed{1, 2}) || !r.AsIs() || len(r.Renamed) != 1 {
		t.Error(v, r, err)
	}
	// A stored field of the present name comes before one of an old name.
	type both struct{ New, A int }
	v2, r, err := migrate[both, renamed](t, both{New: 5, A: 6})
	if err != nil || v2 != (renamed{New: 5}) || len(r.Dropped) != 1 || len(r.Renamed) != 0 {
		t.Error(v2, r, err)
	}
	// Two names, of which the younger was stored.
	type third struct {
		C int `rivulet:"third,was=New,was=A"`
	}
	v3, _, err := migrate[renamed, third](t, renamed{New: 7})
	if err != nil || v3.C != 7 {
		t.Error(v3, err)
	}
}

func TestMigrateDropsAll(t *testing.T) {
	// Elements that were something and are nothing, and the other way.
	type empty struct{}
	type full struct{ A []string }
	v, _, err := migrate[[]full, []empty](t, []full{{[]string{"a"}}, {}})
	if err != nil || len(v) != 2 {
		t.Error(v, err)
	}
	w, _, err := migrate[[]empty, []full](t, []empty{{}, {}})
	if err != nil || len(w) != 2 || w[0].A != nil {
		t.Error(w, err)
	}
	type nested struct {
		Gone []empty
		Tree *tree
		M    map[empty]empty
		Kept int
	}
	type kept struct{ Kept int }
	k, _, err := migrate[nested, kept](t, nested{make([]empty, 3), &tree{"x", []tree{{}, {}}}, map[empty]empty{{}: {}}, 9})
	if err != nil || k.Kept != 9 {
		t.Error(k, err)
	}
}

func TestMigrateRefused(t *testing.T) {
	type in struct{ Zip int64 }
	type outer struct {
		Home []map[string]in
	}
	type in2 struct{ Zip string }
	type outer2 struct {
		Home []map[string]in2
	}
	var mismatch *codec.MismatchError
	_, _, err := migrate[outer, outer2](t, outer{})
	if !errors.As(err, &mismatch) || *mismatch != (codec.MismatchError{Path: "outer2.Home[][value].Zip", Was: "int64", Is: "string"}) {
		t.Errorf("got %v", err)
	}
	refused := func(err error, want string) {
		t.Helper()
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	_, _, err = migrate[int64, int32](t, 1)
	refused(err, "value was int64, is int32")
	_, _, err = migrate[uint8, int64](t, 1)
	refused(err, "value was uint8, is int64")
	_, _, err = migrate[int64, time.Duration](t, 1)
	refused(err, "value was int64, is duration")
	_, _, err = migrate[int32, float64](t, 1)
	refused(err, "value was int32, is float64")
	_, _, err = migrate[string, []byte](t, "")
	refused(err, "value was string, is bytes")
	_, _, err = migrate[in, *in](t, in{})
	refused(err, "value was codec_test.in, is *codec_test.in")
	_, _, err = migrate[[2]int, [3]int](t, [2]int{})
	refused(err, "value was [2]int64, is [3]int64")
	_, _, err = migrate[map[int32]int, map[int64]int](t, nil)
	refused(err, "value[key] was int32, is int64")
	if _, _, err := codec.Migrate(must[celsius](t), codec.CustomSchema("celsius", []byte{2})); err == nil {
		t.Error("another version of a custom codec is read")
	}
}

func TestCompareKey(t *testing.T) {
	schema := func(c interface{ Schema() *codec.Schema }, err error) *codec.Schema {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c.Schema()
	}
	type k1 struct{ A int32 }
	type k2 struct{ A int64 }
	type k3 struct {
		B int32 `rivulet:"B,was=A"`
	}
	if err := codec.CompareKey(schema(codec.ForKey[k1]()), schema(codec.ForKey[k3]())); err != nil {
		t.Error(err)
	}
	if err := codec.CompareKey(schema(codec.ForKey[k1]()), schema(codec.ForKey[k2]())); err == nil {
		t.Error("a key may become wider")
	}
	if err := codec.CompareKey(schema(codec.ForKey[string]()), schema(codec.ForKey[int]())); err == nil {
		t.Error("a key may change its type")
	}
}
