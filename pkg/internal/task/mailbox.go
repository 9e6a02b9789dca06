package task

import (
	"errors"
	"fmt"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
)

var errNotRunning = errors.New("the task is not running")

// Post runs f on the task's goroutine, between two records. After the task has ended f is dropped.
func (t *chainTask) Post(f func()) {
	t.mail.Lock()
	if t.mail.closed {
		t.mail.Unlock()
		return
	}
	t.mail.queue = append(t.mail.queue, f)
	t.mail.Unlock()
	t.flag.Store(1)
	t.Wake()
}

func (t *chainTask) closeMail() {
	t.mail.Lock()
	turns := t.mail.turns
	t.mail.queue, t.mail.turns, t.mail.closed = nil, nil, true
	t.mail.Unlock()
	for _, u := range append(turns, t.pending...) {
		if u.barrier != nil {
			t.spec.Listener.Decline(t.spec.ID, u.barrier.Checkpoint, errNotRunning, true)
		}
	}
}

// Yield does what the flag stands for: mail, timers, a flush. Between two records it is always allowed; what is a turn waits for the loop.
func (t *chainTask) Yield() bool {
	t.flag.Store(0)
	t.tick()
	t.mail.Lock()
	queue := t.mail.queue
	t.mail.queue = nil
	t.mail.Unlock()
	for _, f := range queue {
		if t.ctx.Err() != nil {
			break
		}
		f()
		t.stats.mails.Inc()
	}
	if t.nextCall != 0 && t.now >= t.nextLook && t.ctx.Err() == nil {
		if t.now >= t.nextCall {
			t.runCalls()
		} else {
			t.setNextCall(t.nextCall)
		}
	}
	if t.flushDue.Load() {
		t.flushDue.Store(false)
		t.flushArmed = false
		t.publish()
		t.flush()
		t.armFlush()
	}
	if t.ctx.Err() != nil {
		t.flag.Store(1)
		return false
	}
	return true
}

// CallAt is Host's.
func (t *chainTask) CallAt(op int, at event.Time) {
	o := t.ops[op]
	if at <= 0 {
		at = 1
	}
	if o.callAt != 0 && o.callAt <= at {
		return
	}
	o.callAt = at
	if t.nextCall == 0 || at < t.nextCall {
		t.setNextCall(at)
	}
}

func (t *chainTask) setNextCall(at event.Time) {
	t.nextCall, t.nextLook = at, at
	if at == 0 || at == event.Max {
		return
	}
	now := event.Time(time.Now().UnixMilli())
	// A call that is far away is looked at again each day: its distance may be more than a Duration holds, and clocks are set.
	t.nextLook = min(at, now+event.Time((24*time.Hour).Milliseconds()))
	d := max(time.Duration(t.nextLook-now)*time.Millisecond, 0)
	if t.callTimer == nil {
		t.callTimer = time.AfterFunc(d, func() {
			t.flag.Store(1)
			t.Wake()
		})
		return
	}
	t.callTimer.Reset(d)
}

func (t *chainTask) runCalls() {
	for _, o := range t.ops {
		if o.callAt == 0 || t.now < o.callAt {
			continue
		}
		o.callAt = 0
		if t.dataEnded {
			continue // what waits for processing time is dropped at the end of the input
		}
		t.armFlush() // as before a batch: its timers may be slow
		if err := o.op.OnProcessingTime(t.now); err != nil {
			t.Fail(fmt.Errorf("operator %q: at processing time %s: %w", o.plan.GetName(), t.now, err))
			return
		}
	}
	next := event.Time(0)
	for _, o := range t.ops {
		if o.callAt != 0 && (next == 0 || o.callAt < next) {
			next = o.callAt
		}
	}
	t.setNextCall(next)
}

// Now is Host's.
func (t *chainTask) Now() event.Time { return t.now }

// EmitWatermark is Host's.
func (t *chainTask) EmitWatermark(op int, wm event.Time) {
	o := t.ops[op]
	o.outWatermark.Store(int64(wm))
	for _, next := range o.chained {
		next.inWatermark.Store(int64(wm))
		if err := next.op.ProcessWatermark(wm); err != nil {
			t.Fail(fmt.Errorf("operator %q: at watermark %s: %w", next.plan.GetName(), wm, err))
			return
		}
	}
	for _, e := range o.edges {
		e.router.Flush()
		e.writer.Broadcast(exchange.Element{Kind: exchange.KindWatermark, Watermark: wm})
	}
}

// broadcastWatermark sends a watermark to all consumers of all operators: of a task that had finished before it was restored.
func (t *chainTask) broadcastWatermark(wm event.Time) {
	for _, e := range t.edges {
		e.writer.Broadcast(exchange.Element{Kind: exchange.KindWatermark, Watermark: wm})
	}
}

// EmitIdle is Host's.
func (t *chainTask) EmitIdle(op int, idle bool) {
	o := t.ops[op]
	for _, next := range o.chained {
		if err := next.op.ProcessIdle(idle); err != nil {
			t.Fail(fmt.Errorf("operator %q: %w", next.plan.GetName(), err))
			return
		}
	}
	for _, e := range o.edges {
		e.router.Flush()
		e.writer.Broadcast(exchange.Element{Kind: exchange.KindIdle, Idle: idle})
	}
}

// Targets is Host's.
func (t *chainTask) Targets(op int, side string) []Target { return t.ops[op].targets[side] }

// RequestSplit is Host's.
func (t *chainTask) RequestSplit(op int) {
	t.spec.Listener.SplitRequest(t.spec.ID, base.OperatorID(t.ops[op].plan.GetId()))
}

// Committed is Host's.
func (t *chainTask) Committed(op int, checkpoint int64) { t.snapshots.committed(t, op, checkpoint) }

// Restored is Host's.
func (t *chainTask) Restored(op int) *Restored { return t.ops[op].restored }

// ReadState is Host's.
func (t *chainTask) ReadState(uri string) (StateReader, error) { return t.spec.Storage.Open(uri) }

// AssignSplits carries an enumerator's splits to the reader.
func (t *chainTask) AssignSplits(op base.OperatorID, splits []connector.Split, noMore bool) {
	t.mail.Lock()
	if !t.mail.closed {
		t.mail.turns = append(t.mail.turns, turn{splits: func() error { return t.addSplits(op, splits, noMore) }})
	}
	t.mail.Unlock()
	t.flag.Store(1)
	t.Wake()
}

func (t *chainTask) addSplits(op base.OperatorID, splits []connector.Split, noMore bool) error {
	if t.source == nil || base.OperatorID(t.ops[0].plan.GetId()) != op || t.dataEnded {
		return nil
	}
	ids, data := make([]string, len(splits)), make([][]byte, len(splits))
	for i, s := range splits {
		ids[i], data[i] = s.ID, s.Data
	}
	if len(ids) > 0 {
		if err := t.source.AddSplits(ids, data); err != nil {
			return fmt.Errorf("operator %q: add splits %q: %w", t.ops[0].plan.GetName(), ids, err)
		}
	}
	if noMore {
		if err := t.source.NoMoreSplits(); err != nil {
			return fmt.Errorf("operator %q: %w", t.ops[0].plan.GetName(), err)
		}
	}
	return t.failed()
}
