// Package align decides when a task with several input channels takes its snapshot, and what its watermark is.
//
// Start with Barriers (barrier alignment) and Valve (watermarks and idleness). Both are pure: an event in, decisions out.
// The law of Barriers: in exactly-once mode no element behind a channel's barrier is processed before the snapshot that the barrier belongs to.
package align

import (
	"fmt"
	"slices"

	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
)

// Action is what the task has to do after an event, in the order Unblock, Abort, Block, Snapshot, Unblock.
type Action struct {
	// Abort is the checkpoint whose alignment is given up, 0 for none; its channels are unblocked.
	Abort int64
	// Block says that the channel of the event must not be read until it is unblocked.
	Block bool
	// Snapshot is the checkpoint that must be taken now, 0 for none.
	Snapshot int64
	// Unblock says that all channels may be read again (after the snapshot).
	Unblock bool
}

// Barriers aligns the barriers of one task's input channels.
type Barriers struct {
	exactlyOnce bool
	open        []bool // channels that can still bring a barrier
	seen        []bool // channels that brought the barrier of current
	current     int64  // the checkpoint being aligned, 0 for none
	last        int64  // the newest checkpoint taken or given up: its barriers, and older ones, are ignored
	// aborted are checkpoints newer than current that the JobManager gave up before any of their barriers came.
	aborted []int64
}

// NewBarriers returns the alignment of a task with n channels. In at-least-once mode nothing is ever blocked.
func NewBarriers(n int, exactlyOnce bool) *Barriers {
	b := &Barriers{exactlyOnce: exactlyOnce, open: make([]bool, n), seen: make([]bool, n)}
	for i := range b.open {
		b.open[i] = true
	}
	return b
}

// Current returns the checkpoint being aligned, or 0.
func (b *Barriers) Current() int64 { return b.current }

// Missing returns the channels whose barrier is awaited.
func (b *Barriers) Missing() []int {
	var out []int
	for i := range b.seen {
		if b.current != 0 && b.open[i] && !b.seen[i] {
			out = append(out, i)
		}
	}
	return out
}

// Barrier is called when a channel brought the barrier of a checkpoint.
func (b *Barriers) Barrier(channel int, checkpoint int64) Action {
	var a Action
	if checkpoint <= b.last || checkpoint < b.current || !b.open[channel] || slices.Contains(b.aborted, checkpoint) {
		return a // of a checkpoint that was taken or given up
	}
	if b.current != 0 && checkpoint > b.current {
		// A newer one has begun: the older can not complete any more, because its barrier will not come on this channel.
		a.Abort = b.current
		b.giveUp(b.current)
	}
	b.current = checkpoint
	b.seen[channel] = true
	if b.complete() || mutant.Is(mutant.SnapshotOnFirst) {
		a.Snapshot, a.Unblock = checkpoint, true
		b.giveUp(checkpoint)
		return a
	}
	a.Block = b.exactlyOnce && !mutant.Is(mutant.SkipAlignment)
	return a
}

// Closed is called when a channel has ended: it counts as having brought every barrier.
func (b *Barriers) Closed(channel int) Action {
	var a Action
	b.open[channel] = false
	if b.current != 0 && b.complete() {
		a.Snapshot, a.Unblock = b.current, true
		b.giveUp(b.current)
	}
	return a
}

// Aborted is called when the JobManager has given up a checkpoint.
func (b *Barriers) Aborted(checkpoint int64) Action {
	var a Action
	switch {
	case checkpoint == b.current:
		a.Abort, a.Unblock = checkpoint, true
		b.giveUp(checkpoint)
	case b.current == 0:
		b.last = max(b.last, checkpoint)
	case checkpoint > b.current:
		b.aborted = append(b.aborted, checkpoint)
	}
	return a
}

func (b *Barriers) giveUp(checkpoint int64) {
	b.current, b.last = 0, checkpoint
	b.aborted = slices.DeleteFunc(b.aborted, func(id int64) bool { return id <= checkpoint })
	clear(b.seen)
}

func (b *Barriers) complete() bool {
	for i, open := range b.open {
		if open && !b.seen[i] {
			return false
		}
	}
	return true
}

// String shows the state for transcripts.
func (b *Barriers) String() string {
	if b.current == 0 {
		return fmt.Sprintf("last=%d", b.last)
	}
	return fmt.Sprintf("aligning=%d missing=%v last=%d", b.current, b.Missing(), b.last)
}
