package exchange

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// message is a grpcrpc.Frames.
type message struct{ *bytes.Reader }

func (m message) Remaining() int { return m.Len() }

func (m message) Peek(n int, pieces [][]byte) ([][]byte, error) {
	b := make([]byte, n)
	_, err := m.ReadAt(b, m.Size()-int64(m.Len()))
	return append(pieces, b[:n/3], b[n/3:]), err
}

func (m message) Discard(n int) (int, error) {
	_, err := m.Seek(int64(n), io.SeekCurrent)
	return n, err
}

// readers read batches into buffers of a pool, and into memory of their own.
func readers(b []byte) []frameReader {
	var pool grpcrpc.Buffers
	return []frameReader{
		{src: message{bytes.NewReader(b)}, buffer: func(_ uint32, length int) *[]byte { return pool.Get(length) }},
		{src: message{bytes.NewReader(b)}, buffer: func(uint32, int) *[]byte { return nil }},
	}
}

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
	for _, r := range readers(all) {
		for _, s := range samples {
			got, err := r.next()
			if err != nil {
				t.Fatalf("kind %d: %v", s.frame.kind, err)
			}
			s.frame.bytes = got.bytes
			if d := cmp.Diff(s.frame, got, cmp.AllowUnexported(frame{}, hello{}, Element{})); d != "" {
				t.Errorf("kind %d:\n%s", s.frame.kind, d)
			}
		}
		if n := r.src.Remaining(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	}
	for n := range all {
		for _, r := range readers(all[:n]) {
			for r.src.Remaining() > 0 {
				if _, err := r.next(); err != nil {
					if !errors.Is(err, errFrame) {
						t.Errorf("cut at %d: %v", n, err)
					}
					break
				}
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
		own := readers(b)[1]
		for r := readers(b)[0]; r.src.Remaining() > 0; {
			x, err := r.next()
			if err != nil {
				if !errors.Is(err, errFrame) {
					t.Fatal(err)
				}
				return
			}
			again, err := readers(write(&x))[0].next()
			if err != nil {
				t.Fatalf("%+v: %v", x, err)
			}
			same, err := own.next()
			if err != nil {
				t.Fatalf("%+v: %v", x, err)
			}
			if d := cmp.Diff(x, same, cmp.AllowUnexported(frame{}, hello{}, Element{})); d != "" {
				t.Fatal(d)
			}
			x.bytes, again.bytes = 0, 0 // numbers have more than one way to be written
			if d := cmp.Diff(x, again, cmp.AllowUnexported(frame{}, hello{}, Element{})); d != "" {
				t.Fatal(d)
			}
		}
	})
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
