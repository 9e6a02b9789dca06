package codec_test

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rivulet-io/rivulet/pkg/codec"
)

// zoo has a field of every kind.
type zoo struct {
	A    int8
	B    uint16
	C    float32
	D    bool
	S    word
	Raw  []byte
	At   time.Time
	Took time.Duration
	P    *point
	L    *list
	T    tree
	M    map[string][]int64
	N    map[point]*bool
	Z    []nothing
	Q    [2][]padded
	C2   []celsius
	Pb   *structpb.Struct
	Skip []string `rivulet:"-"`
}

// zooLess lacks fields of zoo, so that migration skips one of every kind.
type zooLess struct {
	Extra string
	B     uint64
	T     struct{ Name string }
	Q     [2][]struct{ B uint64 }
}

// decodes checks that a decoder survives any bytes, takes no more than there are, and that what it decoded is encoded and decoded to the same.
func decodes[T any](t *testing.T, c codec.Codec[T], src []byte) {
	t.Helper()
	var v T
	n, err := c.Decode(src, &v)
	if err != nil {
		return
	}
	if n > len(src) {
		t.Fatalf("took %d of %d bytes", n, len(src))
	}
	b, err := c.Append(nil, v)
	if err != nil {
		t.Fatalf("cannot encode what was decoded: %v", err)
	}
	var again T
	if m, err := c.Decode(b, &again); err != nil || m != len(b) {
		t.Fatalf("decode again: %d of %d, %v", m, len(b), err)
	}
	bb, err := c.Append(nil, c.Copy(again))
	if err != nil || !bytes.Equal(b, bb) {
		t.Fatalf("unstable encoding:\n%x\n%x\n%v", b, bb, err)
	}
}

func FuzzDecode(f *testing.F) {
	whole := must[zoo](f)
	seed, err := whole.Append(nil, zoo{
		A: 1, S: "s", Raw: []byte{1}, P: &point{}, L: &list{Next: &list{}}, T: tree{Kids: []tree{{}}}, M: map[string][]int64{"a": {1}}, N: map[point]*bool{{}: nil},
		Z: make([]nothing, 2), Q: [2][]padded{{{}}}, C2: []celsius{{3}}, Pb: &structpb.Struct{},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add(bytes.Repeat([]byte{2}, 300))
	click, strings, lists, maps := must[click](f), must[[]string](f), must[*list](f), must[map[string]map[int16]bool](f)
	links, nothings := must[links](f), must[[]nothing](f)
	less, _, err := codec.Migrate(must[zooLess](f), whole.Schema())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		decodes(t, whole, src)
		decodes(t, click, src)
		decodes(t, strings, src)
		decodes(t, lists, src)
		decodes(t, maps, src)
		decodes(t, links, src)
		decodes(t, nothings, src)
		// What the present type reads, a migration that drops most of it reads to the same end.
		var v zoo
		var w zooLess
		n, err := whole.Decode(src, &v)
		m, lessErr := less(src, &w)
		if err == nil && (lessErr != nil || m != n || w.B != uint64(v.B) || w.T.Name != v.T.Name || len(w.Q[1]) != len(v.Q[1])) {
			t.Fatalf("migration took %d of %d, %v: %+v", m, n, lessErr, w)
		}
	})
}

func FuzzSchema(f *testing.F) {
	f.Add(must[zoo](f).Schema().Encode())
	f.Add(must[list](f).Schema().Timed().Encode())
	present := must[zooLess](f)
	wild := must[[]zoo](f)
	row := bytes.Repeat([]byte{1, 0, 2}, 40)
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := codec.DecodeSchema(src)
		if err != nil {
			return
		}
		again, err := codec.DecodeSchema(s.Encode())
		if err != nil || !again.Equal(s) || again.String() != s.String() {
			t.Fatalf("%v is read again as %v, %v", s, again, err)
		}
		// Whatever the schema says, rows under it are read or refused.
		if decode, _, err := codec.Migrate(present, s); err == nil {
			var v zooLess
			_, _ = decode(row, &v)
		}
		if decode, _, err := codec.Migrate(wild, s); err == nil {
			var v []zoo
			_, _ = decode(row, &v)
		}
		_ = codec.CompareKey(s, present.Schema())
	})
}
