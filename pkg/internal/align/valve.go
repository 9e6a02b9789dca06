package align

import "github.com/rivulet-io/rivulet/pkg/event"

// Valve combines the watermarks and the idleness of several channels, as Flink's StatusWatermarkValve: the smallest watermark of the channels that are active and have caught up
// with what was already put out; when all are idle, the valve is idle and its watermark the largest of theirs. A channel that has ended counts no longer, but ends no other.
type Valve struct {
	channels []channel
	out      event.Time
	idle     bool
}

type channel struct {
	wm    event.Time
	idle  bool
	ended bool
	// behind: active again, but with a watermark that is smaller than the output: it does not count until it has caught up.
	behind bool
}

// NewValve returns a valve for n channels, all active and without watermark.
func NewValve(n int) *Valve {
	v := &Valve{channels: make([]channel, n), out: event.Min}
	for i := range v.channels {
		v.channels[i].wm = event.Min
	}
	return v
}

// Change is what the valve puts out after an event: first idleness, then a watermark when Advanced.
type Change struct {
	IdleChanged, Idle bool
	Advanced          bool
	Watermark         event.Time
}

// Watermark returns the combined watermark, and Idle whether all channels are idle.
func (v *Valve) Watermark() event.Time { return v.out }

// Idle reports whether all channels are idle.
func (v *Valve) Idle() bool { return v.idle }

// Advance is called with a channel's watermark.
func (v *Valve) Advance(i int, wm event.Time) Change {
	c := &v.channels[i]
	if c.ended || wm <= c.wm {
		return Change{}
	}
	c.wm = wm
	if c.idle {
		return Change{}
	}
	if c.behind && wm >= v.out {
		c.behind = false
	}
	return v.update()
}

// SetIdle is called when a channel becomes idle or active again.
func (v *Valve) SetIdle(i int, idle bool) Change {
	c := &v.channels[i]
	if c.ended || c.idle == idle {
		return Change{}
	}
	c.idle = idle
	c.behind = !idle && c.wm < v.out
	return v.update()
}

// End is called when a channel has ended. With drain its input is complete: it counts as Max from now on.
func (v *Valve) End(i int, drain bool) Change {
	c := &v.channels[i]
	if c.ended {
		return Change{}
	}
	c.ended = true
	if drain {
		c.wm = event.Max
	}
	return v.update()
}

func (v *Valve) update() Change {
	var ch Change
	low, high := event.Max, event.Min
	counts, idles, behinds, allEnded, allMax := 0, 0, 0, true, true
	for i := range v.channels {
		c := &v.channels[i]
		if !c.ended {
			allEnded = false
		}
		if c.wm != event.Max {
			allMax = false
		}
		switch {
		case c.ended, c.wm == event.Max:
			// A channel that has ended, or is about to, holds nothing back, and must not push the output to Max while others are merely idle (FLINK-38477).
		case c.idle:
			idles++
			high = max(high, c.wm)
		case c.behind:
			behinds++
		default:
			counts++
			low = min(low, c.wm)
		}
	}
	idle := counts == 0 && behinds == 0 && idles > 0
	if idle != v.idle {
		v.idle, ch.IdleChanged, ch.Idle = idle, true, idle
	}
	next := v.out
	switch {
	case allMax:
		next = event.Max
	case allEnded:
	case counts > 0:
		next = low
	case idle:
		next = high
	}
	if next > v.out {
		v.out, ch.Advanced, ch.Watermark = next, true, next
	}
	return ch
}
