package grpcrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// TCP is the network between processes. Its addresses are HOST:PORT; port 0 takes a free one. The zero value is ready to use, without TLS.
type TCP struct {
	// BindHost is the address of this machine to listen at (such as 0.0.0.0), and BindPort the port, where that is not what others dial.
	BindHost string
	BindPort int
	// TLS, if it is not nil, encrypts all connections and lets only members of the cluster in.
	TLS *TLS
}

// Listen opens the port of an address; others dial the address, with the port that was taken.
func (t *TCP) Listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen at %q: want HOST:PORT, such as 127.0.0.1:6123", address)
	}
	if t.TLS != nil {
		if err := t.TLS.Check(); err != nil {
			return nil, err
		}
	}
	bind := port
	if t.BindPort != 0 {
		bind = strconv.Itoa(t.BindPort)
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(cmp.Or(t.BindHost, host), bind))
	if err != nil {
		return nil, err // it names the address
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && port == "0" {
		port = strconv.Itoa(a.Port)
	}
	if t.TLS != nil {
		l = &tlsListener{l, t.TLS}
	}
	return &tcpListener{l, tcpAddr(net.JoinHostPort(host, port))}, nil
}

// Dial connects to an address.
func (t *TCP) Dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil || t.TLS == nil {
		return c, err
	}
	tc, err := t.TLS.client(ctx, c, address)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return tc, nil
}

// tcpListener tells others by which name to dial it.
type tcpListener struct {
	net.Listener
	address tcpAddr
}

func (l *tcpListener) Addr() net.Addr { return l.address }

type tcpAddr string

func (tcpAddr) Network() string  { return "tcp" }
func (a tcpAddr) String() string { return string(a) }
