package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// process is a TaskManager with its exchange.
type process struct {
	*exchange.Network
	id, address string
	stop        func()
}

// join starts a process; it ends with the test, if not before.
func join(t *testing.T, network grpcrpc.Network, id string) *process {
	t.Helper()
	l, err := network.Listen("")
	if err != nil {
		t.Fatal(err)
	}
	n, s := exchange.NewNetwork(exchange.Direct), grpcrpc.NewServer(nil, nil)
	s.Exchange(n.Accept)
	p := &process{Network: n, id: id, address: l.Addr().String()}
	n.Join(id, p.address, network)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	p.stop = sync.OnceFunc(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.Leave(id)
	})
	t.Cleanup(p.stop)
	return p
}

// sees is where the tasks of another process are.
func (p *process) sees(other *process) exchange.Place {
	return exchange.Place{Here: p.id, There: other.id, Address: other.address}
}

// failure is what a task at an end has failed with.
func (e *end) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// sender is a producer of one channel.
func (p *process) sender(t *testing.T, to *process, id exchange.ChannelID, typ exchange.Type) (*exchange.Writer, *end) {
	t.Helper()
	e := newEnd()
	return openWriter(t, p.Network, []exchange.WriterChannel{{ID: id, Place: p.sees(to)}}, typ, 1000, e), e
}

func (p *process) receiver(t *testing.T, from *process, id exchange.ChannelID, typ exchange.Type) (*exchange.Gate, *end) {
	t.Helper()
	e := newEnd()
	return openGate(t, p.Network, []exchange.GateChannel{{ID: id, Place: p.sees(from), Type: typ}}, 1000, e), e
}

// TestRemoteElements sends each kind of element, to either end first, and each in order; what the producer has sent before it ended arrives.
func TestRemoteElements(t *testing.T) {
	for _, first := range []string{"gate", "writer", "writer ends"} {
		for _, ids := range []string{"ab", "ba"} { // either end dials
			t.Run(first+" "+ids, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m, typ := grpcrpc.NewMemory(), &rowsType{}
					a, b := join(t, m, ids[:1]), join(t, m, ids[1:])
					var g *exchange.Gate
					var ge *end
					if first == "gate" {
						g, ge = b.receiver(t, a, id(0, 0), typ)
						synctest.Wait()
					}
					w, we := a.sender(t, b, id(0, 0), typ)
					barrier := exchange.Barrier{Checkpoint: 7, TriggerTimeMS: 1234, Savepoint: true, Stop: exchange.StopDrain, Full: true, Dir: "file:///x"}
					w.Broadcast(exchange.Element{Kind: exchange.KindWatermark, Watermark: 5})
					w.Send(0, &rows{n: []int64{1, 2}})
					w.Broadcast(exchange.Element{Kind: exchange.KindBarrier, Barrier: &barrier})
					w.Broadcast(exchange.Element{Kind: exchange.KindIdle, Idle: true})
					w.Broadcast(exchange.Element{Kind: exchange.KindIdle})
					w.Broadcast(exchange.Element{Kind: exchange.KindWatermark, Watermark: event.Max})
					w.Broadcast(exchange.Element{Kind: exchange.KindEndOfData, Drain: true})
					w.Broadcast(exchange.Element{Kind: exchange.KindEnd})
					if first == "writer ends" {
						w.Close()
					}
					synctest.Wait()
					if g == nil {
						g, ge = b.receiver(t, a, id(0, 0), typ)
					}
					var got []string
					for len(got) < 8 {
						e, _ := ge.next(g, func() {})
						s := fmt.Sprint(int(e.Kind), " ", e.Watermark, " ", e.Idle, " ", e.Drain)
						if e.Batch != nil {
							s += fmt.Sprint(" ", e.Batch.(*rows).n)
						}
						if e.Barrier != nil {
							s += fmt.Sprintf(" %+v", *e.Barrier)
						}
						got = append(got, s)
					}
					var want []string
					for _, e := range []exchange.Element{
						{Kind: exchange.KindWatermark, Watermark: 5},
						{Kind: exchange.KindBatch},
						{Kind: exchange.KindBarrier},
						{Kind: exchange.KindIdle, Idle: true},
						{Kind: exchange.KindIdle},
						{Kind: exchange.KindWatermark, Watermark: event.Max},
						{Kind: exchange.KindEndOfData, Drain: true},
						{Kind: exchange.KindEnd},
					} {
						want = append(want, fmt.Sprint(int(e.Kind), " ", e.Watermark, " ", e.Idle, " ", e.Drain))
					}
					want[1] += " [1 2]"
					want[2] += fmt.Sprintf(" %+v", barrier)
					if !slices.Equal(got, want) {
						t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
					}
					w.Close()
					g.Close(nil)
					synctest.Wait()
					if err := errors.Join(we.failure(), ge.failure()); err != nil {
						t.Error(err)
					}
					if n := a.Open() + b.Open(); n != 0 {
						t.Errorf("%d channels are left", n)
					}
				})
			})
		}
	}
}

// TestRemoteBounds says that a producer sends what its consumer has room for, and one more; that a batch larger than all goes alone; that a blocked channel
// holds up no other of the same link; and that barriers do not wait for credit.
func TestRemoteBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, typ := grpcrpc.NewMemory(), &rowsType{}
		a, b := join(t, m, "a"), join(t, m, "b")
		blocked, be := a.sender(t, b, id(0, 0), typ)
		free, _ := a.sender(t, b, id(1, 0), typ)
		g, ge := b.receiver(t, a, id(0, 0), typ)
		h, he := b.receiver(t, a, id(1, 0), typ)
		var sent atomic.Int64
		numbers := make([]int64, 50) // 400 bytes encoded
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 20 {
				blocked.Send(0, &rows{n: slices.Clone(numbers)})
				sent.Add(1)
			}
		}()
		synctest.Wait()
		// Three of 400 fill a window of 1000, and three more the producer's queue.
		if n, there, here := sent.Load(), g.Load(), blocked.Load(); n != 6 || there.Bytes != 1200 || here.Bytes != 1200 {
			t.Errorf("%d batches were taken, %d bytes are queued there and %d here", n, there.Bytes, here.Bytes)
		}
		if be.waits.Load() == 0 {
			t.Error("the producer does not know that it waits")
		}
		for range 100 {
			free.Send(0, &rows{n: slices.Clone(numbers)})
			if e, _ := he.next(h, func() {}); e.Kind != exchange.KindBatch {
				t.Fatalf("got %v", e.Kind)
			}
		}
		free.Send(0, &rows{n: make([]int64, 1<<20)}) // 8 MB
		if e, _ := he.next(h, func() {}); e.Batch.Len() != 1<<20 {
			t.Errorf("%d records came of the large batch", e.Batch.Len())
		}
		if sent.Load() != 6 {
			t.Errorf("%d batches were sent", sent.Load())
		}
		for range 20 {
			if e, _ := ge.next(g, func() {}); e.Batch.Len() != 50 {
				t.Fatalf("got %d records", e.Batch.Len())
			}
		}
		<-done
		// What never waits passes when a batch has used up all credit.
		blocked.Send(0, &rows{n: make([]int64, 1000)})
		blocked.Broadcast(exchange.Element{Kind: exchange.KindBarrier, Barrier: &exchange.Barrier{}})
		synctest.Wait()
		if l := g.Load(); l.Elements != 2 {
			t.Errorf("%d elements came", l.Elements)
		}
		g.Close(nil)
		h.Close(nil)
		blocked.Close()
		free.Close()
	})
}

// hugeType encodes every batch to more than may be sent.
type hugeType struct{ rowsType }

func (*hugeType) Encode([]byte, exchange.Batch) ([]byte, error) { return make([]byte, 65<<20), nil }

// TestRemoteHuge says that a record which is too large for a message fails its task for good, with its size and the limit.
func TestRemoteHuge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, typ := grpcrpc.NewMemory(), &hugeType{}
		a, b := join(t, m, "a"), join(t, m, "b")
		w, e := a.sender(t, b, id(0, 0), typ)
		w.Send(0, &rows{n: []int64{1}})
		if err := e.failure(); base.ClassOf(err) != base.ClassPermanent || !strings.Contains(err.Error(), "68157431 bytes are more than the 67043312 that a record may have") {
			t.Errorf("got %v", err)
		}
		w.Close()
	})
}

// TestRemoteDebloat says that it is the consumer's limit which decides what is under way.
func TestRemoteDebloat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, typ := grpcrpc.NewMemory(), &rowsType{}
		a, b := join(t, m, "a"), join(t, m, "b")
		we, ge := newEnd(), newEnd()
		w := openWriter(t, a.Network, []exchange.WriterChannel{{ID: id(0, 0), Place: a.sees(b)}}, typ, 1<<20, we)
		g := openGate(t, b.Network, []exchange.GateChannel{{ID: id(0, 0), Place: b.sees(a), Type: typ}}, 1<<20, ge)
		go func() {
			for range 2000 {
				w.Send(0, &rows{n: make([]int64, 1000)})
			}
		}()
		synctest.Wait()
		if q := g.Load().Bytes; q != 5*8000 { // 32 KB, and what was begun
			t.Errorf("%d bytes are queued at first", q)
		}
		for range 100 {
			ge.next(g, func() {})
		}
		g.Debloat(time.Second) // 800 KB in a second
		synctest.Wait()
		if l := g.Load(); l.Bytes < l.Limit || l.Bytes > l.Limit+8000 || l.Limit != 800_000 {
			t.Errorf("%d bytes are queued of %d", l.Bytes, l.Limit)
		}
		g.Close(nil)
		synctest.Wait()
		w.Close()
	})
}

// TestRemoteCancel says that a task which ends while it waits for credit waits no longer, and leaves nothing; and that a consumer that ends lets its producer go.
func TestRemoteCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, typ := grpcrpc.NewMemory(), &rowsType{}
		a, b := join(t, m, "a"), join(t, m, "b")
		for _, canceled := range []bool{true, false} {
			w, we := a.sender(t, b, id(0, 0), typ)
			g, ge := b.receiver(t, a, id(0, 0), typ)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range 10 {
					w.Send(0, &rows{n: make([]int64, 100)})
				}
			}()
			synctest.Wait()
			before := time.Now()
			if canceled {
				for {
					we.closed.Store(true)
					we.Wake()
					synctest.Wait()
					select {
					case <-done:
					default:
						continue
					}
					break
				}
				w.Close()
				g.Close(nil)
			} else {
				g.Close(nil)
				<-done
				w.Close()
			}
			if d := time.Since(before); d > 100*time.Millisecond {
				t.Errorf("canceled=%t: it took %v", canceled, d)
			}
			synctest.Wait()
			if n := a.Open() + b.Open(); n != 0 {
				t.Errorf("canceled=%t: %d channels are left", canceled, n)
			}
			if err := errors.Join(we.failure(), ge.failure()); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestLateFrames says that what an attempt has sent does not reach the next one, whichever end is new.
func TestLateFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, typ := grpcrpc.NewMemory(), &rowsType{}
		a, b := join(t, m, "a"), join(t, m, "b")
		attempt := func(source, target base.Attempt, epoch base.Epoch) exchange.ChannelID {
			x := id(0, 0)
			x.SourceAttempt, x.TargetAttempt, x.Epoch = source, target, epoch
			return x
		}
		old, _ := a.sender(t, b, attempt(0, 0, 1), typ)
		g, ge := b.receiver(t, a, attempt(0, 0, 1), typ)
		old.Send(0, &rows{n: []int64{1}})
		ge.next(g, func() {})
		old.Send(0, &rows{n: []int64{2}}) // under way, or queued
		g.Close(nil)
		next, _ := b.receiver(t, a, attempt(1, 1, 1), typ)
		other, _ := b.receiver(t, a, attempt(0, 0, 2), typ) // under another leader attempts begin anew
		old.Send(0, &rows{n: []int64{3}})
		synctest.Wait()
		if next.Available() || other.Available() {
			t.Error("an old attempt's frame arrived")
		}
		w, _ := a.sender(t, b, attempt(1, 1, 1), typ)
		w.Send(0, &rows{n: []int64{4}})
		old.Send(0, &rows{n: []int64{5}})
		synctest.Wait()
		e, _, ok := next.Next()
		if !ok || e.Batch.(*rows).n[0] != 4 || next.Available() || other.Available() {
			t.Errorf("got %v", e.Batch)
		}
		for _, w := range []*exchange.Writer{old, w} {
			w.Close()
		}
		next.Close(nil)
		other.Close(nil)
	})
}

// cable is a network whose connections can be cut, and frozen: then what is written is lost and nothing is read, as if the other host had gone.
type cable struct {
	*grpcrpc.Memory
	mu    sync.Mutex
	conns []*wire
}

type wire struct {
	net.Conn
	frozen atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (c *cable) Dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := c.Memory.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, closed: make(chan struct{})}
	c.mu.Lock()
	c.conns = append(c.conns, w)
	c.mu.Unlock()
	return w, nil
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.frozen.Load() {
		<-w.closed
		return 0, os.ErrClosed
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if w.frozen.Load() {
		return len(p), nil
	}
	return w.Conn.Write(p)
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// each does something to all connections there are, and returns how many.
func (c *cable) each(f func(*wire)) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.conns {
		f(w)
	}
	return len(c.conns)
}

// TestBrokenLink says that a link which breaks fails the tasks at both ends of its channels, with both ends named and to be restarted, and no other; that
// a pair is linked by one connection; and that it is linked anew for the tasks that come.
func TestBrokenLink(t *testing.T) {
	for name, fault := range map[string]struct {
		do     func(*wire)
		within time.Duration
	}{
		"reset":     {func(w *wire) { _ = w.Close() }, 0},
		"half-open": {func(w *wire) { w.frozen.Store(true) }, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, typ := &cable{Memory: grpcrpc.NewMemory()}, &rowsType{}
				a, b, c := join(t, m, "a"), join(t, m, "b"), join(t, m, "c")
				w, we := a.sender(t, b, id(0, 0), typ)
				g, ge := b.receiver(t, a, id(0, 0), typ)
				back, backe := b.sender(t, a, id(5, 6), typ)
				bg, bge := a.receiver(t, b, id(5, 6), typ)
				synctest.Wait()
				if n := m.each(func(*wire) {}); n != 1 {
					t.Fatalf("%d connections for one pair", n)
				}
				// Another pair, and a channel that has had its end.
				v, ve := a.sender(t, c, id(1, 1), typ)
				h, he := c.receiver(t, a, id(1, 1), typ)
				ended, ee := a.sender(t, b, id(2, 2), typ)
				eg, ege := b.receiver(t, a, id(2, 2), typ)
				ended.Broadcast(exchange.Element{Kind: exchange.KindEnd})
				synctest.Wait()
				began := time.Now()
				fault.do(m.conns[0])
				w.Send(0, &rows{n: []int64{1}})
				for time.Since(began) <= fault.within {
					synctest.Wait()
					if we.failure() != nil && ge.failure() != nil {
						break
					}
					time.Sleep(time.Second)
				}
				if d := time.Since(began); d > fault.within {
					t.Errorf("noticed after %v", d)
				}
				ends := fmt.Sprintf("producer 0#0 @ a %s -> consumer 0#0 @ b %s: link to another task manager: ", a.address, b.address)
				other := fmt.Sprintf("producer 5#0 @ b %s -> consumer 6#0 @ a %s: link to another task manager: ", b.address, a.address)
				for _, x := range []struct {
					e    *end
					want string
				}{{we, ends}, {ge, ends}, {backe, other}, {bge, other}} {
					err := x.e.failure()
					if err == nil || !strings.HasPrefix(err.Error(), x.want) || !errors.Is(err, exchange.ErrLink) || base.ClassOf(err) != base.ClassRestart {
						t.Errorf("got %v, want %s...", err, x.want)
					}
				}
				v.Send(0, &rows{n: []int64{3}})
				he.next(h, func() {})
				if err := errors.Join(ve.failure(), he.failure(), ee.failure(), ege.failure()); err != nil {
					t.Errorf("a task failed that does not use the link: %v", err)
				}
				w.Send(0, &rows{n: []int64{2}}) // is lost: the task has failed
				for _, w := range []*exchange.Writer{w, v, back, ended} {
					w.Close()
				}
				for _, g := range []*exchange.Gate{g, h, bg, eg} {
					g.Close(nil)
				}
				// The next attempt has a new connection.
				x := id(0, 0)
				x.SourceAttempt = 1
				w, _ = a.sender(t, b, x, typ)
				g, ge = b.receiver(t, a, x, typ)
				w.Send(0, &rows{n: []int64{7}})
				if e, _ := ge.next(g, func() {}); e.Batch.(*rows).n[0] != 7 {
					t.Error("nothing comes over the new link")
				}
				w.Close()
				g.Close(nil)
				a.stop()
				b.stop()
				c.stop()
				if n := a.Open() + b.Open() + c.Open(); n != 0 {
					t.Errorf("%d channels are left", n)
				}
			})
		})
	}
}

// TestEndsThatNeverCome says how long one end waits for what is not there.
func TestEndsThatNeverCome(t *testing.T) {
	for name, x := range map[string]struct {
		dials, listens, writer bool
		within                 time.Duration
		want                   string
	}{
		"no consumer":          {true, true, true, 30 * time.Second, "its other end was not deployed within 30s"},
		"no producer":          {true, true, false, 30 * time.Second, "its other end was not deployed within 30s"},
		"nobody connects":      {false, true, true, 30 * time.Second, "did not connect within 30s"},
		"nobody listens":       {true, false, true, 10 * time.Second, "connection refused"},
		"another is listening": {true, true, true, 10 * time.Second, "task manager z is not here"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, typ := grpcrpc.NewMemory(), &rowsType{}
				a, b := join(t, m, "m"), join(t, m, "n")
				if !x.dials {
					b = &process{Network: b.Network, id: "a", address: b.address}
				}
				if name == "another is listening" {
					b = &process{Network: b.Network, id: "z", address: b.address}
				}
				if !x.listens {
					b.stop()
				}
				var e *end
				var close func()
				if x.writer {
					w, we := a.sender(t, b, id(0, 0), typ)
					e, close = we, w.Close
				} else {
					g, ge := a.receiver(t, b, id(0, 0), typ)
					e, close = ge, func() { g.Close(nil) }
				}
				began := time.Now()
				for e.failure() == nil && time.Since(began) < time.Minute {
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
				}
				if err := e.failure(); err == nil || !strings.Contains(err.Error(), x.want) || !errors.Is(err, exchange.ErrLink) {
					t.Errorf("got %v", err)
				}
				if d := time.Since(began); d > x.within+100*time.Millisecond || d < x.within-time.Second {
					t.Errorf("after %v", d)
				}
				close()
			})
		})
	}
}

// TestRogues says that what is no frame, or not its turn, ends the stream with an error that says so, and harms nobody else.
func TestRogues(t *testing.T) {
	open := func(channel byte) string {
		return "\x02" + string(channel) + "\x00\x00\x00\x16\x00\x00\x00" + strings.Repeat("x", 16) + "\x00\x00\x00\x00\x00\x00"
	}
	for name, x := range map[string]struct{ hello, then, want string }{
		"nothing but noise":    {"hello, world", "", "malformed frame: kind 104"},
		"not a hello":          {open(1), "", "not a hello alone"},
		"more than a hello":    {greet(1, "a", "b") + open(1), "", "not a hello alone"},
		"another version":      {greet(2, "a", "b"), "", "frames of version 2, this one of version 1"},
		"another task manager": {greet(1, "a", "q"), "", "task manager q is not here"},
		"the wrong direction":  {greet(1, "c", "b"), "", "task manager b connects to c"},
		"a second hello":       {greet(1, "a", "b"), greet(1, "a", "b"), "a second hello"},
		"a batch for nobody":   {greet(1, "a", "b"), "\x06\x09\x00\x00\x00\x01\x00\x00\x00x", "which nobody has opened"},
		"credit for nobody":    {greet(1, "a", "b"), "\x04\x09\x00\x00\x00\x01\x00\x00\x00\x05", "which nobody has opened"},
		"a number twice":       {greet(1, "a", "b"), open(1) + open(1), "channel 1 is opened after 1"},
		"a channel twice":      {greet(1, "a", "b"), open(1) + open(2), "was asked for twice"},
		"half a header":        {greet(1, "a", "b"), "\x04\x09", "2 bytes are left, a header has 9"},
		"half a frame":         {greet(1, "a", "b"), "\x06\x01\x00\x00\x00\x05\x00\x00\x00x", "5 bytes, 1 are left"},
		"a huge frame":         {greet(1, "a", "b"), "\x04\x01\x00\x00\x00\x00\x00\x00\x10x", "the limit is"},
		"too much":             {greet(1, "a", "b"), "\x01\x00\x00\x00\x00\x01\x00\x00\x00", "left"},
		"no credit":            {greet(1, "a", "b"), "\x04\x01\x00\x00\x00\x01\x00\x00\x00\x00", "no credit"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := grpcrpc.NewMemory()
				b := join(t, m, "b")
				s, err := grpcrpc.DialExchange(t.Context(), m, b.address)
				if err != nil {
					t.Fatal(err)
				}
				for _, text := range []string{x.hello, x.then} {
					if text != "" {
						b := []byte(text)
						if err := s.Send([]*[]byte{&b}, new(grpcrpc.Buffers)); err != nil {
							t.Fatal(err)
						}
					}
				}
				if x.then != "" {
					if _, err := s.Receive(); err != nil {
						t.Fatalf("instead of a hello: %v", err)
					}
				}
				if _, err = s.Receive(); err == nil || !strings.Contains(err.Error(), x.want) {
					t.Errorf("got %v, want %s", err, x.want)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func greet(version byte, from, to string) string {
	s := string(version) + string(rune(len(from))) + from + "\x01x" + string(rune(len(to))) + to
	return "\x01\x00\x00\x00\x00" + string(rune(len(s))) + "\x00\x00\x00" + s
}

// TestLinksModel has random tasks in three processes exchange numbers over random channels, with random blocking and ends, while links are cut. A channel brings its
// numbers in order and all of them, or both its tasks fail.
func TestLinksModel(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 3))
				m, typ := &cable{Memory: grpcrpc.NewMemory()}, &rowsType{}
				ps := []*process{join(t, m, "a"), join(t, m, "b"), join(t, m, "c")}
				cuts := seed%2 == 1
				var all sync.WaitGroup
				var complete, failed atomic.Int64
				channels := 1 + r.IntN(12)
				for i := range channels {
					from, to := ps[r.IntN(3)], ps[r.IntN(3)]
					count := r.IntN(300)
					pr, cr := rand.New(rand.NewPCG(seed, uint64(100+i))), rand.New(rand.NewPCG(seed, uint64(200+i)))
					limit, delayP, delayC := 64+r.IntN(3000), time.Duration(r.IntN(20))*time.Millisecond, time.Duration(r.IntN(20))*time.Millisecond
					all.Go(func() {
						time.Sleep(delayP)
						e := newEnd()
						w := openWriter(t, from.Network, []exchange.WriterChannel{{ID: id(i, i), Place: from.sees(to)}}, typ, limit, e)
						for n := range count {
							if e.failure() != nil {
								break
							}
							w.Send(0, &rows{n: append([]int64{int64(n)}, make([]int64, pr.IntN(200))...), bytes: 100})
							if pr.IntN(10) == 0 {
								w.Broadcast(exchange.Element{Kind: exchange.KindBarrier, Barrier: &exchange.Barrier{Checkpoint: int64(n)}})
							}
							if pr.IntN(20) == 0 {
								time.Sleep(time.Duration(pr.IntN(3000)) * time.Microsecond)
							}
						}
						w.Broadcast(exchange.Element{Kind: exchange.KindEnd})
						w.Close()
					})
					all.Go(func() {
						time.Sleep(delayC)
						e := newEnd()
						g := openGate(t, to.Network, []exchange.GateChannel{{ID: id(i, i), Place: to.sees(from), Type: typ}}, limit, e)
						defer g.Close(func(int, exchange.Batch) {})
						next := int64(0)
						for {
							x, _, ok := g.Next()
							if err := e.failure(); err != nil {
								if !errors.Is(err, exchange.ErrLink) || !cuts {
									t.Errorf("channel %d: %v", i, err)
								}
								failed.Add(1)
								return
							}
							switch {
							case !ok:
								select {
								case <-e.wake:
								case <-time.After(time.Hour):
									t.Errorf("channel %d from %s to %s: stuck at %d of %d", i, from.id, to.id, next, count)
									return
								}
							case x.Kind == exchange.KindEnd:
								if next != int64(count) {
									t.Errorf("channel %d: ended at %d of %d", i, next, count)
								}
								complete.Add(1)
								return
							case x.Kind == exchange.KindBarrier:
								if x.Barrier.Checkpoint != next-1 {
									t.Errorf("channel %d: barrier %d before %d", i, x.Barrier.Checkpoint, next)
								}
							default:
								if n := x.Batch.(*rows).n[0]; n != next {
									t.Errorf("channel %d: %d, want %d", i, n, next)
									return
								}
								next++
								if cr.IntN(30) == 0 {
									time.Sleep(time.Duration(cr.IntN(5000)) * time.Microsecond)
								}
							}
						}
					})
				}
				if cuts {
					for range 1 + r.IntN(3) {
						time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
						m.mu.Lock()
						if len(m.conns) > 0 {
							_ = m.conns[r.IntN(len(m.conns))].Close()
						}
						m.mu.Unlock()
					}
				}
				all.Wait()
				if complete.Load()+failed.Load() != int64(channels) {
					t.Errorf("%d channels, of which %d brought all and %d failed", channels, complete.Load(), failed.Load())
				}
				for _, p := range ps {
					p.stop()
				}
				for _, p := range ps {
					if n := p.Open(); n != 0 {
						t.Errorf("%d channels are left at %s", n, p.id)
					}
				}
			})
		})
	}
}
