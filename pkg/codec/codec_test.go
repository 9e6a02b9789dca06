package codec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rivulet-io/rivulet/pkg/codec"
)

type (
	userID uint64
	word   string

	point struct {
		X, Y float64
		N    uint64
	}
	padded struct {
		A bool
		B uint64
		C int16
		D [3]uint16
		_ [2]byte
		E point
	}
	click struct {
		User  userID
		Page  word
		At    time.Time
		Took  time.Duration
		Tags  []string
		Raw   []byte
		Count map[string]int
		Home  *point
		Inner struct {
			OK bool
			Is []bool
		}
		Left  chan int `rivulet:"-"`
		Pairs [2][]int32
		Set   map[point]struct{}
	}
	list struct {
		Value int
		Next  *list
	}
	tree struct {
		Name string
		Kids []tree
	}
	nothing   struct{}
	forgetful struct {
		A int
		B []int `rivulet:"-"`
	}
	nullable struct{ Message *structpb.Struct }
	wrapped  struct {
		*durationpb.Duration
		N int
	}
	links   struct{ At, From url.URL }
	stamped struct {
		time.Time
		N int
	}
)

func must[T any](t testing.TB) codec.Codec[T] {
	t.Helper()
	c, err := codec.For[T]()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var exact = cmp.Options{
	cmp.Comparer(func(a, b proto.Message) bool { return proto.Equal(a, b) }),
	cmp.Exporter(func(reflect.Type) bool { return true }),
}

// roundTrip checks what every codec promises about a value.
func roundTrip[T any](t *testing.T, v T) {
	t.Helper()
	c := must[T](t)
	b, err := c.Append([]byte("before"), v)
	if err != nil {
		t.Fatalf("%T: %v", v, err)
	}
	b = b[len("before"):]
	src := append(bytes.Clone(b), "after"...)
	var got T
	n, err := c.Decode(src, &got)
	if err != nil || n != len(b) {
		t.Fatalf("%T: Decode = %d, %v, want %d", v, n, err, len(b))
	}
	for i := range src {
		src[i] = 0xcc // nothing may alias what was read
	}
	if d := cmp.Diff(v, got, exact); d != "" {
		t.Errorf("%T: decoded value differs (-encoded +decoded):\n%s", v, d)
	}
	if d := cmp.Diff(got, c.Copy(v), exact); d != "" {
		t.Errorf("%T: copy differs from decoded (-decoded +copy):\n%s", v, d)
	}
	again, err := c.Append(nil, got)
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("%T: encoding differs from that of the decoded value:\n%x\n%x\n%v", v, b, again, err)
	}
	if n, ok := codec.FixedSize(c); ok && n != len(b) {
		t.Errorf("%T: FixedSize = %d, encoding has %d bytes", v, n, len(b))
	}
	if c.Size(v) < int(reflect.TypeFor[T]().Size()) {
		t.Errorf("%T: Size = %d, below the type's own", v, c.Size(v))
	}
	shared := bytes.Clone(b)
	var viaShare T
	if n, err := codec.Sharing(c)(shared, &viaShare); err != nil || n != len(b) {
		t.Errorf("%T: Sharing = %d, %v", v, n, err)
	} else if d := cmp.Diff(v, viaShare, exact); d != "" {
		t.Errorf("%T: shared decoding differs:\n%s", v, d)
	}
	for cut := range b {
		var x T
		if n, err := c.Decode(b[:cut], &x); err == nil && n > cut {
			t.Errorf("%T: decoded %d of %d bytes", v, n, cut)
		} else if err == nil {
			t.Errorf("%T: decoded from %d of %d bytes", v, cut, len(b))
		}
	}
	s, err := codec.DecodeSchema(c.Schema().Encode())
	if err != nil || !s.Equal(c.Schema()) || s.String() != c.Schema().String() {
		t.Errorf("%T: schema %v decodes as %v, %v", v, c.Schema(), s, err)
	}
	if r, err := codec.Compare(s, c.Schema()); err != nil || !r.AsIs() {
		t.Errorf("%T: schema does not match itself: %+v, %v", v, r, err)
	}
}

func sampleClick() click {
	v := click{
		User: 7, Page: "home", At: time.Unix(1, 2).UTC(), Took: time.Second, Tags: []string{"a", "", "c"}, Raw: []byte{0, 1},
		Count: map[string]int{"b": 2, "a": -1, "": 0}, Home: &point{1, 2, 3}, Pairs: [2][]int32{nil, {1, -2}}, Set: map[point]struct{}{{1, 2, 3}: {}, {}: {}},
	}
	v.Inner.OK, v.Inner.Is = true, []bool{true, false}
	return v
}

func TestRoundTrip(t *testing.T) {
	roundTrip(t, true)
	roundTrip(t, false)
	roundTrip(t, int8(-8))
	roundTrip(t, int16(-300))
	roundTrip(t, int32(math.MinInt32))
	roundTrip(t, int64(math.MinInt64))
	roundTrip(t, -1)
	roundTrip(t, uint(1))
	roundTrip(t, uint8(200))
	roundTrip(t, uint16(60000))
	roundTrip(t, uint32(math.MaxUint32))
	roundTrip(t, uint64(math.MaxUint64))
	roundTrip(t, float32(1.5))
	roundTrip(t, math.Inf(-1))
	roundTrip(t, "")
	roundTrip(t, strings.Repeat("häßlich\xff", 30))
	roundTrip(t, word("w"))
	roundTrip(t, userID(9))
	roundTrip(t, []byte(nil))
	roundTrip(t, []byte{})
	roundTrip(t, []byte("bytes"))
	roundTrip(t, time.Time{})
	roundTrip(t, time.Date(9999, 1, 1, 0, 0, 0, 999999999, time.UTC))
	roundTrip(t, time.Hour)
	roundTrip(t, point{1, math.Copysign(0, -1), 3})
	roundTrip(t, padded{A: true, B: 1, C: -1, D: [3]uint16{1, 2, 3}, E: point{N: 4}})
	roundTrip(t, []padded{{A: true}, {}})
	roundTrip(t, []point{{1, 2, 3}, {4, 5, 6}})
	roundTrip(t, click{})
	roundTrip(t, sampleClick())
	roundTrip(t, []click{{}, sampleClick()})
	roundTrip(t, &list{1, &list{2, nil}})
	roundTrip(t, (*list)(nil))
	roundTrip(t, tree{"root", []tree{{"a", nil}, {"b", []tree{}}}})
	roundTrip(t, nothing{})
	roundTrip(t, []nothing{{}, {}})
	roundTrip(t, map[nothing]nothing{{}: {}})
	roundTrip(t, [0]int{})
	roundTrip(t, [2]string{"x", "y"})
	roundTrip(t, map[string][]map[int32]*string{"a": {nil, {1: new(string)}}})
	roundTrip(t, map[string]int(nil))
	roundTrip(t, map[string]int{})
	roundTrip(t, forgetful{A: 1})
	roundTrip(t, durationpb.New(time.Minute))
	roundTrip(t, (*durationpb.Duration)(nil))
	m, err := structpb.NewStruct(map[string]any{"z": 1.0, "a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, nullable{m})
	roundTrip(t, &wrapped{durationpb.New(time.Second), 5})
	roundTrip(t, nullable{})
	u, err := url.Parse("http://user:pw@host/path?q=1#f")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, links{At: *u})
	roundTrip(t, []*url.URL{u, nil})
	roundTrip(t, stamped{time.Unix(5, 0).UTC(), 6})
}

func TestTimeIsItsInstant(t *testing.T) {
	c := must[time.Time](t)
	at := time.Date(2024, 2, 29, 12, 0, 0, 7, time.FixedZone("here", 3600))
	if got := c.Copy(at); !got.Equal(at) || got.Location() != time.UTC || !c.Mutable() {
		t.Errorf("Copy(%v) = %v, mutable %v", at, got, c.Mutable())
	}
	if got := c.Copy(time.Time{}); got != (time.Time{}) {
		t.Errorf("zero time becomes %#v", got)
	}
}

func TestMutable(t *testing.T) {
	if must[point](t).Mutable() || must[string](t).Mutable() || must[[3]word](t).Mutable() {
		t.Error("types without references are mutable")
	}
	if !must[click](t).Mutable() || !must[*int](t).Mutable() || !must[[]int](t).Mutable() || !must[forgetful](t).Mutable() {
		t.Error("types with references are not mutable")
	}
	v := sampleClick()
	c := must[click](t).Copy(v)
	v.Tags[0], v.Raw[0], v.Home.X, v.Count["a"], v.Inner.Is[0], v.Pairs[1][0] = "changed", 9, 9, 9, false, 9
	if d := cmp.Diff(sampleClick(), c, exact); d != "" {
		t.Errorf("copy shares memory:\n%s", d)
	}
	f := must[forgetful](t).Copy(forgetful{A: 1, B: []int{1}})
	if f.B != nil {
		t.Error("copy keeps a field that is not encoded")
	}
	var old forgetful
	old.B = []int{1}
	b, _ := must[forgetful](t).Append(nil, forgetful{A: 2})
	if _, err := must[forgetful](t).Decode(b, &old); err != nil || old.B != nil || old.A != 2 {
		t.Errorf("decoded over an older value: %+v, %v", old, err)
	}
}

func TestSize(t *testing.T) {
	if got := must[[]string](t).Size([]string{"abcd", "efgh"}); got != int(reflect.TypeFor[[]string]().Size()+2*reflect.TypeFor[string]().Size())+8 {
		t.Errorf("Size = %d", got)
	}
	if got := must[map[int64]int64](t).Size(map[int64]int64{1: 1}); got < 24 {
		t.Errorf("Size of a map = %d", got)
	}
}

func TestCyclicValue(t *testing.T) {
	v := &list{Value: 1}
	v.Next = v
	c := must[*list](t)
	if _, err := c.Append(nil, v); !errors.Is(err, codec.ErrTooDeep) {
		t.Errorf("Append = %v", err)
	}
	if c.Size(v) <= 0 {
		t.Error("Size of a cyclic value overflows")
	}
	k := tree{Kids: make([]tree, 2)}
	k.Kids[0].Kids, k.Kids[1].Kids = k.Kids, k.Kids
	if _, err := must[tree](t).Append(nil, k); !errors.Is(err, codec.ErrTooDeep) {
		t.Errorf("Append = %v", err)
	}
	if must[tree](t).Size(k) <= 0 {
		t.Error("Size of a cyclic value overflows")
	}
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, codec.ErrTooDeep) {
			t.Errorf("Copy panics with %v", err)
		}
	}()
	c.Copy(v)
}

func TestRefused(t *testing.T) {
	type ctx struct {
		Name string
		Ctx  any
	}
	type deep struct{ Items []map[string]*ctx }
	type private struct {
		ID int
		id int //nolint:unused // its name is what is refused
	}
	type twice struct {
		A int `rivulet:"x"`
		B int `rivulet:"y,was=x"`
	}
	type option struct {
		A int `rivulet:"x,old=y"`
	}
	errorOf := func(_ any, err error) string {
		if err == nil {
			return "no error"
		}
		return err.Error()
	}
	check := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	check(errorOf(codec.For[ctx]()), "ctx.Ctx: interfaces cannot be serialized")
	check(errorOf(codec.For[deep]()), "deep.Items[][value].Ctx: interfaces cannot be serialized")
	check(errorOf(codec.For[private]()), "private.id: unexported fields cannot be serialized (export it, or leave it out with the tag `rivulet:\"-\"`)")
	check(errorOf(codec.For[chan int]()), "chan int: channels cannot be serialized")
	check(errorOf(codec.For[func()]()), "func(): functions cannot be serialized")
	check(errorOf(codec.For[uintptr]()), "uintptr: uintptr cannot be serialized")
	check(errorOf(codec.For[complex128]()), "complex128: complex numbers cannot be serialized")
	check(errorOf(codec.For[map[*int]int]()), "map[*int]int[key]: pointers cannot be serialized as keys of a map")
	check(errorOf(codec.For[twice]()), `twice.B: stored name "x" is also that of A`)
	check(errorOf(codec.For[option]()), `option.A: tag option "old=y" is not was=NAME`)
	check(errorOf(codec.For[struct{ D durationpb.Duration }]()),
		"struct { D durationpb.Duration }.D: a proto message cannot be serialized by value (use *durationpb.Duration)")
	check(errorOf(codec.For[*dynamicpb.Message]())[:41], "*dynamicpb.Message.typ: unexported fields")
	check(errorOf(codec.ForKey[float64]()), "key: float64: floating-point numbers cannot be keys")
	check(errorOf(codec.ForKey[struct{ A []int }]()), "key: struct { A []int }.A: slices cannot be keys")
	check(errorOf(codec.ForKey[*int]()), "key: *int: pointers cannot be keys")
	check(errorOf(codec.ForKey[any]()), "key: interface {}: interfaces cannot be serialized")
	check(errorOf(codec.ForKey[forgetful]()), "key: forgetful.B: a key's field cannot be left out")
	check(errorOf(codec.ForKey[links]()), "key: links.At: types with a MarshalBinary of their own cannot be keys")
	check(errorOf(codec.ForKey[*durationpb.Duration]()), "key: *durationpb.Duration: proto messages cannot be keys")
}

// celsius has a codec of the user's own, of two bytes.
type celsius struct{ degrees int16 }

type celsiusCodec struct{}

func (celsiusCodec) Append(dst []byte, v celsius) ([]byte, error) {
	if v.degrees < -273 {
		return dst, errors.New("below absolute zero")
	}
	return append(dst, byte(v.degrees), byte(v.degrees>>8)), nil
}

func (celsiusCodec) Decode(src []byte, v *celsius) (int, error) {
	if len(src) < 2 {
		return 0, codec.ErrCorrupt
	}
	if v.degrees = int16(src[0]) | int16(src[1])<<8; v.degrees < -273 {
		return 0, codec.ErrCorrupt
	}
	return 2, nil
}
func (celsiusCodec) Size(celsius) int       { return 2 }
func (celsiusCodec) Mutable() bool          { return false }
func (celsiusCodec) Copy(v celsius) celsius { return v }
func (celsiusCodec) Schema() *codec.Schema  { return codec.CustomSchema("celsius", []byte{1}) }

func init() { codec.Register[celsius](celsiusCodec{}) }

func TestRegister(t *testing.T) {
	roundTrip(t, celsius{-5})
	roundTrip(t, []celsius{{1}, {2}})
	roundTrip(t, map[string]celsius{"a": {1}})
	b, err := must[[1]celsius](t).Append(nil, [1]celsius{{-2}})
	if err != nil || hex.EncodeToString(b) != "02000000feff" {
		t.Errorf("framed: %x, %v", b, err)
	}
	if b, err := must[[]celsius](t).Append([]byte("x"), []celsius{{1}, {-300}}); err == nil || string(b) != "x" {
		t.Errorf("a failing codec: %q, %v", b, err)
	}
	if got := must[[]celsius](t).Schema().String(); got != "[]custom celsius version 01" {
		t.Errorf("schema %s", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("registered twice")
		}
	}()
	codec.Register[celsius](celsiusCodec{})
}

func TestAllocations(t *testing.T) {
	check := func(name string, want float64, f func()) {
		t.Helper()
		f()
		if got := testing.AllocsPerRun(100, f); got > want {
			t.Errorf("%s: %v allocations, want %v", name, got, want)
		}
	}
	buf := make([]byte, 0, 256)
	check("uint64", 0, exercise[uint64](t, &buf, 5))
	check("point", 0, exercise(t, &buf, point{1, 2, 3}))
	check("padded", 0, exercise(t, &buf, padded{B: 1}))
	check("time", 0, exercise(t, &buf, time.Unix(1, 2)))
	check("string", 1, exercise(t, &buf, "some text"))
	check("struct with a string", 1, exercise(t, &buf, struct {
		A string
		B int
	}{"text", 1}))
}

func TestSharing(t *testing.T) {
	type record struct {
		A, B string
		C    int
	}
	b, err := must[record](t).Append(nil, record{"first", "second", 3})
	if err != nil {
		t.Fatal(err)
	}
	decode := codec.Sharing(must[record](t))
	var v record
	if n := testing.AllocsPerRun(10, func() {
		if _, err := decode(b, &v); err != nil {
			t.Fatal(err)
		}
	}); n != 0 || v != (record{"first", "second", 3}) {
		t.Errorf("%v allocations, %+v", n, v)
	}
	// Bytes can be changed by who gets them, so they are not shared.
	src := []byte{3, 1, 2}
	var raw []byte
	if _, err := codec.Sharing(must[[]byte](t))(src, &raw); err != nil || &raw[0] == &src[1] {
		t.Error("bytes are shared", err)
	}
}

// TestLengthsAreChecked decodes bytes that announce more than there is.
func TestLengthsAreChecked(t *testing.T) {
	huge := append(bytes.Repeat([]byte{0xff}, 4), 0x7f, 0, 0, 0, 0) // a uvarint of 2^35-1 and little behind it
	decode := func(name string, f func() error) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := f(); !errors.Is(err, codec.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%s: %d bytes allocated for %d", name, n, len(huge))
		}
	}
	decode("string", func() error { var v string; _, err := must[string](t).Decode(huge, &v); return err })
	decode("bytes", func() error { var v []byte; _, err := must[[]byte](t).Decode(huge, &v); return err })
	decode("numbers", func() error { var v []uint64; _, err := must[[]uint64](t).Decode(huge, &v); return err })
	decode("structs", func() error { var v []click; _, err := must[[]click](t).Decode(huge, &v); return err })
	decode("nothings", func() error { var v []nothing; _, err := must[[]nothing](t).Decode(huge, &v); return err })
	decode("map", func() error { var v map[string]int; _, err := must[map[string]int](t).Decode(huge, &v); return err })
	decode("map of nothing", func() error {
		var v map[nothing]nothing
		_, err := must[map[nothing]nothing](t).Decode(huge, &v)
		return err
	})
	decode("custom", func() error {
		var v []celsius
		_, err := must[[]celsius](t).Decode(append([]byte{2}, huge...), &v)
		return err
	})
	decode("proto", func() error { var v nullable; _, err := must[nullable](t).Decode(huge[1:], &v); return err })
}

// TestDeepOnSmallStack encodes and copies values that lie on a stack which has to grow, and garbage collections run meanwhile.
func TestDeepOnSmallStack(t *testing.T) {
	var long *list
	for i := range 9000 {
		long = &list{i, long}
	}
	type holder struct {
		Before string
		List   *list
		Words  []string
		M      map[string]*list
	}
	c := must[holder](t)
	done := make(chan error)
	for i := range 4 {
		go func() {
			v := holder{strings.Repeat("x", i), long, []string{strings.Repeat("y", i)}, map[string]*list{"k": {7, nil}}}
			var err error
			for range 5 {
				v = c.Copy(v)
				runtime.GC()
				b, e := c.Append(nil, v)
				var got holder
				if e == nil {
					_, e = c.Decode(b, &got)
				}
				if e != nil || got.Before != strings.Repeat("x", i) || got.Words[0] != strings.Repeat("y", i) || got.List.Next.Value != 8998 || got.M["k"].Value != 7 {
					err = fmt.Errorf("decoded another value: %q %q, %w", got.Before, got.Words, e)
				}
				v = got
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func exercise[T any](t testing.TB, buf *[]byte, v T) func() {
	c, got := must[T](t), new(T)
	return func() {
		b, err := c.Append((*buf)[:0], v)
		if err == nil {
			_, err = c.Decode(b, got)
		}
		if err != nil || c.Size(v) == 0 {
			t.Fatal(err)
		}
		c.Copy(v)
	}
}

func benchmark[T any](b *testing.B, v T) {
	buf := make([]byte, 0, 256)
	f := exercise(b, &buf, v)
	b.ReportAllocs()
	for b.Loop() {
		f()
	}
}

// Each turn encodes, decodes, sizes and copies.
func BenchmarkCodec(b *testing.B) {
	b.Run("type=uint64", func(b *testing.B) { benchmark(b, uint64(1)) })
	b.Run("type=string", func(b *testing.B) { benchmark(b, "twenty bytes of text") })
	b.Run("type=struct3", func(b *testing.B) { benchmark(b, point{1, 2, 3}) })
	b.Run("type=padded", func(b *testing.B) { benchmark(b, padded{B: 1}) })
	b.Run("type=click", func(b *testing.B) { benchmark(b, sampleClick()) })
	b.Run("type=map16", func(b *testing.B) {
		m := make(map[int]int)
		for i := range 16 {
			m[i] = i
		}
		benchmark(b, m)
	})
}
