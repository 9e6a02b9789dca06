package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/pkg/streamtest"
	"github.com/rivulet-io/rivulet/test/program"
)

func TestMain(m *testing.M) { program.Main(m, main) }

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// TestVisits tests the function by itself.
func TestVisits(t *testing.T) {
	h := streamtest.New(t, func(in stream.Stream[Click]) stream.Stream[Visit] {
		return stream.Process(stream.KeyBy(in, func(c Click) string { return c.User }), newVisits, stream.UID("visits"))
	})
	for _, minute := range []int{0, 10, 25} {
		at := noon.Add(time.Duration(minute) * time.Minute)
		h.PushAt(at, Click{"ann", at})
	}
	h.Watermark(noon.Add(54 * time.Minute))
	if got := h.Out.Take(); len(got) > 0 {
		t.Errorf("too early: %v", got)
	}
	h.Watermark(noon.Add(55 * time.Minute))
	if d := cmp.Diff([]Visit{{"ann", 3, noon.Add(55 * time.Minute)}}, h.Out.Take()); d != "" {
		t.Error(d)
	}
}

// TestProgram runs all of it.
func TestProgram(t *testing.T) {
	kafka := program.NewKafka(t, 1, "clicks", "visits")
	out := kafka.Consume("visits")
	program.Start(t, t.TempDir(), "--bootstrap", kafka.Address, "--data-dir", program.DataDir(t), "--rest-address", "off", "-D", "execution.checkpointing.interval=50ms")
	for _, c := range []Click{{"ann", noon}, {"bob", noon.Add(time.Hour)}} {
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		kafka.Produce(&kgo.Record{Topic: "clicks", Value: b})
	}
	out.Await("a visit", func(rs []*kgo.Record) bool { return len(rs) > 0 })
	if got, want := string(out.Records[0].Value), `{"User":"ann","Pages":1,"Until":"2026-01-01T12:30:00Z"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestReadme keeps the example of the README what is compiled here.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, part := range strings.Split(string(readme), "```go\n")[1:] {
		block, _, ok := strings.Cut(part, "```")
		if !ok || !strings.Contains(string(code), block) {
			t.Errorf("README.md shows what examples/visits/main.go has not:\n%s", block)
		}
		blocks++
	}
	if blocks == 0 {
		t.Error("README.md shows no Go")
	}
}
