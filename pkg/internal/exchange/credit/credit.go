// Package credit decides how many bytes a producer may send into a channel whose consumer is in another process.
//
// Start with Window, the consumer's end, and Balance, the producer's. Their law: what was sent and not yet taken never exceeds the window by more than one
// batch and what never waits (barriers and the like); and whoever takes everything has granted something: nothing waits for ever.
package credit

import "errors"

// Least is what any element weighs at least, in bytes.
const Least = 64

// Weight is what an element of n encoded bytes weighs. Both ends reckon with it.
func Weight(n int) int64 { return int64(max(n, Least)) }

// ErrOverdrawn says that a producer sent a batch for which it had no credit.
var ErrOverdrawn = errors.New("a batch without credit")

// Window is the consumer's end of one channel. The zero Window grants nothing.
//
// Invariant: held+granted <= size after each grant, but for what came without credit and for a size that has become smaller since.
type Window struct {
	size    int64 // what may be under way or wait here
	granted int64 // granted and not yet used; negative: the last batch was larger than the rest, or something came that never waits
	held    int64 // came and was not yet taken
}

// Resize changes the window, and returns what is to be granted now; 0 for nothing.
func (w *Window) Resize(size int64) (grant int64) {
	w.size = size
	return w.grant()
}

// Received counts an element that came. A batch needs credit: one byte of it is enough, so that a batch larger than the window travels alone.
func (w *Window) Received(weight int64, batch bool) error {
	if batch && w.granted <= 0 {
		return ErrOverdrawn
	}
	w.granted -= weight
	w.held += weight
	return nil
}

// Taken counts that an element was taken, or melted with another, and returns what is to be granted now; 0 for nothing.
func (w *Window) Taken(weight int64) (grant int64) {
	w.held -= weight
	return w.grant()
}

// grant gives in portions of half a window: a grant is a frame, and costs about as much as a record.
func (w *Window) grant() int64 {
	free := w.size - w.held - w.granted
	if free <= 0 || (free < w.size/2 && w.granted > 0) {
		return 0
	}
	w.granted += free
	return free
}

// Balance is the producer's end of one channel: the bytes that it may send.
type Balance int64

// Granted adds a grant. It reports whether a batch may be sent which could not before.
func (b *Balance) Granted(n int64) bool {
	blocked := *b <= 0
	*b += Balance(n)
	return blocked && *b > 0
}

// May reports whether a batch may be sent.
func (b Balance) May() bool { return b > 0 }

// Sent counts an element that was sent.
func (b *Balance) Sent(weight int64) { *b -= Balance(weight) }
