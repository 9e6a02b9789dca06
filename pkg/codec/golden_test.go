package codec_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

type orderKey struct {
	Shop   word
	Number int32
	Open   bool
	At     time.Time
	Parts  [2]uint16
}

type golden struct{ name, bytes, schema string }

// key is what keys have always been encoded as, and hashed to: state is found by it.
func key[K any](t *testing.T, name string, v K) golden {
	t.Helper()
	c, err := codec.ForKey[K]()
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	plain := must[K](t)
	if p, err := plain.Append(nil, v); err != nil || string(p) != string(b) {
		t.Errorf("%s is encoded in another way when it is no key: %x, %v", name, p, err)
	}
	h := base.HashKey(b)
	return golden{name, fmt.Sprintf("%x hash %016x group %d of 128", b, uint64(h), h.Group(128)), fmt.Sprintf("%x", c.Schema().Encode())}
}

func value[T any](t *testing.T, name string, v T) golden {
	t.Helper()
	c := must[T](t)
	b, err := c.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return golden{name, fmt.Sprintf("%x", b), fmt.Sprintf("%s\n%x", c.Schema(), c.Schema().Encode())}
}

// TestGolden compares encodings, hashes of keys and schemas with those that earlier releases wrote. They never change; new ones are added at the end.
func TestGolden(t *testing.T) {
	keys := []golden{
		key(t, "false", false), key(t, "true", true),
		key(t, "int8 -1", int8(-1)), key(t, "int16 -2", int16(-2)), key(t, "int32 3", int32(3)), key(t, "int64 min", int64(math.MinInt64)), key(t, "int 1", 1), key(t, "int -1", -1),
		key(t, "uint8 255", uint8(255)), key(t, "uint16 1", uint16(1)), key(t, "uint32 1", uint32(1)), key(t, "uint64 1", uint64(1)), key(t, "uint 1", uint(1)),
		key(t, "empty string", ""), key(t, "string a", "a"), key(t, "string Rivulet", "Rivulet"), key(t, "string of 200", strings.Repeat("ab", 100)), key(t, "word", word("Rivulet")),
		key(t, "4 bytes", [4]byte{1, 2, 3, 4}), key(t, "2 strings", [2]string{"a", "bc"}),
		key(t, "zero time", time.Time{}), key(t, "time", time.Unix(1700000000, 123456789)), key(t, "time elsewhere", time.Unix(1700000000, 123456789).In(time.FixedZone("x", 3600))),
		key(t, "duration", time.Second), key(t, "no fields", nothing{}),
		key(t, "struct", orderKey{"shop", 7, true, time.Unix(1, 1), [2]uint16{1, 2}}),
	}
	ten := 10
	values := []golden{
		value(t, "float32", float32(1.5)), value(t, "float64", math.Pi), value(t, "bytes", []byte{1, 2}), value(t, "nil bytes", []byte(nil)), value(t, "no bytes", []byte{}),
		value(t, "pointer", &ten), value(t, "nil pointer", (*int)(nil)), value(t, "slice", []int16{1, -1}), value(t, "nothings", make([]nothing, 2)),
		value(t, "map", map[string]int8{"b": 2, "a": 1}), value(t, "proto", durationpb.New(time.Second)), value(t, "nil proto", (*durationpb.Duration)(nil)),
		value(t, "list", &list{1, &list{2, nil}}), value(t, "tree", tree{"r", []tree{{"k", nil}}}), value(t, "custom", []celsius{{1}}),
		value(t, "click", sampleClick()), value(t, "links", links{}), value(t, "array of structs", [2]padded{{A: true}, {B: 1}}),
	}
	datadriven.RunTest(t, "testdata/golden.txt", func(t *testing.T, d *datadriven.TestData) string {
		var b strings.Builder
		switch d.Cmd {
		case "keys":
			for _, g := range keys {
				fmt.Fprintf(&b, "%s: %s\n  schema %s\n", g.name, g.bytes, g.schema)
			}
		case "values":
			for _, g := range values {
				fmt.Fprintf(&b, "%s: %s\n  schema %s\n", g.name, g.bytes, strings.ReplaceAll(g.schema, "\n", "\n  "))
			}
		case "schema":
			for line := range strings.Lines(d.Input) {
				var src []byte
				if _, err := fmt.Sscanf(line, "%x", &src); err != nil {
					d.Fatalf(t, "%v", err)
				}
				s, err := codec.DecodeSchema(src)
				if err != nil {
					fmt.Fprintln(&b, err)
					continue
				}
				fmt.Fprintln(&b, s)
			}
		}
		return b.String()
	})
}
