package job

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
)

// TestEncode compares with package encoding/json.
func TestEncode(t *testing.T) {
	type value struct {
		Key   string `json:"key"`
		Value string `json:"value"`
		Count int64  `json:"count"`
	}
	for _, s := range []string{"", "plain", `a "quoted" \ one`, "line\nand\ttab\x00\x1f", "naïve 日本 \u2028", "bad \xff utf-8", "<html>&"} {
		in, err := decode(&kafka.Record{Key: []byte(s), Value: []byte(s + s)})
		if err != nil {
			t.Fatal(err)
		}
		in.Count = 42
		var r kafka.Record
		if err := encode(in, &r); err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != s {
			t.Errorf("key %q, want %q", r.Key, s)
		}
		want, err := json.Marshal(value{s, s + s, 42})
		if err != nil {
			t.Fatal(err)
		}
		var got, expected value
		if err := json.Unmarshal(r.Value, &got); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		if err := json.Unmarshal(want, &expected); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(expected, got); d != "" {
			t.Errorf("%q: %s", s, d)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	in := record{Key: "key 12345", Value: `{"user":"ann","page":"/about/us","at":"2026-01-01T12:00:00Z"}`, Count: 12345}
	b.ReportAllocs()
	for b.Loop() {
		var r kafka.Record
		if err := encode(in, &r); err != nil {
			b.Fatal(err)
		}
	}
}
