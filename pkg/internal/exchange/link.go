package exchange

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange/credit"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

const (
	// messageBytes is about how much goes into one message: small frames share the cost of one, and no channel waits long for its turn.
	messageBytes = 128 << 10
	// connectTimeout is how long a TaskManager that cannot be reached is tried, every connectPause.
	connectTimeout = 10 * time.Second
	connectPause   = 200 * time.Millisecond
	// openTimeout is how long one end of a channel waits for the other to be deployed.
	openTimeout = 30 * time.Second
	// maxAsked bounds the channels that another TaskManager has asked for and whose producers are not deployed here.
	maxAsked = 1 << 17
)

// ErrLink is wrapped when the link to another TaskManager broke, or could not be made: the tasks that use it fail, and their job restarts.
var ErrLink = errors.New("link to another task manager")

// link is the one connection of a pair of TaskManagers, with all channels between the two.
//
// Two goroutines serve it: the sender takes what the producers here have queued, channel by channel, as far as their credit goes; the receiver hands what comes to the
// channels of the consumers here, which have room for it, because they granted it. So neither ever waits for a task.
//
// A pair may be linked anew after a break; then it is another link, with other channels.
type link struct {
	network *Network
	pair    pair
	address string // of the other end
	// wake has room for one token: the sender looks at everything again.
	wake chan struct{}
	// broken is closed when the link has broken; cancel ends what the end that dials is at then.
	broken chan struct{}
	cancel context.CancelFunc
	parts  []*[]byte // the sender's
	woken  []*Gate   // the receiver's: to be woken

	mu struct {
		sync.Mutex
		up, left bool // connected; or broken, then err says why
		err      error
		timer    *time.Timer // looks for ends that have waited too long; nil when none waits

		in   map[uint32]*channel // consumers here
		last uint32              // the last number given to one
		// unasked are producers here whose consumer has not asked for them; asked are the consumers there, by their numbers, and those of them without a producer by id.
		unasked  map[ChannelID]*channel
		asked    map[uint32]*asked
		waiting  map[ChannelID]*asked
		lastSeen uint32 // the largest number that the other end has used

		control []byte     // frames that are to be sent before all others
		grants  []*channel // consumers here that have something to grant
		ready   []*channel // producers here that may have something to send
	}
}

// asked is a channel that the other end has asked for.
type asked struct {
	number  uint32
	id      ChannelID
	credit  credit.Balance // until the producer is here
	channel *channel       // nil until then
}

// pair are two TaskManagers, by their ids.
type pair struct{ here, there string }

func newLink(n *Network, p pair, address string) *link {
	l := &link{network: n, pair: p, address: address, wake: make(chan struct{}, 1), broken: make(chan struct{}), cancel: func() {}}
	l.mu.in, l.mu.unasked, l.mu.asked, l.mu.waiting = map[uint32]*channel{}, map[ChannelID]*channel{}, map[uint32]*asked{}, map[ChannelID]*asked{}
	return l
}

// dials reports whether this end opens the stream: one of the two does, so that there is one.
func (p pair) dials() bool { return p.here < p.there }

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // a token is there already
	}
}

// openConsumer asks for a channel whose consumer is here. False means that the link has broken.
func (l *link) openConsumer(c *channel) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.left {
		return false
	}
	l.mu.last++
	c.number, c.link, c.since = l.mu.last, l, time.Now()
	l.mu.in[c.number] = c
	l.mu.control = appendOpen(l.mu.control, c.number, c.id)
	l.mu.control = appendCredit(l.mu.control, c.number, c.window.Resize(c.limit.Load()))
	l.armLocked(openTimeout)
	l.signal()
	return true
}

// openProducer enters a channel whose producer is here. False means that the link has broken.
func (l *link) openProducer(c *channel) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.left {
		return false
	}
	c.link, c.since = l, time.Now()
	if a := l.mu.waiting[c.id]; a != nil {
		delete(l.mu.waiting, c.id)
		l.matchLocked(a, c)
		return true
	}
	l.mu.unasked[c.id] = c
	l.armLocked(openTimeout)
	return true
}

// matchLocked brings the two ends of a channel together. The producer may have queued something already.
func (l *link) matchLocked(a *asked, c *channel) {
	a.channel = c
	l.mu.control = appendBare(l.mu.control, frameOpened, a.number)
	c.mu.Lock()
	c.number, c.asked = a.number, true
	c.balance.Granted(int64(a.credit))
	has := c.n > 0
	c.mu.Unlock()
	if has {
		l.scheduleLocked(c)
	}
	l.signal()
}

// schedule gives a producer's channel its turn.
func (l *link) schedule(c *channel) {
	l.mu.Lock()
	l.scheduleLocked(c)
	l.mu.Unlock()
	l.signal()
}

func (l *link) scheduleLocked(c *channel) {
	if !c.scheduled {
		c.scheduled = true
		l.mu.ready = append(l.mu.ready, c)
	}
}

// grant lets the producer of c, whose consumer is here, send more.
func (l *link) grant(c *channel, bytes int64) {
	if bytes <= 0 {
		return
	}
	l.mu.Lock()
	if c.grants == 0 {
		l.mu.grants = append(l.mu.grants, c)
	}
	c.grants += bytes
	l.mu.Unlock()
	l.signal()
}

// closeConsumer says that nobody here takes anything from c any more.
func (l *link) closeConsumer(c *channel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.in[c.number] != c {
		return // it has had its end, or the link has broken
	}
	delete(l.mu.in, c.number)
	l.mu.control = appendBare(l.mu.control, frameClosed, c.number)
	l.signal()
}

// closeProducer forgets a producer that ended without an end: nothing more is sent. It is the JobManager that ends its consumer.
func (l *link) closeProducer(c *channel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.unasked[c.id] == c {
		delete(l.mu.unasked, c.id)
	}
	if a := l.mu.asked[c.number]; a != nil && a.channel == c {
		delete(l.mu.asked, c.number)
	}
}

// run connects and serves the link of the end that dials, until it breaks.
func (l *link) run(ctx context.Context, network grpcrpc.Network) {
	s, err := l.connect(ctx, network)
	if err != nil {
		l.fail(err)
		return
	}
	if l.claim() {
		l.fail(l.serve(ctx, s))
	}
	_ = s.Close() // what it says has been said: the link has broken
}

// claim says that the link is up; false means that it is already, or has broken. Who claims it serves it.
func (l *link) claim() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.up || l.mu.left {
		return false
	}
	l.mu.up = true
	return true
}

// connect tries for connectTimeout. What is at the address must be the other end, and answer in time.
func (l *link) connect(ctx context.Context, network grpcrpc.Network) (*grpcrpc.Stream, error) {
	deadline := time.Now().Add(connectTimeout)
	for {
		s, err := l.dial(ctx, network, deadline)
		switch {
		case err == nil:
			return s, nil
		case ctx.Err() != nil:
			return nil, l.failure()
		case base.ClassOf(err) != base.ClassRestart || !time.Now().Add(connectPause).Before(deadline):
			return nil, err
		}
		timer := time.NewTimer(connectPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func (l *link) dial(ctx context.Context, network grpcrpc.Network, deadline time.Time) (*grpcrpc.Stream, error) {
	dialing, cancel := context.WithCancel(ctx)
	s, err := grpcrpc.DialExchange(dialing, network, l.address)
	if err != nil {
		cancel()
		return nil, err
	}
	// Only what is said first has a time: the stream goes on.
	timer := time.AfterFunc(time.Until(deadline), cancel)
	defer timer.Stop()
	fail := func(err error) (*grpcrpc.Stream, error) {
		cancel()
		return nil, errors.Join(err, s.Close())
	}
	if err := l.sayHello(s); err != nil {
		return fail(err)
	}
	h, err := l.network.hearHello(s)
	if err != nil {
		return fail(err)
	}
	if h.from != l.pair.there || h.to != l.pair.here {
		return fail(fmt.Errorf("at %s is task manager %s, not %s", l.address, h.from, l.pair.there))
	}
	return s, nil
}

func (l *link) sayHello(s *grpcrpc.Stream) error {
	b := l.network.pool.Get(0)
	*b = appendHello(*b, hello{version: frameVersion, from: l.pair.here, address: l.network.addressOf(l.pair.here), to: l.pair.there})
	l.parts = append(l.parts[:0], b)
	return s.Send(l.parts, &l.network.pool)
}

// serve sends until the link breaks, with the receiver beside it, and returns why it broke. The receiver ends with the stream.
func (l *link) serve(ctx context.Context, s *grpcrpc.Stream) error {
	l.network.all.Go(func() { l.fail(l.receive(s)) })
	for {
		parts, err := l.collect()
		if err != nil {
			return err
		}
		if len(parts) == 0 {
			select {
			case <-l.wake:
			case <-l.broken:
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", ErrLink, context.Cause(ctx))
			}
			continue
		}
		if err := s.Send(parts, &l.network.pool); err != nil {
			if f := l.failureIn(time.Second); f != nil {
				return f // what the receiver heard says more than that the stream has ended
			}
			return err
		}
	}
}

// failureIn waits for the receiver to say why the link has broken.
func (l *link) failureIn(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.broken:
		return l.failure()
	case <-timer.C:
		return nil
	}
}

// channels appends those of the link.
func (l *link) channels(out []*channel) []*channel {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.channelsLocked(out)
}

func (l *link) channelsLocked(out []*channel) []*channel {
	for _, c := range l.mu.in {
		out = append(out, c)
	}
	for _, c := range l.mu.unasked {
		out = append(out, c)
	}
	for _, a := range l.mu.asked {
		if a.channel != nil {
			out = append(out, a.channel)
		}
	}
	return out
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// collect takes what there is to send, at most about messageBytes: first what opens, grants and closes channels, then their elements, one of each channel in turn.
func (l *link) collect() ([]*[]byte, error) {
	pool := &l.network.pool
	l.parts = l.parts[:0]
	small := pool.Get(0)
	l.mu.Lock()
	if l.mu.left {
		l.mu.Unlock()
		pool.Put(small)
		return nil, l.failure()
	}
	*small = append(*small, l.mu.control...)
	l.mu.control = l.mu.control[:0]
	if cap(l.mu.control) > messageBytes {
		l.mu.control = nil
	}
	for i, c := range l.mu.grants {
		if l.mu.in[c.number] == c {
			*small = appendCredit(*small, c.number, c.grants)
		}
		c.grants, l.mu.grants[i] = 0, nil
	}
	l.mu.grants = l.mu.grants[:0]
	l.mu.Unlock()
	size := len(*small)
	for size < messageBytes {
		l.mu.Lock()
		if len(l.mu.ready) == 0 {
			l.mu.Unlock()
			break
		}
		c := l.mu.ready[0]
		copy(l.mu.ready, l.mu.ready[1:])
		l.mu.ready[len(l.mu.ready)-1] = nil
		l.mu.ready = l.mu.ready[:len(l.mu.ready)-1]
		c.scheduled = false
		l.mu.Unlock()
		e, ok, more := c.take()
		if !ok {
			continue
		}
		if e.Kind == KindBatch {
			binary.LittleEndian.PutUint32((*e.encoded)[1:], c.number)
			if len(*small) > 0 {
				l.parts = append(l.parts, small)
				small = pool.Get(0)
			}
			l.parts = append(l.parts, e.encoded)
			size += len(*e.encoded)
		} else {
			n := len(*small)
			*small = appendControl(*small, c.number, &e)
			size += len(*small) - n
		}
		switch {
		case e.Kind == KindEnd:
			l.mu.Lock()
			delete(l.mu.asked, c.number)
			l.mu.Unlock()
		case more:
			l.mu.Lock()
			l.scheduleLocked(c)
			l.mu.Unlock()
		}
	}
	if len(*small) > 0 {
		l.parts = append(l.parts, small)
	} else {
		pool.Put(small)
	}
	return l.parts, nil
}

// receive hands out what comes, until the stream ends. Consumers are woken when all of a message is there for them.
func (l *link) receive(s *grpcrpc.Stream) error {
	r := frameReader{buffer: l.buffer}
	for {
		m, err := s.Receive()
		if err != nil {
			return err
		}
		for r.src = m; m.Remaining() > 0 && err == nil; {
			var f frame
			if f, err = r.next(); err == nil {
				err = l.handle(&f)
			}
		}
		for i, g := range l.woken {
			g.host.Wake()
			l.woken[i] = nil
		}
		l.woken = l.woken[:0]
		if err != nil {
			return fmt.Errorf("task manager %s at %s: %w", l.pair.there, l.address, err)
		}
	}
}

// buffer returns where the bytes of a batch go: nowhere yet, if its type adopts them, and has them for ever.
func (l *link) buffer(channel uint32, length int) *[]byte {
	l.mu.Lock()
	c := l.mu.in[channel]
	l.mu.Unlock()
	if c != nil && c.adopt != nil {
		return nil
	}
	return l.network.pool.Get(length)
}

func (l *link) handle(f *frame) error {
	switch f.kind {
	case frameHello:
		return fmt.Errorf("%w: a second hello", errFrame)
	case frameOpen:
		return l.handleOpen(f)
	case frameCredit, frameClosed:
		return l.handleAsked(f)
	}
	l.mu.Lock()
	c, last := l.mu.in[f.channel], l.mu.last
	if c != nil {
		c.opened = true
		if f.kind == frameEnd {
			delete(l.mu.in, f.channel) // a link that breaks from now on takes nothing from it
		}
	}
	l.mu.Unlock()
	if c == nil {
		if f.batch != nil {
			l.network.pool.Put(f.batch)
		}
		if f.channel > last {
			return fmt.Errorf("%w: kind %d of channel %d, which nobody has opened", errFrame, f.kind, f.channel)
		}
		return nil // late: its consumer has gone
	}
	if f.kind == frameOpened {
		return nil
	}
	e := f.element
	if f.kind == frameBatch {
		e = Element{Kind: KindBatch, encoded: f.batch}
	}
	e.Size = int(credit.Weight(f.bytes))
	g, err := c.receive(e)
	if err != nil {
		return fmt.Errorf("%s: %w", c.id, err)
	}
	if g != nil {
		l.woken = append(l.woken, g)
	}
	return nil
}

func (l *link) handleOpen(f *frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.left {
		return l.mu.err // it broke while the receiver had more of a message
	}
	if f.channel != l.mu.lastSeen+1 {
		return fmt.Errorf("%w: channel %d is opened after %d", errFrame, f.channel, l.mu.lastSeen)
	}
	l.mu.lastSeen = f.channel
	if l.mu.waiting[f.id] != nil {
		return fmt.Errorf("%w: channel %d: %s was asked for twice", errFrame, f.channel, f.id)
	}
	a := &asked{number: f.channel, id: f.id}
	l.mu.asked[f.channel] = a
	if c := l.mu.unasked[f.id]; c != nil {
		delete(l.mu.unasked, f.id)
		l.matchLocked(a, c)
		return nil
	}
	if len(l.mu.waiting) >= maxAsked {
		return fmt.Errorf("%d channels were asked for whose producers are not here", maxAsked)
	}
	l.mu.waiting[f.id] = a
	return nil
}

func (l *link) handleAsked(f *frame) error {
	l.mu.Lock()
	a := l.mu.asked[f.channel]
	if a == nil {
		defer l.mu.Unlock()
		if f.channel > l.mu.lastSeen {
			return fmt.Errorf("%w: kind %d of channel %d, which nobody has opened", errFrame, f.kind, f.channel)
		}
		return nil // late: its producer has gone
	}
	c := a.channel
	if f.kind == frameClosed {
		delete(l.mu.asked, f.channel)
		if c == nil {
			delete(l.mu.waiting, a.id)
		}
	} else if c == nil {
		a.credit.Granted(f.credit)
	}
	l.mu.Unlock()
	switch {
	case c == nil:
	case f.kind == frameClosed:
		for _, e := range c.close() {
			l.network.drop(e)
		}
	case c.granted(f.credit):
		l.schedule(c)
	}
	return nil
}

// armLocked sees to it that somebody looks, after d, for ends that have waited too long.
func (l *link) armLocked(d time.Duration) {
	if l.mu.timer == nil {
		l.mu.timer = time.AfterFunc(d, l.expire)
	}
}

// expire fails the ends that have waited for the other for openTimeout.
func (l *link) expire() {
	var late []*channel
	now, next := time.Now(), time.Duration(0)
	l.mu.Lock()
	l.mu.timer = nil
	look := func(c *channel) {
		if left := openTimeout - now.Sub(c.since); left <= 0 {
			late = append(late, c)
		} else if next == 0 || left < next {
			next = left
		}
	}
	for n, c := range l.mu.in {
		if !c.opened {
			if look(c); len(late) > 0 && late[len(late)-1] == c {
				delete(l.mu.in, n)
				l.mu.control = appendBare(l.mu.control, frameClosed, n)
			}
		}
	}
	for id, c := range l.mu.unasked {
		if look(c); len(late) > 0 && late[len(late)-1] == c {
			delete(l.mu.unasked, id)
		}
	}
	if next > 0 && !l.mu.left {
		l.armLocked(next)
	}
	what := "its other end was not deployed"
	if !l.mu.up {
		what = fmt.Sprintf("task manager %s did not connect", l.pair.there)
	}
	l.mu.Unlock()
	l.signal()
	for _, c := range late {
		l.failChannel(c, fmt.Errorf("%w: %s within %v", ErrLink, what, openTimeout))
	}
}

// fail breaks the link, once: the tasks that use it fail with both ends named.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.mu.left {
		l.mu.Unlock()
		return
	}
	if !errors.Is(err, ErrLink) {
		err = fmt.Errorf("%w: %w", ErrLink, err)
	}
	l.mu.left, l.mu.up, l.mu.err = true, false, err
	channels := l.channelsLocked(nil)
	l.mu.in, l.mu.unasked, l.mu.asked, l.mu.waiting, l.mu.ready, l.mu.grants, l.mu.control = nil, nil, nil, nil, nil, nil, nil
	if l.mu.timer != nil {
		l.mu.timer.Stop()
		l.mu.timer = nil
	}
	l.mu.Unlock()
	l.network.forget(l)
	close(l.broken)
	l.cancel()
	for _, c := range channels {
		l.failChannel(c, err)
	}
}

// failChannel fails the task at this end of a channel. A producer that has ended has no task any more; what it left is lost, and its consumer, there, fails.
func (l *link) failChannel(c *channel, err error) {
	o := c.detach()
	for _, e := range c.close() {
		l.network.drop(e)
	}
	if o == nil {
		return
	}
	producer, consumer := o.Ends(c.id)
	here, there := l.pair.here+" "+l.network.addressOf(l.pair.here), l.pair.there+" "+l.address
	if c.gate != nil {
		here, there = there, here
	}
	o.Fail(base.WithClass(fmt.Errorf("%s @ %s -> %s @ %s: %w", producer, here, consumer, there, err), base.ClassRestart))
}
