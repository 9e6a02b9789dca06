package grpcrpc

import "sync"

// Buffers lend buffers, in classes: an HTTP/2 frame has one of its own, as has a batch of 32 KB with its frame's header. Nothing is cleared: whoever gets a buffer
// writes it before reading. The zero value is ready, and safe for concurrent use.
type Buffers struct{ classes [len(bufferClasses)]sync.Pool }

// bufferClasses are the capacities of pooled buffers, in bytes. gRPC gives back none under 1 KB.
var bufferClasses = [...]int{2 << 10, 8 << 10, 16 << 10, 40 << 10, 160 << 10, 1 << 20}

// smallBytes is up to where a buffer is made as small as what goes into it: many channels with little in each would hold mostly nothing.
const smallBytes = 1 << 10

// Get returns a buffer of a length, whose content is undefined.
func (p *Buffers) Get(length int) *[]byte {
	if 0 < length && length <= smallBytes {
		b := make([]byte, length)
		return &b
	}
	for i, size := range bufferClasses {
		if length > size {
			continue
		}
		if b, ok := p.classes[i].Get().(*[]byte); ok {
			*b = (*b)[:length]
			return b
		}
		b := make([]byte, length, size)
		return &b
	}
	b := make([]byte, length)
	return &b
}

// Put takes a buffer back.
func (p *Buffers) Put(b *[]byte) {
	for i := len(bufferClasses) - 1; i >= 0; i-- {
		// A much larger one would make all others of its class as large.
		if c := cap(*b); c >= bufferClasses[i] && c < 4*bufferClasses[i] {
			p.classes[i].Put(b)
			return
		}
	}
}
