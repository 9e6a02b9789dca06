// Package reign decides what a JobManager does about a lease that makes it the leader: campaign, renew, stop deciding in time, go on, step down.
//
// Start with Machine. Its caller makes the calls to the store that it asks for, tells it how they ended, and shows others what it says. Its law: from Until on, by the
// caller's own clock, nobody is told that this process leads, since from then on the store may have given the lease to somebody else; and no answer to a call, however
// late or lost, makes anybody a leader who does not hold the key.
//
// A reign is longer than a lease. The store keeps two keys: the leader's, which goes with its lease, and the crown, which stays and is written in the transaction that
// takes the leader's key. Who finds the crown as it left it knows that nobody led meanwhile, and goes on under the same epoch, with a new lease.
package reign

import (
	"fmt"
	"time"
)

// Config says how long things take.
type Config struct {
	// Lease is how long a lease lasts.
	Lease time.Duration
	// Suspended is how long a leader waits for the store before it gives up.
	Suspended time.Duration
}

// wiped is what ends a reign whose store knows nothing of it.
const wiped = "the store has lost its data, or is another one"

// AnyCrown is the crown of a Take that begins a new reign.
const AnyCrown int64 = -1

// margin is the part of a lease that is not used: clocks do not go alike, and what is decided takes a moment to arrive.
const margin = 10

// Event is what happened.
type Event interface{ event() }

type (
	// Seen is what the store holds, read in one transaction.
	Seen struct {
		// Leader is the revision at which the leader's key was created, 0 if there is none; Lease is the lease it goes with.
		Leader, Lease int64
		// Crown is the revision at which the crown was last written, 0 if never.
		Crown int64
		// At is the store's revision.
		At int64
	}
	// Granted answers Grant: a lease that lasts TTL from Sent on, when the call began.
	Granted struct {
		Lease int64
		TTL   time.Duration
		Sent  time.Time
	}
	// NotGranted answers Grant.
	NotGranted struct{}
	// Taken answers Take: the leader's key and the crown were written at that revision.
	Taken struct{ Lease, At int64 }
	// Found answers Take when a condition fails, and Read: what the store holds.
	Found struct{ Seen }
	// Unclear answers Take: nobody knows whether it was done.
	Unclear struct{ Lease int64 }
	// Kept answers Keep: the lease lasts TTL from Sent on, when the call began.
	Kept struct {
		Lease int64
		TTL   time.Duration
		Sent  time.Time
	}
	// NotKept answers Keep: nobody knows.
	NotKept struct{ Lease int64 }
	// Expired answers Keep, or Take: there is no such lease.
	Expired struct{ Lease int64 }
	// Tick says that it is time; see Wake.
	Tick struct{}
	// Resign gives up.
	Resign struct{}
)

func (Seen) event()       {}
func (Granted) event()    {}
func (NotGranted) event() {}
func (Taken) event()      {}
func (Found) event()      {}
func (Unclear) event()    {}
func (Kept) event()       {}
func (NotKept) event()    {}
func (Expired) event()    {}
func (Tick) event()       {}
func (Resign) event()     {}

// Effect is what the caller does.
type Effect interface{ effect() }

type (
	// Grant asks the store for a lease. Answer Granted or NotGranted.
	Grant struct{}
	// Take writes the leader's key, with that lease, and the crown, if there is no leader, and if the crown is of that revision, or AnyCrown is asked for.
	// Answer Taken, Found, Unclear or Expired.
	Take struct{ Lease, Crown int64 }
	// Keep renews the lease. Answer Kept, NotKept or Expired.
	Keep struct{ Lease int64 }
	// Revoke ends a lease, and with it the key that goes with it, as well as it can. No answer.
	Revoke struct{ Lease int64 }
	// Read reads the store, until it answers. Answer Found.
	Read struct{}
	// Wake asks for a Tick at that time; it replaces the one before.
	Wake struct{ At time.Time }

	// Lead says that this process leads. Epoch is that of the reign, Guard the revision of its key, which every write is conditional on.
	Lead struct{ Epoch, Guard int64 }
	// Hold says until when it may decide. A time in the past suspends it.
	Hold struct{ Until time.Time }
	// End says that it leads no more; the machine is of no use any more.
	End struct{ Reason string }
)

func (Grant) effect()  {}
func (Take) effect()   {}
func (Keep) effect()   {}
func (Revoke) effect() {}
func (Read) effect()   {}
func (Wake) effect()   {}
func (Lead) effect()   {}
func (Hold) effect()   {}
func (End) effect()    {}

// Machine is one candidacy, and the reign that it may lead to. It starts as a candidate that knows nothing, and wants to be told what the store holds (Seen), now and
// whenever that changes.
type Machine struct {
	cfg   Config
	state state
	seen  Seen
	// lease is ours, 0 without one; until is when we must have stopped relying on it.
	lease int64
	until time.Time
	// calling says that an answer to Grant, Take or Read is due, taking of which lease; keeping, one to Keep.
	calling, keeping bool
	taking           int64
	// next is when the lease is to be kept, or a failed call made again.
	next time.Time
	// epoch and guard are 0 until it leads.
	epoch, guard int64
	// out is when a reign first could not be relied on, zero while it can.
	out time.Time

	eff []Effect
	now time.Time
}

type state int

const (
	// waiting has no lease: somebody else leads, or what the store holds is not known.
	waiting state = iota
	// campaigning is about to take the key: at first, or again.
	campaigning
	// leading has the key, as far as it knows.
	leading
	ended
)

// New returns a candidate.
func New(cfg Config) *Machine { return &Machine{cfg: cfg} }

// retry is the pause before a call is made again.
func (m *Machine) retry() time.Duration { return m.cfg.Lease / 20 }

// Step takes an event and returns what to do, in order. The time never goes back.
func (m *Machine) Step(e Event, now time.Time) []Effect {
	if m.state == ended {
		return m.late(e)
	}
	m.eff, m.now = nil, now
	switch e := e.(type) {
	case Seen:
		m.see(e)
	case Found:
		m.calling, m.taking = false, 0
		if e.At < m.guard {
			m.stop(wiped) // it was asked after that: revisions have begun anew
			return m.eff
		}
		m.see(e.Seen)
		if m.state == campaigning && m.lease != 0 {
			// A Take that was lost may still arrive: it finds no lease.
			m.drop()
			m.next = now.Add(m.retry())
		}
	case Granted:
		m.calling = false
		m.lease, m.until = e.Lease, m.end(e.Sent, e.TTL)
		m.take()
	case NotGranted:
		m.calling = false
		m.next = now.Add(m.retry())
	case Taken:
		m.calling, m.taking = false, 0
		if e.Lease == m.lease {
			m.taken(e.At)
		}
	case Unclear:
		m.eff = append(m.eff, Read{}) // an answer is due still
	case Kept:
		if m.keeping && e.Lease == m.lease {
			m.keeping = false
			m.until = m.end(e.Sent, e.TTL)
			m.next = e.Sent.Add(m.cfg.Lease / 3)
			if m.state == leading {
				m.hold()
			}
		}
	case NotKept:
		if m.keeping && e.Lease == m.lease {
			m.keeping = false
			m.next = now.Add(m.retry())
		}
	case Expired:
		m.expired(e.Lease)
	case Resign:
		m.stop("it was given up")
	case Tick:
	}
	if m.state != ended {
		m.proceed()
	}
	return m.eff
}

// late drops what comes after the end: a lease that was granted, a key that was taken.
func (m *Machine) late(e Event) []Effect {
	if g, ok := e.(Granted); ok {
		return []Effect{Revoke{g.Lease}}
	}
	return nil
}

// end is when a lease that was asked for at sent is not relied on any longer.
func (m *Machine) end(sent time.Time, ttl time.Duration) time.Time { return sent.Add(ttl - ttl/margin) }

// see takes what the store holds, unless it is older than what is known.
func (m *Machine) see(s Seen) {
	if s.At >= m.seen.At && s.At >= m.guard {
		m.seen = s
		m.look()
	}
}

// look compares what the store holds with what we hold.
func (m *Machine) look() {
	s := m.seen
	switch {
	case s.Leader != 0 && m.lease != 0 && s.Lease == m.lease:
		m.taken(s.Leader) // also the answer of a Take that was lost
	case m.epoch == 0:
		if s.Leader != 0 {
			m.drop()
			m.state = waiting
		}
	case s.Leader == m.guard:
		// Ours: either it stands, or its lease has ended, and it goes soon.
	case s.Leader != 0:
		m.stop(fmt.Sprintf("another JobManager leads since revision %d", s.Leader))
	case s.Crown == 0:
		m.stop(wiped)
	case s.Crown != m.guard:
		m.stop(fmt.Sprintf("another JobManager led since revision %d", s.Crown))
	default:
		// Our key is gone, and nobody has led since.
		m.drop()
		m.suspend()
		m.state = campaigning
	}
}

// taken notes that the key is ours.
func (m *Machine) taken(at int64) {
	if m.state == leading && m.guard == at {
		return
	}
	m.guard = at
	m.seen = Seen{Leader: at, Lease: m.lease, Crown: at, At: max(at, m.seen.At)}
	if m.epoch == 0 {
		m.epoch = at
	}
	m.state = leading
	m.next = m.now // what is left of the lease is not known well: it is kept at once
	m.eff = append(m.eff, Lead{Epoch: m.epoch, Guard: m.guard})
	m.hold()
}

// hold tells until when decisions may be made.
func (m *Machine) hold() {
	if m.now.Before(m.until) {
		m.out = time.Time{}
		m.eff = append(m.eff, Hold{m.until})
	}
}

// suspend tells that no decision may be made.
func (m *Machine) suspend() {
	if m.epoch != 0 && m.out.IsZero() {
		m.out = m.now
		m.eff = append(m.eff, Hold{})
	}
}

// expired notes that the store does not know a lease.
func (m *Machine) expired(lease int64) {
	if m.taking == lease {
		m.calling, m.taking = false, 0
	}
	if lease != m.lease {
		return
	}
	m.lease, m.keeping, m.next = 0, false, time.Time{}
	m.suspend()
	if m.state == leading {
		m.state = campaigning // the crown says whether it may go on
	}
}

// drop gives our lease back.
func (m *Machine) drop() {
	if m.lease != 0 {
		m.eff = append(m.eff, Revoke{m.lease})
	}
	m.lease, m.keeping, m.next = 0, false, time.Time{}
}

func (m *Machine) stop(reason string) {
	m.drop()
	m.state = ended
	if m.epoch != 0 {
		m.eff = append(m.eff, Hold{})
	}
	m.eff = append(m.eff, End{reason})
}

// take takes the key with a lease that has just been granted.
func (m *Machine) take() {
	if m.epoch == 0 && m.seen.Leader != 0 || !m.now.Before(m.until) {
		m.drop() // somebody was faster, or the answer too late to be of use
		m.state = waiting
		if m.epoch != 0 {
			m.state = campaigning
		}
		return
	}
	crown := AnyCrown
	if m.epoch != 0 {
		crown = m.guard
	}
	m.calling, m.taking = true, m.lease
	m.eff = append(m.eff, Take{Lease: m.lease, Crown: crown})
}

// proceed does what is due, and says when it wants to be asked again.
func (m *Machine) proceed() {
	if m.state == leading && !m.now.Before(m.until) {
		m.suspend()
	}
	if !m.out.IsZero() && m.now.Sub(m.out) >= m.cfg.Suspended {
		m.stop(fmt.Sprintf("the store was out of reach for %v", m.cfg.Suspended))
		return
	}
	if m.state == waiting && m.seen.At != 0 && m.seen.Leader == 0 {
		m.state = campaigning
	}
	due := !m.now.Before(m.next)
	switch {
	case m.state == campaigning && m.lease == 0 && !m.calling && due:
		m.calling = true
		m.eff = append(m.eff, Grant{})
	case m.state == leading && !m.keeping && due:
		m.keeping = true
		m.eff = append(m.eff, Keep{m.lease})
	}
	var at time.Time
	earliest := func(t time.Time) {
		if t.After(m.now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if m.state == leading {
		earliest(m.until)
	}
	if m.state == leading && !m.keeping || m.state == campaigning && !m.calling {
		earliest(m.next)
	}
	if !m.out.IsZero() {
		earliest(m.out.Add(m.cfg.Suspended))
	}
	if !at.IsZero() {
		m.eff = append(m.eff, Wake{at})
	}
}
