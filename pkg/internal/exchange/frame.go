package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unsafe"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// A frame is what TaskManagers send each other, many in one message of the stream:
//
//	 0       1               5               9
//	+-------+---------------+---------------+----------------- - -
//	| kind  | channel (LE)  | length (LE)   | length bytes
//	+-------+---------------+---------------+----------------- - -
//
// The consumer's end numbers the channels, from 1, each TaskManager its own; no number is used twice on a stream.
//
//	kind       from      content
//	hello      both      first frame, channel 0: uvarint version, then three strings: own TaskManager, own address, the other TaskManager
//	open       consumer  job (16 bytes); uvarint epoch, edge, source, target, source attempt, target attempt
//	opened     producer  none: the producer is there
//	credit     consumer  uvarint bytes, 1 or more
//	closed     consumer  none: whatever still comes is thrown away
//	batch      producer  what Type.Encode wrote
//	watermark  producer  varint
//	idle       producer  1 byte, 0 or 1
//	barrier    producer  varint checkpoint, varint trigger time in ms, 1 byte flags (1 savepoint, 2 full), 1 byte stop mode, string directory
//	endOfData  producer  1 byte, 0 or 1: drain
//	end        producer  none
//
// A string is its length (uvarint) and its bytes. TCP and TLS have checksums, so frames have none. Frames do not outlive a connection, and hello has the version.
type frameKind uint8

const (
	frameHello frameKind = iota + 1
	frameOpen
	frameOpened
	frameCredit
	frameClosed
	frameBatch
	frameWatermark
	frameIdle
	frameBarrier
	frameEndOfData
	frameEnd
)

const (
	// frameVersion is that of the frames: an end of another version is refused.
	frameVersion = 1
	// headerBytes is the length of a frame's header.
	headerBytes = 9
	// maxBatchBytes bounds an encoded batch, and so a record.
	maxBatchBytes = grpcrpc.MaxFrames - 64<<10
	// maxControlBytes bounds every other frame's content: what is longest in one is a directory or an address.
	maxControlBytes = 16 << 10
)

var errFrame = errors.New("malformed frame")

// frame is a decoded frame; which fields are set depends on its kind.
type frame struct {
	kind    frameKind
	channel uint32
	id      ChannelID // open
	credit  int64
	hello   hello
	batch   *[]byte // the frame with its header: whoever takes it gives it back to the pool
	element Element // control elements
	// bytes is the length of its content.
	bytes int
}

// hello introduces one end of a stream to the other.
type hello struct {
	version           uint64
	from, address, to string
}

// appendHeader begins a frame: finish it with endFrame.
func appendHeader(dst []byte, k frameKind, channel uint32) []byte {
	dst = append(dst, byte(k))
	dst = binary.LittleEndian.AppendUint32(dst, channel)
	return binary.LittleEndian.AppendUint32(dst, 0)
}

// endFrame sets the length of the frame that begins at from.
func endFrame(b []byte, from int) []byte {
	binary.LittleEndian.PutUint32(b[from+5:], uint32(len(b)-from-headerBytes))
	return b
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendHello(dst []byte, h hello) []byte {
	from := len(dst)
	dst = binary.AppendUvarint(appendHeader(dst, frameHello, 0), h.version)
	return endFrame(appendString(appendString(appendString(dst, h.from), h.address), h.to), from)
}

func appendOpen(dst []byte, channel uint32, id ChannelID) []byte {
	from := len(dst)
	dst = append(appendHeader(dst, frameOpen, channel), id.Job[:]...)
	for _, n := range [...]uint64{uint64(id.Epoch), uint64(id.Edge), uint64(id.Source), uint64(id.Target), uint64(id.SourceAttempt), uint64(id.TargetAttempt)} {
		dst = binary.AppendUvarint(dst, n)
	}
	return endFrame(dst, from)
}

func appendCredit(dst []byte, channel uint32, bytes int64) []byte {
	from := len(dst)
	return endFrame(binary.AppendUvarint(appendHeader(dst, frameCredit, channel), uint64(bytes)), from)
}

// appendBare writes a frame without content.
func appendBare(dst []byte, k frameKind, channel uint32) []byte {
	return appendHeader(dst, k, channel)
}

// appendControl writes an element without records.
func appendControl(dst []byte, channel uint32, e *Element) []byte {
	from := len(dst)
	switch e.Kind {
	case KindWatermark:
		dst = binary.AppendVarint(appendHeader(dst, frameWatermark, channel), int64(e.Watermark))
	case KindIdle:
		dst = appendBool(appendHeader(dst, frameIdle, channel), e.Idle)
	case KindBarrier:
		b := e.Barrier
		dst = binary.AppendVarint(binary.AppendVarint(appendHeader(dst, frameBarrier, channel), b.Checkpoint), b.TriggerTimeMS)
		var flags byte
		if b.Savepoint {
			flags |= 1
		}
		if b.Full {
			flags |= 2
		}
		dst = appendString(append(dst, flags, byte(b.Stop)), b.Dir)
	case KindEndOfData:
		dst = appendBool(appendHeader(dst, frameEndOfData, channel), e.Drain)
	case KindEnd:
		dst = appendHeader(dst, frameEnd, channel)
	}
	return endFrame(dst, from)
}

// frameReader reads the frames of messages.
type frameReader struct {
	src grpcrpc.Frames
	// buffer returns what a frame with a batch of a channel is read into; nil is memory of its own, for whoever keeps it.
	buffer func(channel uint32, length int) *[]byte

	header [headerBytes]byte // here so that it is not allocated
	pieces [][]byte
}

// next reads the next frame of a message.
func (r *frameReader) next() (f frame, err error) {
	src, h := r.src, r.header[:]
	if n := src.Remaining(); n < headerBytes {
		return f, fmt.Errorf("%w: %d bytes are left, a header has %d", errFrame, n, headerBytes)
	}
	if _, err := io.ReadFull(src, h); err != nil {
		return f, err
	}
	f.kind, f.channel = frameKind(h[0]), binary.LittleEndian.Uint32(h[1:])
	n := binary.LittleEndian.Uint32(h[5:])
	limit := uint32(maxControlBytes)
	if f.kind == frameBatch {
		limit = maxBatchBytes
	}
	switch {
	case f.kind < frameHello || f.kind > frameEnd:
		return f, fmt.Errorf("%w: kind %d", errFrame, f.kind)
	case n > limit:
		return f, fmt.Errorf("%w: kind %d of %d bytes, the limit is %d", errFrame, f.kind, n, limit)
	case int64(n) > int64(src.Remaining()):
		return f, fmt.Errorf("%w: kind %d of %d bytes, %d are left", errFrame, f.kind, n, src.Remaining())
	case (f.channel == 0) != (f.kind == frameHello):
		return f, fmt.Errorf("%w: kind %d of channel %d", errFrame, f.kind, f.channel)
	}
	f.bytes = int(n)
	if f.kind == frameBatch {
		f.batch, err = r.batch(f.channel, f.bytes)
		return f, err
	}
	p := content{src: src, left: f.bytes}
	f.read(&p)
	if p.err == nil && p.left != 0 {
		p.err = fmt.Errorf("%d bytes left over", p.left)
	}
	if p.err != nil {
		return f, fmt.Errorf("%w: kind %d of channel %d: %w", errFrame, f.kind, f.channel, p.err)
	}
	return f, nil
}

// batch reads the content of a batch's frame, of n bytes, behind its header.
func (r *frameReader) batch(channel uint32, n int) (*[]byte, error) {
	if b := r.buffer(channel, headerBytes+n); b != nil {
		copy(*b, r.header[:])
		_, err := io.ReadFull(r.src, (*b)[headerBytes:])
		return b, err
	}
	// A Builder's memory is not cleared before it is written.
	var own strings.Builder
	own.Grow(headerBytes + n)
	own.Write(r.header[:])
	var err error
	if r.pieces, err = r.src.Peek(n, r.pieces[:0]); err != nil {
		return nil, err
	}
	for _, p := range r.pieces {
		own.Write(p)
	}
	clear(r.pieces)
	b := unsafe.Slice(unsafe.StringData(own.String()), own.Len())
	_, err = r.src.Discard(n)
	return &b, err
}

func (f *frame) read(p *content) {
	switch f.kind {
	case frameHello:
		f.hello = hello{version: p.uvarint(math.MaxUint32), from: p.text(), address: p.text(), to: p.text()}
	case frameOpen:
		p.bytes(f.id.Job[:])
		f.id.Epoch = base.Epoch(p.uvarint(math.MaxInt64))
		f.id.Edge, f.id.Source, f.id.Target = int(p.uvarint(math.MaxInt32)), int(p.uvarint(math.MaxInt32)), int(p.uvarint(math.MaxInt32))
		f.id.SourceAttempt, f.id.TargetAttempt = base.Attempt(p.uvarint(math.MaxInt32)), base.Attempt(p.uvarint(math.MaxInt32))
	case frameCredit:
		if f.credit = int64(p.uvarint(math.MaxInt32)); f.credit == 0 {
			p.fail(errors.New("no credit"))
		}
	case frameWatermark:
		f.element = Element{Kind: KindWatermark, Watermark: event.Time(p.varint())}
	case frameIdle:
		f.element = Element{Kind: KindIdle, Idle: p.bool()}
	case frameBarrier:
		b := &Barrier{Checkpoint: p.varint(), TriggerTimeMS: p.varint()}
		flags := p.byte()
		if flags > 3 {
			p.fail(fmt.Errorf("flags %d", flags))
		}
		b.Savepoint, b.Full = flags&1 != 0, flags&2 != 0
		if b.Stop = StopMode(p.byte()); b.Stop > StopDrain {
			p.fail(fmt.Errorf("stop mode %d", b.Stop))
		}
		b.Dir = p.text()
		f.element = Element{Kind: KindBarrier, Barrier: b}
	case frameEndOfData:
		f.element = Element{Kind: KindEndOfData, Drain: p.bool()}
	case frameEnd:
		f.element = Element{Kind: KindEnd}
	}
}

// content reads the content of one frame; after the first error it reads zeros.
type content struct {
	src  grpcrpc.Frames
	left int
	err  error
}

func (p *content) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

var errShort = errors.New("too short")

// ReadByte is io.ByteReader's.
func (p *content) ReadByte() (byte, error) {
	if p.err == nil && p.left == 0 {
		p.err = errShort
	}
	if p.err != nil {
		return 0, p.err
	}
	p.left--
	return p.src.ReadByte()
}

func (p *content) byte() byte {
	b, err := p.ReadByte()
	if err != nil {
		p.fail(err)
		return 0
	}
	return b
}

func (p *content) bool() bool {
	b := p.byte()
	if b > 1 {
		p.fail(fmt.Errorf("a boolean of %d", b))
	}
	return b == 1
}

func (p *content) uvarint(limit uint64) uint64 {
	n, err := binary.ReadUvarint(p)
	switch {
	case err != nil:
		p.fail(err)
		return 0
	case n > limit:
		p.fail(fmt.Errorf("number %d is above %d", n, limit))
		return 0
	}
	return n
}

func (p *content) varint() int64 {
	n, err := binary.ReadVarint(p)
	if err != nil {
		p.fail(err)
	}
	return n
}

func (p *content) bytes(b []byte) {
	if p.err == nil && p.left < len(b) {
		p.err = errShort
	}
	if p.err != nil {
		return
	}
	p.left -= len(b)
	if _, err := io.ReadFull(p.src, b); err != nil {
		p.fail(err)
	}
}

func (p *content) text() string {
	n := p.uvarint(maxControlBytes)
	if p.err == nil && n > uint64(p.left) {
		p.err = errShort
	}
	if p.err != nil || n == 0 {
		return ""
	}
	b := make([]byte, n)
	p.bytes(b)
	return string(b)
}
