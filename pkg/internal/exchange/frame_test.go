package exchange

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// message is a grpcrpc.Frames.
type message struct{ *bytes.Reader }

func (m message) Remaining() int { return m.Len() }

func (p *bufferPool) buffer(_ uint32, length int) *[]byte { return p.Get(length) }

// write writes a frame again.
func write(f *frame) []byte {
	switch f.kind {
	case frameHello:
		return appendHello(nil, f.hello)
	case frameOpen:
		return appendOpen(nil, f.channel, f.id)
	case frameCredit:
		return appendCredit(nil, f.channel, f.credit)
	case frameOpened, frameClosed:
		return appendBare(nil, f.kind, f.channel)
	case frameBatch:
		return *f.batch
	default:
		return appendControl(nil, f.channel, &f.element)
	}
}

// samples are one frame of each kind, and their bytes: two versions of Rivulet may meet, so they only change with frameVersion.
var samples = []struct {
	frame frame
	hex   string
}{
	{frame{kind: frameHello, hello: hello{1, "tm-1", "h:1", "tm-2"}}, "01 00000000 0f000000 01 04746d2d31 03683a31 04746d2d32"},
	{frame{kind: frameOpen, channel: 7, id: ChannelID{Job: base.JobID{1, 15: 2}, Epoch: 300, Edge: 1, Source: 2, Target: 3, SourceAttempt: 4, TargetAttempt: 5}}, "02 07000000 17000000 01000000000000000000000000000002 ac02 01 02 03 04 05"},
	{frame{kind: frameOpened, channel: 8}, "03 08000000 00000000"},
	{frame{kind: frameCredit, channel: 9, credit: 1 << 20}, "04 09000000 03000000 808040"},
	{frame{kind: frameClosed, channel: 1 << 31}, "05 00000080 00000000"},
	{frame{kind: frameBatch, channel: 1, batch: &[]byte{6, 1, 0, 0, 0, 2, 0, 0, 0, 'h', 'i'}}, "06 01000000 02000000 6869"},
	{frame{kind: frameWatermark, channel: 1, element: Element{Kind: KindWatermark, Watermark: event.Time(-2)}}, "07 01000000 01000000 03"},
	{frame{kind: frameIdle, channel: 1, element: Element{Kind: KindIdle, Idle: true}}, "08 01000000 01000000 01"},
	{frame{kind: frameBarrier, channel: 1, element: Element{Kind: KindBarrier, Barrier: &Barrier{Checkpoint: 3, TriggerTimeMS: 1000, Savepoint: true, Full: true, Stop: StopDrain, Dir: "mem:///x"}}}, "09 01000000 0e000000 06 d00f 03 02 086d656d3a2f2f2f78"},
	{frame{kind: frameEndOfData, channel: 1, element: Element{Kind: KindEndOfData, Drain: true}}, "0a 01000000 01000000 01"},
	{frame{kind: frameEnd, channel: 1, element: Element{Kind: KindEnd}}, "0b 01000000 00000000"},
}

func TestFrames(t *testing.T) {
	var all []byte
	for _, s := range samples {
		want, err := hex.DecodeString(strings.ReplaceAll(s.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := write(&s.frame); !bytes.Equal(got, want) {
			t.Errorf("kind %d: wrote %x, want %x", s.frame.kind, got, want)
		}
		all = append(all, want...)
	}
	src, pool := message{bytes.NewReader(all)}, &bufferPool{}
	for _, s := range samples {
		got, err := readFrame(src, pool.buffer)
		if err != nil {
			t.Fatalf("kind %d: %v", s.frame.kind, err)
		}
		s.frame.bytes = got.bytes
		if d := cmp.Diff(s.frame, got, cmp.AllowUnexported(frame{}, hello{}, Element{})); d != "" {
			t.Errorf("kind %d:\n%s", s.frame.kind, d)
		}
	}
	if src.Len() != 0 {
		t.Errorf("%d bytes are left", src.Len())
	}
	for n := range all {
		src := message{bytes.NewReader(all[:n])}
		for src.Len() > 0 {
			if _, err := readFrame(src, pool.buffer); err != nil {
				if !errors.Is(err, errFrame) {
					t.Errorf("cut at %d: %v", n, err)
				}
				break
			}
		}
	}
}

// FuzzFrame reads anything: it never panics, takes no more memory than there are bytes, and what it reads is written as the same frame.
func FuzzFrame(f *testing.F) {
	for _, s := range samples {
		f.Add(write(&s.frame))
	}
	f.Add([]byte("\x06\x01\x00\x00\x00\xff\xff\xff\x03x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		src, pool := message{bytes.NewReader(b)}, &bufferPool{}
		for src.Len() > 0 {
			x, err := readFrame(src, pool.buffer)
			if err != nil {
				if !errors.Is(err, errFrame) {
					t.Fatal(err)
				}
				return
			}
			again, err := readFrame(message{bytes.NewReader(write(&x))}, pool.buffer)
			if err != nil {
				t.Fatalf("%+v: %v", x, err)
			}
			x.bytes, again.bytes = 0, 0 // numbers have more than one way to be written
			if d := cmp.Diff(x, again, cmp.AllowUnexported(frame{}, hello{}, Element{})); d != "" {
				t.Fatal(d)
			}
		}
	})
}

// TestPool says that a buffer which has grown does not make others large, and that a frame of a full batch has a class of its own.
func TestPool(t *testing.T) {
	var p bufferPool
	for _, n := range []int{0, 1, 2 << 10, 32<<10 + headerBytes, 100 << 10, 1 << 20, 5 << 20} {
		b := p.Get(n)
		if len(*b) != n {
			t.Errorf("%d bytes, want %d", len(*b), n)
		}
		p.Put(b)
	}
	for _, n := range []int{100, 1 << 23} {
		b := make([]byte, n)
		p.Put(&b) // no class of its own
	}
	if c := cap(*p.Get(32<<10 + headerBytes)); c != 40<<10 {
		t.Errorf("a full batch takes %d bytes", c)
	}
	if s := fmt.Sprint(cap(*p.Get(1 << 20))); s != fmt.Sprint(1<<20) {
		t.Errorf("capacity %s", s)
	}
}

// TestOpenAfterTheBreak says that a link which has broken opens no channel: its receiver may still have more of a message.
func TestOpenAfterTheBreak(t *testing.T) {
	l := newLink(NewNetwork(Direct), pair{"a", "b"}, "address")
	broken := errors.New("the cable")
	l.fail(broken)
	if err := l.handle(&frame{kind: frameOpen, channel: 1}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
