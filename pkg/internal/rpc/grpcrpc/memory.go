package grpcrpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
)

// Network is how processes reach each other.
type Network interface {
	// Listen opens an address to be dialed; an empty one is chosen by the network. The listener's Addr is what others Dial.
	Listen(address string) (net.Listener, error)
	// Dial connects to an address.
	Dial(ctx context.Context, address string) (net.Conn, error)
}

// Caller is a Network that stands around each call, for tests of what becomes of calls that are lost, repeated or late. invoke makes the call; it may be made several times, also
// at once and when Call has returned. What Call returns is the outcome, with the answer of the invocation that ended last before.
type Caller interface {
	Network
	Call(ctx context.Context, address, method string, invoke func(context.Context) error) error
}

// Memory is a network inside one process: no port, no kernel. It is safe for concurrent use.
type Memory struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener
	next      int
	conns     map[*memoryConn]struct{} // of the ends that dialed
}

// NewMemory returns an empty network.
func NewMemory() *Memory {
	return &Memory{listeners: map[string]*memoryListener{}, conns: map[*memoryConn]struct{}{}}
}

// Cut ends all connections there are, as if somebody had pulled their cables, and returns how many there were. New ones can be made at once.
func (m *Memory) Cut() int {
	m.mu.Lock()
	conns := slices.Collect(maps.Keys(m.conns))
	m.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // a pipe's never fails
	}
	return len(conns)
}

// memoryConn is the end that dialed.
type memoryConn struct {
	net.Conn
	network *Memory
}

// Close is net.Conn's.
func (c *memoryConn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	return c.Conn.Close()
}

// Listen opens an address.
func (m *Memory) Listen(address string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if address == "" {
		m.next++
		address = "memory:" + strconv.Itoa(m.next)
	}
	if m.listeners[address] != nil {
		return nil, fmt.Errorf("listen at %s: the address is in use", address)
	}
	l := &memoryListener{network: m, address: memoryAddr(address), conns: make(chan net.Conn), closed: make(chan struct{})}
	m.listeners[address] = l
	return l, nil
}

// Dial connects to a listener. It fails at once when there is none.
func (m *Memory) Dial(ctx context.Context, address string) (net.Conn, error) {
	m.mu.Lock()
	l := m.listeners[address]
	m.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: connection refused", address)
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		c := &memoryConn{here, m}
		m.mu.Lock()
		m.conns[c] = struct{}{}
		m.mu.Unlock()
		return c, nil
	case <-l.closed:
		return nil, fmt.Errorf("dial %s: connection refused", address)
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %s: %w", address, context.Cause(ctx))
	}
}

type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }

type memoryListener struct {
	network *Memory
	address memoryAddr
	conns   chan net.Conn // unbuffered: a connection is made when it is accepted
	once    sync.Once
	closed  chan struct{}
}

var errClosed = errors.New("the listener is closed")

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, errClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		delete(l.network.listeners, string(l.address))
		l.network.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.address }
