package operator_test

import (
	"testing"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// party is a task at one end of a channel.
type party struct {
	tb   testing.TB
	wake chan struct{}
}

func (p *party) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *party) AwaitSpace() bool { <-p.wake; return true }
func (p *party) Fail(err error)   { p.tb.Error(err) }

func (p *party) Ends(exchange.ChannelID) (producer, consumer string) { return "producer", "consumer" }

// remote passes records through a router and a link between two TaskManagers: send takes one, take waits for a batch and returns how many it has.
func remote[T any](tb testing.TB) (send func(v T), flush func(), take func() int) {
	tb.Helper()
	c, err := codec.For[T]()
	if err != nil {
		tb.Fatal(err)
	}
	m, typ := grpcrpc.NewMemory(), operator.NewType(c, false)
	join := func(id string) (*exchange.Network, string) {
		l, err := m.Listen("")
		if err != nil {
			tb.Fatal(err)
		}
		n, s, done := exchange.NewNetwork(exchange.Direct), grpcrpc.NewServer(nil, nil), make(chan error, 1)
		s.Exchange(n.Accept)
		n.Join(id, l.Addr().String(), m)
		go func() { done <- s.Serve(l) }()
		tb.Cleanup(func() {
			s.Close()
			if err := <-done; err != nil {
				tb.Error(err)
			}
			n.Leave(id)
		})
		return n, l.Addr().String()
	}
	a, here := join("a")
	b, there := join("b")
	from, to := &party{tb, make(chan struct{}, 1)}, &party{tb, make(chan struct{}, 1)}
	w, err := a.OpenWriter([]exchange.WriterChannel{{Place: exchange.Place{Here: "a", There: "b", Address: there}}}, typ, 1<<20, from)
	if err != nil {
		tb.Fatal(err)
	}
	g, err := b.OpenGate([]exchange.GateChannel{{Place: exchange.Place{Here: "b", There: "a", Address: here}, Type: typ}}, 1<<20, to)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { w.Close(); g.Close(nil) })
	r := typ.NewRouter(exchange.RouterSpec{Channels: 1, MaxBytes: 32 << 10, MaxRecords: 1000, Send: w.Send, Copy: true})
	out := r.(interface{ Collect(v T, ts event.Time) })
	return func(v T) { out.Collect(v, 7) }, r.Flush, func() int {
		for {
			e, _, ok := g.Next()
			if !ok {
				<-to.wake
				continue
			}
			n := e.Batch.Len()
			typ.Release(e.Batch)
			return n
		}
	}
}

type parcel struct {
	ID   uint64
	Body string
}

// BenchmarkRemote passes records of 200 bytes through a router, and over a link between two TaskManagers. What it allocates, it allocates for a batch.
func BenchmarkRemote(b *testing.B) {
	send, flush, take := remote[parcel](b)
	p := parcel{ID: 1 << 40, Body: string(make([]byte, 191))}
	b.SetBytes(200)
	b.ReportAllocs()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; n < b.N; {
			n += take()
		}
	}()
	b.ResetTimer()
	for range b.N {
		send(p)
	}
	flush()
	<-done
}

// TestRemoteRecordsAllocateNothing says that what is allocated on the way to another process is allocated for a batch, not for a record.
func TestRemoteRecordsAllocateNothing(t *testing.T) {
	send, flush, take := remote[uint64](t)
	const records = 100_000
	round := func() {
		for i := range uint64(records) {
			send(i)
			if i%1000 == 999 {
				flush()
				for n := 0; n < 1000; {
					n += take()
				}
			}
		}
	}
	round()
	if n := testing.AllocsPerRun(3, round); n > records/10 {
		t.Errorf("%v allocations for %d records in %d batches", n, records, records/1000)
	} else {
		t.Logf("%.1f allocations a batch", n/(records/1000))
	}
}
