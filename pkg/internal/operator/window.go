package operator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/mutant"
)

// Window is the half-open interval [Start, End).
type Window struct{ Start, End event.Time }

// Max is the largest timestamp that belongs to the window.
func (w Window) Max() event.Time { return w.End - 1 }

// Assigner says which windows a timestamp belongs to: those of Size that begin at every Slide, shifted by Offset, all in milliseconds.
type Assigner struct {
	Size, Slide, Offset event.Time
	Processing          bool
}

// Start returns the start of the last window that ts belongs to; it rounds down for negative times too.
func (a Assigner) Start(ts event.Time) event.Time {
	r := (ts - a.Offset) % a.Slide
	if r < 0 {
		r += a.Slide
	}
	return ts - r
}

// WindowHooks is what a window operator does with a window's contents. They are called with key and namespace set. Late may be nil.
type WindowHooks[I any] struct {
	Add   func(v I)
	Fire  func(w Window) error
	Clear func()
	Late  func(v I, ts event.Time)
	Close func() error
}

type windows[K, I any] struct {
	k        *Keyed[K, I]
	assign   Assigner
	lateness event.Time
	hooks    WindowHooks[I]
	ns       [16]byte
}

// Windowed returns the hooks of a keyed operator that keeps windows.
func Windowed[K, I any](k *Keyed[K, I], a Assigner, lateness event.Time, hooks WindowHooks[I]) KeyedHooks[I] {
	w := &windows[K, I]{k: k, assign: a, lateness: lateness, hooks: hooks}
	return KeyedHooks[I]{Each: w.each, Timer: w.timer, Close: hooks.Close}
}

var errNoTimestamp = errors.New("a record without a timestamp reached an event-time window: give its source a watermark strategy with timestamps")

// each puts a record into its windows. A window is late when its state is gone: end-1+lateness <= watermark.
func (w *windows[K, I]) each(v I, ts event.Time) error {
	at := ts
	if w.assign.Processing {
		at = w.k.Ctx.Now()
	} else if ts == event.None {
		return base.Permanent(errNoTimestamp)
	}
	skipped := true
	for start := w.assign.Start(at); start > at-w.assign.Size; start -= w.assign.Slide {
		win := Window{start, start + w.assign.Size}
		if !w.assign.Processing && w.cleanup(win) <= w.k.Watermark {
			continue
		}
		skipped = false
		w.enter(win)
		made := w.k.State.Made()
		w.hooks.Add(v)
		// The timers of a window are set with its first row.
		first := w.k.State.Made() != made
		if !w.assign.Processing && win.Max() <= w.k.Watermark {
			if err := w.hooks.Fire(win); err != nil { // late but within the lateness: the updated result at once
				return err
			}
		} else if first {
			w.k.Register(win.Max(), w.assign.Processing)
		}
		if first {
			w.k.Register(w.cleanup(win), w.assign.Processing)
		}
	}
	w.k.State.SetNamespace(nil)
	if skipped && !w.assign.Processing && saturate(ts, w.lateness) <= w.k.Watermark {
		if w.hooks.Late != nil {
			w.hooks.Late(v, ts)
		} else {
			w.k.Ctx.Late++
		}
	}
	return nil
}

func saturate(ts, lateness event.Time) event.Time {
	if ts > math.MaxInt64-lateness {
		return event.Max
	}
	return ts + lateness
}

// cleanup is when the window's state is removed.
func (w *windows[K, I]) cleanup(win Window) event.Time {
	if w.assign.Processing {
		return win.Max()
	}
	return saturate(win.Max(), w.lateness)
}

// enter makes the window the current namespace: its start and end, 8 bytes each, big-endian with the sign turned over.
func (w *windows[K, I]) enter(win Window) {
	binary.BigEndian.PutUint64(w.ns[:8], uint64(win.Start)^1<<63)
	binary.BigEndian.PutUint64(w.ns[8:], uint64(win.End)^1<<63)
	w.k.State.SetNamespace(w.ns[:])
}

func (w *windows[K, I]) timer(at event.Time, _ bool) error {
	ns := w.k.State.Namespace()
	if len(ns) != 16 {
		return fmt.Errorf("window timer: %w: namespace of %d bytes", base.ErrCorrupt, len(ns))
	}
	win := Window{event.Time(binary.BigEndian.Uint64(ns[:8]) ^ 1<<63), event.Time(binary.BigEndian.Uint64(ns[8:]) ^ 1<<63)}
	w.enter(win) // the backend's bytes may move
	if at == win.Max() {
		if err := w.hooks.Fire(win); err != nil {
			return err
		}
		if mutant.Is(mutant.FireTwice) && win.Start%7 == 0 {
			if err := w.hooks.Fire(win); err != nil {
				return err
			}
		}
	}
	if at >= w.cleanup(win) {
		w.hooks.Clear()
	}
	w.k.State.SetNamespace(nil)
	return nil
}
