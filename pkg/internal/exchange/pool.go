package exchange

import "sync"

// bufferPool keeps the buffers of encoded batches, in classes: a batch of 32 KB with its frame's header has one of its own.
type bufferPool struct{ classes [len(bufferClasses)]sync.Pool }

// bufferClasses are the capacities of pooled buffers, in bytes. gRPC gives back none under 1 KB.
var bufferClasses = [...]int{2 << 10, 8 << 10, 40 << 10, 160 << 10, 1 << 20}

// Get returns a buffer of a length, whose content is undefined.
func (p *bufferPool) Get(length int) *[]byte {
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
func (p *bufferPool) Put(b *[]byte) {
	for i := len(bufferClasses) - 1; i >= 0; i-- {
		// A much larger one would make all others of its class as large.
		if c := cap(*b); c >= bufferClasses[i] && c < 4*bufferClasses[i] {
			p.classes[i].Put(b)
			return
		}
	}
}
