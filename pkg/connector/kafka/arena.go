package kafka

import (
	"strings"
	"unsafe"
)

// arenaBytes is how many bytes of values share one allocation: who keeps one of them keeps no more than that.
const arenaBytes = 32 << 10

// arena copies values into memory that they share. What it has returned never changes.
type arena struct {
	b strings.Builder // whose memory is not cleared first
}

// grow makes room for n bytes; left is how many are to come at least, n included.
func (a *arena) grow(n, left int) {
	if a.b.Cap()-a.b.Len() < n {
		a.b = strings.Builder{}
		a.b.Grow(max(n, min(left, arenaBytes)))
	}
}

// add returns a copy of v, for which grow has made room.
func (a *arena) add(v []byte) []byte {
	n := a.b.Len()
	a.b.Write(v)
	s := a.b.String()[n:]
	return unsafe.Slice(unsafe.StringData(s), len(s)) // nobody else has it, and nobody writes to it by a string
}
