package exchange_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// rows is a batch: numbers, and how much they weigh together.
type rows struct {
	n     []int64
	bytes int
}

func (r *rows) Len() int { return len(r.n) }

type rowsType struct {
	released atomic.Int64
	err      error // of Encode
}

func (*rowsType) Name() string                                  { return "rows" }
func (*rowsType) Size(b exchange.Batch) int                     { return b.(*rows).bytes }
func (*rowsType) Mutable() bool                                 { return false }
func (*rowsType) Copy(exchange.Batch) exchange.Batch            { panic("nobody copies") }
func (*rowsType) NewRouter(exchange.RouterSpec) exchange.Router { panic("no router") }

func (t *rowsType) Release(b exchange.Batch) {
	t.released.Add(1)
	clear(b.(*rows).n) // whoever still looks at it sees nothing
}

func (t *rowsType) Encode(dst []byte, b exchange.Batch) ([]byte, error) {
	for _, n := range b.(*rows).n {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
	}
	return dst, t.err
}

func (t *rowsType) Decode(src []byte) (exchange.Batch, error) {
	r := &rows{bytes: len(src)}
	for ; len(src) > 0; src = src[8:] {
		r.n = append(r.n, int64(binary.LittleEndian.Uint64(src)))
	}
	return r, nil
}

// end is a task at one end of a channel.
type end struct {
	wake   chan struct{}
	closed atomic.Bool
	mu     sync.Mutex
	err    error
	waits  atomic.Int64
}

func newEnd() *end { return &end{wake: make(chan struct{}, 1)} }

func (e *end) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *end) AwaitSpace() bool {
	e.waits.Add(1)
	<-e.wake
	return !e.closed.Load()
}

func (e *end) Fail(err error) {
	e.mu.Lock()
	if e.err == nil {
		e.err = err
	}
	e.mu.Unlock()
	e.Wake()
}

func (*end) Ends(id exchange.ChannelID) (producer, consumer string) {
	return fmt.Sprintf("producer %d#%d", id.Source, id.SourceAttempt), fmt.Sprintf("consumer %d#%d", id.Target, id.TargetAttempt)
}

func openWriter(t *testing.T, n *exchange.Network, channels []exchange.WriterChannel, typ exchange.Type, limit int, e *end) *exchange.Writer {
	t.Helper()
	w, err := n.OpenWriter(channels, typ, limit, e)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func openGate(t *testing.T, n *exchange.Network, channels []exchange.GateChannel, limit int, e *end) *exchange.Gate {
	t.Helper()
	g, err := n.OpenGate(channels, limit, e)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func id(source, target int) exchange.ChannelID {
	return exchange.ChannelID{Job: base.JobID{1}, Source: source, Target: target}
}

// next takes the next element, waiting for it. Nothing stays blocked for that long: its producer may be what all wait for.
func (e *end) next(g *exchange.Gate, unblock func()) (exchange.Element, int) {
	for {
		if x, from, ok := g.Next(); ok {
			return x, from
		}
		unblock()
		if x, from, ok := g.Next(); ok {
			return x, from
		}
		<-e.wake
	}
}

var fabrics = map[string]exchange.Fabric{"direct": exchange.Direct, "serialized": exchange.Serialized, "remote": remote}

// remote is what the tests call hand-overs between two processes.
const remote exchange.Fabric = -1

// two returns the networks of a producer and of a consumer: on most fabrics that is one.
func two(t *testing.T, f exchange.Fabric) (producer, consumer *process) {
	if f != remote {
		p := &process{Network: exchange.NewNetwork(f)}
		return p, p
	}
	m := grpcrpc.NewMemory()
	return join(t, m, "tm-1"), join(t, m, "tm-2")
}

// TestOrder sends numbers and barriers from several producers to several consumers, each of which blocks and unblocks channels as it likes.
func TestOrder(t *testing.T) {
	for name, fabric := range fabrics {
		t.Run(name, func(t *testing.T) {
			const producers, consumers, elements = 3, 2, 500
			from, to := two(t, fabric)
			typ := &rowsType{}
			var all sync.WaitGroup
			for p := range producers {
				all.Go(func() {
					e, r := newEnd(), rand.New(rand.NewPCG(uint64(p), 1))
					var chans []exchange.WriterChannel
					for c := range consumers {
						chans = append(chans, exchange.WriterChannel{ID: id(p, c), Place: from.sees(to)})
					}
					w := openWriter(t, from.Network, chans, typ, 1000, e)
					for i := range int64(elements) {
						for c := range consumers {
							w.Send(c, &rows{n: []int64{2 * i, int64(p)}, bytes: 1 + r.IntN(2000)})
						}
						w.Broadcast(exchange.Element{Kind: exchange.KindBarrier, Barrier: &exchange.Barrier{Checkpoint: 2*i + 1}})
					}
					w.Broadcast(exchange.Element{Kind: exchange.KindEnd})
					w.Close()
				})
			}
			for c := range consumers {
				all.Go(func() {
					e, r := newEnd(), rand.New(rand.NewPCG(uint64(c), 2))
					var chans []exchange.GateChannel
					for p := range producers {
						chans = append(chans, exchange.GateChannel{ID: id(p, c), Input: p, Place: to.sees(from), Type: typ})
					}
					g := openGate(t, to.Network, chans, 1000, e)
					var last [producers]int64
					blocked := map[int]bool{}
					for i := range last {
						last[i] = -1
					}
					unblock := func() { clear(blocked); g.Unblock() }
					for ended := 0; ended < producers; {
						x, from := e.next(g, unblock)
						if blocked[from] {
							t.Errorf("channel %d is blocked", from)
						}
						var n int64
						switch x.Kind {
						case exchange.KindBatch:
							n = x.Batch.(*rows).n[0]
							if x.Batch.(*rows).n[1] != int64(from) || g.Input(from) != from {
								t.Errorf("from %d: %v", from, x.Batch)
							}
							typ.Release(x.Batch)
						case exchange.KindBarrier:
							n = x.Barrier.Checkpoint
						case exchange.KindEnd:
							ended++
							n = 2 * elements
						default:
							t.Errorf("a %v", x.Kind)
						}
						if n != last[from]+1 {
							t.Errorf("channel %d: %d after %d", from, n, last[from])
							return
						}
						last[from] = n
						if r.IntN(3) == 0 {
							g.Block(from)
							blocked[from] = true
						}
						if r.IntN(4) == 0 {
							unblock()
						}
					}
					g.Close(nil)
				})
			}
			all.Wait()
			if n := from.Open() + to.Open(); n != 0 {
				t.Errorf("%d channels are left", n)
			}
			want := int64(producers * consumers * elements)
			if fabric != exchange.Direct {
				want *= 2 // what was encoded, and what was decoded
			}
			if n := typ.released.Load(); n != want {
				t.Errorf("%d batches were released, want %d", n, want)
			}
		})
	}
}

// TestBounds says that a channel takes what fits and one more, and a full one holds up nobody but who sends to it.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, typ, e := exchange.NewNetwork(exchange.Direct), &rowsType{}, newEnd()
		w := openWriter(t, net, []exchange.WriterChannel{{ID: id(0, 0)}, {ID: id(0, 1)}}, typ, 1000, e)
		other := newEnd()
		v := openWriter(t, net, []exchange.WriterChannel{{ID: id(1, 0)}, {ID: id(1, 1)}}, typ, 1000, other)
		consumer := newEnd()
		g := openGate(t, net, []exchange.GateChannel{{ID: id(0, 0)}, {ID: id(1, 0)}}, 1000, consumer)
		h := openGate(t, net, []exchange.GateChannel{{ID: id(0, 1)}, {ID: id(1, 1)}}, 1000, consumer)
		var sent atomic.Int64
		go func() {
			for range 10 {
				w.Send(0, &rows{n: []int64{1}, bytes: 300})
				sent.Add(1)
			}
		}()
		synctest.Wait()
		if n, q := sent.Load(), g.Load().Bytes; n != 4 || q != 1200 {
			t.Errorf("%d batches were taken, %d bytes are queued", n, q)
		}
		if w.Available(false) || !v.Available(false) {
			t.Error("the wrong writer is available")
		}
		// The others go on: another producer to the same consumer, and to another.
		v.Send(0, &rows{n: []int64{2}, bytes: 900})
		v.Send(1, &rows{n: []int64{3}, bytes: 100_000}) // an oversized one travels alone
		if v.Available(false) || h.Load().Bytes != 100_000 {
			t.Error("an oversized batch does not count")
		}
		// Control elements never wait.
		w.Broadcast(exchange.Element{Kind: exchange.KindBarrier, Barrier: &exchange.Barrier{}})
		if g.Load().Bytes != 1200+64+900 {
			t.Errorf("%d bytes are queued", g.Load().Bytes)
		}
		for range 2 { // the first of each
			g.Next()
		}
		synctest.Wait()
		if sent.Load() != 5 {
			t.Errorf("%d batches were taken", sent.Load())
		}
		// The end of the consumer lets the producer go, and what was queued is released.
		released := 0
		g.Close(func(int, exchange.Batch) { released++ })
		synctest.Wait()
		if sent.Load() != 10 || released != 4 || typ.released.Load() != 5 {
			t.Errorf("%d batches were taken, %d and %d released", sent.Load(), released, typ.released.Load())
		}
	})
}

// TestEndingProducerWaitsNoLonger says that a task which ends loses what it could not send.
func TestEndingProducerWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, typ, e := exchange.NewNetwork(exchange.Direct), &rowsType{}, newEnd()
		w := openWriter(t, net, []exchange.WriterChannel{{ID: id(0, 0)}}, typ, 100, e)
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.Send(0, &rows{n: []int64{1}, bytes: 200})
			w.Send(0, &rows{n: []int64{2}, bytes: 200})
		}()
		synctest.Wait()
		e.closed.Store(true)
		e.Wake()
		<-done
		if typ.released.Load() != 1 {
			t.Errorf("%d released", typ.released.Load())
		}
	})
}

// TestWatermarksCoalesce says that a watermark replaces the one queued before it, and nothing else does.
func TestWatermarksCoalesce(t *testing.T) {
	net, typ, e := exchange.NewNetwork(exchange.Direct), &rowsType{}, newEnd()
	w := openWriter(t, net, []exchange.WriterChannel{{ID: id(0, 0)}}, typ, 1000, e)
	mark := func(t event.Time) { w.Broadcast(exchange.Element{Kind: exchange.KindWatermark, Watermark: t}) }
	mark(1)
	mark(2)
	w.Send(0, &rows{n: []int64{7}})
	mark(3)
	w.Broadcast(exchange.Element{Kind: exchange.KindIdle, Idle: true})
	mark(4)
	mark(5)
	g := openGate(t, net, []exchange.GateChannel{{ID: id(0, 0)}}, 1000, newEnd())
	var got []string
	for {
		x, _, ok := g.Next()
		if !ok {
			break
		}
		got = append(got, fmt.Sprint(x.Kind, int64(x.Watermark)))
	}
	if want := []string{"2 2", "1 0", "2 3", "3 0", "2 5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSerializedFailure says that what can not be encoded ends the task that sends it.
func TestSerializedFailure(t *testing.T) {
	net, typ, e := exchange.NewNetwork(exchange.Serialized), &rowsType{err: errors.New("no")}, newEnd()
	w := openWriter(t, net, []exchange.WriterChannel{{ID: id(0, 0)}}, typ, 1000, e)
	w.Send(0, &rows{n: []int64{7, 8}})
	if e.err == nil || e.err.Error() != "job 01000000000000000000000000000000 edge 0 subtask 0#0 -> 0#0: hand over a batch of 2 records of rows: no" {
		t.Errorf("got %v", e.err)
	}
}

// TestEitherEndComesFirst says that a channel is there from its first end to its last, and a job's are forgotten at once.
func TestEitherEndComesFirst(t *testing.T) {
	net, typ := exchange.NewNetwork(exchange.Direct), &rowsType{}
	for _, gateFirst := range []bool{true, false} {
		var g *exchange.Gate
		open := func() { g = openGate(t, net, []exchange.GateChannel{{ID: id(0, 0)}}, 1000, newEnd()) }
		if gateFirst {
			open()
		}
		w := openWriter(t, net, []exchange.WriterChannel{{ID: id(0, 0)}}, typ, 1000, newEnd())
		w.Send(0, &rows{n: []int64{7}})
		w.Close()
		w.Close()
		if !gateFirst {
			open()
		}
		if x, _, ok := g.Next(); !ok || x.Batch.(*rows).n[0] != 7 {
			t.Error("what a producer sent before it ended is lost")
		}
		g.Close(nil)
		g.Close(nil)
		if net.Open() != 0 {
			t.Error("the channel is left")
		}
	}
	openWriter(t, net, []exchange.WriterChannel{{ID: id(0, 0)}}, typ, 1000, newEnd())
	net.Forget(base.JobID{2})
	if net.Open() != 1 {
		t.Error("another job's channel was forgotten")
	}
	net.Forget(base.JobID{1})
	if net.Open() != 0 {
		t.Error("the job's channel was not forgotten")
	}
}
