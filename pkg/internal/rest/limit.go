package rest

import (
	"net"
	"sync"
)

// maxConnections is how many connections are served at a time; others wait to be accepted. One costs some 10 KB, and up to maxBody for a moment.
const maxConnections = 100

// limited accepts no more connections than it has slots.
type limited struct {
	net.Listener
	slots  chan struct{} // as many as there may be connections
	closed chan struct{}
	once   sync.Once
}

func limit(l net.Listener, n int) *limited {
	return &limited{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept waits for a connection, when there is a slot for it.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotted{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close ends Accept.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// slotted is a connection that frees its slot when it is closed.
type slotted struct {
	net.Conn
	free func()
}

// Close closes the connection.
func (c *slotted) Close() error {
	err := c.Conn.Close()
	c.free()
	return err
}
