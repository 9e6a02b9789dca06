package kafka

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// enumContext is an EnumeratorContext that keeps what is assigned.
type enumContext struct {
	parallelism int
	assigned    map[int][]connector.Split
	noMore      map[int]bool
}

func (c *enumContext) Parallelism() int { return c.parallelism }
func (c *enumContext) Assign(subtask int, s []connector.Split) {
	c.assigned[subtask] = append(c.assigned[subtask], s...)
}
func (c *enumContext) NoMoreSplits(subtask int) { c.noMore[subtask] = true }
func (c *enumContext) Operator() string         { return "in" }
func (c *enumContext) Job() string              { return "job" }
func (c *enumContext) Logger() *slog.Logger     { return slog.New(slog.DiscardHandler) }
func (c *enumContext) Metrics() *metrics.Group  { return nil }

func newEnumContext(p int) *enumContext {
	return &enumContext{parallelism: p, assigned: map[int][]connector.Split{}, noMore: map[int]bool{}}
}

// TestGolden: what is stored is read by every later version.
func TestGolden(t *testing.T) {
	p := position{partition: partition{"clicks-1", 3}, topicID: [16]byte{1, 15: 2}, offset: 1 << 40, epoch: 7, stop: unset}
	if want := []byte("\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x08clicks-1\x06\x80\x80\x80\x80\x80@\x0e\x01"); !bytes.Equal(p.append(nil), want) {
		t.Errorf("position: %q", p.append(nil))
	}
	c := committable{id: "p-out-0-1", pid: 4000, epoch: 5, tv2: true, checkpoint: 17, records: 99, first: time.UnixMilli(1000), deadline: time.UnixMilli(901000)}
	if want := []byte("\x01\x01\tp-out-0-1\xc0>\n\"\xc6\x01\xd0\x0f\x90\xfem"); !bytes.Equal(c.append(nil), want) {
		t.Errorf("committable: %q", c.append(nil))
	}
	s := sinkState{prefix: "p-out", subtasks: 4, slots: 3}
	if want := []byte("\x01\x05p-out\x08\x06"); !bytes.Equal(s.append(nil), want) {
		t.Errorf("sink state: %q", s.append(nil))
	}
	e := &enumerator{started: true, parts: map[partition]*found{p.partition: {position: p, assigned: true}}, order: []partition{p.partition}}
	b, err := e.Snapshot()
	if want := append([]byte("\x01\x01\x01\x01"), p.append(nil)...); err != nil || !bytes.Equal(b, want) {
		t.Errorf("enumerator: %q, %v", b, err)
	}
}

func FuzzPosition(f *testing.F) {
	p := position{partition: partition{"clicks", 3}, offset: 5, epoch: -1, stop: 9}
	f.Add(p.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, rest, err := readPosition(b)
		if err != nil {
			if !errors.Is(err, errStored) {
				t.Error(err)
			}
			return
		}
		q, rest2, err := readPosition(append(p.append(nil), rest...))
		if err != nil || q != p || !bytes.Equal(rest, rest2) {
			t.Errorf("%+v -> %+v, %v", p, q, err)
		}
	})
}

func FuzzCommittable(f *testing.F) {
	c := committable{id: "p-out-0-1", pid: 4000, epoch: 5, tv2: true, checkpoint: 17, records: 99, first: time.UnixMilli(1000), deadline: time.UnixMilli(901000)}
	f.Add(c.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := readCommittable(b)
		if err != nil {
			return
		}
		d, err := readCommittable(c.append(nil))
		if err != nil || !cmp.Equal(c, d, cmp.AllowUnexported(committable{})) {
			t.Errorf("%+v -> %+v, %v", c, d, err)
		}
	})
}

func FuzzSinkState(f *testing.F) {
	s := sinkState{prefix: "p-out", subtasks: 4, slots: 3}
	f.Add(s.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readSinkState(b)
		if err != nil {
			return
		}
		if u, err := readSinkState(s.append(nil)); err != nil || u != s {
			t.Errorf("%+v -> %+v, %v", s, u, err)
		}
	})
}

func FuzzEnumerator(f *testing.F) {
	p := position{partition: partition{"clicks", 3}, offset: 5, epoch: -1, stop: 9}
	e := &enumerator{started: true, parts: map[partition]*found{p.partition: {position: p}}, order: []partition{p.partition}}
	b, err := e.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := newEnumerator(newSourceConfig(nil), false, newEnumContext(1), b)
		if err != nil {
			return
		}
		s, err := e.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		again, err := newEnumerator(newSourceConfig(nil), false, newEnumContext(1), s)
		if err != nil {
			t.Fatal(err)
		}
		if u, err := again.Snapshot(); err != nil || !bytes.Equal(s, u) {
			t.Errorf("%x -> %x, %v", s, u, err)
		}
	})
}

// TestOwner is Flink's formula: partitions are spread evenly, and topics begin at different readers.
func TestOwner(t *testing.T) {
	for _, c := range []struct {
		topic string
		num   int32
		par   int
		want  int
	}{
		// "clicks".hashCode() is -1357714453 in Java.
		{"clicks", 0, 4, int((int64(-1357714453)*31&0xffffffff)&0x7fffffff) % 4},
		{"clicks", 3, 4, (int((int64(-1357714453)*31&0xffffffff)&0x7fffffff)%4 + 3) % 4},
		{"", 5, 3, 2},
	} {
		e := &enumerator{ctx: newEnumContext(c.par)}
		if got := e.owner(partition{c.topic, c.num}); got != c.want {
			t.Errorf("%s-%d of %d: reader %d, want %d", c.topic, c.num, c.par, got, c.want)
		}
	}
}

// TestDealtOnce: a restored enumerator hands out what waits, and nothing that readers have.
func TestDealtOnce(t *testing.T) {
	e := &enumerator{cfg: newSourceConfig(nil), ctx: newEnumContext(2), parts: map[partition]*found{}, readers: make([]bool, 2), started: true}
	for n := range int32(4) {
		p := partition{"t", n}
		e.parts[p] = &found{position: position{partition: p, stop: unset}, assigned: n < 2}
		e.order = append(e.order, p)
	}
	b, err := e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	ctx := newEnumContext(3)
	r, err := newEnumerator(newSourceConfig([]SourceOption{StopAt(Latest())}), true, ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for range 2 {
		for sub := range 3 {
			if err := r.AddReader(t.Context(), sub); err != nil {
				t.Fatal(err)
			}
			if !ctx.noMore[sub] {
				t.Errorf("reader %d waits for more", sub)
			}
		}
	}
	for _, splits := range ctx.assigned {
		for _, s := range splits {
			seen[s.ID]++
		}
	}
	if diff := cmp.Diff(map[string]int{"t-2": 1, "t-3": 1}, seen); diff != "" {
		t.Error(diff)
	}
}
