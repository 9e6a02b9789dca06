package stream_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// TestChainOptions shows which operators share a task, and which slots, by the options they have.
func TestChainOptions(t *testing.T) {
	env := stream.NewEnv("job", nil)
	same := func(n int) int { return n }
	in := stream.From(env, source[int]{}, event.NoWatermarks[int](), stream.UID("in"))
	a := stream.Map(in, same, stream.Name("a"))
	alone := stream.Map(a, same, stream.Name("alone"), stream.DisableChaining())
	b := stream.Map(alone, same, stream.Name("b"))
	first := stream.Map(b, same, stream.Name("first"), stream.StartNewChain())
	c := stream.Map(stream.Forward(first), same, stream.Name("c"))
	other := stream.Map(c, same, stream.Name("other"), stream.SlotSharingGroup("other"))
	stream.To(other, sink[int]{}, stream.UID("out"))
	both := stream.Map(stream.Union(other, in), same, stream.Name("both"))
	stream.To(both, sink[int]{}, stream.UID("back"), stream.SlotSharingGroup("other"))
	p, err := operator.Program(env)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range p.Graph().GetVertices() {
		got = append(got, v.GetSlotSharingGroup()+": "+v.GetName())
	}
	want := []string{"default: Source: in -> a", "default: alone", "default: b", "default: first -> c", "other: other -> Sink: out", "default: both", "other: Sink: back"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
