package operator

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

// stallAfter is how long a source's watermark may stand still, in milliseconds, before somebody is told.
const stallAfter = event.Time(30 * time.Second / time.Millisecond)

// stall finds out that a source's watermark stands still, and everything with event time behind it. It is for people, once per stall.
type stall struct {
	since  event.Time // the watermark has stood still, and the reader was asked for records
	at     event.Time // the watermark
	told   bool
	polled bool             // since the last look
	last   connector.Status // what the last Poll left
}

// poll notes a Poll.
func (s *stall) poll(st connector.Status) { s.polled, s.last = true, st }

// due reports whether it is time to say something. heldUp says that there is another reason for the watermark to stand still.
func (s *stall) due(now, watermark event.Time, heldUp bool) bool {
	// A reader that has more and is not asked for it is held up by its consumers.
	heldUp = heldUp || !s.polled && s.last == connector.More
	s.polled = false
	if s.since == 0 || watermark != s.at || heldUp {
		s.since, s.at, s.told = now, watermark, false
		return false
	}
	if s.told || now-s.since < stallAfter {
		return false
	}
	s.told = true
	return true
}

// watch says which splits hold the watermark back, when it has stood still for too long.
func (s *Source[T]) watch(now event.Time) {
	if !s.stall.due(now, s.emitted, s.idle || s.stopped) {
		return
	}
	log := s.Ctx.Logger.With(slog.Duration("since", time.Duration(now-s.stall.since)*time.Millisecond), slog.String("watermark", s.emitted.String()))
	low := event.Max
	for _, o := range s.order {
		if !o.idle {
			low = min(low, o.watermark)
		}
	}
	var silent, busy []string
	for id, o := range s.splits {
		switch {
		case o.idle || o.watermark > low:
		case now-o.last >= stallAfter:
			silent = append(silent, id)
		default:
			busy = append(busy, id)
		}
	}
	switch {
	case len(s.order) == 0:
		log.Warn("event time stands still: this subtask has no split; a smaller parallelism, or WithIdleness on the watermark strategy, lets the others go on")
	case len(silent) > 0:
		log.Warn("event time stands still: no record comes from these splits; WithIdleness on the watermark strategy lets the others go on", slog.String("splits", list(silent)))
	default:
		log.Warn("event time stands still: the timestamps of the records of these splits do not grow", slog.String("splits", list(busy)))
	}
}

// list names the first few.
func list(names []string) string {
	const most = 8
	slices.Sort(names)
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
